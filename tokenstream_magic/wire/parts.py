"""Our own parts of a message, which every protocol writes in its own way.

The ``content`` of a message is text or a list of parts. Ours are ``{"type": "text", "text"}`` and ``{"type":
"attachment", "media_type", "name", "size", "sha256"}`` with what is attached: ``data`` (base64), or ``text`` for text.
An attachment without either was kept in a transcript, which holds no bytes: a line stands in its place. Tool calls
stand in ``tool_calls`` of an assistant's message and their results in messages of the role ``tool``, as OpenAI
Chat Completions has them. Any other part is a protocol's own and goes as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenstream_magic.wire.values import mapping, mappings

IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
PDF = "application/pdf"

_FENCE = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


def is_attachment(part: Any) -> bool:
    """Whether a part is an attachment of ours."""
    return isinstance(part, Mapping) and part.get("type") == "attachment"


def is_text(part: Any) -> bool:
    """Whether a part is text, in the spelling we share with Chat Completions and Anthropic."""
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def text_of(part: Mapping[str, Any]) -> str | None:
    """The words an attachment is sent as: a text file with its name, a line for one whose bytes are gone, or None."""
    name, media_type = part.get("name"), part.get("media_type")
    if isinstance(part.get("text"), str):
        text = part["text"]
        longest = max((len(fence) for fence in _FENCE.findall(text)), default=2)
        fence = "`" * (longest + 1)
        return f"{name}:\n\n{fence}\n{text}{'' if text.endswith(chr(10)) else chr(10)}{fence}"
    if not isinstance(part.get("data"), str):
        return f"[{name} ({media_type}, {part.get('size')} bytes) was attached here]"
    return None


def contents(content: Any, attached: Callable[[Mapping[str, Any]], Any], text: Callable[[str], Any]) -> Any:
    """``content`` with our parts written by ``attached`` and ``text``; a content without any is returned as it is."""
    if not isinstance(content, (list, tuple)) or not any(is_attachment(part) for part in content):
        return content
    written = []
    for part in content:
        if is_attachment(part):
            words = text_of(part)
            written.append(attached(part) if words is None else text(words))
        else:
            written.append(text(part["text"]) if is_text(part) else part)
    return written


def data_url(part: Mapping[str, Any]) -> str:
    """An attachment as a ``data:`` URL."""
    return f"data:{part['media_type']};base64,{part['data']}"


def calls(message: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The tool calls of an assistant's message: id, name and arguments (JSON text) each."""
    found = []
    for call in mappings(message.get("tool_calls")):
        function = mapping(call.get("function"))
        found.append((str(call.get("id") or ""), str(function.get("name") or ""), str(function.get("arguments") or "")))
    return found


def arguments(text: str) -> dict[str, Any]:
    """The arguments of a call as an object; an empty one when they are none, which the result of the call has said."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def functions(tools: Any) -> list[dict[str, Any]]:
    """Tools (``{name, description, parameters}`` each) as Chat Completions and Ollama want them."""
    return [{"type": "function", "function": dict(tool)} for tool in mappings(tools)]


def is_strict(schema: Any) -> bool:
    """Whether a server that enforces schemas takes this one: every object closed, with all its properties required."""
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return all(is_strict(item) for item in schema)
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, Mapping):
        closed = schema.get("additionalProperties") is False
        if not closed or set(mapping(properties)) != set(schema.get("required") or ()):
            return False
    named = [child for name in ("properties", "$defs", "definitions") for child in mapping(schema.get(name)).values()]
    return all(is_strict(child) for child in (*named, *(schema.get(name) for name in ("items", "anyOf", "oneOf", "allOf", "prefixItems"))))
