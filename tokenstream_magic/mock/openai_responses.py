"""A script as the events of OpenAI Responses."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from tokenstream_magic.mock.script import Script

CONTENT_TYPE = "text/event-stream"


def frames(script: Script, model: str) -> Iterator[bytes]:
    """The opening, then an event a piece; reasoning is an item before the message."""
    number = itertools.count()
    response: dict[str, Any] = {"id": "mock-1", "object": "response", "status": "in_progress", "model": model, "output": [], "usage": None}
    yield _event("response.created", number, response=response)
    for piece in script.reasoning:
        yield _event("response.reasoning_text.delta", number, item_id="rs_1", output_index=0, content_index=0, delta=piece)
    message = {"item_id": "msg_1", "output_index": int(bool(script.reasoning)), "content_index": 0}
    for piece in script.pieces:
        yield _event("response.output_text.delta", number, **message, delta=piece)


def ending(script: Script, model: str) -> bytes:
    """What closes a complete answer; this protocol has one end and no finish reason before it."""
    if script.ending != "done":
        return b""
    output = len(script.pieces) + len(script.reasoning)
    usage = {"input_tokens": 7, "output_tokens": output, "output_tokens_details": {"reasoning_tokens": len(script.reasoning)}}
    response: dict[str, Any] = {
        "id": "mock-1",
        "object": "response",
        "model": model,
        "output": [],
        "usage": usage if script.usage else None,
    }
    if script.finish == "length":
        response |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        return _event("response.incomplete", itertools.count(10_000), response=response)
    return _event("response.completed", itertools.count(10_000), response={**response, "status": "completed"})


def error(script: Script) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": script.error, "type": "mock_error", "code": None, "param": None}}


def error_frame(script: Script) -> bytes:
    """The error inside a stream."""
    return _event("error", itertools.count(10_000), **error(script))


def _event(kind: str, number: Iterator[int], **content: Any) -> bytes:
    message = {"type": kind, "sequence_number": next(number), **content}
    return f"event: {kind}\ndata: {json.dumps(message, ensure_ascii=False)}\n\n".encode()
