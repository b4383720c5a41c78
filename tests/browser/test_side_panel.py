"""The side panel and the table of ``%transcripts``, as their user meets them in JupyterLab."""

from __future__ import annotations

import re
from typing import Any

import pytest
from lab import Page

import tokenstream_magic as ts
from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(240)

MARKUP = '<img src=x onerror="window.hit = 1">'


@pytest.fixture(autouse=True)
def store(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process writes the store that the server of JupyterLab reads."""
    monkeypatch.setenv("TOKENSTREAM_DATABASE", str(lab.root / "transcripts.db"))
    for kept in ts.transcripts.recent(1000):
        ts.transcripts.delete(kept.id)


def keep(server: MockServer, prompt: str, model: str, **how: Any) -> Any:
    """A transcript that is in the database."""
    return ts.transcripts.get(ts.stream(prompt, model, base_url=server.base_url, **how).id)


def show_panel(page: Page) -> Any:
    tab = page.page.locator('.jp-SideBar .lm-TabBar-tab[data-id="tokenstream-transcripts"]')
    tab.click()
    panel = page.page.get_by_role("region", name="Transcripts")
    panel.wait_for()
    return panel


def test_a_run_is_found_opened_replayed_repeated_and_deleted(page: Page, server: MockServer) -> None:
    kept = keep(server, f"Where is the lighthouse? {MARKUP}", "story", temperature=0.25, tag="sea")
    keep(server, "Something else", "unauthorized")
    page.lab.write("panel.ipynb", ["%load_ext tokenstream_magic", f"%%stream hello --base-url {server.base_url}\nA fresh question"])
    page.open("panel.ipynb").run_done(0)
    panel = show_panel(page)
    rows = panel.get_by_role("listbox").get_by_role("option")
    rows.nth(1).wait_for()
    assert [rows.nth(n).locator(".ts-Kept-outcome").inner_text() for n in (0, 1)] == ["failed", "complete"]
    # a run of this page comes into the list by itself
    page.run_done(1)
    panel.get_by_role("option", name=re.compile("^complete.*A fresh question")).wait_for()
    assert rows.count() == 3
    # search
    panel.get_by_role("searchbox").fill("lighthou")
    page.page.wait_for_function("() => document.querySelectorAll('.ts-Kept').length === 1")
    panel.get_by_role("searchbox").fill("no such words")
    panel.get_by_text("No transcript matches").wait_for()
    panel.get_by_role("button", name="Clear the filters").click()
    page.page.wait_for_function("() => document.querySelectorAll('.ts-Kept').length === 3")
    panel.get_by_label("Outcome").select_option("failed")
    page.page.wait_for_function("() => document.querySelectorAll('.ts-Kept').length === 1")
    panel.get_by_label("Outcome").select_option("")
    page.page.wait_for_function("() => document.querySelectorAll('.ts-Kept').length === 3")
    # the keyboard moves and opens
    panel.get_by_role("listbox").focus()
    for _ in range(5):
        page.page.keyboard.press("ArrowDown")
    selected = panel.locator('[aria-selected="true"]')
    assert selected.get_attribute("data-id") == kept.id
    assert panel.get_by_role("listbox").get_attribute("aria-activedescendant") == f"ts-kept-{kept.id}"
    page.page.keyboard.press("Enter")
    document = page.page.locator(f"#tokenstream-transcript-{kept.id}")
    document.locator('.ts-Stream[data-state="complete"]').wait_for()
    assert document.locator(".ts-Stream > .ts-Answer").inner_text().startswith("The lighthouse had been dark")
    assert document.locator(".ts-Asked-text").first.inner_text() == f"Where is the lighthouse? {MARKUP}"
    assert document.locator(".ts-Timeline").count() == 1
    document.get_by_role("button", name="Replay").click()
    document.get_by_role("group", name="Replay").wait_for()
    # a rerun cell, in the notebook behind it and not run
    panel.get_by_role("button", name="Insert rerun cell").click()
    inserted = page.page.locator(".jp-NotebookPanel .jp-Cell").nth(2)
    inserted.get_by_text("%%stream story").wait_for()
    assert "--temperature 0.25 --tag sea" in inserted.inner_text()
    assert f"Where is the lighthouse? {MARKUP}" in inserted.inner_text()
    assert re.search(r"\[[\d*]+\]", inserted.locator(".jp-InputPrompt").inner_text()) is None
    page.page.locator(".jp-Notification-Status").click()  # the tests' JupyterLab is not to be disturbed: it keeps its notes there
    page.page.get_by_text("the address of its server (--base-url URL)").wait_for()
    page.page.locator(".jp-Notification-Status").click()
    # deleted for good, after a question that keeps it by default
    panel.get_by_role("listbox").focus()
    page.page.keyboard.press("Delete")
    page.page.get_by_role("button", name="Cancel").click()
    assert ts.transcripts.get(kept.id).text == kept.text
    panel.get_by_role("button", name="Delete").click()
    page.page.locator(".jp-Dialog").get_by_role("button", name="Delete").click()
    page.page.wait_for_function("() => document.querySelectorAll('.ts-Kept').length === 2")
    assert document.count() == 0
    assert [t.prompt for t in ts.transcripts.recent()] == ["A fresh question", "Something else"]
    assert page.page.evaluate("window.hit") is None


def test_the_table_of_transcripts_opens_what_it_lists(page: Page, server: MockServer) -> None:
    kept = keep(server, f"Listed {MARKUP}", "hello")
    page.lab.write("table.ipynb", ["%load_ext tokenstream_magic\n%transcripts"])
    page.open("table.ipynb").run_done(0)
    table = page.cell(0).get_by_role("table", name="Transcripts")
    table.wait_for()
    row = table.get_by_role("row").nth(1)
    assert "complete" in row.inner_text()
    assert re.search(r"\d ms", row.inner_text())
    page.save()
    page.open("table.ipynb", kernel=False)
    page.cell(0).get_by_role("button", name=f"Listed {MARKUP}").click()
    document = page.page.locator(f"#tokenstream-transcript-{kept.id}")
    document.locator('.ts-Stream[data-state="complete"]').wait_for()
    # what is no longer there is shown from the output itself
    document.locator(".ts-Stream").wait_for()
    page.page.locator(".lm-TabBar-tab.lm-mod-current .lm-TabBar-tabCloseIcon").last.click()
    ts.transcripts.delete(kept.id)
    page.cell(0).get_by_role("button", name=f"Listed {MARKUP}").click()
    page.cell(0).get_by_text("There is no such transcript").wait_for()
    assert page.cell(0).locator(".ts-Listing-text").nth(1).inner_text() == "Hello there."
    assert page.page.evaluate("window.hit") is None


def test_without_the_server_extension_the_panel_says_what_to_do(page: Page) -> None:
    page.page.route("**/tokenstream/api/**", lambda route: route.fulfill(status=404, body="<html>404</html>", content_type="text/html"))
    page.lab.write("missing.ipynb", ["1"])
    page.open("missing.ipynb", kernel=False)
    panel = show_panel(page)
    panel.get_by_text("The server cannot list transcripts").wait_for()
    assert "jupyter server extension enable tokenstream_magic.labserver" in panel.inner_text()
    page.page.unroute("**/tokenstream/api/**")
    panel.get_by_role("button", name="Try again").click()
    panel.get_by_text("No transcripts yet").wait_for()
    assert "%%stream local" in panel.inner_text()
