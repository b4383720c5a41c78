"""The shapes in which servers report errors, all of them, in one place.

``wire.md`` lists who sends which: an object or a string under ``error``, ``object: error``, ``type: error``,
``error_type``/``error_message``, ``detail``, an error inside a choice or wrapped in a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenstream_magic.wire.events import Failure

_SHOWN = 4096  # what is shown of it is cut later, after keys in it were masked


def find_failure(message: Any) -> Failure | None:
    """The error a decoded JSON message carries, or None."""
    if isinstance(message, list):
        return find_failure(message[0]) if message and isinstance(message[0], dict) else None
    if not isinstance(message, Mapping):
        return None
    error = message.get("error")
    if isinstance(error, Mapping) and error:
        return _from_mapping(error)
    if isinstance(error, str) and error:
        return Failure(error, type=_text(message.get("error_type")))
    if message.get("object") == "error" or message.get("type") == "error":
        return _from_mapping(message)
    if isinstance(message.get("error_message"), str):
        return Failure(message["error_message"], type=_text(message.get("error_type")))
    groq = message.get("x_groq")
    if isinstance(groq, Mapping) and groq.get("error"):
        return Failure(str(groq["error"]), type="server_error")
    choices = message.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        if choices[0].get("error"):
            return find_failure({"error": choices[0]["error"]})
    return None


def failure_of_text(text: str) -> Failure | None:
    """The error in a text that is not where the protocol puts its data: a stray line, an HTTP body."""
    text = text.strip()
    if not text.startswith(("{", "[")):
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    failure = find_failure(message)
    if failure is None and isinstance(message, Mapping) and "detail" in message:
        failure = Failure(_text(message["detail"]) or "error")
    return failure


def failure_of_response(status: int, content_type: str, body: str) -> Failure:
    """The error of a response that is no stream: an HTTP status, a page, a JSON object."""
    failure = failure_of_text(body) or Failure(_excerpt(status, content_type, body))
    if status >= 400:
        failure.status = status
        failure.type = failure.type or "http_error"
    else:
        failure.type = failure.type or "not_a_stream"
    return failure


def _excerpt(status: int, content_type: str, body: str) -> str:
    shown = " ".join("".join(c if c.isprintable() else " " for c in body[:_SHOWN]).split())
    what = f"HTTP {status}" if status >= 400 else f"the server answered {content_type or 'nothing'} instead of a stream"
    return f"{what}: {shown}" if shown else what


def _from_mapping(error: Mapping[str, Any]) -> Failure:
    code = error.get("code")
    code = code if isinstance(code, (int, str)) else None
    status = error.get("status", error.get("status_code"))
    symbol = _text(status) if isinstance(status, str) else None
    if isinstance(code, int) and 400 <= code < 600 and not isinstance(status, int):
        status = code
    message = error.get("message") or error.get("error") or error.get("failed_generation") or error.get("detail")
    nested = error.get("error") if error.get("type") == "error" else None
    if isinstance(nested, Mapping):
        return _from_mapping(nested)
    name = error.get("type") if error.get("type") != "error" else None
    return Failure(
        _text(message) or _text(code) or "the server reported an error",
        type=_text(name) or symbol or _text(code),
        status=status if isinstance(status, int) else None,
        code=code,
    )


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    try:
        return value if isinstance(value, str) else json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return None
