"""A transcript from a row that may be damaged: a wrong byte in a file costs what it hit, never the list it is in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from tokenstream_magic.record import Transcript
from tokenstream_magic.transcripts.rows import from_row
from tokenstream_magic.transcripts.schema import TIMING, USAGE, transcripts

DAMAGED = "a part of what was kept of this is damaged and left out"

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LISTS = {"messages", "tags", "diagnostics", "choices"}
_MAPPINGS = {"options", "variables", "error", "server_timing", "moments", "owner"}
_NUMBERS = {*TIMING, *USAGE, "clock_offset_ms", "execution_count"}
_TEXTS = {column.name for column in transcripts.c} - _LISTS - _MAPPINGS - _NUMBERS - {"timeline", "seq", "updated_at"}


def from_json(text: str | bytes) -> Any:
    """A JSON column; None when it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def lenient(text: bytes) -> str:
    """A text column, whatever is in it."""
    return text.decode("utf-8", "replace")


def readable(row: Mapping[str, Any]) -> Transcript:
    """The transcript of a row, without what of it cannot be read."""
    try:
        if _is_whole(row):
            return from_row(row)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError):
        pass
    values = {name: fitting(name, value) for name, value in row.items()}
    values["created_at"] = _date(values.get("created_at"), str(values.get("id") or ""))
    try:
        found = from_row(values)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError):
        found = Transcript(id=str(values.get("id") or ""), model=values.get("model") or "", outcome="failed")
        found.created_at = datetime.fromisoformat(values["created_at"])
    found.outcome = found.outcome or "failed"
    found.diagnostics = [*found.diagnostics, DAMAGED]
    return found


def _is_whole(row: Mapping[str, Any]) -> bool:
    """Whether what is read as it is has the type it must have."""
    tags, notes, choices, options = row["tags"], row["diagnostics"], row["choices"], row["options"]
    return (
        type(row["id"]) is type(row["model"]) is type(row["outcome"]) is str
        and (tags is None or (type(tags) is list and all(type(tag) is str for tag in tags)))
        and (notes is None or (type(notes) is list and all(type(note) is str for note in notes)))
        and (choices is None or (type(choices) is list and all(type(choice) is dict for choice in choices)))
        and (options is None or type(options) is dict)
        and all(row[name] is None or type(row[name]) is str for name in ("prompt", "text", "endpoint", "reasoning", "note", "system"))
    )


def fitting(name: str, value: Any) -> Any:
    """A value, where it can be one of that column; else none, or what can be made of it."""
    if value is None or name not in transcripts.c:
        return value
    if name in _LISTS:
        kind = dict if name in ("messages", "choices") else str
        return [each for each in value if isinstance(each, kind)] if isinstance(value, list) else None
    if name in _MAPPINGS:
        return value if isinstance(value, dict) else None
    if name in _NUMBERS:
        return value if isinstance(value, (int, float)) else None
    if name == "timeline":
        return value if isinstance(value, bytes) else None
    if name in _TEXTS:
        return value if isinstance(value, str) else lenient(value) if isinstance(value, bytes) else str(value)
    return value


def _date(written: Any, id: str) -> str:
    """The date of a row; when that is none, the one its id was made at."""
    try:
        return datetime.fromisoformat(written).isoformat()
    except (ValueError, TypeError):
        pass
    milliseconds = 0
    for letter in id[:10]:
        milliseconds = milliseconds * 32 + max(0, _CROCKFORD.find(letter))
    try:
        return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, timezone.utc).isoformat()
