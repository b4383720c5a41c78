"""A script as the JSON array that Gemini's ``streamGenerateContent`` sends without ``alt=sse``."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tokenstream_magic.mock import gemini
from tokenstream_magic.mock.gemini import error, models, whole
from tokenstream_magic.mock.script import Script

__all__ = ["CONTENT_TYPE", "KEEP_ALIVE", "ending", "error", "error_frame", "frames", "models", "whole"]

CONTENT_TYPE = "application/json"
KEEP_ALIVE = b"\r\n"


def frames(script: Script, model: str) -> Iterator[bytes]:
    """The array opens, then an object a piece, a comma before each but the first."""
    opening, *others = gemini.frames(script, model)
    yield b"[" + _objects(opening)
    for frame in others:
        yield b",\r\n" + _objects(frame)


def ending(script: Script, model: str) -> bytes:
    """The objects with the finish reason; the array closes unless the script wants the end left out."""
    last = gemini.ending(script, model)
    return b",\r\n" + _objects(last) + (b"]" if script.ending == "done" else b"") if last else b""


def error_frame(script: Script) -> bytes:
    """The error as the last object of the array."""
    return b",\r\n" + json.dumps(error(script)).encode() + b"]"


def _objects(frame: bytes) -> bytes:
    """The objects of server-sent events, one after the other in an array."""
    return b",\r\n".join(event.removeprefix(b"data: ") for event in frame.split(b"\r\n\r\n") if event)
