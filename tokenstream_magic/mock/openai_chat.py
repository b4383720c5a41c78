"""A script as the frames of OpenAI Chat Completions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenstream_magic.mock.script import Script

CONTENT_TYPE = "text/event-stream"


def frames(script: Script, model: str) -> Iterator[bytes]:
    """The opening frame, then a frame a piece of reasoning and text."""
    yield _chunk(model, {"role": "assistant", "content": ""})
    for piece in script.reasoning:
        yield _chunk(model, {"reasoning_content": piece})
    for piece in script.pieces:
        yield _chunk(model, {"content": piece})


def ending(script: Script, model: str) -> bytes:
    """What closes a complete answer, as far as the script wants it closed."""
    if script.ending == "no-finish":
        return b""
    closing = _chunk(model, {}, finish=script.finish)
    if script.usage:
        count = len(script.pieces) + len(script.reasoning)
        usage: dict[str, Any] = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
        if script.reasoning:
            usage["completion_tokens_details"] = {"reasoning_tokens": len(script.reasoning)}
        closing += _frame({"id": "mock-1", "object": "chat.completion.chunk", "model": model, "choices": [], "usage": usage})
    return closing if script.ending == "no-terminator" else closing + b"data: [DONE]\n\n"


def error(script: Script) -> dict[str, Any]:
    """The body of an error, alone or inside a stream."""
    return {"error": {"message": script.error, "type": "mock_error", "code": script.status if script.status != 200 else "mock"}}


def error_frame(script: Script) -> bytes:
    """The error inside a stream."""
    return _frame(error(script))


def _chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _frame({"id": "mock-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]})


def _frame(message: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
