"""A kept wire, frame by frame: when each came, in which read, how large it was and what it became.

The bytes go through the same framing and the same decoder as in the run, a line at a time, so that each piece has its
place in the body. Pure: stamps are those of the reads.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tokenstream_magic.wire.events import (
    Annotation,
    Event,
    Failure,
    Finish,
    KeepAlive,
    Logprobs,
    Progress,
    Reasoning,
    Refusal,
    Served,
    ServerTiming,
    Terminator,
    Text,
    ToolCall,
    Unknown,
    Usage,
)
from tokenstream_magic.wire.framing import Comment, Frame, FramingError, Stray
from tokenstream_magic.wire.kept import Exchange, Wire
from tokenstream_magic.wire.lines import LinesFraming
from tokenstream_magic.wire.protocols import PROTOCOLS, StreamDecoder

GAP_FLOOR_NS = 1_000_000_000  # a gap is marked as a stall is counted: over a second, and over five times the median
GAP_FACTOR = 5

_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_NAMES: dict[type, str] = {
    Text: "text",
    Reasoning: "reasoning",
    Refusal: "refusal",
    ToolCall: "tool",
    Annotation: "citation",
    Logprobs: "logprobs",
    Served: "served",
    Usage: "usage",
    ServerTiming: "timings",
    Progress: "progress",
    Finish: "finish",
    Failure: "error",
    Terminator: "end",
    KeepAlive: "keep-alive",
    Unknown: "unknown",
}


@dataclass
class Piece:
    """One piece of a body: the bytes from ``start`` to ``end`` and the events they became.

    ``kind`` is ``frame``, ``comment``, ``stray`` (lines that are no field of the format), ``nothing`` (fields without data,
    which dispatch nothing), ``lost`` (a frame that broke off and was sent again), ``body`` (a response that is no stream) or
    ``oversized`` (over the limit of a frame: nothing after it was read).
    """

    kind: str
    start: int
    end: int
    events: list[Event] = field(default_factory=list)
    terminated: bool = True


@dataclass(frozen=True)
class Listed:
    """A line of the list: a piece of the body and how it came.

    ``at_ns`` is when the read came that completed it and ``gap_ns`` the time since the piece before (0 in the same read);
    ``read`` is the number of that read, ``reads`` over how many it was spread, ``together`` how many frames that read
    completed. ``became`` are the events by name, each with its text in short. ``marks``: ``coalesced``, ``split``, ``unterminated``,
    ``keep-alive``, ``gap``, ``error``, ``undecodable``, ``after-end``, ``not-utf8``.
    """

    attempt: int
    kind: str
    raw: bytes
    at_ns: int
    gap_ns: int
    read: int
    reads: int
    together: int
    became: tuple[tuple[str, str], ...] = ()
    marks: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Its bytes, the line ends that close it included."""
        return len(self.raw)

    @property
    def text(self) -> str:
        r"""The bytes as text; what is no UTF-8 is shown as ``\xff``."""
        return self.raw.decode("utf-8", "backslashreplace")


def walk(exchanges: Sequence[Exchange], protocol: str) -> Iterator[Piece]:
    """The pieces of one attempt's answer, in order; places count from the start of its first body.

    A comment in the middle of a frame is a piece of its own, and its bytes are also within those of the frame.
    """
    spoken = PROTOCOLS.get(protocol) or PROTOCOLS["openai-chat"]
    decoder, framing, by_line = spoken.Decoder(), spoken.FRAMING(), spoken.FRAMING is LinesFraming
    start = position = 0  # of what is in no piece yet, and of the line
    last: Piece | None = None  # blank lines behind it are its own
    for exchange in exchanges:
        if exchange.whole:
            if exchange.body:
                yield Piece("body", position, position + len(exchange.body), _whole(exchange.body, decoder))
            start = position = position + len(exchange.body)
            continue
        if exchange.renewed:
            yield from filter(None, [last])
            if start < position:
                yield Piece("lost", start, position, terminated=False)
            framing, start, last = spoken.FRAMING(), position, None
        for match in _LINE.finditer(exchange.body):
            line, begun = match[0], position
            position += len(line)
            try:
                found = framing.feed(line)
            except FramingError as error:
                yield from filter(None, [last])
                end = sum(len(each.body) for each in exchanges)
                yield Piece("oversized", start, end, [Failure(str(error), type="frame_too_large")])
                return
            blank = not line.strip(b"\r\n")
            if found:
                aside = not blank and not by_line  # a comment, or an error in a field of its own
                for piece in found:
                    yield from filter(None, [last])
                    last = Piece(_kind(piece), begun if aside else start, position, decoder.decode(piece))
                start = start if aside and start < begun else position
            elif blank and start == begun:
                start = position
                if last is not None:
                    last.end = position
            elif blank and not by_line:
                yield from filter(None, [last])
                start, last = position, Piece("nothing", start, position)
    yield from filter(None, [last])
    for piece in framing.end():
        terminated = piece.terminated if isinstance(piece, Frame) else False
        yield Piece(_kind(piece), start, position, decoder.decode(piece), terminated)
        start = position
    if start < position:
        yield Piece("nothing", start, position, terminated=False)


