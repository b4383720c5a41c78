"""What a model says is read and does nothing else: the abuse corpus in the real JupyterLab, settled, live and loaded again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from corpus import CORPUS, FORMULAS, HTML
from lab import Lab, Page
from nbformat.v4 import new_code_cell, new_notebook, new_output
from playwright.sync_api import Browser

from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(240)

MIME = "application/vnd.tokenstream.transcript+json"
CLOSED = """answer => {
  const tags = 'A BLOCKQUOTE BR BUTTON CODE DEL DIV EM HR LI OL P PRE SPAN STRONG TABLE TBODY TD TH THEAD TR UL'.split(' ');
  const found = [];
  for (const node of answer.querySelectorAll('*')) {
    if (node.closest('mjx-container')) {
      const own = /^(mjx-|math$|m[a-z]+$|semantics$)/.test(node.localName);
      if (!own) found.push(node.localName);
    } else if (!tags.includes(node.tagName)) {
      found.push(node.localName);
    }
    for (const {name, value} of node.attributes) {
      if (/^on|^(src|srcset|srcdoc|action|data-commandlinker.*)$/i.test(name) || /javascript:|url\\(/i.test(value)) {
        if (name !== 'title') found.push(`${node.localName} ${name}=${value}`);
      }
      if (name === 'href' && !/^(https?|mailto):/.test(value)) found.push(value);
    }
    if (node.tagName === 'A' && !(node.target === '_blank' && node.relList.contains('noopener') && node.relList.contains('noreferrer'))) {
      found.push(`link ${node.href}`);
    }
    const box = node.getBoundingClientRect();
    if (box.height > 20000) found.push(`${node.localName} ${box.height} px high`);
  }
  return found;
}"""


@pytest.fixture
def watched(lab: Lab, browser: Browser) -> Iterator[Page]:
    """A page whose requests to anywhere but its own server are refused and remembered."""
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    page = context.new_page()
    away: list[str] = []

    def guard(route, request) -> None:
        if request.url.startswith((lab.address, "data:", "blob:")):
            route.continue_()
        else:
            away.append(request.url)
            route.abort()

    page.route("**/*", guard)

    def dialog(asked) -> None:
        if asked.type == "beforeunload":  # the page's own, when it is left a moment after it was saved
            asked.accept()
        else:
            away.append(f"dialog {asked.message}")
            asked.dismiss()

    page.on("dialog", dialog)
    yield Page(page, lab)
    name = page.evaluate("() => window.name")
    context.close()
    assert away == []
    assert "pwned" not in name


def settled(lab: Lab, name: str) -> str:
    cells = []
    for text in CORPUS:
        data = {MIME: {"version": 1, "model": "mock/x", "outcome": "complete", "text": text, "reasoning": text}, "text/plain": "x"}
        cells.append(new_code_cell("1", outputs=[new_output("display_data", data=data)]))
        cells[-1].metadata["trusted"] = True
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
    nbformat.write(notebook, lab.notebooks / name)
    return name


def check(page: Page) -> None:
    for answer in page.page.locator(".ts-Answer").all():
        assert answer.evaluate(CLOSED) == []


def test_a_saved_answer_is_drawn_of_closed_parts_and_asks_the_network_nothing(watched: Page, lab: Lab) -> None:
    watched.open(settled(lab, "inert.ipynb"), kernel=False)
    watched.page.wait_for_selector(".ts-Answer mjx-container", state="attached", timeout=30_000)
    watched.page.wait_for_selector(".ts-Lines span", state="attached")
    watched.page.wait_for_function("() => document.querySelectorAll('.ts-Answer .ts-typeset').length >= 4")
    check(watched)
    # what may be typeset is, and what may not be stays as it was written
    last = watched.page.locator(".ts-Stream > .ts-Answer:visible, .ts-Columns .ts-Answer:visible")
    assert "\\href{javascript" in last.nth(CORPUS.index(FORMULAS[0])).inner_text()
    assert "\\rule{100000em}" in last.nth(CORPUS.index(FORMULAS[1])).inner_text()
    for index, text in enumerate(HTML[:8]):
        assert last.nth(index).evaluate("node => node.textContent") == text


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.soak), 5])
def test_a_live_answer_is_inert_at_every_cut(watched: Page, lab: Lab, server: MockServer, size: int) -> None:
    text = "\n\n".join(CORPUS)
    pieces = tuple(text[at : at + size] for at in range(0, len(text), size))
    server.scripts[f"abuse{size}"] = Script(pieces, gap=0.001)
    name = f"inert-live-{size}.ipynb"
    lab.write(name, ["%load_ext tokenstream_magic", f"%%stream abuse{size} --base-url {server.base_url}\nGo"])
    watched.open(name).run_done(0)
    watched.run(1)
    watched.wait_state(1, "streaming", "complete")
    while watched.stream(1).get_attribute("data-state") == "streaming":
        check(watched)
    watched.wait_state(1, "complete")
    watched.wait_done(1)
    watched.stream(1).locator(".ts-Again:visible").wait_for()  # settled: nothing changes the notebook after it is saved
    check(watched)
    watched.save()
    kept = json.loads((Path(lab.notebooks) / name).read_text())
    assert kept["cells"][1]["outputs"][0]["data"][MIME]["text"] == text
    watched.open(name, kernel=False)
    watched.page.wait_for_selector(".ts-Stream .ts-Heading, .ts-Stream .ts-Code", state="attached")
    check(watched)


def test_an_image_is_fetched_when_its_chip_is_pressed_and_not_before(lab: Lab, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    page = context.new_page()
    asked = []
    page.route(re.compile(r"leak\.example"), lambda route, request: (asked.append(request.all_headers()), route.abort()))
    opened = Page(page, lab).open(settled(lab, "chips.ipynb"), kernel=False)
    chip = opened.page.locator(".ts-Chip button:visible").first
    assert "leak.example" in chip.inner_text()
    assert asked == []
    chip.click()
    opened.page.wait_for_function("() => [...document.querySelectorAll('.ts-Chip')].some(node => /did not load/.test(node.textContent))")
    assert len(asked) == 1
    assert "referer" not in asked[0]
    context.close()
