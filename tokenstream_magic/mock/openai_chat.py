"""A script as the frames of OpenAI Chat Completions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenstream_magic.mock.script import Script, Step, steps, token_logprobs

CONTENT_TYPE = "text/event-stream"
KEEP_ALIVE = b": keep-alive\n\n"


def frames(script: Script, model: str) -> Iterator[bytes]:
    """The opening frame, then a frame a piece; the pieces of several choices in turn."""
    opening: dict[str, Any] = {"role": "assistant", "content": ""}
    yield b"".join(_chunk(model, opening, choice) for choice in range(1 + len(script.choices)))
    for step in steps(script):
        yield _chunk(model, _delta(script, step), step.choice, logprobs=_logprobs(script, step))


def ending(script: Script, model: str) -> bytes:
    """What closes a complete answer, as far as the script wants it closed."""
    if script.ending == "no-finish":
        return b""
    closing = b"".join(_chunk(model, {}, choice, finish=_finish(script)) for choice in range(1 + len(script.choices)))
    if script.usage:
        closing += _frame({"id": "mock-1", "object": "chat.completion.chunk", "model": model, "choices": [], "usage": _usage(script)})
    return closing if script.ending == "no-terminator" else closing + b"data: [DONE]\n\n"


def whole(script: Script, model: str) -> dict[str, Any]:
    """The answer in one JSON object, as it comes without ``stream``."""
    choices = []
    for index, pieces in enumerate((script.pieces, *script.choices)):
        message: dict[str, Any] = {"role": "assistant", "content": "".join(pieces) or None}
        if index == 0:
            calls = [{"id": script.call_id(n), "type": "function", **_function(t.name, t.text)} for n, t in enumerate(script.tools)]
            more = {
                "reasoning_content": "".join(script.reasoning),
                "refusal": "".join(script.refusal),
                "annotations": [_annotation(script, number) for number, _ in enumerate(script.annotations)],
                "tool_calls": calls,
            }
            message |= {name: value for name, value in more.items() if value}
        said = [_logprobs(script, step) for step in steps(script) if step.choice == index]
        tokens = [token for logprobs in said if logprobs for token in logprobs["content"]]
        choice: dict[str, Any] = {"index": index, "message": message, "finish_reason": _finish(script)}
        choices.append({**choice, "logprobs": {"content": tokens, "refusal": None}} if tokens else choice)
    answer = {"id": "mock-1", "object": "chat.completion", "created": 1, "model": model, "choices": choices}
    return {**answer, "usage": _usage(script)} if script.usage else answer


def error(script: Script) -> dict[str, Any]:
    """The body of an error, alone or inside a stream."""
    return {"error": {"message": script.error, "type": script.error_type, "code": script.status if script.status != 200 else "mock"}}


def error_frame(script: Script) -> bytes:
    """The error inside a stream."""
    return _frame(error(script))


def models(names: list[str]) -> dict[str, Any]:
    """What ``GET /v1/models`` answers."""
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 1, "owned_by": "mock"} for name in names]}


def _delta(script: Script, step: Step) -> dict[str, Any]:
    if step.kind == "reasoning":
        return {"reasoning_content": step.text}
    if step.kind == "refusal":
        return {"refusal": step.text}
    if step.kind == "citation":
        return {"annotations": [_annotation(script, step.number)]}
    if step.kind == "call":
        tool = script.tools[step.number]
        return {"tool_calls": [{"index": step.number, "id": script.call_id(step.number), "type": "function", **_function(tool.name, "")}]}
    if step.kind == "arguments":
        return {"tool_calls": [{"index": step.number, "function": {"arguments": step.text}}]}
    return {"content": step.text}


def _function(name: str, arguments: str) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


def _annotation(script: Script, number: int) -> dict[str, Any]:
    citation = script.annotations[number]
    start, end = script.span(citation)
    cited = {"url": citation.url, "title": citation.title, "start_index": start, "end_index": end}
    return {"type": "url_citation", "url_citation": cited}


def _logprobs(script: Script, step: Step) -> dict[str, Any] | None:
    found = token_logprobs(script, step)
    if found is None:
        return None
    own, top = found
    return {"content": [{**_token(step.text, own), "top_logprobs": [_token(*other) for other in top]}], "refusal": None}


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _usage(script: Script) -> dict[str, Any]:
    prompt, output, reasoning = script.counts
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    if reasoning:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    if script.cached_tokens:
        usage["prompt_tokens_details"] = {"cached_tokens": script.cached_tokens}
    return usage


def _finish(script: Script) -> str:
    return "tool_calls" if script.tools and script.finish == "stop" else script.finish


def _chunk(model: str, delta: dict[str, Any], index: int = 0, finish: str | None = None, logprobs: dict[str, Any] | None = None) -> bytes:
    choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish}
    if logprobs is not None:
        choice["logprobs"] = logprobs
    return _frame({"id": "mock-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]})


def _frame(message: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
