"""A Transcript to and from a row. All of it plain data: no pickle, no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timezone
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from tokenstream_magic.plain import plain, whole_text
from tokenstream_magic.record import Choice, Transcript, Usage
from tokenstream_magic.redaction import Redactor
from tokenstream_magic.timing.metrics import Timing
from tokenstream_magic.timing.packing import decode, encode, extend
from tokenstream_magic.timing.timeline import Timeline
from tokenstream_magic.transcripts.behind import enter, leave
from tokenstream_magic.transcripts.schema import TIMING, USAGE, batches, to_json, transcripts, wires

SAME = (
    "id model resolved_model endpoint protocol prompt system messages options template variables outcome stop_cause error"
    " diagnostics conversation_id parent_id notebook cell_id execution_count tags note request_id system_fingerprint"
    " package_version host clock_offset_ms"
).split()
_same, _figures, _counts = attrgetter(*SAME), attrgetter(*TIMING), attrgetter(*USAGE)
TEXTS = ("text", "reasoning", "refusal")
_MOMENTS = "connected headers first_byte first_event finished usage ended stop_requested closed".split()
_CHOICE = tuple(f.name for f in fields(Choice))
_BESIDE_TEXTS = tuple(name for name in _CHOICE if name not in TEXTS)
_of_choice, _beside_texts = attrgetter(*_CHOICE), attrgetter(*_BESIDE_TEXTS)
_OPEN = {"id", "created_at", "outcome", "timeline", *TIMING, *USAGE}  # nothing a key could be in
_OF_RUN = transcripts.c.id == sa.bindparam("of")
_ENDING = sa.select(transcripts.c.seq, transcripts.c.outcome).where(_OF_RUN)
_UPDATE = transcripts.update().where(_OF_RUN)
_LARGEST = (1 << 63) - 1
TIMES_DAMAGED = "what was kept of when its pieces came is damaged and left out"
CRASHED = "the kernel ended while this was streaming; the text is what had been saved"


def to_row(transcript: Transcript, events: int | None = None) -> dict[str, Any]:
    """The columns of a transcript, without ``owner``, ``updated_at`` and ``seq``; of the timeline the first ``events``, or all."""
    timing, usage = transcript.timing, transcript.usage
    row = dict(zip(SAME, _same(transcript), strict=True))
    row.update(zip(TIMING, _figures(timing), strict=True))
    row.update(zip(USAGE, map(_bounded, _counts(usage)), strict=True))
    row |= {
        "created_at": transcript.created_at.astimezone(timezone.utc).isoformat(timespec="microseconds"),
        "text": transcript.text,
        "reasoning": transcript.reasoning,
        "refusal": transcript.refusal,
        "finish_reason": transcript.finish_reason,
        "choices": choices_of(transcript.choices),
        "usage_source": usage.source,
        "server_timing": timing.server,
        "execution_count": _bounded(transcript.execution_count),
        "timeline": encode(transcript.timeline, events),
        "moments": None,
    }
    return row


def redacted(row: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    """The row with every key in it masked, and with no half of a surrogate pair, which no database takes."""
    return {name: _whole(redactor.data(value)) if value and name not in _OPEN else value for name, value in row.items()}


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, (dict, list)):
        try:
            to_json(value).encode()
        except UnicodeEncodeError:
            return plain(value)
    return value


def from_row(row: Mapping[str, Any]) -> Transcript:
    """The transcript of a row."""
    transcript = Transcript(**{name: row[name] for name in SAME if row[name] is not None})
    transcript.created_at = datetime.fromisoformat(row["created_at"])
    transcript.usage = Usage(**{name: row[name] for name in USAGE}, source=row["usage_source"])
    timing = {name: row[name] for name in TIMING}
    timing["chunks"] = timing["chunks"] or 0
    transcript.timing = Timing(**timing, server=row["server_timing"] or {})
    try:
        transcript.timeline = timeline_of(row)
    except ValueError:
        transcript.timeline = Timeline(requested=0)
        transcript.diagnostics = [*transcript.diagnostics, TIMES_DAMAGED]
    texts: dict[str, Any] = {name: row[name] or "" for name in TEXTS}
    transcript.choices = [
        Choice(**({k: v for k, v in choice.items() if k in _CHOICE} | (texts if position == 0 else {})))
        for position, choice in enumerate(row["choices"] or [])
    ]
    if not transcript.choices and (any(texts.values()) or row["finish_reason"]):
        transcript.choices = [Choice(**texts, finish_reason=row["finish_reason"])]
    return transcript


def recovered(row: Mapping[str, Any], saved: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that change when a run whose process died is found: its batches, and how it ended.

    Raises ValueError where what is kept of its times is damaged.
    """
    texts: dict[tuple[str, int], list[str]] = {}
    for name in TEXTS:
        if row[name]:
            texts[name, 0] = [row[name]]
    for position, choice in enumerate(row["choices"] or []):
        for name in TEXTS if position else ():
            texts.setdefault((name, choice["index"]), []).append(choice.get(name, ""))
    for batch in saved:
        for channel, number, text in batch["pieces"]:
            texts.setdefault((channel, number), []).append(text)
    first = {channel: "".join(texts.get((channel, 0), ())) for channel in TEXTS}
    others = [
        Choice(index, *("".join(texts.get((channel, index), ())) for channel in TEXTS))  # type: ignore[arg-type]
        for index in sorted({number for _, number in texts} - {0})
    ]
    timeline = timeline_of(row)
    for batch in saved:
        extend(timeline, batch["timeline"])
    return {
        **first,
        "choices": choices_of([Choice(0), *others]),
        "timeline": encode(timeline),
        "moments": None,
        "chunks": len(timeline),
        "outcome": "truncated",
        "stop_cause": "crash",
        "diagnostics": [*(row["diagnostics"] or []), CRASHED],
        "owner": None,
    }


