"""What ``llm`` logs since its version 0.35: turns, each with the end of a chain of messages that turns share.

A turn names the last message that was asked with and the last of its answer; every message names the one before it. Text that
came from a fragment is a reference to it. Read with the connection of :mod:`tokenstream_magic.exchange.logs_of_llm`, which
guards it; what does not fit is refused.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from tokenstream_magic.exchange.checks import TEXT_LIMIT, Unfit
from tokenstream_magic.plain import plain_text

TABLES = ("turns", "messages", "parts")
MOST_MESSAGES = 2000  # of one turn, with what was said before it

_COLUMNS = (
    "id thread_id parent_message_hash tip_message_hash model resolved_model options_json input_tokens output_tokens duration_ms datetime_utc"
).split()
_REFUSED = "Nothing was imported."


def turns(connection: sqlite3.Connection, where: str) -> Iterator[dict[str, Any]]:
    """The turns, oldest first: the columns of ``responses`` that say the same, and ``messages`` and ``tool_calls`` beside them."""
    for number, row in enumerate(connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM turns ORDER BY id"), 1):  # noqa: S608 - our own names
        place = f"{where}, turn {number}"
        asked = _chain(connection, row["parent_message_hash"], None, place)
        said = _chain(connection, row["tip_message_hash"], row["parent_message_hash"], place)
        answers = [part for message in said if message["role"] == "assistant" for part in message["parts"]]
        system = [text for message in asked if message["role"] == "system" for text in _texts(message["parts"])]
        last = next((message for message in reversed(asked) if message["role"] == "user"), None)
        yield {
            **dict(row),
            "conversation_id": row["thread_id"],
            "system": "\n\n".join(system) or None,
            "prompt": "".join(_texts(last["parts"])) if last is not None else "",
            "response": "".join(part["text"] for part in answers if part["type"] == "text"),
            "reasoning": "".join(part["text"] for part in answers if part["type"] == "reasoning"),
            "messages": [made for message in asked for made in _message(message)],
            "tool_calls": [
                {"id": part["call"], "name": part["name"], "arguments": part["arguments"]}
                for part in answers
                if part["type"] == "tool_call"
            ],
        }


def _chain(connection: sqlite3.Connection, tip: Any, until: Any, where: str) -> list[dict[str, Any]]:
    """The messages up to ``tip``, oldest first, without ``until`` and those before it."""
    found: list[dict[str, Any]] = []
    while tip is not None and tip != until:
        if len(found) >= MOST_MESSAGES:
            raise Unfit(f"{where} has more than {MOST_MESSAGES} messages, or they go in a circle.", _REFUSED)
        row = connection.execute("SELECT parent_hash, role FROM messages WHERE hash = ?", (tip,)).fetchone()
        if row is None or not isinstance(row["role"], str):
            raise Unfit(f"{where} names a message that is not there.", _REFUSED)
        parts = connection.execute("SELECT type, text, payload FROM parts WHERE message_hash = ? ORDER BY position", (tip,))
        found.append({"role": plain_text(row["role"])[:100], "parts": [_part(connection, part, where) for part in parts.fetchall()]})
        tip = row["parent_hash"]
    return found[::-1]


def _part(connection: sqlite3.Connection, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A part as a flat mapping: ``type`` and ``text``, and what a tool or an attachment has besides."""
    try:
        payload = json.loads(row["payload"]) if row["payload"] else {}
    except (ValueError, TypeError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        raise Unfit(f"{where} has a part that is no JSON.", _REFUSED)
    kind = _text(row["type"], where)
    text = row["text"] if row["text"] is not None else payload.get("text", "")
    references = payload.get("text_ref")
    if isinstance(references, list):
        text = "".join(_referred(connection, reference, where) for reference in references)
    part: dict[str, Any] = {"type": kind, "text": _text(text, where)}
    if kind in ("tool_call", "tool_result"):
        part |= {name: _text(payload.get(key) or "", where) for name, key in (("name", "name"), ("call", "tool_call_id"))}
    if kind == "tool_call":
        part["arguments"] = plain_text(json.dumps(payload.get("arguments") or {}, ensure_ascii=False))
    elif kind == "tool_result":
        said = payload.get("output")
        part["text"] = _text(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False), where)
    elif kind == "attachment":
        named = payload.get("attachment")
        part["attachment"] = _attachment(connection, named.get("id") if isinstance(named, dict) else None)
    return part


def _referred(connection: sqlite3.Connection, reference: Any, where: str) -> str:
    """A piece of a text: itself, or a fragment's content."""
    if not isinstance(reference, dict):
        return ""
    if "literal" in reference:
        return _text(reference["literal"], where)
    number = reference.get("fragment")
    found = connection.execute("SELECT content FROM fragments WHERE id = ?", (number,)).fetchone() if isinstance(number, int) else None
    return _text(found["content"], where) if found is not None else ""


def _attachment(connection: sqlite3.Connection, id: Any) -> dict[str, Any]:
    """What is known of an attachment, without its content."""
    known = None
    if isinstance(id, str):
        query = "SELECT type, path, url, length(content) AS size FROM attachments WHERE id = ?"
        known = connection.execute(query, (id,)).fetchone()
    about = dict(known) if known is not None else {}
    name = about.get("path") or about.get("url") or "attachment"
    return {
        "type": "attachment",
        "media_type": plain_text(str(about.get("type") or "application/octet-stream"))[:200],
        "name": plain_text(str(name)).rpartition("/")[2][:200] or "attachment",
        "size": about.get("size") or 0,
        "sha256": plain_text(str(id or ""))[:64],
    }


def _message(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A message as transcripts have them: a result of a tool is one of its own."""
    parts = message["parts"]
    for part in parts:
        if part["type"] == "tool_result":
            yield {"role": "tool", "tool_call_id": part["call"], "name": part["name"], "content": part["text"]}
    attachments = [part["attachment"] for part in parts if "attachment" in part]
    text = "".join(_texts(parts))
    calls = [
        {"id": part["call"], "type": "function", "function": {"name": part["name"], "arguments": part["arguments"]}}
        for part in parts
        if part["type"] == "tool_call"
    ]
    if text or attachments or calls:
        content: Any = [*attachments, *([{"type": "text", "text": text}] if text else [])] if attachments else text
        yield {"role": message["role"], "content": content, **({"tool_calls": calls} if calls else {})}


def _texts(parts: list[dict[str, Any]]) -> Iterator[str]:
    return (part["text"] for part in parts if part["type"] == "text")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > TEXT_LIMIT:
        raise Unfit(f"{where} has a text that is none of a size we know.", _REFUSED)
    return plain_text(value)