def listed(wire: Wire) -> list[Listed]:
    """Every piece of every attempt, in the order of arrival."""
    made: list[Listed] = []
    for attempt in dict.fromkeys(exchange.attempt for exchange in wire.exchanges):
        made += _of_attempt(attempt, [each for each in wire.exchanges if each.attempt == attempt], wire.protocol)
    return made


def _of_attempt(attempt: int, exchanges: Sequence[Exchange], protocol: str) -> list[Listed]:
    body = b"".join(exchange.body for exchange in exchanges)
    ends: list[int] = []
    stamps: list[int] = []
    numbers: list[int] = []
    before = 0
    for exchange in exchanges:
        ends += [before + end for end in exchange.ends]
        stamps += exchange.stamps
        numbers += exchange.numbers
        before += len(exchange.body)
    pieces = list(walk(exchanges, protocol))
    if not ends:
        return []
    top = len(ends) - 1
    last_reads = [min(bisect_left(ends, piece.end), top) for piece in pieces]
    together = Counter(read for piece, read in zip(pieces, last_reads, strict=True) if piece.kind == "frame")
    times = sorted({stamps[read] for read in last_reads})
    gaps = sorted(now - then for then, now in pairwise(times))
    long = max(GAP_FLOOR_NS, GAP_FACTOR * gaps[len(gaps) // 2]) if gaps else GAP_FLOOR_NS
    made: list[Listed] = []
    over, reached = False, stamps[0]
    for piece, read in zip(pieces, last_reads, strict=True):
        first = min(bisect_left(ends, piece.start + 1), top)
        gap, reached = stamps[read] - reached, stamps[read]
        raw = body[piece.start : piece.end]
        marks = _marks(piece, raw, over)
        if piece.kind == "frame" and together[read] > 1:
            marks.insert(0, "coalesced")
        if read > first:
            marks.insert(0, "split")
        if gap > long:
            marks.insert(0, "gap")
        became = tuple(_words(event) for event in piece.events)
        made.append(Listed(attempt, piece.kind, raw, reached, gap, numbers[read], read - first + 1, together[read], became, tuple(marks)))
        over = over or any(isinstance(event, Terminator) for event in piece.events)
    return made


def _marks(piece: Piece, raw: bytes, over: bool) -> list[str]:
    kinds = {type(event) for event in piece.events}
    marks = []
    if not piece.terminated:
        marks.append("unterminated")
    if KeepAlive in kinds:
        marks.append("keep-alive")
    if Failure in kinds:
        marks.append("error")
    if any(isinstance(event, Unknown) and event.name.startswith("undecodable") for event in piece.events):
        marks.append("undecodable")
    if over:
        marks.append("after-end")
    try:
        raw.decode()
    except UnicodeDecodeError:
        marks.append("not-utf8")
    return marks


def _kind(piece: Any) -> str:
    return "comment" if isinstance(piece, Comment) else "stray" if isinstance(piece, Stray) else "frame"


def _whole(body: bytes, decoder: StreamDecoder) -> list[Event]:
    import json

    try:
        return decoder.whole(json.loads(body))
    except (ValueError, RecursionError):
        return []


def _words(event: Event) -> tuple[str, str]:
    """An event by its name, and what it says in short."""
    name = _NAMES.get(type(event), type(event).__name__.lower())
    said = ""
    if isinstance(event, (Text, Reasoning, Refusal)):
        said = event.text
    elif isinstance(event, ToolCall):
        said = f"{event.name or ''}{event.arguments}"
    elif isinstance(event, Annotation):
        said = event.url or event.title or ""
    elif isinstance(event, Usage):
        said = " ".join(f"{label} {n}" for label, n in (("in", event.input_tokens), ("out", event.output_tokens)) if n is not None)
    elif isinstance(event, Progress):
        said = f"{event.done} of {event.total}"
    elif isinstance(event, Finish):
        said = event.reason
    elif isinstance(event, Failure):
        said = event.message
    elif isinstance(event, Unknown):
        said = event.name
    return name, said
