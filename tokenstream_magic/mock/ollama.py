"""A script as the lines of Ollama's native chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenstream_magic.mock.script import Script, Step, steps, token_logprobs

CONTENT_TYPE = "application/x-ndjson"
KEEP_ALIVE = b"\n"


def frames(script: Script, model: str) -> Iterator[bytes]:
    """An empty opening, then a line a piece; a call comes whole."""
    yield _line(model, {"content": ""})
    for step in _said(script):
        yield _line(model, _message(script, step), **_logprobs(script, step))


def ending(script: Script, model: str) -> bytes:
    """The line that says it is done; this protocol has one end and no finish reason before it."""
    if script.ending != "done":
        return b""
    return _line(model, {"content": ""}, done=True, **_done(script))


def whole(script: Script, model: str) -> dict[str, Any]:
    """The answer in one JSON object, as it comes with ``stream: false``."""
    said = [_message(script, step) for step in _said(script)]
    message: dict[str, Any] = {"content": "".join(one["content"] for one in said)}
    thinking = "".join(one.get("thinking", "") for one in said)
    calls = [call for one in said for call in one.get("tool_calls", [])]
    message |= {name: value for name, value in (("thinking", thinking), ("tool_calls", calls)) if value}
    tokens = [token for step in _said(script) for token in _logprobs(script, step).get("logprobs", [])]
    return _object(model, message, done=True, **({"logprobs": tokens} if tokens else {}), **_done(script))


def error(script: Script) -> dict[str, Any]:
    """The body of an error."""
    return {"error": script.error}


def error_frame(script: Script) -> bytes:
    """The error inside a stream."""
    return json.dumps(error(script)).encode() + b"\n"


def models(names: list[str]) -> dict[str, Any]:
    """What ``GET /api/tags`` answers."""
    details = {"format": "mock", "family": "mock", "parameter_size": "0", "quantization_level": "none"}
    listed = [{"name": name, "model": name, "modified_at": "2026-01-01T00:00:00Z", "size": 0, "details": details} for name in names]
    return {"models": listed}


def _said(script: Script) -> list[Step]:
    """There is one choice and nothing like a citation; a refusal is text like any other."""
    return [step for step in steps(script) if step.choice == 0 and step.kind not in ("arguments", "citation")]


def _message(script: Script, step: Step) -> dict[str, Any]:
    if step.kind == "reasoning":
        return {"content": "", "thinking": step.text}
    if step.kind == "call":
        tool = script.tools[step.number]
        function = {"index": step.number, "name": tool.name, "arguments": tool.value}
        return {"content": "", "tool_calls": [{"id": script.call_id(step.number), "function": function}]}
    return {"content": step.text}


def _logprobs(script: Script, step: Step) -> dict[str, Any]:
    found = token_logprobs(script, step)
    if found is None:
        return {}
    own, top = found
    return {"logprobs": [{**_token(step.text, own), "top_logprobs": [_token(*other) for other in top]}]}


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _done(script: Script) -> dict[str, Any]:
    prompt, output, _ = script.counts
    counts = {"prompt_eval_count": prompt, "eval_count": output, "eval_duration": 1_000_000}
    return {"done_reason": script.finish, **(counts if script.usage else {})}


def _line(model: str, message: dict[str, Any], *, done: bool = False, **more: Any) -> bytes:
    return json.dumps(_object(model, message, done=done, **more), ensure_ascii=False).encode() + b"\n"


def _object(model: str, message: dict[str, Any], *, done: bool, **more: Any) -> dict[str, Any]:
    return {"model": model, "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", **message}, "done": done, **more}
