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

    ``raw`` is the data as it came, before it was read as UTF-8. ``terminated`` is False for the last frame of a stream
    that ended without the blank line that closes it.
    """

    __slots__ = ("event", "id", "raw", "retry", "terminated")

    def __init__(self, data: bytes | str, event: str = "message", id: str = "", retry: int | None = None, terminated: bool = True) -> None:
        self.raw = data if type(data) is bytes else data.encode("utf-8", "surrogatepass")  # type: ignore[union-attr]
        self.event = event  # type: ignore[misc]
        self.id = id  # type: ignore[misc]
        self.retry = retry  # type: ignore[misc]
        self.terminated = terminated

    @property
    def data(self) -> str:
        """The data as text; bytes that are no UTF-8 become U+FFFD."""
        return self.raw.decode("utf-8", "replace")


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


def size(count: int) -> str:
    """A number of bytes in words."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"


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
        carriage = b"\r" in read
        if not carriage and b"\n" not in read:
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
        try:
            if carriage or len(read) > self._frame_limit:
                self._lines(read, pieces)
            else:
                self._blocks(read, pieces)
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

    def _blocks(self, read: bytes, pieces: list[Piece]) -> None:
        """A read without CR: nearly all of it is one line of data and a blank one, or a name, a line of data and a blank one."""
        find, starts, position = read.find, read.startswith, 0
        clean = not (self._data or self._event or self._stray or self._retry is not None)
        while (end := find(b"\n", position)) >= 0:
            if clean:
                if starts(b"data: ", position):
                    if starts(b"\n", end + 1):
                        pieces.append(Frame(read[position + 6 : end], "message", self._id))
                        position = end + 2
                        continue
                elif starts(b"event: ", position) and end > position + 7 and starts(b"data: ", end + 1):
                    close = find(b"\n", end + 7)
                    if close >= 0 and starts(b"\n", close + 1):
                        name = read[position + 7 : end].decode("utf-8", "replace")
                        pieces.append(Frame(read[end + 7 : close], name, self._id))
                        position = close + 2
                        continue
            self._check(end - position)
            self._line(read[position:end], pieces)
            clean = not (self._data or self._event or self._stray or self._retry is not None)
            position = end + 1
        if position < len(read):
            self._hold(read[position:])

    def _lines(self, read: bytes, pieces: list[Piece]) -> None:
        """A read with CR in it, or a long one, line by line."""
        lines = read.splitlines()  # on bytes: CR, LF and CRLF only
        last = read[-1] if read else 0x0A
        rest = b""
        if last == 0x0D:
            self._skip_newline = True
        elif last != 0x0A:
            rest = lines.pop()
        for line in lines:
            self._check(len(line))
            self._line(line, pieces)
        if rest:
            self._hold(rest)

    def _hold(self, read: bytes) -> None:
        self._tail.append(read)
        self._tail_size += len(read)
        self._check(self._tail_size)

    def _check(self, more: int) -> None:
        if self._size + more > self._frame_limit:
            raise FramingError(f"a frame of the stream is over {size(self._frame_limit)}")

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
        frame = Frame(data, event, self._id, self._retry, terminated)
        self._data.clear()
        self._size = 0
        return frame
