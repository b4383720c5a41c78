"""Prompt, answer and tools as the conventions want them, sent only when the reader's environment says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.redaction import Redactor
from tokenstream_magic.telemetry.names import finish


def content(transcript: Transcript, redactor: Redactor) -> dict[str, str]:
    """Prompt, answer and tools as the conventions want them: JSON of roles and parts, keys masked."""
    messages = list(transcript.messages)
    system = [part for message in messages if message.get("role") == "system" for part in _parts(message)]
    said = [{"role": m.get("role"), "parts": list(_parts(m))} for m in messages if m.get("role") != "system"]
    answers = [
        {"role": "assistant", "parts": list(_answer(choice)), "finish_reason": finish(transcript, choice)} for choice in transcript.choices
    ]
    tools = transcript.options.get("tool") or transcript.options.get("tools")
    found = {
        "gen_ai.system_instructions": system,
        "gen_ai.input.messages": said,
        "gen_ai.output.messages": answers,
        "gen_ai.tool.definitions": tools,
    }
    return {name: json.dumps(redactor.data(value), ensure_ascii=False) for name, value in found.items() if value}


def _parts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        yield {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}
        return
    for part in content if isinstance(content, (list, tuple)) else [content]:
        if isinstance(part, Mapping):
            yield (
                {"type": "text", "content": part["text"]}
                if part.get("type") == "text"
                else {
                    "type": str(part.get("type")),
                    "mime_type": part.get("media_type"),
                    "name": part.get("name"),
                }
            )
        elif part:
            yield {"type": "text", "content": str(part)}
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        yield {"type": "tool_call", "id": call.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}


def _answer(choice: Choice) -> Iterator[dict[str, Any]]:
    if choice.reasoning:
        yield {"type": "reasoning", "content": choice.reasoning}
    if choice.text or choice.refusal:
        yield {"type": "text", "content": choice.text or choice.refusal}
    for call in choice.tool_calls:
        yield {"type": "tool_call", "id": call.get("id"), "name": call.get("name"), "arguments": call.get("arguments")}
