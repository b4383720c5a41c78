"""One exchange of HTTP/1.1: a request out, a response whose body arrives as stamped reads.

One fresh connection per exchange, so that runs do not share fate or clock and a connection the server closed while
idle is never reused; no redirects, no environment proxies and no ``.netrc``, no compression asked for, and no read
timeout: the watchdogs of a Run, which know progress from noise, take its place. httpx writes the request and h11 reads
the response's head, with all their checks; the body is cut out by ``extent``, because a thousand streams pay for every
layer between the socket and the run once a token (``benchmarks/concurrency.py``).
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import lru_cache
from urllib.parse import unquote, urlsplit

import h11
import httpcore
import httpx

from tokenstream_magic.errors import one_line
from tokenstream_magic.transport.extent import Extent, extent
from tokenstream_magic.transport.network import StampedBackend, StampedStream
from tokenstream_magic.transport.seam import CONNECT_TIMEOUT, Call, ExchangeError, Read, Stamps
from tokenstream_magic.transport.trouble import ERRORS, translated
from tokenstream_magic.version import __version__

LONGEST_HEAD = 100 * 1024

_PORTS = {"http": 80, "https": 443}
_NO_CALL = Call("", {})


class HttpExchange:
    """An :class:`~tokenstream_magic.transport.seam.Exchange` over a connection of our own, whose reads are stamped."""

    __slots__ = ("_backend", "_begun", "_call", "_extent", "_headers", "_headers_at", "_status")

    def __init__(self) -> None:
        self._backend: StampedBackend | None = None
        self._call = _NO_CALL
        self._status = 0
        self._headers: httpx.Headers | None = None
        self._headers_at: int | None = None
        self._extent: Extent | None = None
        self._begun = b""  # the bytes of the body that came with the head

    def opened(self, call: Call) -> HttpExchange:
        """Sends ``call``, enters once the response's headers are there, and closes the connection at the end."""
        self._call = replace(call, proxy=None) if call.proxy is not None and is_here(call) else call
        return self

    async def __aenter__(self) -> HttpExchange:  # noqa: PYI034 - Self came with Python 3.11
        try:
            await self._open()
        except ERRORS as error:
            self.abort()
            raise translated(self._call, error) from None
        except BaseException:
            self.abort()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.abort()

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._status

    @property
    def headers(self) -> httpx.Headers:
        """The response's headers; names compare without case."""
        assert self._headers is not None
        return self._headers

    @property
    def asked(self) -> list[tuple[str, str]] | None:
        """All headers of the request; None when none was made."""
        return _request(self._call).headers.multi_items() if self._backend is not None else None

    @property
    def stamps(self) -> Stamps:
        """What is known of the connection so far."""
        stream = self._backend.stream if self._backend is not None else None
        if stream is None:
            return Stamps()
        return Stamps(stream.opened_at, stream.first_write_at, self._headers_at, stream.closed_at, stream.reads)

    async def reads(self) -> AsyncIterator[Read]:
        """The body as it arrives. Raises ExchangeError when the connection breaks."""
        stream, body = self._stream, self._extent
        assert body is not None
        data, self._begun = self._begun, b""
        try:
            while True:
                if data:
                    inside = body.feed(data)
                    if inside:
                        yield Read(inside, stream.read_at, stream.reads)
                    data = inside = b""  # a stream that waits holds nothing
                    if body.problem is not None:
                        raise httpcore.RemoteProtocolError(body.problem)
                if body.done:
                    return
                data = await stream.read()
                if not data:
                    missing = body.end()
                    if missing is not None:
                        raise httpcore.RemoteProtocolError(missing)
                    return
        except ERRORS as error:
            raise translated(self._call, error) from None

    def abort(self) -> None:
        """Closes the connection now. On the loop thread only."""
        if self._backend is not None and self._backend.stream is not None:
            self._backend.stream.abort()

    @property
    def _stream(self) -> StampedStream:
        assert self._backend is not None
        assert self._backend.stream is not None
        return self._backend.stream

    async def _open(self) -> None:
        call = self._call
        request = _request(call)
        url = request.url
        if url.scheme not in _PORTS:
            raise httpcore.UnsupportedProtocol(f"{url.scheme or 'no scheme'} is neither http nor https")
        context = _tls() if url.scheme == "https" else None
        self._backend = StampedBackend(link_local=call.proxy is not None)
        host, port = url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]
        target, headers = url.raw_path, request.headers.raw
        if call.socket is not None:
            stream = await self._backend.connect_unix_socket(call.socket, CONNECT_TIMEOUT)
        elif call.proxy is None:
            stream = await self._backend.connect_tcp(host, port, CONNECT_TIMEOUT)
        else:
            # https goes through a tunnel (CONNECT): the proxy sees the host's name, no key and no prompt
            proxy = urlsplit(call.proxy)
            stream = await self._backend.connect_tcp(proxy.hostname or "", proxy.port or _PORTS["http"], CONNECT_TIMEOUT)
            if context is not None:
                await _tunnel(stream, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", _login(call.proxy))
            else:
                target, headers = str(url).partition("#")[0].encode("ascii"), [*_login(call.proxy), *headers]
        if context is not None:
            stream = await stream.start_tls(context, host, CONNECT_TIMEOUT)
        head, self._begun = await _asked(stream, call.verb.encode(), target, headers, request.content)
        self._status, self._headers, self._headers_at = head.status_code, httpx.Headers(head.headers.raw_items()), stream.read_at
        self._extent = extent(call.verb, self._status, {name.decode(): value.decode() for name, value in head.headers if name in _BOUNDS})


_BOUNDS = (b"transfer-encoding", b"content-length")


async def _asked(
    stream: StampedStream, verb: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes = b""
) -> tuple[h11.Response | h11.InformationalResponse, bytes]:
    """Sends a request; the head of the response, and the bytes that came after it."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
    try:
        data = http.send(h11.Request(method=verb, target=target, headers=headers)) or b""
        data += (http.send(h11.Data(data=body)) or b"") if body else b""
        data += http.send(h11.EndOfMessage()) or b""
    except h11.LocalProtocolError as error:
        raise httpcore.LocalProtocolError(str(error)) from None
    # a server may answer and close before it has read all: what it said then says why
    with contextlib.suppress(httpcore.WriteError):
        await stream.write(data)
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            raise httpcore.RemoteProtocolError(str(error)) from None
        if event is h11.NEED_DATA:
            data = await stream.read()
            if not data:
                raise httpcore.RemoteProtocolError("Server disconnected without sending a response.")
            http.receive_data(data)
        elif isinstance(event, h11.Response) or (isinstance(event, h11.InformationalResponse) and event.status_code == 101):
            return event, http.trailing_data[0]


async def _tunnel(stream: StampedStream, where: str, login: list[tuple[bytes, bytes]]) -> None:
    """Asks a proxy to connect to ``where``. Raises httpcore.ProxyError when it does not."""
    host = where.encode("ascii")
    head, _ = await _asked(stream, b"CONNECT", host, [(b"Host", host), (b"Accept", b"*/*"), *login])
    if not 200 <= head.status_code < 300:
        raise httpcore.ProxyError(f"{head.status_code} {head.reason.decode('ascii', 'ignore')}")


def _login(proxy: str) -> list[tuple[bytes, bytes]]:
    """The header with the user and the password of a proxy's URL, if it has any."""
    parts = urlsplit(proxy)
    if not (parts.username or parts.password):
        return []
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    return [(b"Proxy-Authorization", b"Basic " + base64.b64encode(login))]


def _request(call: Call) -> httpx.Request:
    """The request as it is sent; ``call``'s own headers go before ours."""
    headers = httpx.Headers({"Accept": "*/*", "Accept-Encoding": "identity", "Cache-Control": "no-store", "User-Agent": _AGENT})
    headers.update(call.headers)
    return httpx.Request(call.verb, call.url, headers=headers, json=call.body)


_AGENT = f"tokenstream-magic/{__version__}"


def is_here(call: Call) -> bool:
    """Whether a call stays on this machine: a Unix socket or a loopback address. It then goes through no proxy."""
    host = urlsplit(call.url).hostname or ""
    if call.socket is not None or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """The authorities of SSL_CERT_FILE or SSL_CERT_DIR, or else certifi's."""
    try:
        context = httpx.create_ssl_context()
    except OSError as error:  # an SSLError is one too
        named = os.environ.get("SSL_CERT_FILE")
        what = f"the file {named} of SSL_CERT_FILE cannot be read" if named else one_line(error)
        raise ExchangeError(
            f"No encrypted connection can be made: {what}.", "Name a PEM file of certificates, or unset the variable.", type="no_connection"
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context
