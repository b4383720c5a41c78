"""Which protocol a captured body is in, from what its first messages look like."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

SEEN = 256 * 1024
_MESSAGES = 8
_ANTHROPIC = ("message_start", "message_delta", "message_stop", "ping")


def recognise(body: bytes) -> str | None:
    """The name of the protocol, or None when nothing tells. Looks at the first 256 KiB."""
    for _, message in zip(range(_MESSAGES), _messages(body[:SEEN]), strict=False):
        name = _of_message(message)
        if name is not None:
            return name
    return None


def _of_message(message: Mapping[str, Any]) -> str | None:
    kind = message.get("type")
    kind = kind if isinstance(kind, str) else ""
    if kind.startswith("response."):
        return "openai-responses"
    if kind in _ANTHROPIC or kind.startswith("content_block_") or (kind == "error" and isinstance(message.get("error"), Mapping)):
        return "anthropic"
    if kind == "message" and message.get("role") == "assistant":
        return "anthropic"
    if {"candidates", "promptFeedback", "usageMetadata"} & message.keys():
        return "gemini"
    if "done" in message and ("message" in message or "response" in message):
        return "ollama"
    if "choices" in message or str(message.get("object", "")).startswith("chat.completion"):
        return "openai-chat"
    if message.get("object") == "response":
        return "openai-responses"
    error = message.get("error")
    if isinstance(error, Mapping) and isinstance(error.get("code"), int) and isinstance(error.get("status"), str):
        return "gemini"
    return None


def _messages(body: bytes) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a body in any framing: behind ``data:``, one a line, in an array, or one alone."""
    text = body.decode("utf-8", "replace").lstrip("\ufeff").strip()
    for line in text.splitlines():
        found = _load(line.removeprefix("data:").strip(" ,[]"))
        if isinstance(found, Mapping):
            yield found
    decoder = json.JSONDecoder()
    start = text.find("{")
    if start >= 0:
        try:
            whole, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return
        if isinstance(whole, Mapping):
            yield whole


def _load(text: str) -> Any:
    if not text.startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
