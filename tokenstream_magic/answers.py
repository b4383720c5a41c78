"""Responses that are no stream: an answer in one piece, an error, a redirect, a page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from tokenstream_magic.catalog import Endpoint
from tokenstream_magic.errors import one_line
from tokenstream_magic.transport import body
from tokenstream_magic.transport.seam import Exchange, Read, media_type
from tokenstream_magic.wire.events import Event, Failure
from tokenstream_magic.wire.failures import failure_of_response
from tokenstream_magic.wire.framing import FRAME_LIMIT
from tokenstream_magic.wire.protocols import StreamDecoder

ERROR_LIMIT = 64 * 1024
STREAM_TYPES = ("text/event-stream", "application/x-ndjson", "application/ndjson", "application/jsonl", "")

_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


def is_stream(exchange: Exchange) -> bool:
    """Whether the response says it is a stream, or says nothing."""
    return exchange.status == 200 and media_type(exchange) in STREAM_TYPES


def begins_stream(exchange: Exchange, first: Read | None) -> bool:
    """Whether the body is an event stream although the response says it is something else, as its first bytes tell."""
    return exchange.status == 200 and first is not None and first.data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_FIELDS)


async def read_whole(
    exchange: Exchange, reads: AsyncIterator[Read], decoder: StreamDecoder, endpoint: Endpoint, model: str
) -> list[Event] | Failure:
    """The events of an answer that came in one piece, or what the response says is wrong."""
    status, kind = exchange.status, media_type(exchange)
    whole = status == 200 and kind == "application/json"
    text = await body.collected(reads, (endpoint.frame_limit or FRAME_LIMIT) if whole else ERROR_LIMIT)
    if 300 <= status < 400:
        target = one_line(exchange.headers.get("location", "elsewhere"))[:300]
        return Failure(f"the server redirects to {target}; redirects are not followed", type="redirect", status=status)
    if whole:
        try:
            events = decoder.whole(json.loads(text))
        except (ValueError, RecursionError):
            events = []
        if events:
            return events
    failure = failure_of_response(status, kind, text)
    failure.message = f"{failure.message.rstrip('.')}. {_advice(status, endpoint, model)}".strip()
    return failure


def _advice(status: int, endpoint: Endpoint, model: str) -> str:
    """What to do about an HTTP status."""
    if status in (401, 403):
        variable = endpoint.api_key_env
        return f"Check the key in {variable}." if variable else "The server wants a key: name its variable with --api-key-env."
    return {
        404: f"Check the model name {model!r} and the address.",
        429: "The server asks for fewer requests: wait and run the cell again.",
    }.get(status, "The server has a problem: try again later." if status >= 500 else "")
