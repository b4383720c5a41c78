"""A script as the frames of Gemini's ``streamGenerateContent?alt=sse``: CRLF, and no end marker but the finish reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenstream_magic.mock.script import Script

CONTENT_TYPE = "text/event-stream"

_FINISH = {"stop": "STOP", "length": "MAX_TOKENS"}


def frames(script: Script, model: str) -> Iterator[bytes]:
    """An empty opening, then a frame a piece."""
    yield _frame(script, model, [], 0)
    for number, piece in enumerate(script.reasoning, 1):
        yield _frame(script, model, [{"text": piece, "thought": True}], number)
    for number, piece in enumerate(script.pieces, 1 + len(script.reasoning)):
        yield _frame(script, model, [{"text": piece}], number)


def ending(script: Script, model: str) -> bytes:
    """The frame with the finish reason."""
    if script.ending == "no-finish":
        return b""
    count = len(script.pieces) + len(script.reasoning)
    return _frame(script, model, [], count, _FINISH.get(script.finish, script.finish))


def error(script: Script) -> dict[str, Any]:
    """The body of an error."""
    code = script.status if script.status != 200 else 500
    return {"error": {"code": code, "message": script.error, "status": "MOCK_ERROR"}}


def error_frame(script: Script) -> bytes:
    """The error inside a stream: a bare JSON object, as this API sends it."""
    return json.dumps(error(script), indent=2).replace("\n", "\r\n").encode() + b"\r\n\r\n"


def _frame(script: Script, model: str, parts: list[dict[str, Any]], count: int, finish: str | None = None) -> bytes:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    message: dict[str, Any] = {"candidates": [candidate], "modelVersion": model, "responseId": "mock-1"}
    if script.usage:
        thoughts = min(count, len(script.reasoning))
        message["usageMetadata"] = {"promptTokenCount": 7, "candidatesTokenCount": count - thoughts, "thoughtsTokenCount": thoughts}
    return b"data: " + json.dumps(message, ensure_ascii=False).encode() + b"\r\n\r\n"
