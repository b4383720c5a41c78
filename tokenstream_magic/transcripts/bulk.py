"""Many settled transcripts into a database at once.

All of them are made ready first and only then written: what fails in the middle of a file that is brought in leaves nothing
behind. What is ready waits in memory or, when it is much, in a file without a name. Keys are masked before anything is written,
as everywhere; what is different with SQLite is how often somebody looks: texts that together, of many rows, hold no beginning of
a key have nothing to mask. A batch is one transaction; others who write find room between two. SQLite's search and figures learn of the rows
afterwards, see ``transcripts/behind.py``.
"""

from __future__ import annotations

import contextlib
import marshal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from datetime import timezone
from functools import lru_cache
from itertools import chain, islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import IO, Any

import orjson
import sqlalchemy as sa

from tokenstream_magic import catalog
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.redaction import Redactor
from tokenstream_magic.transcripts.behind import BREATH, enter, postpone
from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.rows import SAME, choices_of, next_place, put_many, put_wire, redacted, to_row
from tokenstream_magic.transcripts.schema import TIMING, USAGE, to_json, transcripts

BATCH = 4000
FEW = 100  # that are searched and counted at once
_MANY = 1000
_LOOKED = 64  # rows whose texts are looked through together
_HELD = 1 << 27  # bytes that wait in memory, about
_ROW = 3000  # of them what a row takes beside its texts
_ASKED = 500  # ids in one question

_JSON = [column.name for column in transcripts.c if isinstance(column.type, sa.JSON) and column.name in SAME]
_FREE = ("id", "outcome", "execution_count", "clock_offset_ms")  # nothing a key could be in
_NAMED = ("model", "resolved_model", "endpoint", "protocol", "stop_cause", "notebook", "package_version", "host")  # the same in many rows
_LONG = ("prompt", "system", "template", "note")
_OWN = [name for name in SAME if name not in (*_JSON, *_FREE, *_NAMED, *_LONG)]
_SAID = ("text", "reasoning", "refusal", "finish_reason")
_NAMES = [
    *_FREE,
    *_NAMED,
    *_LONG,
    *_OWN,
    *_SAID,
    *_JSON,
    "choices",
    "server_timing",
    *TIMING,
    *USAGE,
    "usage_source",
    "timeline",
    "created_at",
]
_json, _free, _named, _long, _own, _said = (attrgetter(*names) for names in (_JSON, _FREE, _NAMED, _LONG, _OWN, _SAID))
_beside = attrgetter(*(f.name for f in fields(Choice) if f.name not in (*_SAID, "index")))
_figures, _counts = attrgetter(*TIMING), attrgetter(*USAGE)
_in_order = itemgetter(*_NAMES)
_INSERT = f"INSERT INTO transcripts ({', '.join(_NAMES)}, updated_at, seq) VALUES ({', '.join('?' * (len(_NAMES) + 2))})"  # noqa: S608
_EXACT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_EMPTY: dict[type, str] = {type(None): "null", dict: "{}", list: "[]"}
_NOTHING = ("", "", "", None)
_ENDINGS = (str, type(None))
_LARGEST = (1 << 63) - 1
_PLAIN = 2  # the version of marshal that looks for no value twice

_Values = tuple[Any, ...]
_Row = _Values | dict[str, Any]
_Rows = dict[str, _Row]
_Wires = dict[str, bytes]


def add(database: Database, found: Iterable[Transcript]) -> int:
    """Keeps transcripts that have ended, each id once; how many are new. Nothing is written before all of them are ready.

    Raises what SQLAlchemy raises, and OSError; batches that were written until then stay.
    """
    masks, kept = _Masks(), 0
    make: Callable[[list[Transcript], _Masks], Iterable[_Row]] = values if database.is_sqlite else _data
    with contextlib.closing(_Ready(database.file)) as ready:
        source = iter(found)
        while True:
            rows: _Rows = {}
            wires: _Wires = {}
            while part := list(islice(source, min(_LOOKED, BATCH - len(rows)))):  # few of them alive at once: Python looks through all
                first: dict[str, Transcript] = {}
                for transcript in part:
                    if transcript.id not in rows:
                        first.setdefault(transcript.id, transcript)
                rows.update(zip(first, make(list(first.values()), masks), strict=True))
                wires |= {id: transcript.kept_wire.pack() for id, transcript in first.items() if transcript.kept_wire is not None}
            if not rows:
                break
            ready.add(rows, wires, masks.seen)
        if ready.few:
            for rows, wires in ready:
                with database.writing() as connection:
                    kept += _write(connection, rows, wires)
            return kept
        with database.roomy() as connection:
            for rows, wires in ready:
                started = time.perf_counter()
                with connection.begin():
                    kept += _write(connection, rows, wires)
                if ready.batches > 1:
                    time.sleep((time.perf_counter() - started) * BREATH)
    return kept


