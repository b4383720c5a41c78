"""How far the body of a response goes, and which of the bytes on the connection are body (RFC 9112, sections 6.3 and 7.1).

Pure and incremental: ``feed`` takes the bytes of one read and returns those of them that are body, in one piece and
without the transfer coding. ``done`` says that the body is over, ``problem`` that what follows is no proper HTTP; what
stood before it has been returned. Any split of a body into reads gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

LONGEST_LINE = 16 * 1024
LONGEST_TRAILER = 64 * 1024

_CUT = "peer closed connection without sending complete message body"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[^\r\n]*)?[ \t]*\r\n")
_WITHOUT_BODY = (204, 304)


class Extent(Protocol):
    """Where a body ends."""

    done: bool
    problem: str | None

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body among those of one read."""

    def end(self) -> str | None:
        """The connection was closed: what is missing, or None when the body is whole."""


def extent(verb: str, status: int, headers: Mapping[str, str]) -> Extent:
    """The extent of the body of a response whose headers have been checked: one length at most, no coding but ``chunked``."""
    if verb == "HEAD" or status < 200 or status in _WITHOUT_BODY:
        return Sized(0)
    if "transfer-encoding" in headers:
        return Chunked()
    length = headers.get("content-length")
    return UntilClosed() if length is None else Sized(int(length))


class UntilClosed:
    """All that comes until the server closes the connection."""

    __slots__ = ("done", "problem")

    def __init__(self) -> None:
        self.done = False
        self.problem: str | None = None

    def feed(self, data: bytes) -> bytes:
        """All of it."""
        return data

    def end(self) -> str | None:
        """Nothing is missing."""
        return None


class Sized:
    """A number of bytes known beforehand."""

    __slots__ = ("_left", "_length", "done", "problem")

    def __init__(self, length: int) -> None:
        self._left = self._length = length
        self.done = length == 0
        self.problem: str | None = None

    def feed(self, data: bytes) -> bytes:
        """What of it belongs to the body; what comes after it is nobody's."""
        data = data[: self._left]
        self._left -= len(data)
        self.done = self._left == 0
        return data

    def end(self) -> str | None:
        """The body is whole only when it is done."""
        return None if self.done else f"{_CUT} (received {self._length - self._left} bytes, expected {self._length})"


class Chunked:
    """Chunks with their sizes before them, an empty one at the end, and a trailer, which is passed over."""

    __slots__ = ("_closing", "_held", "_left", "_trailer", "done", "problem")

    def __init__(self) -> None:
        self._left = 0  # bytes to come of the open chunk
        self._closing = False  # the line end after a chunk is due
        self._trailer: int | None = None  # bytes of the trailer so far, once the last chunk has come
        self._held = b""  # a line that is not whole yet
        self.done = False
        self.problem: str | None = None

    def feed(self, data: bytes) -> bytes:
        """The insides of the chunks."""
        if self._held:
            data, self._held = self._held + data, b""
        parts: list[bytes] = []
        position, size = 0, len(data)
        while position < size and self._trailer is None:
            if self._left:
                part = data[position : position + self._left]
                parts.append(part)
                position += len(part)
                self._left -= len(part)
                self._closing = self._left == 0
            elif self._closing:
                if not data.startswith(b"\r\n", position):
                    self._wait_or_fail(data[position:], b"\r", f"malformed chunk footer: {data[position : position + 2]!r}")
                    break
                position += 2
                self._closing = False
            else:
                line = _SIZE.match(data, position)
                if line is None:
                    rest = data[position:]
                    whole = b"\n" in rest or len(rest) > LONGEST_LINE
                    self._wait_or_fail(rest, b"" if whole else rest, f"illegal chunk header: {rest[:40]!r}")
                    break
                position = line.end()
                self._left = int(line[1], 16)
                self._trailer = 0 if self._left == 0 else None
        if self._trailer is not None and not self.done and self.problem is None:
            self._pass_over(data[position:])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def end(self) -> str | None:
        """The body is whole only when its last chunk has come."""
        return None if self.done else f"{_CUT} (incomplete chunked read)"

    def _wait_or_fail(self, rest: bytes, beginning: bytes, problem: str) -> None:
        """Waits for more when what is left is only the beginning of what is due."""
        if rest == beginning:
            self._held = rest
        else:
            self.problem = problem

    def _pass_over(self, rest: bytes) -> None:
        """The lines of the trailer, up to an empty one."""
        while (end := rest.find(b"\n")) >= 0:
            line, rest = rest[: end + 1], rest[end + 1 :]
            if line in (b"\r\n", b"\n"):
                self.done = True
                return
            self._trailer = (self._trailer or 0) + len(line)
        if (self._trailer or 0) + len(rest) > LONGEST_TRAILER:
            self.problem = "the trailer is too long"
        else:
            self._held = rest
