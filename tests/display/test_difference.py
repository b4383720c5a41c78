"""Two transcripts side by side: exact, and inert."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st
from markdown_it import MarkdownIt

from tokenstream_magic.display.difference import Difference, words
from tokenstream_magic.record import Choice, Transcript

HOSTILE = "<img src=x onerror=alert(1)> [a](javascript:x) ![b](http://x) www.x.org https://x.org a@b.org `c` | d | **e** ~~f~~ $g$ # h\n- i\n1. j &lt;"


def pair(first: str, second: str) -> Difference:
    return Difference(*(Transcript(model="m", outcome="complete", choices=[Choice(text=text)]) for text in (first, second)))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab .\n\u00e9", max_size=60), st.text(alphabet="ab .\n\u00e9", max_size=60))
def test_the_parts_of_each_side_are_its_text(first: str, second: str) -> None:
    parts = words(first, second)
    assert "".join(part.text for part in parts if part.side != "+") == first
    assert "".join(part.text for part in parts if part.side != "-") == second


def test_words_that_differ_are_marked_and_the_rest_is_not() -> None:
    shown = str(pair("The old river is slow and wide.", "The new river runs fast and wide."))
    assert "The [-old-] river [-is slow-] and wide." in shown
    assert "The {+new+} river {+runs fast+} and wide." in shown
    assert "The answers are the same." in str(pair("same", "same"))


def test_it_says_which_side_is_struck_and_which_is_added() -> None:
    made = pair("old words", "new words")
    a, b = made.first.id, made.second.id
    bundle = made._repr_mimebundle_()
    assert f"[-…-] is only in A ({a}) · {{+…+}} is only in B ({b})" in bundle["text/plain"].splitlines()
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(bundle["text/markdown"])
    assert f"<s>Struck</s> is only in A ({a}) · <strong>bold</strong> is only in B ({b})" in rendered
    assert "only in" not in str(pair("same", "same"))


def test_long_answers_are_compared_in_time_and_exactly() -> None:
    first = "\n".join(f"line {n} of many words that are here" for n in range(4000))
    second = first.replace("line 2000 ", "row 2000 ")
    changed = [part.text for part in words(first, second) if part.side != "="]
    assert changed == ["line 2000 of many words that are here\n", "row 2000 of many words that are here\n"]


def test_model_text_stays_inert_in_markdown_and_in_a_terminal() -> None:
    bundle = pair(HOSTILE, HOSTILE.replace("a", "\x1b]52;c;x\x07b"))._repr_mimebundle_()
    rendered = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(bundle["text/markdown"])
    for tag in ("<img", "<a ", "<code", "<h1", "<li", "onerror=alert(1)>"):
        assert tag not in rendered
    assert "<s>" in rendered
    assert "\x1b" not in bundle["text/plain"] + bundle["text/markdown"]