def put(connection: sa.Connection, row: Mapping[str, Any], owner: Mapping[str, Any] | None, updated_at: float) -> None:
    """Writes a row, in the place of the one with its id if there is one. A settled row can be searched from then on."""
    values = {
        **_fitting(connection, row),
        "owner": owner,
        "updated_at": updated_at,
    }  # as parameters: a statement that holds them takes 3 ms
    old = connection.execute(_ENDING, {"of": row["id"]}).first()
    if old is None:
        (seq,) = _places(connection)
        connection.execute(transcripts.insert(), {**values, "seq": seq})
    else:
        seq = old.seq
        if old.outcome != "running":
            leave(connection, row["id"])
        connection.execute(_UPDATE, {**values, "of": row["id"]})
    if row["outcome"] != "running":
        enter(connection, seq)


def put_many(connection: sa.Connection, rows: list[dict[str, Any]], updated_at: float) -> None:
    """Writes settled rows whose ids are not there yet, many at once."""
    places = _places(connection, len(rows))
    fit = (_fitting(connection, row) for row in rows)
    values = [{**row, "owner": None, "updated_at": updated_at, "seq": seq} for row, seq in zip(fit, places, strict=True)]
    connection.execute(transcripts.insert(), values)
    enter(connection, min(places), max(places))


def put_wire(connection: sa.Connection, id: str, packed: bytes) -> None:
    """Writes the packed wire of a transcript, in the place of the one that is there."""
    connection.execute(wires.delete().where(wires.c.transcript_id == id))
    connection.execute(wires.insert().values(transcript_id=id, packed=packed))


def remove(connection: sa.Connection, id: str) -> None:
    """Takes a row, what can be searched of it, its batches and its wire away."""
    leave(connection, id)
    connection.execute(batches.delete().where(batches.c.transcript_id == id))
    connection.execute(wires.delete().where(wires.c.transcript_id == id))
    connection.execute(transcripts.delete().where(transcripts.c.id == id))


def timeline_of(row: Mapping[str, Any]) -> Timeline:
    """The timeline of a row of any version. Raises ValueError when it is damaged."""
    column = row["timeline"]
    timeline = decode(column) if column else Timeline(requested=0)
    moments = row["moments"]
    if moments:
        for name in _MOMENTS:
            if moments.get(name) is not None:
                setattr(timeline, name, int(moments[name] * 1e6))
        timeline.reads = moments.get("reads", timeline.reads)
        timeline.keep_alives = moments.get("keep_alives", 0)
    return timeline


def next_place(connection: sa.Connection) -> int:
    """The next place in the order of arrival, for who writes alone, as with SQLite."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(transcripts.c.seq), 0) + 1)).scalar_one())


def _places(connection: sa.Connection, count: int = 1) -> list[int]:
    """The next places in the order of arrival."""
    if connection.dialect.name == "postgresql":
        numbers = connection.execute(sa.text("SELECT nextval('transcripts_seq') FROM generate_series(1, :n)"), {"n": count})
        return [int(number) for number in numbers.scalars()]
    first = next_place(connection)
    return list(range(first, first + count))


def _fitting(connection: sa.Connection, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row as the database can have it: PostgreSQL has no NUL in a text, which a model may say; it becomes U+FFFD."""
    if connection.dialect.name != "postgresql":
        return row
    return {name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in row.items()}


def _bounded(number: int | None) -> int | None:
    return number if number is None or -_LARGEST <= number <= _LARGEST else None


def choices_of(choices: list[Choice]) -> list[dict[str, Any]]:
    """Choices as plain data; the texts of the first have columns of their own."""
    if not choices:
        return []
    others = [dict(zip(_CHOICE, _of_choice(choice), strict=True)) for choice in choices[1:]]
    return [dict(zip(_BESIDE_TEXTS, _beside_texts(choices[0]), strict=True)), *others]
