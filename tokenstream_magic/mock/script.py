"""Scripts: what the mock server says, in which pieces, how fast, and how it fails or ends.

A script knows no protocol; the server turns it into the bytes of the one it is asked in. All times in seconds. The
fields are the same in Python and in a TOML file; ``docs/mock.md`` lists them with examples.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field, fields, replace
from typing import Any, Literal

from tokenstream_magic.errors import BadRequest

STORY = (
    "The lighthouse had been dark for eleven years when Mara found the key. It lay in a tin of nails, wrapped in oil cloth,"
    " and on the cloth someone had written a date that had not come yet. She climbed the two hundred steps with a lamp in one"
    " hand. At the top the great lens stood as it had always stood, and the sea below it waited, as the sea does."
)
GIANT = "@giant-piece@"  # stands in a frame where the server writes ``giant`` bytes

Ending = Literal["done", "no-terminator", "no-finish", "cut", "reset", "stall"]
CutBy = Literal["end", "close", "reset"]
Duplicate = Literal["", "frame", "stream"]

_LIKELY = -0.105  # the logprob of a token with probability 0.9
_PIECE = 8


@dataclass(frozen=True)
class Tool:
    """A tool call: ``arguments`` is JSON text in the pieces it is sent in; protocols that send it whole join them."""

    name: str
    arguments: tuple[str, ...] = ("{}",)
    id: str | None = None

    @property
    def text(self) -> str:
        """The arguments in one piece."""
        return "".join(self.arguments)

    @property
    def value(self) -> Any:
        """The arguments as a value; as text when they are no JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return self.text


