"""How far the page was behind is known only after the answer is settled; the saved notebook has it all the same."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from lab import Lab, Page
from playwright.sync_api import WebSocketRoute

from tokenstream_magic.mock.script import Script, words
from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)

SAID = Script(words("And so it went on, word by word. " * 3), first=0.2, gap=0.02)
KEPT = """
import json
from tokenstream_magic import transcripts
shown = transcripts.get(_stream.id).timeline.displayed
print(json.dumps(None if shown is None else shown._asdict()))
"""
IS_SETTLED = """cell => {
    const { outputs } = window.jupyterapp.shell.currentWidget.content.model.cells.get(cell);
    return outputs.length === 1 && outputs.get(0).toJSON().metadata.tokenstream;
}"""
HAS = """([cell, columns]) => {
    const { cells } = window.jupyterapp.shell.currentWidget.content.model;
    const about = cells.get(cell).outputs.get(0).toJSON().metadata.tokenstream;
    return (columns ? about?.columns ?? [{}] : [about]).every(each => each?.timeline?.displayed_us);
}"""
IS_DIRTY = "() => window.jupyterapp.shell.currentWidget.content.model.dirty"


class Held:
    """The page's websockets to its kernels: from the next report of a drawing on, what the page says waits, as for a kernel that is busy."""

    def __init__(self, page: Page) -> None:
        self.reports = 0
        self._holds = False
        self._waiting: list[tuple[WebSocketRoute, str | bytes]] = []
        page.page.route_web_socket(re.compile("/api/kernels/.*/channels"), self._connect)

    def hold(self) -> None:
        self._holds = True

    def release(self) -> None:
        self._holds = False
        while self._waiting:
            kernel, message = self._waiting.pop(0)
            kernel.send(message)

    def _connect(self, socket: WebSocketRoute) -> None:
        kernel = socket.connect_to_server()
        socket.on_message(lambda message: self._said(kernel, message))

    def _said(self, kernel: WebSocketRoute, message: str | bytes) -> None:
        is_report = b'"op":"drawn"' in (message.encode() if isinstance(message, str) else message)
        self.reports += is_report
        if self._holds and (is_report or self._waiting):
            self._waiting.append((kernel, message))
        else:
            kernel.send(message)


def saved(lab: Lab, notebook: str, cell: int) -> dict[str, Any]:
    """What the file says of how the stream of a cell went."""
    (output,) = json.loads((lab.notebooks / notebook).read_text())["cells"][cell]["outputs"]
    about: dict[str, Any] = output["metadata"]["tokenstream"]
    return about


def shown(page: Page, cell: int) -> list[str]:
    """The figures of the display, in words, of every stream of a cell."""
    found = []
    for view in page.stream(cell).all():
        view.locator(".ts-Panel > summary").click()
        view.locator('[data-figure="id"]').wait_for()
        found += view.locator('[data-figure^="display_"] dd').all_text_contents()
    return found


def test_a_saved_notebook_has_the_figures_of_the_display_that_came_after_the_answer(page: Page, lab: Lab, server: MockServer) -> None:
    server.scripts["said"] = server.scripts["again"] = SAID
    ask = [f"%%stream {models} --base-url {server.base_url}\nHi" for models in ("said", "said,again")]
    lab.write("displayed.ipynb", ["%load_ext tokenstream_magic", ask[0], KEPT, ask[1]])
    held = Held(page)
    page.open("displayed.ipynb").run_done(0)
    held.hold()
    page.run(1)
    page.page.wait_for_function(IS_SETTLED, arg=1)
    page.wait_state(1, "complete")
    page.save()
    page.page.wait_for_function(f"() => !({IS_DIRTY})()")
    assert held.reports > 0
    assert "displayed_us" not in saved(lab, "displayed.ipynb", 1)["timeline"]
    before = saved(lab, "displayed.ipynb", 1)
    assert shown(page, 1) == []
    held.release()
    page.page.wait_for_function(HAS, arg=[1, False])
    assert page.page.evaluate(IS_DIRTY)  # it is news, and to be saved
    seen = page.stream(1).locator('[data-figure^="display_"] dd').all_text_contents()
    assert len(seen) == 7
    page.run_done(2)
    stored = json.loads(page.cell(2).locator(".jp-OutputArea-output").last.inner_text())
    page.run_done(3)
    page.wait_state(3, "complete")
    page.page.wait_for_function(HAS, arg=[3, True])
    page.save()
    page.page.wait_for_function(f"() => !({IS_DIRTY})()")
    about = saved(lab, "displayed.ipynb", 1)
    assert about["timeline"].pop("displayed_us") == stored
    assert about == before  # and nothing else has changed
    assert len({column["id"] for column in saved(lab, "displayed.ipynb", 3)["columns"]}) == 2
    columns = shown(page, 3)
    assert len(columns) == 14
    lab.end_sessions()
    page.open("displayed.ipynb", kernel=False)
    page.wait_state(1, "complete")
    assert shown(page, 1) == seen
    page.wait_state(3, "complete")
    assert shown(page, 3) == columns
    assert not page.page.evaluate(IS_DIRTY)
