"""A script as the events of Anthropic Messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenstream_magic.mock.script import Script

CONTENT_TYPE = "text/event-stream"

_STOP = {"stop": "end_turn", "length": "max_tokens"}


def frames(script: Script, model: str) -> Iterator[bytes]:
    """The opening, then an event a piece; thinking and text are blocks of their own."""
    usage = {"input_tokens": 7, "output_tokens": 1}
    message: dict[str, Any] = {
        "id": "mock-1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "usage": usage,
    }
    yield _event("message_start", message=message)
    kinds = (("thinking", "thinking_delta", script.reasoning), ("text", "text_delta", script.pieces))
    blocks = [block for block in kinds if block[2]]
    for index, (kind, delta, pieces) in enumerate(blocks):
        for number, piece in enumerate(pieces):
            opening = _event("content_block_start", index=index, content_block={"type": kind, kind: ""}) if number == 0 else b""
            closing = _event("content_block_stop", index=index) if number == len(pieces) - 1 else b""
            yield opening + _event("content_block_delta", index=index, delta={"type": delta, kind: piece}) + closing


def ending(script: Script, _model: str) -> bytes:
    """What closes a complete answer, as far as the script wants it closed."""
    if script.ending == "no-finish":
        return b""
    usage: dict[str, Any] = {"output_tokens": len(script.pieces) + len(script.reasoning)} if script.usage else {}
    closing = _event("message_delta", delta={"stop_reason": _STOP.get(script.finish, script.finish)}, usage=usage)
    return closing if script.ending == "no-terminator" else closing + _event("message_stop")


def error(script: Script) -> dict[str, Any]:
    """The body of an error, alone or inside a stream."""
    return {"type": "error", "error": {"type": "mock_error", "message": script.error}}


def error_frame(script: Script) -> bytes:
    """The error inside a stream."""
    return _sse("error", error(script))


def _event(kind: str, **content: Any) -> bytes:
    return _sse(kind, {"type": kind, **content})


def _sse(kind: str, message: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(message, ensure_ascii=False)}\n\n".encode()
