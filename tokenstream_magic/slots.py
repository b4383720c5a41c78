"""After a Stop: whether the server goes on generating.

Closing the connection ends an answer, and a server that does not notice goes on at the reader's cost. llama.cpp's server can
be asked: ``/slots`` tells what each of its slots does (switched off with ``--no-slots``). It is asked when the outcome is known
and shown already, so nobody waits for it, and what it says becomes two stamps of the timeline: last seen busy, first seen idle.

A slot has no name of ours. One is taken for this answer when it has decoded about as many tokens as pieces had come, and others
of this process at the same server do not account for it. A slot that does something else then is no longer ours.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic_ns
from typing import Any
from urllib.parse import urlsplit

from tokenstream_magic.endpoint import Endpoint
from tokenstream_magic.errors import TokenstreamError
from tokenstream_magic.plan import Plan
from tokenstream_magic.timing.timeline import Timeline
from tokenstream_magic.transport import body
from tokenstream_magic.wire.lasting import Errand

LOOKS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds before each look: what takes longer than all of them to notice a closed connection has not noticed it."""
PATIENCE = 0.5
LARGEST = 256 * 1024

_open: Counter[str] = Counter()


def address(endpoint: Endpoint) -> str:
    """What tells one server from another."""
    return endpoint.socket or endpoint.base_url


def arrived(endpoint: Endpoint) -> None:
    """A run asks this server from here on."""
    _open[address(endpoint)] += 1


def left(endpoint: Endpoint) -> None:
    """A run has its outcome."""
    _open[address(endpoint)] -= 1
    if not _open[address(endpoint)]:
        del _open[address(endpoint)]


def tells(endpoint: Endpoint, headers: Mapping[str, str]) -> bool:
    """Whether the server is one that may tell of its slots."""
    return endpoint.protocol == "openai-chat" and (headers.get("server", "").lower() == "llama.cpp" or endpoint.starts == "local")


async def watch(plan: Plan, endpoint: Endpoint, timeline: Timeline) -> bool:
    """Asks the server until it does not generate this answer any more, for some two seconds; whether it told anything."""
    pieces = len(timeline)
    mine: set[tuple[Any, Any]] | None = None
    for wait in LOOKS:
        await asyncio.sleep(wait)
        try:
            busy = await _busy(plan, endpoint)
        except TimeoutError:  # it may have a long batch to do
            continue
        at = monotonic_ns()
        if busy is None:
            break
        if mine is None:
            others = _open[address(endpoint)]
            alike = [name for name, decoded in busy.items() if decoded is None or pieces <= decoded <= 2 * pieces + 64]
            mine = set(alike) if len(alike) > others else set()
        mine &= busy.keys()
        if not mine:
            timeline.server_idle = at
            return True
        timeline.server_busy = at
    return timeline.server_busy is not None


async def _busy(plan: Plan, endpoint: Endpoint) -> dict[tuple[Any, Any], int | None] | None:
    """The slots that generate, by their number and task, and how many tokens each has decoded; None where that is not told.

    Raises TimeoutError when the server does not answer soon.
    """
    parts = urlsplit(endpoint.base_url)
    root = replace(endpoint, base_url=f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix('/v1')}", api_version=None)
    exchange = plan.client()

    async def asked() -> str | None:
        async with exchange.opened(plan.errand(root, Errand("GET", "/slots"))):
            return await body.text(exchange, LARGEST) if exchange.status == 200 else None

    task = asyncio.ensure_future(asked())
    await asyncio.wait({task}, timeout=PATIENCE)
    late = not task.done()
    if late:
        exchange.abort()
        task.cancel()
    try:
        said = json.loads(await task or "null")
    except (TokenstreamError, ValueError, RecursionError, asyncio.CancelledError):
        if late:
            raise TimeoutError from None
        return None
    if not isinstance(said, list) or not all(isinstance(slot, dict) for slot in said):
        return None
    return {_name(slot): _decoded(slot) for slot in said if slot.get("is_processing") is True}


def _name(slot: Mapping[str, Any]) -> tuple[Any, Any]:
    return str(slot.get("id")), str(slot.get("id_task"))


def _decoded(slot: Mapping[str, Any]) -> int | None:
    token = slot.get("next_token")
    token = token[0] if isinstance(token, list) and token else token
    decoded = token.get("n_decoded") if isinstance(token, dict) else None
    return decoded if isinstance(decoded, int) and not isinstance(decoded, bool) else None
