"""A very long answer, whose far blocks the page does not lay out: who reads it is not to notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from lab import Lab, Page

from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer

pytestmark = pytest.mark.timeout(180)

PARAGRAPHS = [f"Paragraph number {number} of many. " + "It lay in a tin of nails, wrapped in oil cloth. " * 12 for number in range(400)]
ANSWER = "[...document.querySelectorAll('.ts-Stream > .ts-Answer')].at(-1)"
FROM_END = f"() => {{ const a = {ANSWER}; return a.scrollHeight - a.scrollTop - a.clientHeight }}"
# the paragraph at the top of the box, and how far it is from there
PLACE = f"""() => {{
  const a = {ANSWER};
  const top = a.getBoundingClientRect().top;
  const found = [...a.querySelectorAll('p')].find(p => p.getClientRects().length && p.getBoundingClientRect().bottom > top + 1);
  return [found.textContent.slice(0, 24), Math.round(found.getBoundingClientRect().top - top)];
}}"""
SKIPPED = f"""() => [...{ANSWER}.querySelectorAll('.ts-Far > p:first-child')].filter(
  p => !p.checkVisibility({{contentVisibilityAuto: true}})).length"""


@pytest.fixture
def switch(page: Page, lab: Lab, server: MockServer) -> Callable[[str], None]:
    """A notebook ``long.ipynb`` with an answer that grows for some seconds, and one beside it; shows one of them."""
    server.scripts["long"] = Script(tuple(f"{paragraph}\n\n" for paragraph in PARAGRAPHS), gap=0.02)
    lab.write("long.ipynb", ["%load_ext tokenstream_magic", f"%%stream long --base-url {server.base_url} -n\nGo"])
    lab.write("beside.ipynb", ["1"])
    page.open("long.ipynb").run_done(0)

    def switched(name: str) -> None:
        page.page.evaluate("path => { void window.jupyterapp.commands.execute('docmanager:open', {path}) }", name)
        shown = "name => window.jupyterapp.shell.currentWidget?.title.label === name && window.jupyterapp.shell.currentWidget.isVisible"
        page.page.wait_for_function(shown, arg=name)
        page.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    switched("beside.ipynb")
    switched("long.ipynb")
    return switched


def wait_longer(page: Page, characters: int) -> None:
    """Waits until so many more characters have come, seen or not."""
    before = page.page.evaluate(f"() => {ANSWER}.textContent.length")
    page.page.wait_for_function(f"length => {ANSWER}.textContent.length > length", arg=before + characters, polling=50)


def test_a_tab_that_is_shown_again_is_where_its_reader_was(page: Page, switch: Callable[[str], None]) -> None:
    page.run(1)
    page.wait_text(1, 30_000)
    assert page.page.evaluate(FROM_END) < 30
    switch("beside.ipynb")
    wait_longer(page, 60_000)
    switch("long.ipynb")
    assert page.page.evaluate(FROM_END) < 30, "who read along reads on at the end"
    assert page.page.evaluate(SKIPPED) > 3, "the page lays out what is far all the same"
    wait_longer(page, 5_000)
    assert page.page.evaluate(FROM_END) < 30, "and the view goes on with the text"
    page.page.evaluate(f"() => {{ const a = {ANSWER}; a.scrollTop = a.scrollHeight / 3 }}")
    page.page.wait_for_timeout(300)  # what is near now is laid out with the next frames
    place = page.page.evaluate(PLACE)
    switch("beside.ipynb")
    wait_longer(page, 10_000)
    switch("long.ipynb")
    assert page.page.evaluate(PLACE) == place, "who read something else still has it before him"
    wait_longer(page, 10_000)
    assert page.page.evaluate(PLACE) == place
    page.wait_state(1, "complete")
    assert page.page.evaluate(PLACE) == place


def test_what_is_far_is_found_copied_printed_and_opened_again(page: Page, switch: Callable[[str], None], server: MockServer) -> None:
    server.scripts["long"] = replace(server.scripts["long"], gap=0.01)
    page.run(1)
    page.wait_text(1, 100)
    switch("beside.ipynb")
    page.page.wait_for_selector('.ts-Stream[data-state="complete"]', state="attached", timeout=60_000)
    switch("long.ipynb")
    page.wait_done(1)
    assert page.page.evaluate(FROM_END) < 30
    said = " ".join(" ".join(PARAGRAPHS).split())
    assert page.page.evaluate(SKIPPED) > 3
    copied = page.page.evaluate(f"() => {{ getSelection().selectAllChildren({ANSWER}); return getSelection().toString() }}")
    assert " ".join(copied.split()) == said
    page.page.evaluate("() => getSelection().removeAllRanges()")
    assert page.page.evaluate("words => window.find(words, true, true, true)", "Paragraph number 123 of many")
    page.page.evaluate("() => getSelection().anchorNode.parentElement.scrollIntoView()")  # the browser's own search does that by itself
    page.page.wait_for_function(f"""() => {{
      const box = {ANSWER}.getBoundingClientRect(), found = getSelection().getRangeAt(0).getBoundingClientRect();
      return found.height > 0 && found.top >= box.top - 1 && found.bottom <= box.bottom + 1;
    }}""")
    assert page.page.evaluate("() => getSelection().toString()") == "Paragraph number 123 of many"
    assert page.page.evaluate(SKIPPED) > 0
    page.page.emulate_media(media="print")
    page.page.wait_for_function(f"() => ({SKIPPED})() === 0")  # with the next frame
    page.page.emulate_media(media="screen")
    page.save()
    page.open("long.ipynb", kernel=False)
    page.wait_state(1, "complete")
    page.page.wait_for_function(f"length => {ANSWER}.textContent.length > length", arg=sum(map(len, PARAGRAPHS)) - 1000)
    assert page.page.evaluate(f"() => {ANSWER}.scrollTop") == 0, "what comes from a file is read from its beginning"
