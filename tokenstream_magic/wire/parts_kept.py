"""The wire of a run that is still going on, in parts that may be written: masked, compressed, and each once.

What a :class:`~tokenstream_magic.wire.kept.Tap` gathers is masked as it comes, with the same eyes as the whole of it at the
end (:mod:`tokenstream_magic.wire.masking`): in the bytes, and in the text that the frames make together. A frame is part of
the next part once it is whole and nothing that follows can make a key of what it says. :func:`assembled` puts the parts of a
run that never ended together again.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from tokenstream_magic.redaction import Growing, Redactor
from tokenstream_magic.wire.framing import FramingError
from tokenstream_magic.wire.kept import LIMIT, Tap, Wire
from tokenstream_magic.wire.lines import LinesFraming
from tokenstream_magic.wire.masking import forms, mask_headers, mask_url, replace, strand_of
from tokenstream_magic.wire.protocols import PROTOCOLS

AT_ONCE = 256 * 1024
"""Bytes of body that are looked at for one part."""

_HEAD = struct.Struct(">I")
_MOST = LIMIT + 64 * 1024 * 1024
_OUTSIDE = re.compile(r'["\n\r]')
_STARS = re.compile(r"\*+")


class Parts:
    """Makes the parts of one run, from what its tap tells. ``secrets`` gives the keys in use whenever a request begins."""

    def __init__(self, tap: Tap, protocol: str, secrets: Callable[[], Iterable[str]]) -> None:
        self._news = tap.news
        self._tap = tap
        self._protocol = protocol
        self._secrets = secrets
        self._redactor = Redactor()
        self._body: _Body | None = None
        self._attempt = -1
        self._waiting: deque[list[Any]] = deque()  # what is masked and not in a part yet, in order

    def take(self, origin: int) -> bytes | None:
        """The next part, of at most so much of what has come; None when there is nothing that may be written yet."""
        seen = 0
        with contextlib.suppress(IndexError):  # nothing more; also when the run has just ended, and all of it is written at once
            while seen < AT_ONCE:
                what, *about = self._news.popleft()
                seen += getattr(self, f"_{what}")(*about)
        return self._part(origin)

    # what the tap tells; each returns how many bytes that was

    def _begin(self, attempt: int, method: str, url: str, headers: list[tuple[str, str]], renewed: bool) -> int:
        self._redactor = Redactor(self._secrets())
        if attempt != self._attempt or self._body is None:
            if self._body is not None:
                self._body.end()
            self._attempt, self._body = attempt, _Body(self._protocol, self._redactor, self._body)
        elif renewed:
            self._body.renew()
        url = mask_url(url, self._redactor)
        self._waiting.append(["begin", attempt, method, url, mask_headers(headers, self._redactor), renewed])
        return 0

    def _sent(self, at: int | None, headers: list[tuple[str, str]] | None) -> int:
        self._waiting.append(["sent", at, mask_headers(headers, self._redactor) if headers is not None else None])
        return 0

    def _answered(self, status: int, headers: list[tuple[str, str]]) -> int:
        self._waiting.append(["answered", status, mask_headers(headers, self._redactor)])
        return 0

    def _whole(self) -> int:
        self._waiting.append(["whole"])
        return 0

    def _take(self, data: bytes, at: int, number: int) -> int:
        assert self._body is not None
        self._body.feed(data)
        self._waiting.append(["take", len(data), at, number])
        return len(data)

    def _part(self, origin: int) -> bytes | None:
        told: list[list[Any]] = []
        bodies: list[bytes] = []
        while self._waiting:
            next_one = self._waiting[0]
            if next_one[0] == "take":
                assert self._body is not None
                ready = self._body.release(next_one[1])
                if len(ready) < next_one[1]:
                    if ready:
                        told.append(["take", len(ready), *next_one[2:]])
                        bodies.append(ready)
                        next_one[1] -= len(ready)
                    break
                bodies.append(ready)
            told.append(self._waiting.popleft())
        if not told:
            return None
        head = {"protocol": self._protocol, "origin": origin, "left_out": self._tap.left_out, "told": told}
        written = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        return zlib.compress(_HEAD.pack(len(written)) + written + b"".join(bodies), 6)


def assembled(parts: Iterable[bytes], *, to_the_first_damaged: bool = False) -> Wire:
    """The wire that parts make together. Raises ValueError when one of them is damaged, or ends before it."""
    tap, about = Tap(""), _About()
    for part in parts:
        try:
            about = _played(part, tap)
        except ValueError:
            if not to_the_first_damaged:
                raise
            break
    wire = tap.gathered(about.origin)
    wire.protocol, wire.left_out = about.protocol, max(about.left_out, wire.left_out)
    return wire


class _About(NamedTuple):
    """What the last part says of all of them."""

    protocol: str = ""
    origin: int = 0
    left_out: int = 0


def _played(part: bytes, tap: Tap) -> _About:
    """Tells a tap what a part holds, all of it or nothing."""
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(part, _MOST)
        if not stream.eof:
            raise ValueError("cut off, or larger than a part can be")
        (size,) = _HEAD.unpack_from(raw)
        head, position = json.loads(raw[_HEAD.size : _HEAD.size + size]), _HEAD.size + size
        about = _About(str(head["protocol"]), int(head["origin"]), int(head["left_out"]))
        calls: list[Callable[[], None]] = []
        for what, *told in head["told"]:
            if what == "take":
                length, at, number = map(int, told)
                calls.append(partial(tap.take, raw[position : position + length], at, number))
                position += length
            elif what == "begin":
                attempt, method, url, headers, renewed = told
                calls.append(partial(tap.begin, int(attempt), str(method), str(url), dict(_pairs(headers)), renewed=bool(renewed)))
            elif what == "sent":
                calls.append(partial(tap.sent, told[0], _pairs(told[1]) if told[1] is not None else None))
            elif what == "answered":
                calls.append(partial(tap.answered, int(told[0]), _pairs(told[1])))
            elif what == "whole":
                calls.append(tap.whole)
        for call in calls:
            call()
    except (zlib.error, struct.error, KeyError, TypeError, IndexError, OverflowError, RecursionError, AttributeError) as error:
        raise ValueError(f"a part of the kept wire is damaged: {error}") from None
    return about


def _pairs(found: Any) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in found]


@dataclass
class _Strand:
    """A text that frames make together, and which of its pieces are not decided yet."""

    growing: Growing
    open: deque[tuple[str, int, int]] = field(default_factory=deque)  # the text of a piece, and where its frame is
    decided: str = ""  # of the first of them


class _Body:
    """The bytes of one attempt on their way from the tap into a part."""

    def __init__(self, protocol: str, redactor: Redactor, before: _Body | None) -> None:
        spoken = PROTOCOLS.get(protocol) or PROTOCOLS["openai-chat"]
        self._spoken, self._decoder, self._framing = spoken, spoken.Decoder(), spoken.FRAMING()
        self._by_line = spoken.FRAMING is LinesFraming
        self._redactor = redactor
        self._in_bytes = Redactor(form for secret in redactor.values for form in forms(secret))
        self._bytes = Growing(self._in_bytes)
        self._raw = ""  # what of the bytes is not decided yet
        self._line = b""  # of masked bytes, without an end yet
        self._strands: dict[tuple[str, int, int], _Strand] = {}
        self.ready: bytearray = before.ready if before is not None else bytearray()  # masked, not released yet
        self._base = -len(self.ready)  # where that begins, from the start of this attempt
        self._frame = 0  # where the frame that is not whole yet begins
        self._position = 0  # how far frames have been looked at
        self._broken = False

    def feed(self, data: bytes) -> None:
        raw = data.decode("latin-1")
        self._raw += raw
        self._decide(self._bytes.feed(raw))

    def renew(self) -> None:
        """The framing begins anew: what broke off is no frame."""
        self._decide(self._bytes.end())
        self._framing, self._line = self._spoken.FRAMING(), b""
        self._frame = self._position = self._base + len(self.ready)

    def end(self) -> None:
        """Nothing follows: all of it may go."""
        self._decide(self._bytes.end())
        if not self._broken:
            self._lines(self._line, closed=False)
            for strand in self._strands.values():
                self._settle(strand, strand.growing.end())
        self._frame = self._base + len(self.ready)
        self._strands.clear()
        self._broken = False

    def release(self, most: int) -> bytes:
        """At most so many of the bytes that may be written, which are then gone from here."""
        held = [strand.open[0][1] for strand in self._strands.values() if strand.open]
        safe = max(0, min([self._frame, *held]) - self._base) if not self._broken else 0
        count = min(most, safe)
        ready = bytes(self.ready[:count])
        del self.ready[:count]
        self._base += count
        return ready

    def _decide(self, masked: str) -> None:
        """Bytes that are masked as far as they go by themselves."""
        if not masked:
            return
        raw, self._raw = self._raw[: len(masked)], self._raw[len(masked) :]
        if masked != raw:
            for stars in _STARS.finditer(masked):
                hidden = raw[stars.start() : stars.end()]
                # a pattern that reaches over the end of a JSON string has found no key
                if _OUTSIDE.search(hidden) and not any(value in hidden for value in self._in_bytes.values):
                    masked = masked[: stars.start()] + hidden + masked[stars.end() :]
        data = masked.encode("latin-1")
        self.ready += data
        if not self._broken:
            self._lines(data, closed=True)

    def _lines(self, data: bytes, *, closed: bool) -> None:
        if closed:
            if self._line and b"\n" not in data and b"\r" not in data and not self._line.endswith(b"\r"):
                self._line += data
                return
            data = self._line + data
            size = len(data) - data.endswith(b"\r")  # what ends in CR may go on with LF
            end = max(data.rfind(b"\n", 0, size), data.rfind(b"\r", 0, size)) + 1
            lines, self._line = data[:end].splitlines(keepends=True), data[end:]
        else:
            lines, self._line = [data] if data else [], b""
        try:
            for line in lines:
                self._one(line)
            if not closed:
                for piece in self._framing.end():
                    self._events(self._decoder.decode(piece), self._frame)
        except FramingError:
            self._broken = True

    def _one(self, line: bytes) -> None:
        begun, self._position = self._position, self._position + len(line)
        blank = not line.strip(b"\r\n")
        found = self._framing.feed(line)
        aside = bool(found) and not blank and not self._by_line  # a comment, or an error in a field of its own
        for piece in found:
            self._events(self._decoder.decode(piece), begun if aside else self._frame)
        if (found and not (aside and self._frame < begun)) or blank:
            self._frame = self._position

    def _events(self, events: list[Any], start: int) -> None:
        for event in events:
            about = strand_of(event)
            if about is None:
                continue
            key, text = about
            strand = self._strands.get(key)
            if strand is None:
                strand = self._strands[key] = _Strand(Growing(self._redactor))
            strand.open.append((text, start, self._position))
            self._settle(strand, strand.growing.feed(text))

    def _settle(self, strand: _Strand, decided: str) -> None:
        """Pieces that are decided are masked in their frames."""
        strand.decided += decided
        while strand.open and len(strand.decided) >= len(strand.open[0][0]):
            text, start, end = strand.open.popleft()
            hidden, strand.decided = strand.decided[: len(text)], strand.decided[len(text) :]
            if hidden != text:
                replace(self.ready, start - self._base, end - self._base, text, hidden, by_line=self._by_line)
