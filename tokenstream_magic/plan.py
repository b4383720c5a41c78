"""Plan: what to run, before anything is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenstream_magic.catalog import Endpoint
from tokenstream_magic.transport import new_exchange
from tokenstream_magic.transport.seam import Call, Client
from tokenstream_magic.transport.watch import Limits
from tokenstream_magic.wire.events import Request
from tokenstream_magic.wire.lasting import Errand, ask_to_last
from tokenstream_magic.wire.protocols import PROTOCOLS

Report = Callable[[str, Mapping[str, Any]], None]
"""Tells what goes on before the request: a state and its details."""

Starter = Callable[[Endpoint, Report], Awaitable[Endpoint]]
"""Makes an endpoint reachable (starts a server, fetches a model) and returns it with its address."""


@dataclass(frozen=True)
class Plan:
    """What to run: an endpoint, a model on it, messages, request options, limits.

    ``client`` makes the exchanges; ``wire``: the raw reads are kept too.
    """

    endpoint: Endpoint
    model: str
    messages: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    starter: Starter | None = None
    client: Client = new_exchange
    wire: bool = False

    def request(self, endpoint: Endpoint, identifier: str = "") -> Request:
        """What the protocol asks ``endpoint``; ``identifier`` names an answer that lasts."""
        request = PROTOCOLS[endpoint.protocol].request(self.model, self.messages, endpoint.fields(self.options))
        if endpoint.resumable:
            ask_to_last(endpoint.protocol, request, identifier)
        return request

    def call(self, endpoint: Endpoint | None = None, request: Request | None = None) -> Call:
        """The HTTP request, key included."""
        endpoint = endpoint or self.endpoint
        request = request or self.request(endpoint)
        return _call(endpoint, endpoint.url(request.path, self.model), request.headers, request.body)

    def errand(self, endpoint: Endpoint, errand: Errand) -> Call:
        """An HTTP request about an answer, key included: it goes to the same origin."""
        return _call(endpoint, endpoint.url(errand.path, self.model), {"Accept": errand.accept}, None, errand.method)


def _call(endpoint: Endpoint, url: str, headers: Mapping[str, str], body: dict[str, Any] | None, method: str | None = None) -> Call:
    return Call(url, {**headers, **endpoint.authorization()}, body, endpoint.socket, method, endpoint.proxy or None)
