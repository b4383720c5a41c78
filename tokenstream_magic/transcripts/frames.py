"""Transcripts as pandas DataFrames: one row a transcript, or one row a chunk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tokenstream_magic.errors import BadRequest
from tokenstream_magic.record import Transcript
from tokenstream_magic.transcripts.schema import TIMING, USAGE

if TYPE_CHECKING:
    import pandas as pd

_CATEGORIES = ("model", "resolved_model", "endpoint", "protocol", "outcome", "stop_cause", "finish_reason", "error_type", "usage_source")
_TEXTS = (
    "id prompt system text reasoning refusal error_message template note notebook cell_id conversation_id parent_id request_id"
    " system_fingerprint package_version host"
).split()
_WHOLE = ("chunks", "stalls", "tool_calls", "choices", "execution_count", "error_status", *USAGE)
_OBJECTS = ("options", "variables", "tags", "messages", "diagnostics")
_CHUNK_CHARACTERS = ("text", "reasoning", "refusal")


def transcripts(found: Iterable[Transcript]) -> pd.DataFrame:
    """One row a transcript: dates with a time zone, unknown figures missing, names as categories."""
    pandas = _pandas()
    rows = [_row(transcript) for transcript in found]
    names = [
        "id",
        "created_at",
        *_CATEGORIES,
        *(n for n in _TEXTS if n != "id"),
        *TIMING,
        *(n for n in _WHOLE if n not in TIMING),
        "clock_offset_ms",
        *_OBJECTS,
    ]
    frame = pandas.DataFrame(rows, columns=names)
    frame["created_at"] = pandas.to_datetime(frame["created_at"], utc=True)
    types: dict[str, str] = dict.fromkeys(_CATEGORIES, "category")
    types |= dict.fromkeys(_TEXTS, "string")
    types |= {name: "Float64" for name in (*TIMING, "clock_offset_ms") if name not in _WHOLE}
    types |= dict.fromkeys(_WHOLE, "Int64")
    return _typed(frame, types)


def chunks(found: Iterable[Transcript]) -> pd.DataFrame:
    """One row a chunk: when it came, since the one before, on which channel, how much, what, and with which read."""
    pandas = _pandas()
    rows: list[tuple[Any, ...]] = []
    for transcript in found:
        texts = {(choice.index, name): getattr(choice, name) for choice in transcript.choices for name in _CHUNK_CHARACTERS}
        position: dict[tuple[int, str], int] = {}
        before: int | None = None
        for number, stamp in enumerate(transcript.timeline):
            key = (stamp.choice, stamp.channel)
            start = position.get(key, 0)
            position[key] = start + stamp.characters
            text = texts[key][start : start + stamp.characters] if key in texts else None
            gap = None if before is None else (stamp.offset_ns - before) / 1e6
            before = stamp.offset_ns
            rows.append(
                (transcript.id, number, stamp.offset_ns / 1e6, gap, stamp.channel, stamp.choice, stamp.characters, text, stamp.read)
            )
    names = ["transcript", "chunk", "ms", "gap_ms", "channel", "choice", "characters", "text", "read"]
    types = {"transcript": "string", "chunk": "int64", "ms": "float64", "gap_ms": "Float64", "channel": "category"}
    types |= {"choice": "int64", "characters": "int64", "text": "string", "read": "int64"}
    return _typed(pandas.DataFrame(rows, columns=names), types)


def _typed(frame: pd.DataFrame, types: dict[str, str]) -> pd.DataFrame:
    typed: pd.DataFrame = frame.astype(types)
    return typed


def _row(transcript: Transcript) -> dict[str, Any]:
    error = transcript.error or {}
    status = error.get("status")
    row = {name: getattr(transcript, name, None) for name in (*_CATEGORIES, *_TEXTS, *_OBJECTS)}
    row |= {name: getattr(transcript.timing, name) for name in TIMING}
    row |= {name: getattr(transcript.usage, name) for name in USAGE}
    row |= {
        "created_at": transcript.created_at,
        "error_type": error.get("type"),
        "error_message": error.get("message"),
        "error_status": status if isinstance(status, int) else None,
        "usage_source": transcript.usage.source,
        "tool_calls": len(transcript.tool_calls),
        "choices": len(transcript.choices),
        "execution_count": transcript.execution_count,
        "clock_offset_ms": transcript.clock_offset_ms,
    }
    return row


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError:
        raise BadRequest("A DataFrame needs pandas.", 'Install it: pip install "tokenstream-magic[experiments]".') from None
    return pd
