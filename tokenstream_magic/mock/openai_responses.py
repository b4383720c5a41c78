"""A script as the events of OpenAI Responses."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from tokenstream_magic.mock.script import GIANT, Script, Step, steps, token_logprobs

CONTENT_TYPE = "text/event-stream"
KEEP_ALIVE = b": keep-alive\n\n"

_ITEM = {"reasoning": "reasoning", "text": "message", "citation": "message", "refusal": "message", "call": "call", "arguments": "call"}


def frames(script: Script, model: str) -> Iterator[bytes]:
    """The opening, then an event a piece. Reasoning, message and calls are items of their own, opened and closed around them."""
    number = itertools.count()
    response: dict[str, Any] = {"id": "mock-1", "object": "response", "status": "in_progress", "model": model, "output": [], "usage": None}
    yield _event("response.created", number, response=response)
    for index, (item, said) in enumerate(_items(script)):
        place = {"item_id": item["id"], "output_index": index}
        for at, step in enumerate(said):
            opening = b""
            if at == 0:
                bare: dict[str, Any] = {"content": []} if "content" in item else {"arguments": ""} if "arguments" in item else {}
                opening = _event("response.output_item.added", number, output_index=index, item={**item, **bare, "status": "in_progress"})
            closing = b""
            if at == len(said) - 1:
                closing = _texts_done(item, place, number) + _event("response.output_item.done", number, output_index=index, item=item)
            yield opening + _part_added(script, step, place, number) + _piece(script, step, place, number) + closing


def ending(script: Script, model: str) -> bytes:
    """What closes a complete answer; this protocol has one end and no finish reason before it."""
    if script.ending != "done":
        return b""
    response = whole(script, model)
    kind = "response.incomplete" if response["status"] == "incomplete" else "response.completed"
    return _event(kind, itertools.count(10_000), response=response)


def whole(script: Script, model: str) -> dict[str, Any]:
    """The answer in one JSON object, as it comes without ``stream``."""
    prompt, output, reasoning = script.counts
    usage: dict[str, Any] = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": script.cached_tokens},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": prompt + output,
    }
    response: dict[str, Any] = {
        "id": "mock-1",
        "object": "response",
        "model": model,
        "output": [item for item, _ in _items(script)],
        "usage": usage if script.usage else None,
    }
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    if script.finish in reasons:
        return {**response, "status": "incomplete", "incomplete_details": {"reason": reasons[script.finish]}}
    return {**response, "status": "completed"}


def error(script: Script) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": script.error, "type": script.error_type, "code": None, "param": None}}


def error_frame(script: Script) -> bytes:
    """The error inside a stream."""
    return _event("error", itertools.count(10_000), **error(script))


def _items(script: Script) -> list[tuple[dict[str, Any], list[Step]]]:
    """The items of the output as they are in the end, each with the steps that say it. Only the first choice: there are no others."""
    said = [step for step in steps(script) if step.choice == 0]
    groups = itertools.groupby(said, lambda step: (_ITEM[step.kind], step.number if _ITEM[step.kind] == "call" else 0))
    kept = [(key, list(group)) for key, group in groups]
    return [(_item(script, kind, number, group), group) for (kind, number), group in kept]


def _item(script: Script, kind: str, number: int, said: list[Step]) -> dict[str, Any]:
    text = "".join(step.text for step in said if step.kind in ("text", "reasoning"))
    if kind == "reasoning":
        content: list[dict[str, Any]] = [{"type": "reasoning_text", "text": text}]
        return {"id": "rs_1", "type": "reasoning", "status": "completed", "summary": [], "content": content}
    if kind == "message":
        content = []
        if any(step.kind == "text" for step in said):
            annotations = [_annotation(script, step.number) for step in said if step.kind == "citation"]
            logprobs = [token for step in said for token in _logprobs(script, step)]
            content.append({"type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs})
        if script.refusal:
            content.append({"type": "refusal", "refusal": "".join(script.refusal)})
        return {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": content}
    tool = script.tools[number]
    return {
        "id": f"fc_{number + 1}",
        "type": "function_call",
        "status": "completed",
        "call_id": script.call_id(number),
        "name": tool.name,
        "arguments": tool.text,
    }


def _part_added(script: Script, step: Step, place: dict[str, Any], number: Iterator[int]) -> bytes:
    """What opens a part of an item, before its first piece."""
    parts: dict[str, dict[str, Any]] = {
        "reasoning": {"type": "reasoning_text", "text": ""},
        "text": {"type": "output_text", "text": "", "annotations": [], "logprobs": []},
        "refusal": {"type": "refusal", "refusal": ""},
    }
    if step.number or step.kind not in parts:
        return b""
    index = int(bool(script.pieces)) if step.kind == "refusal" else 0
    return _event("response.content_part.added", number, **place, content_index=index, part=parts[step.kind])


def _piece(script: Script, step: Step, place: dict[str, Any], number: Iterator[int]) -> bytes:
    if step.kind == "reasoning":
        return _event("response.reasoning_text.delta", number, **place, content_index=0, delta=step.text)
    if step.kind == "refusal":
        return _event("response.refusal.delta", number, **place, content_index=int(bool(script.pieces)), delta=step.text)
    if step.kind == "citation":
        content = {**place, "content_index": 0, "annotation_index": step.number, "annotation": _annotation(script, step.number)}
        return _event("response.output_text.annotation.added", number, **content)
    if step.kind == "arguments":
        return _event("response.function_call_arguments.delta", number, **place, delta=step.text)
    if step.kind == "call":
        return b""  # the item that was added says it
    return _event("response.output_text.delta", number, **place, content_index=0, delta=step.text, logprobs=_logprobs(script, step))


def _logprobs(script: Script, step: Step) -> list[dict[str, Any]]:
    """The token of a piece; without bytes, as this API sends it."""
    found = token_logprobs(script, step)
    if found is None:
        return []
    own, top = found
    return [{"token": step.text, "logprob": own, "top_logprobs": [{"token": token, "logprob": value} for token, value in top]}]


def _texts_done(item: dict[str, Any], place: dict[str, Any], number: Iterator[int]) -> bytes:
    """What says the texts of an item again, whole, before the item is done; a giant one is said twice less."""
    if item["type"] == "function_call":
        return _event("response.function_call_arguments.done", number, **place, name=item["name"], arguments=item["arguments"])
    done = b""
    for index, part in enumerate(item["content"]):
        field = "refusal" if part["type"] == "refusal" else "text"
        if GIANT not in part[field]:
            done += _event(f"response.{part['type']}.done", number, **place, content_index=index, **{field: part[field]})
    return done


def _annotation(script: Script, number: int) -> dict[str, Any]:
    citation = script.annotations[number]
    start, end = script.span(citation)
    return {"type": "url_citation", "url": citation.url, "title": citation.title, "start_index": start, "end_index": end}


def _event(kind: str, number: Iterator[int], **content: Any) -> bytes:
    message = {"type": kind, "sequence_number": next(number), **content}
    return f"event: {kind}\ndata: {json.dumps(message, ensure_ascii=False)}\n\n".encode()
