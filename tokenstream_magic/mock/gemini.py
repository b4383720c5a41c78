"""A script as the frames of Gemini's ``streamGenerateContent?alt=sse``: CRLF, and no end marker but the finish reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenstream_magic.mock.script import Script, Step, steps, token_logprobs

CONTENT_TYPE = "text/event-stream"
KEEP_ALIVE = b": keep-alive\r\n\r\n"

_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


def frames(script: Script, model: str) -> Iterator[bytes]:
    """An empty opening, then a frame a piece; a call comes whole."""
    yield b"".join(_frame(script, model, _candidate(choice), 0) for choice in range(1 + len(script.choices)))
    for count, step in enumerate(_said(script), 1):
        yield _frame(script, model, _step(script, step), count)


def ending(script: Script, model: str) -> bytes:
    """The frame with the finish reason, one a candidate."""
    if script.ending == "no-finish":
        return b""
    finishes = [_candidate(choice, finish=_finish(script), refusal=script.refusal) for choice in range(1 + len(script.choices))]
    return b"".join(_frame(script, model, finish, None) for finish in finishes)


def whole(script: Script, model: str) -> dict[str, Any]:
    """The answer in one JSON object, as ``generateContent`` gives it."""
    candidates = []
    for choice in range(1 + len(script.choices)):
        said = [_step(script, step) for step in _said(script) if step.choice == choice]
        candidate = _candidate(choice, finish=_finish(script), refusal=script.refusal)
        candidate["content"]["parts"] = [part for one in said for part in one["content"]["parts"]]
        chosen = [one["logprobsResult"] for one in said if "logprobsResult" in one]
        if chosen:
            candidate["logprobsResult"] = {
                name: [token for one in chosen for token in one[name]] for name in ("chosenCandidates", "topCandidates")
            }
        cited = [citation for one in said for citation in one.get("citationMetadata", {}).get("citationSources", [])]
        candidates.append({**candidate, "citationMetadata": {"citationSources": cited}} if cited else candidate)
    return {**_response(script, model, None), "candidates": candidates}


def error(script: Script) -> dict[str, Any]:
    """The body of an error."""
    code = script.status if script.status != 200 else 500
    return {"error": {"code": code, "message": script.error, "status": script.error_type.upper()}}


def error_frame(script: Script) -> bytes:
    """The error inside a stream: a bare JSON object, as this API sends it."""
    return json.dumps(error(script), indent=2).replace("\n", "\r\n").encode() + b"\r\n\r\n"


def models(names: list[str]) -> dict[str, Any]:
    """What ``GET /v1beta/models`` answers."""
    methods = ["generateContent", "streamGenerateContent"]
    return {"models": [{"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods} for name in names]}


def _said(script: Script) -> list[Step]:
    return [step for step in steps(script) if step.kind not in ("arguments", "refusal")]


def _step(script: Script, step: Step) -> dict[str, Any]:
    """The candidate of one frame."""
    if step.kind == "call":
        tool = script.tools[step.number]
        value = tool.value if isinstance(tool.value, dict) else {}
        return _candidate(0, {"functionCall": {"id": script.call_id(step.number), "name": tool.name, "args": value}})
    if step.kind == "citation":
        citation = script.annotations[step.number]
        start, end = script.span(citation)
        cited = {"startIndex": start, "endIndex": end, "uri": citation.url, "title": citation.title}
        return {**_candidate(0), "citationMetadata": {"citationSources": [cited]}}
    if step.kind == "reasoning":
        return _candidate(0, {"text": step.text, "thought": True})
    candidate = _candidate(step.choice, {"text": step.text})
    found = token_logprobs(script, step)
    if found is not None:
        own, top = found
        candidate["logprobsResult"] = {
            "chosenCandidates": [{"token": step.text, "logProbability": own}],
            "topCandidates": [{"candidates": [{"token": token, "logProbability": value} for token, value in top]}],
        }
    return candidate


def _candidate(index: int, *parts: dict[str, Any], finish: str | None = None, refusal: tuple[str, ...] = ()) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": index}
    if finish:
        candidate["finishReason"] = finish
    if refusal:
        candidate["finishMessage"] = "".join(refusal)
    return candidate


def _finish(script: Script) -> str:
    return "SAFETY" if script.refusal else _FINISH.get(script.finish, script.finish)


def _frame(script: Script, model: str, candidate: dict[str, Any], count: int | None) -> bytes:
    message = {**_response(script, model, count), "candidates": [candidate]}
    return b"data: " + json.dumps(message, ensure_ascii=False).encode() + b"\r\n\r\n"


def _response(script: Script, model: str, count: int | None) -> dict[str, Any]:
    """All of a response but its candidates; its usage is what was said in ``count`` pieces so far, None: in all of them."""
    message: dict[str, Any] = {"candidates": [], "modelVersion": model, "responseId": "mock-1"}
    if script.usage:
        prompt, output, thoughts = script.counts
        output = output if count is None else min(count, output)
        thoughts = min(output, thoughts)
        usage = {"promptTokenCount": prompt, "candidatesTokenCount": output - thoughts, "thoughtsTokenCount": thoughts}
        usage["totalTokenCount"] = prompt + output
        if script.cached_tokens:
            usage["cachedContentTokenCount"] = script.cached_tokens
        message["usageMetadata"] = usage
    return message
