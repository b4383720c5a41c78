"""``tokenstream doctor``: whether every configured endpoint can be used, in a line each, and what to do if not.

Keys are sent only to the origin they belong to, and shown nowhere. An endpoint without its key is not contacted.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
from dataclasses import dataclass
from typing import Any

from tokenstream_magic import catalog
from tokenstream_magic.catalog import Endpoint
from tokenstream_magic.errors import TokenstreamError, one_line, redact
from tokenstream_magic.local import fetch
from tokenstream_magic.transport import loop
from tokenstream_magic.transport.http import Call, Exchange
from tokenstream_magic.wire.failures import failure_of_response
from tokenstream_magic.wire.protocols import PROTOCOLS

PATIENCE = 5.0
_BODY = 1 << 20
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """What is with one endpoint: whether it works, what was seen, and what to do."""

    endpoint: str
    works: bool
    said: str
    advice: str = ""


def examine(endpoints: dict[str, Endpoint] | None = None) -> list[Finding]:
    """All endpoints, checked at once; blocks for as long as the slowest, at most five seconds."""
    chosen = catalog.endpoints() if endpoints is None else endpoints

    async def together() -> list[Finding]:
        return list(await asyncio.gather(*(_examine(endpoint) for endpoint in chosen.values())))

    return loop.submit(together()).result()


async def _examine(endpoint: Endpoint) -> Finding:
    if endpoint.starts == "local":
        return _local(endpoint)
    if endpoint.starts == "mock":
        return Finding(endpoint.name, works=True, said="scripted answers, started when asked for")
    try:
        keyed = catalog.with_key(endpoint)
    except TokenstreamError as error:
        return Finding(endpoint.name, works=False, said=error.message, advice=error.hint)
    try:
        models = await asyncio.wait_for(served(keyed), PATIENCE)
    except asyncio.TimeoutError:
        return Finding(endpoint.name, works=False, said=f"no answer within {PATIENCE:.0f} s", advice="Check the network and the address.")
    except TokenstreamError as error:
        return Finding(endpoint.name, works=False, said=error.message, advice=endpoint.advice or error.hint)
    shown = ", ".join(models[:_NAMED]) + (", …" if len(models) > _NAMED else "")
    return Finding(endpoint.name, works=True, said=f"serves {len(models)} model{'s' if len(models) != 1 else ''}: {shown}".rstrip(": "))


async def served(endpoint: Endpoint) -> list[str]:
    """The names of the models a server says it serves. Raises TokenstreamError when it does not say."""
    protocol = PROTOCOLS[endpoint.protocol]
    key = endpoint.key.reveal() if endpoint.key is not None else ""
    headers = protocol.authorization(key) if key else {}
    if endpoint.protocol == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
    exchange = Exchange()
    async with exchange.opened(Call(endpoint.base_url + protocol.MODELS, headers, None, endpoint.socket)):
        status, body = exchange.response.status_code, await exchange.text(_BODY)
    if status != 200:
        failure = failure_of_response(status, exchange.content_type, body)
        said = redact(one_line(failure.message), [key])[:200]
        advice = f"Check the key in {endpoint.api_key_env}." if status in (401, 403) and endpoint.api_key_env else ""
        raise TokenstreamError(f"HTTP {status}: {said}", advice)
    try:
        return _names(json.loads(body))
    except (ValueError, RecursionError):
        raise TokenstreamError("it answers, but not with a list of models", "Check the address.") from None


def _names(listed: Any) -> list[str]:
    """The names in a list of models, in any of the protocols' shapes."""
    if isinstance(listed, dict):
        listed = listed.get("data") or listed.get("models") or []
    names = [m.get("id") or m.get("name") or m.get("model") for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
    return [one_line(name)[:80] for name in names if isinstance(name, str) and name]


def _local(endpoint: Endpoint) -> Finding:
    if importlib.util.find_spec("xllamacpp") is None:
        return Finding(endpoint.name, works=False, said="llama.cpp is not installed", advice='pip install "tokenstream-magic[local]"')
    if not fetch.is_present():
        return Finding(endpoint.name, works=True, said="ready, once the model is fetched (93 MB)", advice="tokenstream pull")
    return Finding(endpoint.name, works=True, said=f"ready: {endpoint.model}")
