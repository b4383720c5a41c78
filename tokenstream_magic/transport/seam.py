"""What a Run needs of an HTTP client: the seam at which another client can take httpx's place.

A client is a function without arguments that makes one :class:`Exchange`. It owes a Run five things: the status and the
headers as soon as they are there, the body as *reads* (the bytes of one network read with the monotonic ns at which the
network delivered them, transfer coding removed, content coding left alone), :meth:`Exchange.abort` that closes the socket
at once from the loop thread, the stamps of the connection, and :class:`ExchangeError` for everything that can go wrong on
the way. It follows no redirect, reads no environment, reuses no connection and sets no read timeout.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tokenstream_magic.errors import TokenstreamError

CONNECT_TIMEOUT = 10.0


class ExchangeError(TokenstreamError):
    """The exchange could not be opened or broke off; ``type`` says how, ``message`` in words.

    ``no_connection``: nothing was sent; ``connection_lost``: it broke off; ``bad_response``: what came is no HTTP;
    ``compressed``: it cannot be unpacked.
    """

    type = "connection"


@dataclass(frozen=True, slots=True)
class Call:
    """Where to send what: an absolute URL, headers with the key in them, a JSON body.

    ``method`` None is POST with a body and GET without. ``socket`` is a Unix socket in the place of the URL's host,
    ``proxy`` the URL of an HTTP proxy, perhaps with user and password in it; it is never used for this machine.
    """

    url: str
    headers: dict[str, str] = field(repr=False)
    body: dict[str, Any] | None = None
    socket: str | None = None
    method: str | None = None
    proxy: str | None = field(default=None, repr=False)

    @property
    def verb(self) -> str:
        """The HTTP method."""
        return self.method or ("GET" if self.body is None else "POST")


@dataclass(slots=True)
class Read:
    """Bytes of the body, the monotonic ns at which the network delivered them, and the number of that delivery."""

    data: bytes
    at: int
    number: int


class Stamps(NamedTuple):
    """When the connection opened, the request was written, the headers came, the connection closed (monotonic ns), and its reads."""

    connected: int | None = None
    requested: int | None = None
    headers: int | None = None
    closed: int | None = None
    reads: int = 0


class Exchange(Protocol):
    """One request and its response. Everything but :meth:`opened` and :meth:`abort` is there once it is open."""

    def opened(self, call: Call) -> AbstractAsyncContextManager[object]:
        """Sends ``call``, enters once the response's headers are there, closes the connection at the end. Raises ExchangeError."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers, names in lower case."""

    @property
    def stamps(self) -> Stamps:
        """What is known of the connection so far, also before it is open and after it is closed."""

    def reads(self) -> AsyncIterator[Read]:
        """The body as it arrives. Raises ExchangeError when the connection breaks."""

    def abort(self) -> None:
        """Closes the connection now, without a farewell. On the loop thread only; may be called at any time and again."""


Client = Callable[[], Exchange]
"""Makes an exchange."""


def media_type(exchange: Exchange) -> str:
    """The media type of the body, lower case and without parameters."""
    return exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
