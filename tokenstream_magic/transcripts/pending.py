"""A run that is being kept: what came of it, how much of that is written and where, and what is written next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tokenstream_magic import catalog
from tokenstream_magic.redaction import Passage, advance
from tokenstream_magic.run import Run
from tokenstream_magic.timing.packing import pack
from tokenstream_magic.transcripts import owners
from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.rows import TEXTS, redacted, to_row
from tokenstream_magic.transcripts.schema import to_json
from tokenstream_magic.wire.parts_kept import Parts

SIGN_SECONDS = owners.HEARTBEAT / 5
Key = tuple[str, int]


class Batch(NamedTuple):
    """A row of its table."""

    transcript_id: str
    number: int
    pieces: Any
    timeline: bytes


class Pending:
    """One run and how much of it is written, and where."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.redactor = catalog.redactor(run.plan.endpoint)
        self.new = True
        self.pieces: list[Any] = []  # channel, choice and text in turn: a tuple a piece would set the garbage collector going
        self.final: dict[str, Any] | None = None
        self.wire: bytes | None = None
        self.home: Database | None = None  # where its row is, and when that became the file it is
        self.generation = 0
        self.number = 0
        self.written = 0
        self.events = 0
        self.passages: dict[Key, Passage] = {}
        self.touched = time.monotonic()
        self.signed = 0.0  # when its row last got a sign of life
        self.tap = run.tap
        self.wire_parts: list[bytes] = []  # of the wire, for as long as it grows
        self.parts_written = 0
        self._parts = Parts(run.tap, run.plan.endpoint.protocol, self._secrets) if run.tap is not None else None

    def is_in(self, home: Database) -> bool:
        """Whether its row was written to this database, and that is still the same file."""
        return self.home is home and self.generation == home.generation

    def _secrets(self) -> list[str]:
        return catalog.keys_in_use(self.run.plan.endpoint)

    @property
    def has_news(self) -> bool:
        """Whether something came over the wire that is not written yet."""
        return self.tap is not None and (bool(self.tap.news) or self.parts_written < len(self.wire_parts))

    def gather(self) -> None:
        """Makes the next part of the wire."""
        if self._parts is not None and self.final is None:
            part = self._parts.take(self.run.transcript.timeline.origin)
            if part is not None:
                self.wire_parts.append(part)

    def parts_from(self, number: int) -> list[Batch]:
        """The parts from number ``number`` on, as batches: their numbers are below zero."""
        id = self.run.id
        return [Batch(id, -1 - place, [], part) for place, part in enumerate(self.wire_parts[number:], number)]

    def wire_packed(self) -> bytes:
        """The wire for its table, packed once, however often it has to be written."""
        kept = self.run.transcript.kept_wire
        if self.wire is None and kept is not None:
            self.wire = kept.pack()
        return self.wire or b""

    def whole(self, texts: Mapping[Key, str], events: int) -> dict[str, Any]:
        """A row with all of this run so far in it, for a place that knows nothing of it yet."""
        row = to_row(self.run.transcript, events)
        row |= {name: texts.get((name, 0), "") for name in TEXTS}
        others = sorted({choice for _, choice in texts} - {0})
        row["choices"] = [{"index": 0}, *({"index": n, **{name: texts.get((name, n), "") for name in TEXTS}} for n in others)]
        row["outcome"] = "running"
        return redacted(row, self.redactor)


@dataclass(slots=True)
class Work:
    """What of one run goes into the next transaction, and what is true of it once that is committed."""

    pending: Pending
    upto: int
    final: dict[str, Any] | None
    events: int = 0
    parts: int = 0
    batch: bool = False
    signed: bool = False
    passages: dict[Key, Passage] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)

    def make_ready(self, home: Database) -> None:
        """Makes what came of a run whose row is in this database into batches."""
        pending, timeline = self.pending, self.pending.run.transcript.timeline
        self.passages, self.batch, self.batches = {}, self.upto > pending.written, []
        self.signed = pending.signed < time.monotonic() - SIGN_SECONDS
        if self.batch:
            self.events = len(timeline)
            pieces = [[channel, choice, text] for (channel, choice), text in self.grow(pending.written).items()]
            self.batches = [Batch(pending.run.id, pending.number, pieces, pack(timeline, pending.events, self.events))]
        self.parts = len(pending.wire_parts)
        self.batches += pending.parts_from(pending.parts_written)
        if home.is_sqlite:
            self.batches = [made._replace(pieces=to_json(made.pieces)) for made in self.batches]

    def grow(self, start: int) -> dict[Key, str]:
        """The text from piece number ``start`` on, of each channel and choice, as far as it can be written."""
        pending = self.pending
        before = pending.passages if start else {}
        texts: dict[Key, list[str]] = {}
        more = iter(pending.pieces[start : self.upto])
        for channel, choice, text in zip(more, more, more, strict=True):
            texts.setdefault((channel, choice), []).append(text)
        safe: dict[Key, str] = {}
        for key, several in texts.items():
            grown = advance(pending.redactor, before.get(key, Passage()), "".join(several))
            self.passages[key] = grown.passage
            safe[key] = grown.text
        return safe
