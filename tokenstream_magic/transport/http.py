"""One exchange over HTTP: a request out, a response whose body arrives as stamped reads.

One fresh connection per exchange, so that runs do not share fate or clock and a connection the server closed while
idle is never reused; no redirects, no environment proxies, no compression, and no read timeout: the watchdogs of a
Run, which know progress from noise, take its place.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from tokenstream_magic.errors import TokenstreamError
from tokenstream_magic.transport.network import HOST_UNKNOWN, StampedBackend, StampedStream

CONNECT_TIMEOUT = 10.0


class ExchangeError(TokenstreamError):
    """The exchange could not be opened or broke off; ``type`` says how, ``message`` in words."""

    type = "connection"


@dataclass(frozen=True, slots=True)
class Call:
    """Where to send what: an absolute URL, headers with the key in them, a JSON body (None: a GET), perhaps a Unix socket."""

    url: str
    headers: dict[str, str] = field(repr=False)
    body: dict[str, Any] | None
    socket: str | None = None


@dataclass(slots=True)
class Read:
    """Bytes of the body, the monotonic ns at which the network delivered them, and the number of that delivery."""

    data: bytes
    at: int
    number: int


class Exchange:
    """An open response. Iterate :meth:`reads`; :meth:`abort` ends it from the loop thread at once."""

    def __init__(self) -> None:
        self._backend = StampedBackend()
        self._response: httpx.Response | None = None
        self.headers_at = 0

    @asynccontextmanager
    async def opened(self, call: Call) -> AsyncIterator[Exchange]:
        """Sends ``call``, hands on once the response's headers are there, and closes the connection at the end."""
        client = httpx.AsyncClient(
            transport=_StampedTransport(self._backend, call),
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113 - a Run's watchdogs, which know progress from noise, take its place
        )
        try:
            try:
                headers = {"Accept-Encoding": "identity", "Cache-Control": "no-store", **call.headers}
                method = "GET" if call.body is None else "POST"
                request = client.build_request(method, call.url, json=call.body, headers=headers)
                self._response = await client.send(request, stream=True)
            except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.UnsupportedProtocol) as error:
                raise ExchangeError(*_no_connection(call, error), type="no_connection") from None
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
                raise ExchangeError(_broke_off(error), type="connection_lost") from None
            if self.stream is not None:
                self.headers_at = self.stream.read_at
            yield self
        finally:
            self.abort()
            if self._response is not None:
                await self._response.aclose()
            await client.aclose()

    @property
    def stream(self) -> StampedStream | None:
        """The connection, with its stamps; None until it is open."""
        return self._backend.stream

    @property
    def response(self) -> httpx.Response:
        """Status and headers."""
        assert self._response is not None
        return self._response

    @property
    def content_type(self) -> str:
        """The media type of the body, lower case and without parameters."""
        return str(self.response.headers.get("content-type", "")).partition(";")[0].strip().lower()

    async def reads(self) -> AsyncIterator[Read]:
        """The body as it arrives. Raises ExchangeError when the connection breaks."""
        stream = self.stream
        assert stream is not None
        assert isinstance(self.response.stream, httpx.AsyncByteStream)
        try:
            async for data in self.response.stream:
                if data:
                    yield Read(data, stream.read_at, stream.reads)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise ExchangeError(_broke_off(error), type="connection_lost") from None

    async def text(self, limit: int) -> str:
        """The body of a response that is no stream, up to ``limit`` bytes."""
        body = bytearray()
        async for read in self.reads():
            body += read.data
            if len(body) >= limit:
                break
        return body[:limit].decode("utf-8", "replace")

    def abort(self) -> None:
        """Closes the connection now. On the loop thread only."""
        if self.stream is not None:
            self.stream.abort()


class _StampedTransport(httpx.AsyncBaseTransport):
    """httpx over an httpcore pool of one connection, opened by our backend."""

    def __init__(self, backend: StampedBackend, call: Call) -> None:
        context = _tls() if urlsplit(call.url).scheme == "https" else None
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=1,
            max_keepalive_connections=0,
            http1=True,
            http2=False,
            uds=call.socket,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path)
        response = await self._pool.handle_async_request(
            httpcore.Request(
                request.method,
                url,
                headers=request.headers.raw,
                content=request.stream,
                extensions={"timeout": {"connect": CONNECT_TIMEOUT}},
            )
        )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions)

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._response.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._response.aclose()


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # the authorities of SSL_CERT_FILE, or else certifi's


def _no_connection(call: Call, error: Exception) -> tuple[str, str]:
    parts = urlsplit(call.url)
    where = call.socket or f"{parts.scheme}://{parts.netloc}"
    reason = str(error)
    if isinstance(error, httpcore.ConnectTimeout):
        return f"{where} did not answer within {CONNECT_TIMEOUT:.0f} s.", "Check the address and your network."
    if "certificate" in reason.lower() or "ssl" in reason.lower() or "tls" in reason.lower():
        return f"No secure connection to {where}: {_plain(reason)}.", "Check the address, and whether it speaks https."
    if reason == HOST_UNKNOWN:
        return f"The host of {where} is not known.", "Check the address and your network."
    if "Multiple exceptions" in reason or "Connect call failed" in reason or "Connection refused" in reason:
        return f"Nothing is listening at {where}.", "Start the server, or check the address."
    return f"No connection to {where}: {_plain(reason)}.", "Check the address and your network."


def _broke_off(error: Exception) -> str:
    return f"The connection broke off: {_plain(str(error)) or type(error).__name__}."


def _plain(reason: str) -> str:
    return reason.strip().rstrip(".")
