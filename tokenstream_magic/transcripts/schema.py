"""The tables, and a Transcript to and from a row. All of it plain data: no pickle, no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa

from tokenstream_magic.record import Choice, Transcript, Usage
from tokenstream_magic.timing.metrics import Timing
from tokenstream_magic.timing.timeline import Timeline, unpack

VERSION = 1

metadata = sa.MetaData()

_TIMING = [f.name for f in fields(Timing) if f.name != "server"]
_WHOLE = {"chunks", "stalls"}
_USAGE = [f.name for f in fields(Usage) if f.name != "source"]

schema_version = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, nullable=False))

transcripts = sa.Table(
    "transcripts",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("created_at", sa.String(32), nullable=False),  # ISO 8601 in UTC: sorts as text, the same in every database
    sa.Column("updated_at", sa.Float, nullable=False),  # seconds since the epoch: the writer's sign of life
    sa.Column("owner", sa.JSON),  # host, process and its start: who is writing while the outcome is running
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("stop_cause", sa.String(32)),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("resolved_model", sa.Text),
    sa.Column("endpoint", sa.Text),
    sa.Column("protocol", sa.String(32)),
    sa.Column("prompt", sa.Text),
    sa.Column("system", sa.Text),
    sa.Column("messages", sa.JSON),
    sa.Column("options", sa.JSON),
    sa.Column("template", sa.Text),
    sa.Column("variables", sa.JSON),
    sa.Column("text", sa.Text),
    sa.Column("reasoning", sa.Text),
    sa.Column("refusal", sa.Text),
    sa.Column("choices", sa.JSON),  # tool calls and finish reasons, and the texts of the second choice on
    sa.Column("finish_reason", sa.Text),
    sa.Column("error", sa.JSON),
    *(sa.Column(name, sa.Integer) for name in _USAGE),
    sa.Column("usage_source", sa.String(16)),
    *(sa.Column(name, sa.Integer if name in _WHOLE else sa.Float) for name in _TIMING),
    sa.Column("server_timing", sa.JSON),
    sa.Column("timeline", sa.LargeBinary),
    sa.Column("moments", sa.JSON),
    sa.Column("diagnostics", sa.JSON),
    sa.Column("conversation_id", sa.Text),
    sa.Column("parent_id", sa.String(26)),
    sa.Column("notebook", sa.Text),
    sa.Column("cell_id", sa.Text),
    sa.Column("execution_count", sa.Integer),
    sa.Column("tags", sa.JSON),
    sa.Column("note", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("system_fingerprint", sa.Text),
    sa.Column("package_version", sa.String(32)),
    sa.Index("transcripts_by_model", "model", "id"),
    sa.Index("transcripts_by_outcome", "outcome", "id"),
)

# what arrived since the row was written; folded into the row and removed when the run settles
batches = sa.Table(
    "batches",
    metadata,
    sa.Column("transcript_id", sa.String(26), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("pieces", sa.JSON, nullable=False),  # [channel, choice, text] in the order of arrival
    sa.Column("timeline", sa.LargeBinary, nullable=False),
)

_SAME = (
    "id model resolved_model endpoint protocol prompt system messages options template variables outcome stop_cause error"
    " diagnostics conversation_id parent_id notebook cell_id execution_count tags note request_id system_fingerprint"
    " package_version"
).split()
_TEXTS = ("text", "reasoning", "refusal")
_MOMENTS = "connected headers first_byte first_event finished usage ended stop_requested closed".split()


def to_row(transcript: Transcript) -> dict[str, Any]:
    """The columns of a transcript, without ``owner`` and ``updated_at``."""
    row = {name: getattr(transcript, name) for name in _SAME}
    timing, usage, timeline = transcript.timing, transcript.usage, transcript.timeline
    row |= {name: getattr(timing, name) for name in _TIMING}
    row |= {name: getattr(usage, name) for name in _USAGE}
    row |= {
        "created_at": transcript.created_at.astimezone(timezone.utc).isoformat(timespec="milliseconds"),
        "text": transcript.text,
        "reasoning": transcript.reasoning,
        "refusal": transcript.refusal,
        "finish_reason": transcript.finish_reason,
        "choices": _choices(transcript.choices),
        "usage_source": usage.source,
        "server_timing": timing.server,
        "timeline": timeline.pack(),
        "moments": {**timeline.moments(), "reads": timeline.reads, "keep_alives": timeline.keep_alives},
    }
    return row


def from_row(row: Mapping[str, Any]) -> Transcript:
    """The transcript of a row."""
    transcript = Transcript(**{name: row[name] for name in _SAME if row[name] is not None})
    transcript.created_at = datetime.fromisoformat(row["created_at"])
    transcript.usage = Usage(**{name: row[name] for name in _USAGE}, source=row["usage_source"])
    timing = {name: row[name] for name in _TIMING}
    timing["chunks"] = timing["chunks"] or 0
    transcript.timing = Timing(**timing, server=row["server_timing"] or {})
    transcript.timeline = _timeline(row["timeline"] or b"", row["moments"] or {})
    texts: dict[str, Any] = {name: row[name] or "" for name in _TEXTS}
    transcript.choices = [
        Choice(**(choice | (texts if position == 0 else {}))) for position, choice in enumerate(row["choices"] or [])
    ] or [Choice(**texts, finish_reason=row["finish_reason"])]
    return transcript


def recovered(row: Mapping[str, Any], saved: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that change when a run whose process died is found: its batches, and how it ended."""
    texts: dict[tuple[str, int], list[str]] = {}
    for batch in saved:
        for channel, choice, text in batch["pieces"]:
            texts.setdefault((channel, choice), []).append(text)
    first = {channel: "".join(texts.get((channel, 0), ())) for channel in _TEXTS}
    others = [
        Choice(index, *("".join(texts.get((channel, index), ())) for channel in _TEXTS))  # type: ignore[arg-type]
        for index in sorted({choice for _, choice in texts} - {0})
    ]
    packed = b"".join(batch["timeline"] for batch in saved)
    note = "the kernel ended while this was streaming; the text is what had been saved"
    return {
        **first,
        "choices": _choices([Choice(0), *others]),
        "timeline": packed,
        "chunks": len(_timeline(packed, {})),
        "outcome": "truncated",
        "stop_cause": "crash",
        "diagnostics": [*(row["diagnostics"] or []), note],
        "owner": None,
    }


def _choices(choices: list[Choice]) -> list[dict[str, Any]]:
    """Choices as JSON; the texts of the first have columns of their own."""
    kept = [asdict(choice) for choice in choices]
    for name in _TEXTS:
        if kept:
            kept[0].pop(name)
    return kept


def _timeline(packed: bytes, moments: Mapping[str, Any]) -> Timeline:
    try:
        timeline = unpack(packed)
    except ValueError:
        timeline = Timeline(requested=0)
    for name in _MOMENTS:
        if moments.get(name) is not None:
            setattr(timeline, name, int(moments[name] * 1e6))
    timeline.reads = moments.get("reads", timeline.reads)
    timeline.keep_alives = moments.get("keep_alives", 0)
    return timeline
