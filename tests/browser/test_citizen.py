"""A good citizen of JupyterLab: prompts edit as prose, commands in the palette and on the keyboard."""

from __future__ import annotations

import pytest
from lab import Lab, Page

from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)


def open_notebook(page: Page, lab: Lab, server: MockServer, name: str) -> None:
    prompt = "Why does it help? I don't know."
    lab.write(name, ["%load_ext tokenstream_magic", f"%%stream endless --base-url {server.base_url}\n{prompt}", "x = 'it'"])
    page.open(name).run_done(0)


def command(page: Page, name: str) -> None:
    page.page.keyboard.press("Control+Shift+c")
    page.page.locator(".lm-CommandPalette-input").fill(name)
    page.page.locator(".lm-CommandPalette-item:not([data-disabled])", has_text=name).first.click()


def coloured(page: Page, index: int) -> list[str]:
    return page.cell(index).locator(".cm-line span[class]").all_inner_texts()


def test_a_prompt_is_edited_as_prose_and_python_as_python(page: Page, lab: Lab, server: MockServer) -> None:
    open_notebook(page, lab, server, "prose.ipynb")
    page.page.wait_for_function("() => document.querySelectorAll('.jp-CodeCell')[2].querySelector('.cm-line span[class]')")
    assert not [piece for piece in coloured(page, 1) if "know" in piece]
    assert "'it'" in coloured(page, 2)
    page.cell(1).locator(".cm-content").click()
    page.page.keyboard.press("Control+Home")
    page.page.keyboard.type("# ")
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('.jp-CodeCell')[1].querySelectorAll('.cm-line span[class]')].some(s => s.innerText.includes('know'))"
    )


def test_the_stream_of_a_cell_is_stopped_and_copied_by_commands(page: Page, lab: Lab, server: MockServer) -> None:
    open_notebook(page, lab, server, "commands.ipynb")
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    count = len(server.exchanges)
    page.run(1)
    page.wait_state(1, "streaming")
    page.page.keyboard.press("Control+.")
    page.wait_state(1, "stopped")
    assert server.exchanges[count].closed.wait(5)
    page.run(1)
    page.wait_state(1, "streaming")
    command(page, "Stop all streams")
    page.wait_state(1, "stopped")
    page.wait_done(1)
    page.cell(1).locator(".cm-content").first.click()
    command(page, "Copy as Markdown")
    copied = page.page.evaluate("() => navigator.clipboard.readText()")
    assert copied.split() == page.text(1).split() != []
    command(page, "Open transcript")
    opened = page.page.locator(".jp-MainAreaWidget .ts-Stream[data-state=stopped]").last
    opened.wait_for()
    assert opened.locator("> .ts-Answer").inner_text().split() == copied.split()
