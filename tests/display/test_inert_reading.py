"""Inert Markdown still reads like the text it was made from."""

from html.parser import HTMLParser

import mistune
import pytest
from hypothesis import example, given, settings, strategies as st
from markdown_it import MarkdownIt

from tokenstream_magic.display.inert import for_markdown

RENDERERS = {
    "mistune": mistune.create_markdown(escape=False, plugins=["url", "table", "math"]),
    "markdown-it": MarkdownIt("commonmark", {"html": True}).enable("table").render,
}
pytestmark = pytest.mark.parametrize("renderer", RENDERERS)


class Reader(HTMLParser):
    """What a reader sees: the text, and which text stands in which element."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.text, self.open, self.inside = "", [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.text += "\n"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if data.strip():
            self.inside.append((" ".join(self.open), data.strip("\n")))


def read(renderer, text):
    return Reader(RENDERERS[renderer](for_markdown(text)))


def lines(text):
    return [" ".join(line.split()) for line in text.replace("\u00a0", " ").split("\n") if line.strip()]


PROSE = [
    "A plain sentence.",
    "Two lines\nof one paragraph.\n\nAnd another: with 100% & more, a < b > c!",
    "snake_case_name, 2*3*4, a|b, ~approximately~, [1] and (2), {braces}, #hash, x^2, x == y, me@example.org",
    "https://example.org/a_b?c=d&e=f and www.example.org and ftp://x.org",
    "It costs $5 or US$ 6 -- C:\\temp\\new and \\alpha \\(x\\) $$y$$",
    "&amp; &lt;b&gt; &#42; &copy; stay as typed",
    "<b>not bold</b> <!-- not hidden --> <img src=x>",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "> quoted\n>> twice",
    "title\n=====\nother\n---",
    "***\n___\n---",
    "a  \nb\\\nc",
    "    x = a_b * c  # in code\n  by spaces\n\tand a tab",
    "2024.\n3)x\n1.5 is a number\n-5 is another\n+1 and *2",
    "#hashtag and ####### seven",
    "漢字 and שלום and 👩‍👩‍👧",
    "** not bold ** and * not em * and _ nor this _",
    "``two`` and ``` three",
    "[link](http://example.org) ![image](x.png) [ref]: http://example.org",
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_reads_as_it_was_typed(renderer, text):
    assert lines(read(renderer, text).text) == lines(text)


LINE = st.text(st.sampled_from("ab 1.,:;!?$\\<>&|~_[](){}#+-=^%@/'\"é漢"), max_size=20).map("x".__add__)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(LINE, st.just("")), max_size=5))
@example(["x$$$\\\\$$", "x\\"])
def test_any_prose_reads_as_it_was_typed(renderer, typed):
    text = "\n".join(typed)
    assert lines(read(renderer, text).text) == lines(text)


def test_headings_lists_bold_and_code_keep_their_form(renderer):
    text = "# Title\nIntro with **bold** and `code_x`.\n\n- one\n- two `a<b>`\n  - deep\n\n3. three\n\n### Sub *x*"
    assert read(renderer, text).inside == [
        ("h1", "Title"),
        ("p", "Intro with "),
        ("p strong", "bold"),
        ("p", " and "),
        ("p code", "code_x"),
        ("p", "."),
        ("ul li", "one"),
        ("ul li", "two "),
        ("ul li code", "a<b>"),
        ("ul li ul li", "deep"),
        ("ol li", "three"),
        ("h3", "Sub *x*"),
    ]


def test_a_line_break_stays_a_line_break(renderer):
    assert RENDERERS[renderer](for_markdown("a\nb")).count("<br") == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nx = a_b * 2\n\n<b>$x$</b>\n```", "x = a_b * 2\n\n<b>$x$</b>"),
        ("~~~\na\n```\nb\n~~~", "a\n```\nb"),
        ("````\n```\ninner\n```\n````", "```\ninner\n```"),
        ("```\n~~~\n```", "~~~"),
        ("```\nnever closed\n- a", "never closed\n- a"),
        ("```js\na\n``\n`` `\nb\n```   ", "a\n``\n`` `\nb"),
        ("```\na\n`````", "a"),
        ("  ```\n  a\n  ```", "  a"),
    ],
)
def test_fenced_code_is_shown_as_it_is(renderer, text, code):
    assert read(renderer, "before\n" + text + "\nafter" * (text != "```\nnever closed\n- a")).inside[1] == ("pre code", code)


def test_text_after_a_closed_fence_is_text_again(renderer):
    assert read(renderer, "```\ncode\n```\nafter *it*").inside == [("pre code", "code"), ("p", "after *it*")]


def test_an_answer_cut_anywhere_in_a_fence_keeps_what_came(renderer):
    text = "Look:\n```python\nprint('<b>')\n# $x$\n```"
    start = text.index("print")
    for cut in range(start + 1, len(text) - 3):
        assert read(renderer, text[:cut]).inside[1:] == [("pre code", text[start:cut].strip("\n"))]


@pytest.mark.parametrize(
    ("language", "shown"), [("python", "python"), ("HTML", "html"), ("mermaid", "text"), ("", "text"), ("{=html}", "text")]
)
def test_only_a_known_language_is_named(renderer, language, shown):
    assert f'class="language-{shown}"' in RENDERERS[renderer](for_markdown(f"```{language}\nx\n```"))


def test_code_beside_a_dollar_reads_as_it_was_typed(renderer):
    assert read(renderer, "costs `n`$ a day").text.strip() == "costs n$ a day"


def test_a_list_set_in_by_four_spaces_shows_no_character_references(renderer):
    assert "&#" not in read(renderer, "Steps:\n\n    - use a_b").text


@pytest.mark.parametrize("text", ["- - -", "- ---"])
def test_dashes_behind_a_dash_are_not_lost(renderer, text):
    assert "-" in read(renderer, text).text


def test_an_empty_text_is_empty(renderer):
    assert for_markdown("") == ""
    assert RENDERERS[renderer](for_markdown("\n \n")).strip() == ""
