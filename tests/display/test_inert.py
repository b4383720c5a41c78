import re
from html import unescape
from html.parser import HTMLParser
from unittest.mock import patch

import mistune
import pytest
from hypothesis import given, settings, strategies as st
from markdown_it import MarkdownIt

from tokenstream_magic.display import inert
from tokenstream_magic.display.inert import for_markdown, for_terminal

ESC = "\x1b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"{ESC}[31mred{ESC}[0m", "red"),
        (f"{ESC}[2J{ESC}[1;1H{ESC}[?25lx", "x"),
        (f"a{ESC}]0;title\x07b", "ab"),
        (f"a{ESC}]8;;http://e.x{ESC}\\link{ESC}]8;;{ESC}\\b", "alinkb"),
        (f"a{ESC}]52;c;ZXZpbA=={ESC}\\b", "ab"),
        (f"a{ESC}P+q544e{ESC}\\b", "ab"),
        (f"a{ESC}_payload\nover lines{ESC}\\b", "a\nover linesb"),
        (f"a{ESC}^private{ESC}\\b{ESC}Xstring{ESC}\\c", "abc"),
        (f"a{ESC}(0lqk{ESC}(Bb{ESC}cd{ESC}7e", "alqkbde"),
        ("a\x9b31mred\x9b0m", "ared"),
        ("a\x9d0;title\x9cb\x90q\x9cc", "abc"),
        (f"a{ESC}]0;never closed", "a"),
        (f"tail{ESC}", "tail"),
        (f"a{ESC}[31", "a31"),
        ("bell\x07 back\x08space nul\x00 del\x7f nel\x85", "bell backspace nul del nel"),
        ("tab\tand\nnewline stay", "tab\tand\nnewline stay"),
        ("half \ud83d a character", "half  a character"),
    ],
)
def test_a_terminal_gets_no_control_sequence(text, shown):
    assert for_terminal(text) == shown


def test_a_carriage_return_overwrites_nothing():
    assert for_terminal("safe\rrm -rf\r\nnext\r") == "safe\nrm -rf\nnext\n"


@pytest.mark.parametrize("code", [0x202E, 0x202A, 0x2066, 0x2069, 0x200F, 0x061C, 0x200B, 0x2060, 0xFEFF, 0xE0041, 0xE007F])
def test_characters_that_reorder_or_hide_are_shown(code):
    assert for_terminal(f"a{chr(code)}b") == f"a<U+{code:04X}>b"


@pytest.mark.parametrize("text", ["👩‍👩‍👧", "می‌خواهم", "héllo — “ünï” 漢字 🇩🇪", "plain", "", "שלום"])
def test_ordinary_text_of_every_script_stays(text):
    assert for_terminal(text) == text


@given(st.text(st.characters(max_codepoint=0x2100)))
def test_no_text_reaches_the_terminal_with_a_control_character(text):
    assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", for_terminal(text)) == []


# Markdown: payloads that a renderer would act on

HTML = [
    *(
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "a <b>bold</b>",
        "<!-- comment -->",
        "<?php x ?>",
        "<![CDATA[x]]>",
        "<!DOCTYPE x>",
    ),
    *(
        "<svg/onload=alert(1)>",
        "<iframe src=//e.x></iframe>",
        "<div\nonclick=x>\n",
        "<a href='javascript:x'>y</a>",
        "</p><p>",
        "<<b>>",
        "<style>*{}</style>",
    ),
    *(
        "- <img src=x>",
        "# <img src=x>",
        "**<img src=x>**",
        "1. <b>x</b>",
        "&lt;img src=x&gt;",
        "&#60;img src=x&#62;",
        "<details><summary>x</summary>",
    ),
    *("`` ` ``<b>`", "`a`<b>`", "`<b>`$`<i>`", "``<b>", "\\`<b>`", "`a\n<b>`", "<x-a>", "<form action=x><input autofocus onfocus=x>"),
]
LINKS = [
    *(
        "[a](javascript:alert(1))",
        "[a](http://e.x)",
        "[a]: http://e.x\n\n[a]",
        "[a][b]\n\n[b]: http://e.x 'title'",
        "<http://e.x>",
        "<a@b.example>",
    ),
    *(
        "http://e.x/?q=secret",
        "HTTPS://E.X",
        "www.e.x",
        "ftp://e.x",
        "a@b.example",
        "mailto:a@b.example",
        "see (https://e.x).",
        "a[^1]\n\n[^1]: note",
    ),
    *(
        "![x](http://e.x/?q=secret)",
        "![x][y]\n\n[y]: http://e.x",
        "[![x](http://e.x)](http://e.y)",
        "**[a](http://e.x)**",
        "[`a`](http://e.x)",
        "- [ ] task",
    ),
]
MATHS = [
    *(
        "$x$",
        "$$x$$",
        "\\(x\\)",
        "\\[x\\]",
        "\\\\(x\\\\)",
        "\\begin{align}x\\end{align}",
        "US$5 and US$6",
        "`a`$x$",
        "$`a`$",
        "**$x$**",
        "# $x$",
        "- $$\n  x\n  $$",
    ),
    *("\\$x\\$", "a\\", "\\`a`", "$\n\\rule{100000em}{1em}\n$", "@@0@@", "`$`a`$`"),
]
BLOCKS = [
    *(
        "```mermaid\ngraph TD\n```",
        "~~~mermaid\ngraph\n~~~",
        "```{=html}\n<b>\n```",
        "``` geojson\n{}\n```",
        "- ```mermaid\n  graph\n  ```",
        "```mermaid",
    ),
    *(
        "    ```mermaid\n    graph\n    ```",
        "```html\n<b>\n``\n~~~\n</b>\n```",
        "````\n```\n<b>\n````",
        "```\n<b>",
        "```a`b\n<b>\n```",
        "~~~\n```\n<b>\n~~~~",
    ),
    *(
        "| a | b |\n|---|---|\n| <b> | [c](d) |",
        "a | b\n--|--\nc | d",
        "> quote\n> <b>",
        "title\n===",
        "title\n---",
        "***",
        "---",
        "_em_ *em* ~~del~~",
        ": def\n",
    ),
    *(
        "term\n: definition <b>",
        "- - - -",
        "+ - 1. # <b>",
        "      code <b>",
        "\t<b>",
        "*[HTML]: x\nHTML",
        ">! spoiler",
        "a  \nb\\\nc",
        "* * *",
        "x\n  - <b>",
    ),
]
PAYLOADS = HTML + LINKS + MATHS + BLOCKS

