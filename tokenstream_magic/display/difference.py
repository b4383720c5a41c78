"""Two transcripts side by side: their figures, and their words with what differs marked."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

from tokenstream_magic.display.bundle import in_words
from tokenstream_magic.display.inert import for_terminal
from tokenstream_magic.display.listing import table
from tokenstream_magic.display.masked import masked
from tokenstream_magic.errors import one_line
from tokenstream_magic.record import Transcript

COLUMN = 56
MOST_WORDS = 20_000  # of both together; beyond that lines are compared, which is as exact and much less work
_HELD = "\u00a0"  # number and unit stay in one line of a table
MARKS = {"-": ("[-", "-]"), "+": ("{+", "+}")}

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_FIGURES = (
    ("TTFT", "ttft_ms", "ms"),
    ("TTFA", "ttfa_ms", "ms"),
    ("total", "e2e_ms", "ms"),
    ("TPOT", "tpot_ms", "ms"),
    ("ICL p50", "icl_p50_ms", "ms"),
    ("ICL p95", "icl_p95_ms", "ms"),
    ("rate", "decode_tokens_per_second", "tokens/s"),
    ("chunks", "chunks", ""),
    ("stalls", "stalls", ""),
)


@dataclass(frozen=True)
class Part:
    """Words that are in both (``=``), only in the first (``-``) or only in the second (``+``)."""

    side: str
    text: str


def words(first: str, second: str) -> list[Part]:
    """What two texts have in common and what not, in order; the parts without ``+`` are the first, those without ``-`` the second."""
    pieces = [_WORD.findall(first), _WORD.findall(second)]
    if sum(map(len, pieces)) > MOST_WORDS:
        pieces = [first.splitlines(keepends=True), second.splitlines(keepends=True)]
    before, after = pieces
    parts: list[Part] = []
    gone = come = ""
    steps = [
        (kind == "equal", "".join(before[i:j]), "".join(after[k:m]))
        for kind, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    ]
    for number, (same, left, right) in enumerate(steps):
        if same and not (left.isspace() and "\n" not in left and 0 < number < len(steps) - 1):
            parts += _changed(gone, come)
            gone = come = ""
            parts.append(Part("=", left))
        else:  # a space between two words that changed belongs to the change
            gone, come = gone + left, come + right
    return [*parts, *_changed(gone, come)]


def _changed(gone: str, come: str) -> list[Part]:
    return [Part(side, text) for side, text in (("-", gone), ("+", come)) if text]


@dataclass(frozen=True)
class Difference:
    """Two transcripts to be looked at side by side. Printed it is text, in a notebook inert Markdown."""

    first: Transcript
    second: Transcript

    @property
    def parts(self) -> list[Part]:
        """The word diff of the answers."""
        return words(_said(self.first), _said(self.second))

    @property
    def figures(self) -> list[tuple[str, str, str, str]]:
        """Name, the two values and by how much they differ, of everything known of at least one."""
        a, b = self.first, self.second
        rows = [
            ("id", a.id, b.id, ""),
            ("model", a.model, b.model, ""),
            ("outcome", in_words(a) or a.outcome, in_words(b) or b.outcome, ""),
            ("finish reason", a.finish_reason or "", b.finish_reason or "", ""),
            *_options(a.options, b.options),
            *(_row(name, getattr(a.timing, field), getattr(b.timing, field), unit) for name, field, unit in _FIGURES),
            _row("tokens out", a.usage.output_tokens, b.usage.output_tokens, ""),
            _row("characters", len(_said(a)), len(_said(b)), ""),
        ]
        return [row for row in rows if row[1] or row[2]]

    @property
    def _names(self) -> tuple[str, str]:
        """What the two are called where it is said which is which."""
        first, second = (one_line(for_terminal(each.id)) for each in (self.first, self.second))
        return f"A ({first})", f"B ({second})"

    def __str__(self) -> str:
        figures = table(["", "A", "B", "difference"], ([_cut(for_terminal(one_line(cell))) for cell in row] for row in self.figures))
        parts = self.parts
        if all(part.side == "=" for part in parts):
            return f"{figures}\n\nThe answers are the same."
        sides = [list(_lines(parts, side)) for side in "-+"]
        rows = (f"{left:<{COLUMN}} │ {right}".rstrip() for left, right in zip_longest(*sides, fillvalue=""))
        legend = " · ".join(
            f"{opening}…{closing} is only in {name}" for (opening, closing), name in zip(MARKS.values(), self._names, strict=True)
        )
        prompt = "" if self.first.prompt == self.second.prompt else "\n\nThe prompts are not the same."
        return "\n".join([figures + prompt, "", legend, "", f"{'A':<{COLUMN}} │ B", f"{'─' * COLUMN}─┼─{'─' * COLUMN}", *rows])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        shown = Difference(masked(self.first), masked(self.second))
        return {"text/markdown": shown.markdown(), "text/plain": str(shown)}

    def markdown(self) -> str:
        """A table of the figures, and the words: what only A has struck out, what only B has bold."""
        rows = ["| | A | B | difference |", "| --- | --- | --- | --- |"]
        rows += ["| " + " | ".join(_inert(cell) for cell in row) + " |" for row in self.figures]
        parts = self.parts
        if all(part.side == "=" for part in parts):
            said = "The answers are the same."
        else:
            marks = {"=": "", "-": "~~", "+": "**"}
            lines = "".join(_marked(part.text, marks[part.side]) for part in parts).split("\n")
            said = "\n".join(f"> {line}".rstrip() + "  " for line in lines)
            first, second = map(_inert, self._names)
            said = f"~~Struck~~ is only in {first} · **bold** is only in {second}\n\n{said}"
        prompt = [] if self.first.prompt == self.second.prompt else ["The prompts are not the same."]
        return "\n\n".join(["\n".join(rows), *prompt, said])


def _said(transcript: Transcript) -> str:
    return transcript.text or transcript.refusal


def _options(a: dict[str, Any], b: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Only those that differ."""
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            mine, other = (one_line(options[name])[:200] if name in options else "" for options in (a, b))
            yield name, mine, other, ""


