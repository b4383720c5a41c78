"""Model text made harmless for two places that would act on it: a terminal, and a Markdown renderer.

A terminal obeys control sequences; a Markdown renderer makes links, images, HTML, diagrams and mathematics. What
is written here can do none of that: the model's text is only ever read.
"""

from __future__ import annotations

import re
import unicodedata

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\x9c\n]*(?:\x1b\\|\x07|\x9c)?|[ -/]*[0-~])"
    r"|\x9b[0-?]*[ -/]*[@-~]|[\x9d\x90\x98\x9e\x9f][^\x07\x1b\x9c\n]*(?:\x1b\\|\x07|\x9c)?"
)
_HIDDEN = re.compile("[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")
_JOINERS = "\u200c\u200d"  # needed by scripts and emoji; they reorder and hide nothing

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([A-Za-z0-9_+#.-]*)")
_LIST = re.compile(r"^( *)([-*+]|\d{1,9}[.)])( +)(.*)$")
_HEADING = re.compile(r"(#{1,6}) +(.*)")
_INLINE = re.compile(r"(?P<code>(?<!`)`(?P<in>[^`\n]+)`(?!`))|(?P<strong>\*\*(?P<bold>[^*\n]+)\*\*)")
_SPECIAL = re.compile(r"[`*_\[\]<>&|~@]|(?<=http):|(?<=https):|(?<=ftp):|(?<=www)\.", re.IGNORECASE)
_AT_START = re.compile(r"[#+=:-]|\d+[.)]")
_MAX_INDENT = 12
# JupyterLab reads the Markdown of every output for its table of contents, in one task that holds the page. It costs the
# length of a paragraph times the pieces of code in it, and more for each heading.
_LONG_LINE = 4000  # a longer line goes on in another paragraph
_PARAGRAPH = 500_000  # characters times pieces of code; then another begins
_HEADINGS = 100  # what is more of them is bold
_MARKDOWN = 250_000  # what is behind so many characters is in a block of code
_LANGUAGES = set(
    "bash c cpp css go html java javascript js json julia kotlin lua perl php python py r ruby rust rs sh sql swift"
    " toml typescript ts text xml yaml".split()
)


def for_terminal(text: str) -> str:
    """``text`` without control sequences and with hidden and reordering characters made visible (as ``<U+202E>``).

    Newlines and tabs stay, a carriage return becomes a newline.
    """
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.isprintable():
        return text
    text = _HIDDEN.sub(lambda m: m[0] if m[0] in _JOINERS else f"<U+{ord(m[0]):04X}>", text)
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


def for_markdown(text: str, *, is_output: bool = False) -> str:
    """Markdown that reads like ``text`` and does nothing: no HTML, link, image, mathematics or diagram survives.

    Line breaks, headings, lists, fenced code, inline code and bold keep their form; every other character that means
    something to a Markdown or mathematics renderer is written as a character reference, or in code where a
    reference would not be enough. In the output of a cell no answer holds the page long: paragraphs end before they cost
    too much, after many headings a further one is bold, and the end of a very long answer is in a block of code.
    """
    out: list[str] = []
    fence = language = ""
    code: list[str] = []
    deepest = 0  # how far an item may be indented: deeper than under an item above, it would be code
    size = headings = length = ticks = 0  # of all; of the open paragraph
    lines = for_terminal(text).split("\n")
    for number, line in enumerate(lines):
        if fence:
            if line.strip().startswith(fence) and set(line.strip()) == {fence[0]}:
                out += _code(language, code)
                fence, code = "", []
            else:
                code.append(line)
            continue
        opening = _FENCE.match(line)
        if opening and not (opening[1][0] == "`" and "`" in line[opening.end() :]):
            fence, language = opening[1], opening[2].lower()
            length = ticks = 0
            continue
        fits = _MARKDOWN - size
        size += len(line.strip()) + 1
        if is_output and size > _MARKDOWN:
            out += _parts(line[:fits], deepest)
            out += _code("text", [line[fits:], *lines[number + 1 :]])
            break
        if is_output and _HEADING.match(line):
            headings += 1
            out += _parts(line, 0) if headings <= _HEADINGS else ["", *_parts(f"**{line.strip(' #*')}**", 0), ""]
            length = ticks = deepest = 0
            continue
        item = _LIST.match(line)
        first, *more = _parts(line, deepest) if is_output else [_line(line, deepest)]
        length, ticks = (0, 0) if item or not line.strip() else (length + len(first), ticks + first.count("`"))
        if is_output and length * ticks > 2 * _PARAGRAPH:
            out.append("")
            length, ticks = len(first), first.count("`")
        out += [first, *more]
        if more:
            length, ticks, deepest = len(more[-1]), more[-1].count("`"), 0
        elif item:
            deepest = min(len(item[1]), deepest) + len(item[2]) + 1
        elif line.strip():
            deepest = 0
    if fence:
        out += _code(language, code)
    return "\n".join(out)


def _code(language: str, lines: list[str]) -> list[str]:
    longest = max((len(run) for line in lines for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    named = language if language in _LANGUAGES else "text"
    return ["", f"{fence}{named}", *lines, fence, ""]


def _parts(line: str, deepest: int) -> list[str]:
    """A line, and paragraphs with an empty line before each for what of it would cost too much in one."""
    drawn: list[str] = []
    rest, size = line, _LONG_LINE
    while rest or not drawn:
        part = rest[:size]
        if len(part) < len(rest):
            part = part[: part.rfind(" ", size // 2) + 1 or size]
        shown = f"{_start(part.strip())}  " if drawn else _line(part, deepest)
        if size > 1 and len(shown) * shown.count("`") > 2 * _PARAGRAPH:
            size //= 2
            continue
        drawn += ["", shown] if drawn else [shown]
        rest, size = rest[len(part) :], min(2 * size, _LONG_LINE)
    return drawn


def _line(line: str, deepest: int) -> str:
    if not line.strip():
        return ""
    heading = _HEADING.match(line)
    if heading:
        title = _inline(heading[2].rstrip(" #"))
        return f"\n{heading[1]} {title}\n"
    item = _LIST.match(line)
    if item:
        margin = " " * min(len(item[1]), deepest, _MAX_INDENT)
        return f"{margin}{item[2]} {_start(item[4])}"
    indent = len(line) - len(line.lstrip(" \t"))
    return "\u00a0" * min(indent, _MAX_INDENT) + _start(line.strip()) + "  "


def _start(text: str) -> str:
    """Inline text whose first characters would open a heading, a list or a rule."""
    opening = _AT_START.match(text)
    return _reference(opening) + _inline(text[opening.end() :]) if opening else _inline(text)


def _inline(text: str) -> str:
    out: list[str] = []
    position = 0
    for match in _INLINE.finditer(text):
        out.append(_plain(text[position : match.start()]))
        if match["code"]:
            out.append(f"`{match['in']}`" if match["in"].strip() else _plain(match[0]))
        else:
            bold = match["bold"]
            out.append(f"**{_plain(bold)}**" if bold.strip() == bold else _plain(match[0]))
        position = match.end()
    out.append(_plain(text[position:]))
    return _join(out)


def _join(parts: list[str]) -> str:
    """Parts in a row; code next to code becomes one, because two backticks together would mean something else."""
    joined = ""
    for part in parts:
        if joined.endswith("`") and part.startswith("`"):
            joined, part = joined[:-1], part[1:]  # noqa: PLW2901
        joined += part
    return joined


def _plain(text: str) -> str:
    """Character references for what could mean something; dollar and backslash in code, where no typesetter looks."""
    parts = filter(None, re.split(r"([$\\]+)", text))
    return "".join(_SPECIAL.sub(_reference, part) if part.strip("$\\") else f"`{part}`" for part in parts)


def _reference(match: re.Match[str]) -> str:
    return "".join(f"&#{ord(c)};" for c in match[0])