# what JupyterLab sets aside as code before it looks for mathematics (rendermime/src/latex.ts), which is also what is code for us
FENCED = re.compile(r"^(?P<fence>`{3,})[^`\n]*\n[\s\S]*?^(?P=fence)`*$", re.MULTILINE)
SPAN = re.compile(r"(^|[^\\])(`+)([^\n]*?[^`\n])\2(?!`)")
LIVE = re.compile(r"[$\\<`~|]|\]\(|!\[|\[|(https?|ftp):|www\.|\w@\w|@@", re.IGNORECASE)


def outside_code(markdown):
    return SPAN.sub(r"\1", FENCED.sub("", markdown))


class Tags(HTMLParser):
    """Everything in a page that is not text, but for the tags and attributes we mean to be there."""

    ALLOWED = ("p", "br", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "pre", "code", "strong", "em")

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.unwanted, self.text = [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in self.ALLOWED or not all(self.wanted(tag, *attribute) for attribute in attributes):
            self.unwanted.append((tag, attributes))

    def wanted(self, tag, name, value):
        if (tag, name) == ("ol", "start"):
            return value.isdigit()
        return (tag, name) == ("code", "class") and re.fullmatch("language-[a-z]+", value) and value != "language-mermaid"

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.unwanted.append(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


RENDERERS = {
    "mistune": mistune.create_markdown(
        escape=False, plugins=["url", "table", "math", "strikethrough", "footnotes", "task_lists", "def_list", "abbr"]
    ),
    "markdown-it": MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render,
}


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_in_the_markdown_means_anything_outside_code(payload):
    assert LIVE.findall(outside_code(for_markdown(payload))) == []


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("renderer", RENDERERS)
def test_what_is_rendered_has_only_the_closed_list_of_tags(renderer, payload):
    assert Tags(RENDERERS[renderer](for_markdown(payload))).unwanted == []


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_payloads_do_act_when_they_are_not_made_inert(renderer):
    acted = [payload for payload in HTML + LINKS if Tags(RENDERERS[renderer](payload)).unwanted]
    assert len(acted) > 25


MARKS = "` `` ``` ~~~ $ $$ \\ \n \n\n * ** - # > | < [ ] ( ) ! _ x"
PIECES = [*PAYLOADS, *MARKS.split(" "), " ", "    ", "- ", "1. ", "# ", "> ", "\t"]


# how little of an answer is in a paragraph, in headings and in Markdown at all
LIMITS = [
    {"_HEADINGS": 100},
    {"_LONG_LINE": 5, "_PARAGRAPH": 10, "_HEADINGS": 1},
    {"_LONG_LINE": 7, "_HEADINGS": 0, "_MARKDOWN": 25},
    {"_PARAGRAPH": 1, "_MARKDOWN": 60},
]


@pytest.mark.parametrize("limits", LIMITS, ids=["as they are", "short", "shorter", "shortest"])
@settings(max_examples=200, deadline=None)
@given(text=st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_payloads_put_together_at_random_stay_inert(limits, text):
    with patch.multiple(inert, **limits):
        markdown = for_markdown(text, is_output=True)
    assert LIVE.findall(outside_code(markdown)) == []
    for render in RENDERERS.values():
        assert Tags(render(markdown)).unwanted == []


LINE = "words and *more* of `them` "
HOLDING = [
    LINE * 38_000,
    f"{LINE}\n" * 38_000,
    f"- {LINE * 38_000}",
    f"- x\n{LINE}\n" * 10 + f"{LINE}\n" * 38_000,
    "$ " * 300_000,
    "# a `x`\n" * 20_000,
]


@pytest.mark.parametrize("text", HOLDING, ids=["line", "lines", "item", "behind items", "dollars", "headings"])
def test_no_answer_holds_the_page_while_jupyterlab_reads_it_for_its_table_of_contents(text):
    """It costs the length of a paragraph times the code in it, and a task of milliseconds for each heading: once, it was 14 s and more."""
    prose = for_markdown(text, is_output=True).partition("\n```text\n")[0]
    paragraphs = prose.split("\n\n")
    assert max(len(each) * each.count("`") for each in paragraphs) < 1_500_000
    assert sum(len(each) * each.count("`") for each in paragraphs) < 600_000_000
    assert sum(line.startswith("# ") for line in prose.split("\n")) <= 100
    assert len(prose) < 1_600_000


@pytest.mark.parametrize("text", HOLDING[:4], ids=["line", "lines", "item", "behind items"])
def test_what_is_parted_is_all_there(text):
    prose, _, rest = for_markdown(text, is_output=True).partition("\n```text\n")
    shown = "".join(unescape(prose).split()) + "".join(rest.removesuffix("\n```\n").split())
    assert shown == "".join(text.split())