def _row(name: str, a: float | None, b: float | None, unit: str) -> tuple[str, str, str, str]:
    def shown(value: float | None) -> str:
        return (
            ""
            if value is None
            else f"{value:,.0f}{_HELD}{unit}".rstrip()
            if isinstance(value, int)
            else f"{value:,.1f}{_HELD}{unit}".rstrip()
        )

    if a is None or b is None or a == b:
        return name, shown(a), shown(b), ""
    if shown(a) == shown(b):  # what is not seen in the figures is no difference to a reader
        return name, shown(a), shown(b), ""
    percent = f"{_HELD}({(b - a) / a:+.0%})" if a else ""
    digits = 0 if isinstance(a, int) and isinstance(b, int) else 1
    return name, shown(a), shown(b), f"{b - a:+,.{digits}f}{percent}"


def _lines(parts: list[Part], side: str) -> Iterator[str]:
    """One side of the word diff as lines of a column."""
    opening, closing = MARKS[side]
    text = "".join(part.text if part.side == "=" else _around(part.text, opening, closing) for part in parts if part.side in ("=", side))
    for line in for_terminal(text).split("\n"):
        yield from textwrap.wrap(line, COLUMN, drop_whitespace=True, break_on_hyphens=False) or [""]


def _around(text: str, opening: str, closing: str) -> str:
    """Marks around what is to be seen of a text, not around its white space."""
    return "\n".join(re.sub(r"^(\s*)(.*\S)(\s*)$", lambda m: f"{m[1]}{opening}{m[2]}{closing}{m[3]}", line) for line in text.split("\n"))


def _marked(text: str, mark: str) -> str:
    """Inert text between marks of Markdown, line by line; marks stand at words and not at spaces."""
    lines = []
    for line in for_terminal(text).split("\n"):
        inner = _inert(line) if line.strip() else ""
        before, after = line[: len(line) - len(line.lstrip())], line[len(line.rstrip()) :]
        lines.append(f"{before}{mark}{inner}{mark}{after}" if inner else line)
    return "\n".join(lines)


def _inert(text: str) -> str:
    """A line without any meaning to a Markdown renderer: every special character is a reference."""
    return re.sub(r"[^\w ]|_", lambda m: f"&#{ord(m[0])};", for_terminal(text).strip()) if text else ""


def _cut(text: str) -> str:
    return text if len(text) <= COLUMN else text[: COLUMN - 1] + "…"
