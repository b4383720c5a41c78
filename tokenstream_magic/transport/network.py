"""Connections that stamp every read when the bytes arrive.

The clock is read in ``buffer_updated``, the first Python code that sees the bytes, so neither HTTP parsing nor
other streams on the loop move a stamp. ``abort`` closes the socket at once, which is what Stop needs. What goes wrong
is raised as httpcore names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
import typing
from collections import deque
from collections.abc import Coroutine
from time import monotonic_ns
from typing import Any

import httpcore

HOST_UNKNOWN = "the host is not known"
_HANDSHAKE_CUT = "the connection was closed during the TLS handshake"
LINK_LOCAL = "the address is link-local"

_AT_ONCE = 1 << 18
_HIGH_WATER = 1 << 20
RACE = 0.25  # seconds until the next address of a name is tried beside the one before (RFC 8305)
_LINGER = 10.0
_METADATA = "fd00:ec2::254"  # a cloud's metadata service that is not link-local
_KEEP_ALIVE = ((socket.SO_KEEPALIVE, 1),)


class HandshakeError(httpcore.ConnectError):
    """TLS could not be agreed on; ``cause`` is what asyncio or OpenSSL said, if anything."""

    def __init__(self, reason: str, cause: Exception | None = None) -> None:
        super().__init__(reason)
        self.cause = cause


class _Landing(threading.local):
    """Where the bytes of a read arrive: one place for all connections of a thread, because each read is copied out at once."""

    def __init__(self) -> None:
        self.place = memoryview(bytearray(_AT_ONCE))


_landing = _Landing()


class StampedStream(asyncio.BufferedProtocol):
    """One connection. ``read_at`` is the arrival of the bytes last handed out, ``reads`` how often the network delivered."""

    __slots__ = (
        "__weakref__", "_backend", "_drained", "_eof", "_error", "_held", "_place", "_reader", "_received", "_transport",
        "closed_at", "first_write_at", "opened_at", "read_at", "reads",
    )  # fmt: skip

    def __init__(self, backend: StampedBackend) -> None:
        self._backend = backend
        self.opened_at = 0
        self.first_write_at: int | None = None
        self.read_at = 0
        self.reads = 0
        self.closed_at: int | None = None
        self._place = _landing.place
        self._transport: asyncio.Transport | None = None
        self._received: deque[tuple[int, bytes]] | None = None  # made when bytes wait for a reader, which is seldom
        self._held = 0
        self._eof = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[tuple[int, bytes] | None] | None = None
        self._drained: asyncio.Future[None] | None = None

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = typing.cast("asyncio.Transport", transport)
        self.opened_at = monotonic_ns()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._place

    def buffer_updated(self, nbytes: int) -> None:
        arrived = (monotonic_ns(), bytes(self._place[:nbytes]))
        reader = self._reader
        if reader is not None and not self._received and not reader.done():
            reader.set_result(arrived)
            return
        if self._received is None:
            self._received = deque()
        self._received.append(arrived)
        self._held += nbytes
        if self._held > _HIGH_WATER and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.closed_at = self.closed_at or monotonic_ns()
        self._eof, self._error = True, error
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # for the one who reads and writes

    async def read(self) -> bytes:
        """The bytes of the next delivery; empty at the end. Raises httpcore.ReadError when the connection broke."""
        arrived = None
        if not self._received and not self._eof:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                arrived = await self._reader
            finally:
                self._reader = None
        if arrived is None:
            if not self._received:
                if self._error is not None:
                    raise httpcore.ReadError(str(self._error) or "the connection was reset") from self._error
                return b""
            arrived = self._received.popleft()
            self._held -= len(arrived[1])
            if not self._received:
                self._received = None
            self._resume()
        self.read_at, data = arrived
        self.reads += 1
        return data

    def _resume(self) -> None:
        transport = self._transport
        if self._held <= _HIGH_WATER // 2 and transport is not None and not transport.is_reading() and not transport.is_closing():
            transport.resume_reading()

    async def write(self, data: bytes) -> None:
        """Sends, and waits until the system took all of it. Raises httpcore.WriteError when the connection is closed."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise httpcore.WriteError("the connection is closed")
        if self.first_write_at is None:
            self.first_write_at = monotonic_ns()
        transport.write(data)
        if self._drained is not None:
            await asyncio.shield(self._drained)

    def abort(self) -> None:
        """Closes the socket now, without a farewell. May be called again, and on a connection already lost."""
        if self._transport is not None and self.closed_at is None:
            self._transport.abort()
            self.closed_at = monotonic_ns()

    async def start_tls(self, context: ssl.SSLContext, hostname: str, timeout: float) -> StampedStream:
        """The same connection, encrypted. Raises HandshakeError or httpcore.ConnectTimeout."""
        secured = StampedStream(self._backend)
        loop = asyncio.get_running_loop()
        assert self._transport is not None
        try:
            transport = await asyncio.wait_for(loop.start_tls(self._transport, secured, context, server_hostname=hostname), timeout)
        except asyncio.TimeoutError:
            self.abort()
            raise httpcore.ConnectTimeout from None
        except ConnectionError as error:
            self.abort()
            raise HandshakeError(_HANDSHAKE_CUT, error) from error
        except (OSError, ssl.SSLError) as error:
            self.abort()
            raise HandshakeError(str(error), error) from error
        if transport is None:
            raise HandshakeError(_HANDSHAKE_CUT)
        secured.connection_made(transport)
        secured.opened_at = self.opened_at
        self._backend.stream = secured  # what arrives from here on is stamped there
        return secured