def _data(part: list[Transcript], masks: _Masks) -> Iterable[_Row]:
    for transcript in part:
        row = redacted(to_row(transcript), masks.redactor)
        masks.seen += sum(len(value if isinstance(value, (str, bytes)) else str(value)) for value in row.values() if value)
        yield row


class _Masks:
    """Says of which rows something may have to be masked."""

    def __init__(self) -> None:
        self.redactor = catalog.redactor()
        keys = self.redactor.values
        self.seen = 0  # characters
        every = [*keys, *(to_json(key)[1:-1] for key in keys)]
        self._look = Redactor(every, patterns=bool(self.redactor.kinds))  # as they are in text, and in JSON
        self._clean: set[tuple[str | None, ...]] = set()

    def unneeded(self, named: Iterable[tuple[str | None, ...]], texts: Iterable[str | None]) -> bool:
        """Whether there is no beginning of a key in all of these. Raises TypeError for what is no text."""
        joined = "\0".join(filter(None, texts))
        self.seen += len(joined)  # first: whatever comes of it, so much waits
        new = {*named} - self._clean
        if new:
            if self._look.may_find("\0".join(filter(None, chain.from_iterable(new)))):
                return False
            if len(self._clean) < _MANY:
                self._clean |= new
        return not self._look.may_find(joined)


def values(part: list[Transcript], masks: _Masks) -> Iterator[_Values]:
    """Rows as SQLite takes them, in the order of the names here, every key in them masked."""
    for start in range(0, len(part), _LOOKED):
        several = part[start : start + _LOOKED]
        named: list[tuple[str | None, ...]] = []
        texts: list[str | None] = []
        made = [_values(transcript, named, texts) for transcript in several]
        if _is_clean(several, named, texts, masks):
            yield from made
        else:
            for transcript, as_it_is in zip(several, made, strict=True):
                named.clear()
                texts.clear()
                _values(transcript, named, texts)
                yield as_it_is if _is_clean([transcript], named, texts, masks) else _masked(transcript, masks)


def _is_clean(several: list[Transcript], named: list[tuple[str | None, ...]], texts: list[str | None], masks: _Masks) -> bool:
    try:
        return all(transcript.growing is None for transcript in several) and masks.unneeded(named, texts)
    except TypeError:  # something that should be text is not
        return False


def _masked(transcript: Transcript, masks: _Masks) -> _Values:
    row = redacted(to_row(transcript), masks.redactor)
    return tuple(_as_json(value) if name in _STRUCTURED else value for name, value in zip(_NAMES, _in_order(row), strict=True))


def _values(transcript: Transcript, names: list[tuple[str | None, ...]], texts: list[str | None]) -> _Values:
    """A row as it is; what a key could be in is added to ``names`` and ``texts``."""
    choices, timing = transcript.choices, transcript.timing
    said = _said(choices[0]) if choices else _NOTHING
    named, long, own = _named(transcript), _long(transcript), _own(transcript)
    data = [*map(_as_json, _json(transcript))]
    if len(choices) == 1 and type(said[-1]) in _ENDINGS and not any(_beside(choices[0])):
        about = _about(choices[0].index, said[-1])
    else:
        about = _as_json(choices_of(choices))
        texts.append(about)
    server = _as_json(timing.server)
    names.append(named)
    texts += (*long, *own, *said, *data, server, transcript.usage.source)
    counts, created = _counts(transcript.usage), transcript.created_at
    if any(count is not None and not -_LARGEST <= count <= _LARGEST for count in counts):
        counts = tuple(count if count is None or -_LARGEST <= count <= _LARGEST else None for count in counts)
    if created.tzinfo is not timezone.utc:
        created = created.astimezone(timezone.utc)
    return (
        *_free(transcript),
        *named,
        *long,
        *own,
        *said,
        *data,
        about,
        server,
        *_figures(timing),
        *counts,
        transcript.usage.source,
        transcript.timeline.encode(),
        created.isoformat(timespec="microseconds"),
    )


