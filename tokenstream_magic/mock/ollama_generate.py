"""A script as the lines of Ollama's ``/api/generate``: those of its chat, with the text at the top. It has no tool calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenstream_magic.mock import ollama
from tokenstream_magic.mock.ollama import CONTENT_TYPE, KEEP_ALIVE, error, error_frame, models
from tokenstream_magic.mock.script import Script

__all__ = ["CONTENT_TYPE", "KEEP_ALIVE", "ending", "error", "error_frame", "frames", "models", "whole"]


def frames(script: Script, model: str) -> Iterator[bytes]:
    """An empty opening, then a line a piece."""
    return (_line(line) for line in ollama.frames(script, model))


def ending(script: Script, model: str) -> bytes:
    """The line that says it is done."""
    last = ollama.ending(script, model)
    return _line(last) if last else b""


def whole(script: Script, model: str) -> dict[str, Any]:
    """The answer in one JSON object."""
    return _generated(ollama.whole(script, model))


def _line(line: bytes) -> bytes:
    return json.dumps(_generated(json.loads(line)), ensure_ascii=False).encode() + b"\n"


def _generated(line: dict[str, Any]) -> dict[str, Any]:
    message = line.pop("message")
    thinking = {"thinking": message["thinking"]} if "thinking" in message else {}
    return {**line, "response": message["content"], **thinking}
