"""A script as the events of Anthropic Messages."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from tokenstream_magic.mock.script import Script, Step, steps

CONTENT_TYPE = "text/event-stream"
KEEP_ALIVE = b'event: ping\ndata: {"type": "ping"}\n\n'

_STOP = {"stop": "end_turn", "length": "max_tokens"}
_BLOCK = {"reasoning": "thinking", "text": "text", "citation": "text", "call": "tool_use", "arguments": "tool_use"}


def frames(script: Script, model: str) -> Iterator[bytes]:
    """The opening, then an event a piece; thinking, text and each call are blocks of their own."""
    yield _event("message_start", message={**_message(model), "usage": {**_input(script), "output_tokens": 1}})
    for index, said in enumerate(_blocks(script)):
        for at, step in enumerate(said):
            opening = _event("content_block_start", index=index, content_block=_opened(script, step)) if at == 0 else b""
            closing = _event("content_block_stop", index=index) if at == len(said) - 1 else b""
            delta = _delta(script, step)
            yield opening + (_event("content_block_delta", index=index, delta=delta) if delta else b"") + closing


def ending(script: Script, _model: str) -> bytes:
    """What closes a complete answer, as far as the script wants it closed."""
    if script.ending == "no-finish":
        return b""
    usage = {"output_tokens": script.counts[1]} if script.usage else {}
    closing = _event("message_delta", delta=_stopped(script), usage=usage)
    return closing if script.ending == "no-terminator" else closing + _event("message_stop")


def whole(script: Script, model: str) -> dict[str, Any]:
    """The answer in one JSON object, as it comes without ``stream``."""
    content = []
    for said in _blocks(script):
        block = _opened(script, said[0])
        text = "".join(step.text for step in said if step.kind in ("text", "reasoning"))
        if block["type"] == "tool_use":
            block["input"] = script.tools[said[0].number].value
        else:
            block[block["type"]] = text
        cited = [_citation(script, step.number) for step in said if step.kind == "citation"]
        content.append({**block, "citations": cited} if cited else block)
    usage = {**_input(script), "output_tokens": script.counts[1]} if script.usage else {}
    return {**_message(model), "content": content, **_stopped(script), "usage": usage}


def error(script: Script) -> dict[str, Any]:
    """The body of an error, alone or inside a stream."""
    return {"type": "error", "error": {"type": script.error_type, "message": script.error}}


def error_frame(script: Script) -> bytes:
    """The error inside a stream."""
    return _sse("error", error(script))


def models(names: list[str]) -> dict[str, Any]:
    """What ``GET /v1/models`` answers a client that sends ``anthropic-version``."""
    listed = [{"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"} for name in names]
    return {"data": listed, "has_more": False, "first_id": names[0] if names else None, "last_id": names[-1] if names else None}


def _blocks(script: Script) -> list[list[Step]]:
    """The steps in their blocks. There is one choice, and a refusal is no block but the reason of the end."""
    said = [step for step in steps(script) if step.choice == 0 and step.kind in _BLOCK]
    groups = itertools.groupby(said, lambda step: (_BLOCK[step.kind], step.number if _BLOCK[step.kind] == "tool_use" else 0))
    return [list(group) for _, group in groups]


def _opened(script: Script, step: Step) -> dict[str, Any]:
    kind = _BLOCK[step.kind]
    if kind == "tool_use":
        return {"type": kind, "id": script.call_id(step.number), "name": script.tools[step.number].name, "input": {}}
    return {"type": kind, kind: ""}


def _delta(script: Script, step: Step) -> dict[str, Any] | None:
    if step.kind == "reasoning":
        return {"type": "thinking_delta", "thinking": step.text}
    if step.kind == "citation":
        return {"type": "citations_delta", "citation": _citation(script, step.number)}
    if step.kind == "arguments":
        return {"type": "input_json_delta", "partial_json": step.text}
    return {"type": "text_delta", "text": step.text} if step.kind == "text" else None


def _citation(script: Script, number: int) -> dict[str, Any]:
    citation = script.annotations[number]
    start, end = script.span(citation)
    cited = {"cited_text": script.answer[start:end], "url": citation.url, "title": citation.title, "encrypted_index": "mock"}
    return {"type": "web_search_result_location", **cited}


def _message(model: str) -> dict[str, Any]:
    return {"id": "mock-1", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None}


def _input(script: Script) -> dict[str, Any]:
    """The prompt's tokens; what the cache read of it is counted apart."""
    cached = min(script.cached_tokens, script.input_tokens)
    return {"input_tokens": script.input_tokens - cached, **({"cache_read_input_tokens": cached} if cached else {})}


def _stopped(script: Script) -> dict[str, Any]:
    if script.refusal:
        details = {"type": "refusal", "category": None, "explanation": "".join(script.refusal)}
        return {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}
    reason = "tool_use" if script.tools and script.finish == "stop" else _STOP.get(script.finish, script.finish)
    return {"stop_reason": reason, "stop_sequence": None}


def _event(kind: str, **content: Any) -> bytes:
    return _sse(kind, {"type": kind, **content})


def _sse(kind: str, message: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(message, ensure_ascii=False)}\n\n".encode()
