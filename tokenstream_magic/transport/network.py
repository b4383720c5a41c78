"""A network backend for httpcore that stamps every read when the bytes arrive.

The clock is read in ``data_received``, the first Python code that sees the bytes, so neither HTTP parsing nor
other streams on the loop move a stamp. ``abort`` closes the socket at once, which is what Stop needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import typing
from collections import deque
from collections.abc import Coroutine
from time import monotonic_ns
from typing import Any

import httpcore

HOST_UNKNOWN = "the host is not known"
_HANDSHAKE_CUT = "the connection was closed during the TLS handshake"
LINK_LOCAL = "the address is link-local"

_HIGH_WATER = 1 << 20
_LINGER = 10.0
_METADATA = "fd00:ec2::254"  # a cloud's metadata service that is not link-local
_KEEP_ALIVE = ((socket.SO_KEEPALIVE, 1),)


class HandshakeError(httpcore.ConnectError):
    """TLS could not be agreed on; ``cause`` is what asyncio or OpenSSL said, if anything."""

    def __init__(self, reason: str, cause: Exception | None = None) -> None:
        super().__init__(reason)
        self.cause = cause  # httpcore raises errors again "from None"


class StampedStream(httpcore.AsyncNetworkStream, asyncio.Protocol):
    """One connection. ``read_at`` is the arrival of the bytes last handed out, ``reads`` how often the network delivered."""

    def __init__(self, backend: StampedBackend) -> None:
        self._backend = backend
        self.opened_at = 0
        self.first_write_at: int | None = None
        self.read_at = 0
        self.reads = 0
        self.closed_at: int | None = None
        self._transport: asyncio.Transport | None = None
        self._received: deque[tuple[int, bytes]] = deque()
        self._held = 0
        self._eof = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = typing.cast("asyncio.Transport", transport)
        self.opened_at = monotonic_ns()

    def data_received(self, data: bytes) -> None:
        self._received.append((monotonic_ns(), data))
        self._held += len(data)
        if self._held > _HIGH_WATER and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

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

    # httpcore.AsyncNetworkStream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._received and not self._eof:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._reader, timeout) if timeout is not None else await self._reader
            except asyncio.TimeoutError:
                raise httpcore.ReadTimeout from None
            finally:
                self._reader = None
        if not self._received:
            if self._error is not None:
                raise httpcore.ReadError(str(self._error) or "the connection was reset") from self._error
            return b""
        at, data = self._received.popleft()
        if len(data) > max_bytes:
            self._received.appendleft((at, data[max_bytes:]))
            data = data[:max_bytes]
        if at != self.read_at:
            self.read_at = at
            self.reads += 1
        self._held -= len(data)
        if self._held <= _HIGH_WATER // 2 and self._transport is not None and not self._transport.is_reading():
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise httpcore.WriteError("the connection is closed")
        if self.first_write_at is None:
            self.first_write_at = monotonic_ns()
        transport.write(buffer)
        if self._drained is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self._drained), timeout)
            except asyncio.TimeoutError:
                raise httpcore.WriteTimeout from None

    async def aclose(self) -> None:
        self.abort()

    def abort(self) -> None:
        """Closes the socket now, without a farewell. May be called again, and on a connection already lost."""
        if self._transport is not None and self.closed_at is None:
            self._transport.abort()
            self.closed_at = monotonic_ns()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        secured = StampedStream(self._backend)
        loop = asyncio.get_running_loop()
        assert self._transport is not None
        try:
            transport = await asyncio.wait_for(
                loop.start_tls(self._transport, secured, ssl_context, server_hostname=server_hostname), timeout
            )
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

    def get_extra_info(self, info: str) -> Any:
        if self._transport is None:
            return None
        if info == "is_readable":
            return self._eof or bool(self._received)
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._transport.get_extra_info(names.get(info, info))


class StampedBackend(httpcore.AsyncNetworkBackend):
    """Opens :class:`StampedStream` connections; ``stream`` is the one opened last, TLS or not.

    A link-local address is refused once it is known, whatever name led there, unless ``link_local`` says it may be one.
    """

    def __init__(self, *, link_local: bool = False) -> None:
        self.stream: StampedStream | None = None
        self._link_local = link_local

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: typing.Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        return await self._open(
            loop.create_connection(
                lambda: StampedStream(self), host, port, happy_eyeballs_delay=0.25, local_addr=(local_address, 0) if local_address else None
            ),
            timeout,
        )

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: typing.Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        return await self._open(asyncio.get_running_loop().create_unix_connection(lambda: StampedStream(self), path), timeout)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _open(self, opening: Any, timeout: float | None) -> httpcore.AsyncNetworkStream:
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
        return typing.cast("httpcore.AsyncNetworkStream", stream)


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