@dataclass(frozen=True)
class Citation:
    """An annotation of the text: the page that characters ``start`` to ``end`` are taken from; ``end`` None is the end of the text."""

    url: str
    title: str = ""
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class Script:
    """One answer of the mock server.

    What it says, in this order: ``reasoning``, ``pieces`` (``text`` is cut into a word a piece), with ``choices`` the
    texts of further choices beside it, ``annotations``, ``refusal``, ``tools``. A protocol that has no field for one of
    them leaves it out. ``logprobs`` are those of the pieces in turn, ``top_logprobs`` how many alternatives each has.

    Pieces are sent one by one, ``gap`` seconds apart, the first after ``first`` seconds, the headers after ``delay``.
    ``together`` pieces share one write, ``split`` bytes are one write, ``drip`` seconds apart. ``buffered`` holds the
    answer back to its end, or in blocks of that many bytes. ``keep_alive`` is sent that often while nothing is said.

    ``status`` other than 200 answers with an error instead. ``fails_first`` requests fail, those after them do not.
    ``ending`` says what comes after the last piece: ``done`` the protocol's own end, ``no-terminator`` only the finish
    reason, ``no-finish`` nothing before a clean close, ``cut`` a close in the middle of a frame, ``reset`` a connection
    reset, ``stall`` silence for as long as the client stays. ``stall_after`` pieces the server falls silent,
    ``error_after`` pieces it sends an error. At byte ``cut_at`` the body ends: ``cut_by`` an ``end`` that HTTP takes for
    whole, a ``close`` or a ``reset`` of the connection. ``body`` is sent instead of all that. ``content_type`` None is
    the protocol's own. Raises BadRequest for a value that cannot be.
    """

    pieces: tuple[str, ...] = ("Hello", " there", ".")
    reasoning: tuple[str, ...] = ()
    first: float = 0.0
    gap: float = 0.0
    finish: str = "stop"
    usage: bool = True
    ending: Ending = "done"
    status: int = 200
    error: str = "the mock server was told to fail"
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    stall_after: int | None = None
    error_after: int | None = None
    together: int = 1
    keep_alive: float | None = None
    body: bytes | None = None
    choices: tuple[tuple[str, ...], ...] = ()
    annotations: tuple[Citation, ...] = ()
    refusal: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    logprobs: tuple[float, ...] = ()
    top_logprobs: int = 0
    input_tokens: int = 7
    output_tokens: int | None = None
    cached_tokens: int = 0
    delay: float = 0.0
    split: int | None = None
    drip: float = 0.0
    buffered: bool | int = False
    gzip: bool = False
    unstreamed: bool = False
    duplicate: Duplicate = ""
    giant: int = 0
    cut_at: int | None = None
    cut_by: CutBy = "close"
    error_type: str = "mock_error"
    fails_first: int | None = None
    text: InitVar[str | None] = None

    def __post_init__(self, text: str | None) -> None:
        if text is not None:
            object.__setattr__(self, "pieces", words(text))
        for name in _SECONDS:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise BadRequest(f"{name} is a number of seconds from 0 up, not {value}.")
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise BadRequest(f"{name} is a whole number from {least} up, not {value}.")
        for name, known in ALTERNATIVES.items():
            if getattr(self, name) not in known:
                raise BadRequest(f"{name} is not {getattr(self, name)!r}.", f"Known: {', '.join(repr(word) for word in known)}.")
        if not 200 <= self.status <= 599:
            raise BadRequest(f"status is an HTTP status from 200 to 599, not {self.status}.")

    def saying(self, text: str) -> Script:
        """This script with other words, a word a piece."""
        return replace(self, pieces=words(text))

    def succeeding(self) -> Script:
        """This script when it no longer fails."""
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("retry-after", "retry-after-ms", "location")}
        return replace(self, status=200, headers=kept, error_after=None, stall_after=None, cut_at=None, ending="done", fails_first=None)

    @property
    def summary(self) -> str:
        """What sets it apart from a script with nothing written down: field and value, in a line, long values cut."""
        told = [f.name for f in fields(self) if f.name != "pieces" and getattr(self, f.name) != getattr(_PLAIN, f.name)]
        said = [f"{name}={_short(getattr(self, name))}" for name in told]
        return " ".join([_short("".join(self.pieces)), *said])

    @property
    def answer(self) -> str:
        """The text of the first choice, without a giant piece."""
        return "".join(self.pieces)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Tokens of the prompt, of all that was generated, and of the reasoning in it: a piece is a token unless said otherwise."""
        said = sum(len(pieces) for pieces in (self.reasoning, self.pieces, self.refusal, *self.choices))
        said += sum(len(tool.arguments) for tool in self.tools)
        return self.input_tokens, said if self.output_tokens is None else self.output_tokens, len(self.reasoning)

    def call_id(self, number: int) -> str:
        """The id of a tool call."""
        return self.tools[number].id or f"call_{number + 1}"

    def span(self, citation: Citation) -> tuple[int, int]:
        """From where to where an annotation goes, in characters."""
        return citation.start, len(self.answer) if citation.end is None else citation.end


@dataclass(frozen=True)
class Step:
    """One thing a script says: a piece of ``reasoning``, ``text`` or ``refusal``, a ``call``, its ``arguments``, a ``citation``.

    ``number`` is the position of the piece in its text, or of the call or citation among its kind.
    """

    kind: str
    text: str = ""
    choice: int = 0
    number: int = 0


def steps(script: Script) -> Iterator[Step]:
    """What a script says, a step a frame."""
    for number, piece in enumerate(script.reasoning):
        yield Step("reasoning", piece, 0, number)
    texts = [(*script.pieces, GIANT) if script.giant else script.pieces, *script.choices]
    for number in range(max(map(len, texts))):
        for choice, pieces in enumerate(texts):
            if number < len(pieces):
                yield Step("text", pieces[number], choice, number)
    for number, _ in enumerate(script.annotations):
        yield Step("citation", number=number)
    for number, piece in enumerate(script.refusal):
        yield Step("refusal", piece, 0, number)
    for number, tool in enumerate(script.tools):
        yield Step("call", number=number)
        for piece in tool.arguments:
            yield Step("arguments", piece, 0, number)


def token_logprobs(script: Script, step: Step) -> tuple[float, list[tuple[str, float]]] | None:
    """The logprob of a piece of text, and its likeliest alternatives with theirs, itself first; None when the script has none.

    The alternatives are other pieces of the same text; each has half the probability that is left.
    """
    if step.kind != "text" or not script.logprobs:
        return None
    own = script.logprobs[step.number % len(script.logprobs)]
    pieces = (script.pieces, *script.choices)[step.choice]
    others = [piece for piece in dict.fromkeys(pieces[step.number + 1 :] + pieces[: step.number]) if piece != step.text]
    top, left = [(step.text, own)], 1 - math.exp(min(own, 0.0))
    for other in others[: max(script.top_logprobs - 1, 0)]:
        left /= 2
        top.append((other, round(math.log(max(left, 1e-9)), 4)))
    return own, top[: script.top_logprobs]


def words(text: str) -> tuple[str, ...]:
    """Text in pieces as a tokenizer might cut it: a word with the space before it."""
    return tuple(re.findall(r"\s*\S+\s*$|\s*\S+", text)) or (text,)


def cut(text: str, size: int = _PIECE) -> tuple[str, ...]:
    """Text in pieces of ``size`` characters, as the arguments of a tool call arrive."""
    return tuple(text[at : at + size] for at in range(0, len(text), size))


ALTERNATIVES: dict[str, tuple[str, ...]] = {
    "ending": ("done", "no-terminator", "no-finish", "cut", "reset", "stall"),
    "cut_by": ("end", "close", "reset"),
    "duplicate": ("", "frame", "stream"),
}
_SECONDS = ("first", "gap", "keep_alive", "delay", "drip")
_COUNTS = {
    "stall_after": 0,
    "error_after": 0,
    "together": 1,
    "top_logprobs": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "cached_tokens": 0,
    "split": 1,
    "buffered": 0,
    "giant": 0,
    "cut_at": 0,
    "fails_first": 1,
}

_PLAIN = Script()
_SHORT = 40


def _short(value: Any) -> str:
    if isinstance(value, tuple) and all(isinstance(part, str) for part in value):
        value = "".join(value)
    shown = repr(value)
    return shown if len(shown) <= _SHORT else shown[: _SHORT - 1] + "…"


_WEATHER = Tool("get_weather", cut('{"city": "Lisbon", "unit": "celsius"}'))
_OPENING = words(STORY)[:12]

SCRIPTS: dict[str, Script] = {
    "hello": Script(),
    "story": Script(words(STORY), first=0.15, gap=0.03),
    "slow": Script(words(STORY), first=1.0, gap=0.25),
    "endless": Script(words(STORY) * 50, first=0.05, gap=0.02),
    # what an answer may carry
    "reasoning": Script(text="There are twelve.", reasoning=words("Three shelves of four: three times four is twelve."), gap=0.02),
    "tool": Script((), tools=(_WEATHER,), gap=0.02),
    "tools": Script(text="Let me look.", tools=(_WEATHER, Tool("get_time", cut('{"zone": "Europe/Lisbon"}'))), gap=0.02),
    "choices": Script(text="The first of two answers.", choices=(words("Another answer, told beside it."),), gap=0.02),
    "logprobs": Script(text="The sky is blue today.", logprobs=(-0.02, _LIKELY, -0.6, -1.4, -3.0), top_logprobs=3, gap=0.02),
    "refusal": Script((), refusal=words("I can't help with that."), gap=0.02),
    "citations": Script(
        text="Lisbon is older than Rome.", annotations=(Citation("https://example.org/lisbon", "Lisbon, a history", 0, 26),), gap=0.02
    ),
    "no-usage": Script(usage=False),
    "length": Script(_OPENING, finish="length", gap=0.02),
    "chunky": Script(words(STORY), first=0.1, gap=0.2, together=8),
    # pace
    "late": Script(delay=2.0),
    "stall": Script(words(STORY), first=0.05, gap=0.01, stall_after=8),
    "silent": Script(stall_after=0),
    "pings": Script(stall_after=0, keep_alive=0.5),
    "buffered": Script(words(STORY), first=0.15, gap=0.03, buffered=True),
    "blocks": Script(words(STORY), first=0.15, gap=0.03, buffered=2048),
    "bytes": Script(words(STORY), split=1),
    "loris": Script(_OPENING, split=1, drip=0.05),
    # faults
    "cut": Script(_OPENING, gap=0.01, ending="cut"),
    "cut-early": Script(_OPENING, cut_at=900),
    "reset": Script(_OPENING, gap=0.01, ending="reset"),
    "no-terminator": Script(_OPENING, ending="no-terminator"),
    "no-finish": Script(_OPENING, ending="no-finish"),
    "hangs": Script(_OPENING, gap=0.01, ending="stall"),
    "error": Script(_OPENING, gap=0.01, error_after=6),
    "unauthorized": Script(status=401, error="Incorrect API key provided"),
    "overloaded": Script(status=503, error="The server is overloaded"),
    "busy": Script(status=429, error="Too many requests", error_type="rate_limit_exceeded", headers={"Retry-After": "1"}, fails_first=1),
    "page": Script(content_type="text/html", body=b"<html><body><h1>Sign in to the network</h1></body></html>"),
    "wrong-type": Script(content_type="application/octet-stream"),
    "redirect": Script(status=307, headers={"Location": "http://elsewhere.invalid/v1"}),
    "gzip": Script(_OPENING, gap=0.01, gzip=True),
    "unstreamed": Script(words(STORY), delay=0.5, unstreamed=True),
    "twice": Script(_OPENING, duplicate="frame"),
    "again": Script(_OPENING, duplicate="stream"),
    "giant": Script(_OPENING, giant=1024 * 1024),
}
"""Scripts by name: the model ``mock/NAME`` plays them."""