class StampedBackend:
    """Opens :class:`StampedStream` connections; ``stream`` is the one opened last, TLS or not.

    A link-local address is refused once it is known, whatever name led there, unless ``link_local`` says it may be one.
    """

    __slots__ = ("_link_local", "stream")

    def __init__(self, *, link_local: bool = False) -> None:
        self.stream: StampedStream | None = None
        self._link_local = link_local

    async def connect_tcp(self, host: str, port: int, timeout: float) -> StampedStream:
        """A connection to a host by name or address. Raises httpcore.ConnectError or ConnectTimeout."""
        loop = asyncio.get_running_loop()
        race = None if _is_address(host) else RACE  # one address has nothing to race, and a race leaves 5 KB to the garbage collector
        return await self._open(loop.create_connection(lambda: StampedStream(self), host, port, happy_eyeballs_delay=race), timeout)

    async def connect_unix_socket(self, path: str, timeout: float) -> StampedStream:
        """A connection to a Unix socket. Raises httpcore.ConnectError or ConnectTimeout."""
        return await self._open(asyncio.get_running_loop().create_unix_connection(lambda: StampedStream(self), path), timeout)

    async def _open(self, opening: Any, timeout: float) -> StampedStream:
        try:
            transport, stream = await _within(timeout, opening)
        except socket.gaierror as error:
            raise httpcore.ConnectError(HOST_UNKNOWN) from error
        except UnicodeError as error:  # a name no resolver takes
            raise httpcore.ConnectError(HOST_UNKNOWN) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        if not self._link_local and _is_link_local(transport.get_extra_info("peername")):
            stream.abort()
            raise httpcore.ConnectError(LINK_LOCAL)
        connected = transport.get_extra_info("socket")
        if connected is not None and connected.family != getattr(socket, "AF_UNIX", None):
            with contextlib.suppress(OSError):
                for option, value in _KEEP_ALIVE:
                    connected.setsockopt(socket.SOL_SOCKET, option, value)
        self.stream = stream
        return typing.cast("StampedStream", stream)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_link_local(peer: Any) -> bool:
    if not isinstance(peer, tuple):
        return False
    address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_link_local or str(address) == _METADATA


async def _within(timeout: float | None, opening: Coroutine[Any, Any, tuple[asyncio.BaseTransport, StampedStream]]) -> Any:
    """The opened connection. Unlike ``asyncio.wait_for``, loses no cancellation that comes in the tick it opens."""
    task = asyncio.ensure_future(opening)
    try:
        await asyncio.wait({task}, timeout=timeout)
    except asyncio.CancelledError:
        # not cancelled at once: asyncio may lose the socket of a connection that is just being made
        task.add_done_callback(_discard)
        asyncio.get_running_loop().call_later(timeout or _LINGER, task.cancel)
        raise
    if not task.done():
        task.cancel()
        task.add_done_callback(_discard)
        raise httpcore.ConnectTimeout
    return task.result()


def _discard(task: asyncio.Task[tuple[asyncio.BaseTransport, StampedStream]]) -> None:
    """Closes a connection that opened after nobody wanted it any more."""
    if not task.cancelled() and task.exception() is None:
        task.result()[1].abort()
