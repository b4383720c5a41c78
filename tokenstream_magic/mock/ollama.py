"""A script as the lines of Ollama's native chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenstream_magic.mock.script import Script

CONTENT_TYPE = "application/x-ndjson"


def frames(script: Script, model: str) -> Iterator[bytes]:
    """An empty opening, then a line a piece."""
    yield _line(model, {"content": ""})
    for piece in script.reasoning:
        yield _line(model, {"content": "", "thinking": piece})
    for piece in script.pieces:
        yield _line(model, {"content": piece})


def ending(script: Script, model: str) -> bytes:
    """The line that says it is done; this protocol has one end and no finish reason before it."""
    if script.ending != "done":
        return b""
    counts = {"prompt_eval_count": 7, "eval_count": len(script.pieces) + len(script.reasoning), "eval_duration": 1_000_000}
    return _line(model, {"content": ""}, done=True, done_reason=script.finish, **(counts if script.usage else {}))


def error(script: Script) -> dict[str, Any]:
    """The body of an error."""
    return {"error": script.error}


def error_frame(script: Script) -> bytes:
    """The error inside a stream."""
    return json.dumps(error(script)).encode() + b"\n"


def _line(model: str, message: dict[str, Any], *, done: bool = False, **more: Any) -> bytes:
    line = {"model": model, "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", **message}, "done": done, **more}
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"
