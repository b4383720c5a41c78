"""The body of a response: as it came, or unpacked when the server compressed it although it was asked not to.

We ask for ``identity``, because a compressor holds text back until its block is full. Something on the way may compress
all the same; gzip and deflate are then unpacked read by read, so that nothing is lost and each piece keeps the stamp of
the read that brought it. What cannot be unpacked piece by piece with what Python has is refused.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from tokenstream_magic.transport.seam import Exchange, ExchangeError, Read

PIECE = 16 * 1024
# text repeats itself, but not so: what unpacks to more than this many times its size, beyond an allowance, is a bomb
MOST_TIMES = 200
ALLOWANCE = 4 * 1024 * 1024

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def encoding(exchange: Exchange) -> str | None:
    """The content coding of the body; None when it came as it is."""
    named = exchange.headers.get("content-encoding", "").strip().lower()
    return named if named not in ("", "identity") else None


def reads(exchange: Exchange) -> AsyncIterator[Read]:
    """The reads of the body, unpacked. Raises ExchangeError when the connection breaks or a coding cannot be undone."""
    coding = encoding(exchange)
    return exchange.reads() if coding is None else _unpacked(exchange, coding)


async def text(exchange: Exchange, limit: int) -> str:
    """The body of a response that is no stream, up to ``limit`` bytes, read as UTF-8."""
    return await collected(reads(exchange), limit)


async def collected(arriving: AsyncIterator[Read], limit: int) -> str:
    """The bytes of some reads, up to ``limit``, read as UTF-8."""
    body = bytearray()
    async for read in arriving:
        body += read.data
        if len(body) >= limit:
            break
    return body[:limit].decode("utf-8", "replace")


async def from_the_start(first: Read | None, rest: AsyncIterator[Read]) -> AsyncIterator[Read]:
    """The reads of a body whose first was taken already, to see what it is."""
    if first is not None:
        yield first
    async for read in rest:
        yield read


async def _unpacked(exchange: Exchange, coding: str) -> AsyncIterator[Read]:
    if coding not in _WINDOW_BITS:
        raise ExchangeError(
            f"The server compressed the stream ({coding[:40]}) although asked not to.",
            "Turn compression off for this path at the server or what stands before it.",
            type="compressed",
        )
    unpacker = Unpacker(coding)
    async for read in exchange.reads():
        for piece in unpacker.feed(read.data):
            yield Read(piece, read.at, read.number)
            await asyncio.sleep(0)  # a small read may unpack to much: stop and the watchdogs must get their turn
    unpacker.end()


class Unpacker:
    """gzip or deflate into pieces of at most :data:`PIECE` bytes. Raises ExchangeError on what is corrupt, cut off, or a bomb."""

    def __init__(self, coding: str) -> None:
        self._bits = _WINDOW_BITS[coding]
        self._coding = coding
        self._stream = zlib.decompressobj(self._bits)
        self._begun = False
        self._first = b""
        self._packed = self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces that the bytes of one read unpack to."""
        self._packed += len(data)
        if not self._begun:
            data = self._first = self._first + data
            if len(data) < 2:
                return
            if self._coding == "deflate" and not _has_zlib_header(data):  # some send it without its zlib frame
                self._bits = -15
            self._stream, self._begun = zlib.decompressobj(self._bits), True
        full = False
        while data or full:
            if data and self._stream.eof:  # another member of the same file
                self._stream = zlib.decompressobj(self._bits)
            before = self._stream.copy()
            try:
                piece = self._stream.decompress(data, PIECE)
            except zlib.error as error:
                piece = _undamaged(before, data)
                if piece:
                    yield piece
                raise ExchangeError(
                    f"The server says the stream is compressed ({self._coding}), but it cannot be unpacked.", type="compressed"
                ) from error
            data = self._stream.unused_data or self._stream.unconsumed_tail
            full = len(piece) == PIECE and not self._stream.eof  # there may be more of it although all input is taken
            self._size += len(piece)
            if self._size > ALLOWANCE and self._size > MOST_TIMES * (self._packed - len(data)):
                raise ExchangeError(f"The compressed stream unpacks to more than {MOST_TIMES} times its size.", type="compressed")
            if piece:
                yield piece

    def end(self) -> None:
        """The body is over: so must the compressed stream be."""
        if self._first and not self._stream.eof:
            raise ExchangeError("The connection broke off in the middle of the compressed stream.", type="connection_lost")


def _undamaged(stream: Any, data: bytes) -> bytes:
    """What the good bytes before a damage unpack to; ``stream`` is how things stood before ``data``."""
    good, bad, piece = 0, len(data), b""
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            piece = stream.copy().decompress(data[:middle], PIECE)
        except zlib.error:
            bad = middle
        else:
            good = middle
    return piece


def _has_zlib_header(data: bytes) -> bool:
    """Whether the first two bytes are those of RFC 1950."""
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
