"""Reads into frames: the WHATWG event stream, cut by hand so that nothing the server sent goes unseen.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation and keeps four
things a conforming parser throws away, because an instrument must show them: comments, lines that are no field
(some servers send their errors there), a non-standard ``error:`` field, and the last frame when it was never
finished. The parser is pure and incremental: bytes in, frames out, no I/O and no clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Union

from httpx_sse import ServerSentEvent

FRAME_LIMIT = 64 * 1024 * 1024
STRAY_LIMIT = 64 * 1024

_BOM = b"\xef\xbb\xbf"
_DIGITS = re.compile(rb"[0-9]+\Z")


class Frame(ServerSentEvent):
    """One server-sent event: ``event``, ``data``, ``id``, ``retry`` as in :class:`httpx_sse.ServerSentEvent`.

    ``terminated`` is False for the last frame of a stream that ended without the blank line that closes it.
    """

    __slots__ = ("data", "event", "id", "retry", "terminated")

    def __init__(self, data: str, event: str = "message", id: str = "", retry: int | None = None, terminated: bool = True) -> None:
        self.data = data  # type: ignore[misc]
        self.event = event  # type: ignore[misc]
        self.id = id  # type: ignore[misc]
        self.retry = retry  # type: ignore[misc]
        self.terminated = terminated


@dataclass(slots=True)
class Comment:
    """A line that starts with a colon: a keep-alive."""

    text: str


@dataclass(slots=True)
class Stray:
    """Lines that are no field of the format, up to the blank line that ended them; or an ``error:`` field."""

    text: str


Piece = Union[Frame, Comment, Stray]


class FramingError(ValueError):
    """The body is over a limit; what was framed before it stands."""


class EventStreamFraming:
    """An incremental parser of ``text/event-stream``.

    ``feed`` takes the bytes of one read and returns the pieces they complete; ``end`` returns what was left
    unfinished. Any split of a body into reads gives the same pieces. Raises :class:`FramingError` when a frame
    passes ``frame_limit`` bytes.
    """

    def __init__(self, frame_limit: int = FRAME_LIMIT, stray_limit: int = STRAY_LIMIT) -> None:
        self._frame_limit = frame_limit
        self._stray_limit = stray_limit
        self._tail: list[bytes] = []  # the open line, in the pieces it came in
        self._tail_size = 0
        self._skip_newline = False  # the last read ended in CR: an LF at the start of the next belongs to it
        self._at_start = True
        self._data: list[bytes] = []
        self._size = 0
        self._event = b""
        self._id = ""
        self._retry: int | None = None
        self._stray: list[bytes] = []
        self._stray_size = 0
        self._broken: FramingError | None = None

    def feed(self, read: bytes) -> list[Piece]:
        """The pieces that the bytes of one read complete; those before a frame over the limit still come out."""
        if self._broken is not None:
            raise self._broken
        if self._skip_newline and read:
            self._skip_newline = False
            if read[0] == 0x0A:
                read = read[1:]
        if not read:
            return []
        if b"\n" not in read and b"\r" not in read:
            self._hold(read)
            return []
        if self._tail:
            self._tail.append(read)
            read = b"".join(self._tail)
            self._tail.clear()
            self._tail_size = 0
        if self._at_start:
            self._at_start = False
            read = read.removeprefix(_BOM)
        pieces: list[Piece] = []
        lines = read.splitlines()  # on bytes: CR, LF and CRLF only
        last = read[-1] if read else 0x0A
        rest = b""
        if last == 0x0D:
            self._skip_newline = True
        elif last != 0x0A:
            rest = lines.pop()
        try:
            for line in lines:
                self._check(len(line))
                self._line(line, pieces)
            if rest:
                self._hold(rest)
        except FramingError as error:
            if not pieces:
                raise
            self._broken = error
        return pieces

    def end(self) -> list[Piece]:
        """What the stream left unfinished: the open frame (``terminated=False``) and stray lines."""
        if self._broken is not None:
            raise self._broken
        pieces: list[Piece] = []
        line = b"".join(self._tail)
        self._tail.clear()
        if self._at_start and line.startswith(_BOM):
            line = line[len(_BOM) :]
        if line:
            self._line(line, pieces)
        self._flush_stray(pieces)
        if self._data:
            pieces.append(self._frame(terminated=False))
        return pieces

    def _hold(self, read: bytes) -> None:
        self._tail.append(read)
        self._tail_size += len(read)
        self._check(self._tail_size)

    def _check(self, more: int) -> None:
        if self._size + more > self._frame_limit:
            raise FramingError(f"a frame of the stream is over {self._frame_limit // 1024 // 1024} MiB")

    def _line(self, line: bytes, pieces: list[Piece]) -> None:
        if not line:
            self._flush_stray(pieces)
            if self._data:
                pieces.append(self._frame(terminated=True))
            self._event, self._retry = b"", None
            return
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._size += len(value) + 1
            self._data.append(value)
            return
        if line[0] == 0x3A:
            pieces.append(Comment(line[1:].strip().decode("utf-8", "replace")))
            return
        name, colon, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"event":
            self._event = value
        elif name == b"data":
            self._data.append(b"")
            self._size += 1
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry":
            if _DIGITS.match(value) and len(value) <= 18:
                self._retry = int(value)
        elif name == b"error" and colon:
            pieces.append(Stray(value.decode("utf-8", "replace")))
        elif self._stray_size < self._stray_limit:
            line = line[: self._stray_limit - self._stray_size]
            self._stray.append(line)
            self._stray_size += len(line) + 1

    def _flush_stray(self, pieces: list[Piece]) -> None:
        if self._stray:
            pieces.append(Stray(b"\n".join(self._stray).decode("utf-8", "replace")))
            self._stray.clear()
            self._stray_size = 0

    def _frame(self, terminated: bool) -> Frame:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        event = self._event.decode("utf-8", "replace") if self._event else "message"
        frame = Frame(data.decode("utf-8", "replace"), event, self._id, self._retry, terminated)
        self._data.clear()
        self._size = 0
        return frame