@lru_cache(64)
def _about(index: int, finish_reason: str | None) -> str:
    """What is kept of a single choice with nothing beside its texts."""
    return _as_json(choices_of([Choice(index, finish_reason=finish_reason)]))


_STRUCTURED = {*_JSON, "choices", "server_timing"}


def _as_json(value: Any) -> str:
    """JSON that reads back as what the other writers write; without the spaces."""
    if not value and type(value) in _EMPTY:
        return _EMPTY[type(value)]
    try:
        text = orjson.dumps(value, option=_EXACT)
    except TypeError:  # numbers too large for it, names that are no text, halves of surrogate pairs
        return to_json(value)
    return to_json(value) if b"null" in text else text.decode()  # its null may have been no number


def _write(connection: sa.Connection, rows: _Rows, wires: _Wires) -> int:
    """Writes those whose ids are not there yet, behind all others in the order of arrival; how many."""
    known = _known(connection, list(rows))
    fresh: list[Any] = [row for id, row in rows.items() if id not in known] if known else list(rows.values())
    if not fresh:
        return 0
    if connection.dialect.name == "sqlite":
        now, first = time.time(), next_place(connection)
        connection.exec_driver_sql(_INSERT, [(*row, now, seq) for seq, row in enumerate(fresh, first)])
        (postpone if len(fresh) > FEW else enter)(connection, first, first + len(fresh) - 1)
    else:
        put_many(connection, fresh, time.time())
    for id, packed in wires.items():
        if id not in known:
            put_wire(connection, id, packed)
    return len(fresh)


def _known(connection: sa.Connection, ids: list[str]) -> set[str]:
    between = sa.select(transcripts.c.id).where(transcripts.c.id.between(min(ids), max(ids))).limit(1)
    if connection.execute(between).first() is None:
        return set()
    found: set[str] = set()
    for start in range(0, len(ids), _ASKED):
        part = ids[start : start + _ASKED]
        found.update(connection.execute(sa.select(transcripts.c.id).where(transcripts.c.id.in_(part))).scalars())
    return found


class _Ready:
    """Rows that can be written, in batches: the only one in memory, several in a file without a name, beside the database."""

    def __init__(self, database: Path | None) -> None:
        self._folder = database.parent if database is not None else None
        self._held: list[tuple[_Rows, _Wires]] = []
        self._file: IO[bytes] | None = None
        self._rows = self._packed = 0

    def add(self, rows: _Rows, wires: _Wires, characters: int) -> None:
        """One more batch; with it the texts of all are so long."""
        self._held.append((rows, wires))
        self._rows += len(rows)
        self._packed += sum(map(len, wires.values()))
        if self._rows * _ROW + self._packed + characters > _HELD:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, prefix=".ready-")  # noqa: SIM115 - closed by close
            with contextlib.suppress(ValueError):  # values that are like text and numbers, but are none: they stay in memory
                while self._held:
                    made = marshal.dumps(self._held[0], _PLAIN)
                    self._file.write(len(made).to_bytes(8, "big") + made)
                    del self._held[0]

    @property
    def few(self) -> bool:
        """Whether there is little to write."""
        return self._rows <= FEW

    @property
    def batches(self) -> int:
        """How many transactions it takes."""
        return -(-self._rows // BATCH)

    def __iter__(self) -> Iterator[tuple[_Rows, _Wires]]:
        if self._file is not None:
            self._file.seek(0)
            while size := self._file.read(8):
                yield marshal.loads(self._file.read(int.from_bytes(size, "big")))  # noqa: S302 - written by nobody but us a moment ago
        yield from self._held

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()
