"""The body of one response on its way out: cut short, held back, compressed, split and slowed down as its script says."""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable

from tokenstream_magic.mock.script import GIANT, Script

_FILLER = b"0123456789abcdef" * 4096
_GIANT = GIANT.encode()


class BodyCut(Exception):
    """The body was cut where its script says so; the connection is ended already."""


class Body:
    """Sends in HTTP chunks, a chunk a write. What is held back or cut is counted in bytes of what the protocol wrote."""

    def __init__(self, writer: asyncio.StreamWriter, script: Script) -> None:
        self._writer = writer
        self._script = script
        self._said = 0
        self._held: list[bytes] = []
        self._holding = 0
        self._block: int | None = None if script.buffered is True else int(script.buffered)
        self._compressor = zlib.compressobj(wbits=31) if script.gzip else None

    async def send(self, data: bytes) -> None:
        """Sends ``data``; where a giant piece is meant to stand in it, as many bytes. Raises BodyCut at the byte where the body is cut."""
        first, *rest = data.split(_GIANT) if self._script.giant else (data,)
        await self._cut(first)
        for part in rest:
            for at in range(0, self._script.giant, len(_FILLER)):
                await self._cut(_FILLER[: self._script.giant - at])
            await self._cut(part)

    async def end(self) -> None:
        """Sends what was held back, and the end that HTTP takes for whole."""
        await self._flush()
        if self._compressor is not None:
            await self._write(self._compressor.flush())
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def break_off(self, how: str) -> None:
        """Ends the connection in the middle of the body: ``close`` or ``reset``; ``end`` ends the body as if it were whole."""
        await self._flush()
        if how == "end":
            await self.end()
            return
        if how == "reset":
            reset(self._writer)
        self._writer.transport.abort()

    async def _cut(self, data: bytes) -> None:
        at = self._script.cut_at
        if at is None or self._said + len(data) < at:
            self._said += len(data)
            await self._hold(data)
            return
        await self._hold(data[: at - self._said])
        await self.break_off(self._script.cut_by)
        raise BodyCut

    async def _hold(self, data: bytes) -> None:
        if self._block == 0:
            await self._encode(data)
            return
        self._held.append(data)
        self._holding += len(data)
        if self._block is not None and self._holding >= self._block:
            held = b"".join(self._held)
            whole = len(held) - len(held) % self._block
            self._held, self._holding = [held[whole:]], len(held) - whole
            await self._encode(held[:whole])

    async def _flush(self) -> None:
        held, self._held, self._holding = b"".join(self._held), [], 0
        await self._encode(held)

    async def _encode(self, data: bytes) -> None:
        if data and self._compressor is not None:
            data = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        await self._write(data)

    async def _write(self, data: bytes) -> None:
        size = self._script.split or len(data)
        for at in range(0, len(data), size or 1):
            if self._script.drip and at:
                await asyncio.sleep(self._script.drip)
            part = data[at : at + size]
            self._writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await self._writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """Makes the close that follows a reset: the client's system sees RST and not FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def pause(seconds: float, every: float | None, keep_alive: Callable[[], Awaitable[None]]) -> None:
    """Waits; with ``every``, a keep-alive is sent that often meanwhile."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while every and ends - loop.time() > every:
        await asyncio.sleep(every)
        await keep_alive()
    await asyncio.sleep(max(ends - loop.time(), 0))
