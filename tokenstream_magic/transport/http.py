"""One exchange over httpx: a request out, a response whose body arrives as stamped reads.

One fresh connection per exchange, so that runs do not share fate or clock and a connection the server closed while
idle is never reused; no redirects, no environment proxies and no ``.netrc``, no compression asked for, and no read
timeout: the watchdogs of a Run, which know progress from noise, take its place.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import lru_cache
from urllib.parse import unquote, urlsplit

import httpcore
import httpx

from tokenstream_magic.errors import one_line
from tokenstream_magic.transport.network import StampedBackend, StampedStream
from tokenstream_magic.transport.seam import CONNECT_TIMEOUT, Call, ExchangeError, Read, Stamps
from tokenstream_magic.transport.trouble import ERRORS, translated


class HttpxExchange:
    """An :class:`~tokenstream_magic.transport.seam.Exchange` over httpx and httpcore, with our own network backend below them."""

    def __init__(self) -> None:
        self._backend = StampedBackend()
        self._call = Call("", {})
        self._request: httpx.Request | None = None
        self._response: httpx.Response | None = None
        self._headers_at: int | None = None

    @asynccontextmanager
    async def opened(self, call: Call) -> AsyncIterator[HttpxExchange]:
        """Sends ``call``, hands on once the response's headers are there, and closes the connection at the end."""
        self._call = call = replace(call, proxy=None) if is_here(call) else call
        self._backend = StampedBackend(link_local=call.proxy is not None)
        client = httpx.AsyncClient(
            transport=_StampedTransport(self._backend, call),
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113 - a Run's watchdogs, which know progress from noise, take its place
        )
        try:
            try:
                headers = {"Accept-Encoding": "identity", "Cache-Control": "no-store", **call.headers}
                self._request = client.build_request(call.verb, call.url, json=call.body, headers=headers)
                self._response = await client.send(self._request, stream=True)
            except ERRORS as error:
                raise translated(call, error) from None
            stream = self._backend.stream
            if stream is not None:
                self._headers_at = stream.read_at
            yield self
        finally:
            self.abort()
            if self._response is not None:
                await self._response.aclose()
            await client.aclose()

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._opened.status_code

    @property
    def headers(self) -> httpx.Headers:
        """The response's headers; names compare without case."""
        return self._opened.headers

    @property
    def asked(self) -> list[tuple[str, str]] | None:
        """All headers of the request; None when none was made."""
        return self._request.headers.multi_items() if self._request is not None else None

    @property
    def stamps(self) -> Stamps:
        """What is known of the connection so far."""
        stream = self._backend.stream
        if stream is None:
            return Stamps()
        return Stamps(stream.opened_at, stream.first_write_at, self._headers_at, stream.closed_at, stream.reads)

    async def reads(self) -> AsyncIterator[Read]:
        """The body as it arrives. Raises ExchangeError when the connection breaks."""
        stream = self._backend.stream
        body = self._opened.stream
        assert isinstance(stream, StampedStream)
        assert isinstance(body, httpx.AsyncByteStream)
        try:
            async for data in body:
                if data:
                    yield Read(data, stream.read_at, stream.reads)
        except ERRORS as error:
            raise translated(self._call, error) from None

    def abort(self) -> None:
        """Closes the connection now. On the loop thread only."""
        if self._backend.stream is not None:
            self._backend.stream.abort()

    @property
    def _opened(self) -> httpx.Response:
        assert self._response is not None
        return self._response


def is_here(call: Call) -> bool:
    """Whether a call stays on this machine: a Unix socket or a loopback address. It then goes through no proxy."""
    host = urlsplit(call.url).hostname or ""
    if call.socket is not None or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _StampedTransport(httpx.AsyncBaseTransport):
    """httpx over an httpcore pool of one connection, opened by our backend."""

    def __init__(self, backend: StampedBackend, call: Call) -> None:
        self._pool = _pool(backend, call)

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


def _pool(backend: StampedBackend, call: Call) -> httpcore.AsyncConnectionPool:
    context = _tls() if urlsplit(call.url).scheme == "https" else None
    if call.proxy is None:
        return httpcore.AsyncConnectionPool(
            ssl_context=context, max_connections=1, max_keepalive_connections=0, uds=call.socket, network_backend=backend
        )
    # https goes through a tunnel (CONNECT): the proxy sees the host's name, no key and no prompt
    parts = urlsplit(call.proxy)
    login = (unquote(parts.username or ""), unquote(parts.password or "")) if parts.username or parts.password else None
    return httpcore.AsyncHTTPProxy(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        proxy_auth=login,
        ssl_context=context,
        max_connections=1,
        max_keepalive_connections=0,
        network_backend=backend,
    )


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
    """The authorities of SSL_CERT_FILE or SSL_CERT_DIR, or else certifi's."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # an SSLError is one too
        named = os.environ.get("SSL_CERT_FILE")
        what = f"the file {named} of SSL_CERT_FILE cannot be read" if named else one_line(error)
        raise ExchangeError(
            f"No encrypted connection can be made: {what}.", "Name a PEM file of certificates, or unset the variable.", type="no_connection"
        ) from None
