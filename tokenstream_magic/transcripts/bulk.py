"""Many settled transcripts into a database at once.

All of them are seen first and only then written: what fails in the middle of a file that is brought in leaves nothing behind.
What is ready waits in memory or, when it is much, in a file without a name; what was all there before is made ready by a second
thread while SQLite writes what was made before it. Keys are masked before anything is written.
A batch is one transaction; others who write find room between two. SQLite gets columns, see ``transcripts/columns.py``; its
search and figures learn of the rows afterwards, see ``transcripts/behind.py``.
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import sqlalchemy as sa

from tokenstream_magic.record import Transcript
from tokenstream_magic.transcripts.behind import BREATH, enter, postpone
from tokenstream_magic.transcripts.columns import TOGETHER, Inserting, Masks, columns
from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.rows import next_place, put_many, put_wire, redacted, to_row
from tokenstream_magic.transcripts.schema import transcripts
from tokenstream_magic.transcripts.trouble import in_its_words
from tokenstream_magic.transport.loop import hurry

BATCH = 2000
FEW = 100  # that are searched and counted at once
_HELD = 1 << 27  # bytes that wait in memory, about
_ROW = 3000  # of them what a row takes beside its texts
_ASKED = 500  # ids in one question
_PLAIN = 2  # the version of marshal that looks for no value twice

_Part = list[Any]  # some rows: their columns, or for other databases than SQLite a dictionary each
_Make = Callable[[list[Transcript], Masks], _Part]


class _Batch(NamedTuple):
    """What is written in one transaction: so many rows, and their wires."""

    parts: list[_Part]
    wires: dict[str, bytes]
    rows: int


def add(database: Database, found: Iterable[Transcript]) -> int:
    """Keeps transcripts that have ended, each id once; how many are new. Nothing is written before all of them were seen.

    Raises what SQLAlchemy raises, and OSError; batches that were written until then stay.
    """
    masks, source, kept, pause = Masks(), iter(found), 0, 0.0
    make: _Make = columns if database.is_sqlite else _data
    batches = iter(lambda: _next_batch(source, make, masks), None)
    inserting = Inserting()
    with contextlib.ExitStack() as stack:
        if not isinstance(found, Sequence):
            waiting = stack.enter_context(contextlib.closing(_Ready(database.file)))
            for batch in batches:
                waiting.add(batch, masks.seen)
            is_few, ready = waiting.rows <= FEW, iter(waiting)
        elif len(found) <= FEW:
            is_few, ready = True, batches
        else:
            is_few, ready = False, stack.enter_context(contextlib.closing(_ahead(batches)))
        if is_few:
            for batch in ready:
                with database.writing() as connection:
                    kept += _write(connection, batch, inserting)
            return kept
        connection = stack.enter_context(database.roomy())
        for batch in ready:
            time.sleep(pause)
            started = time.perf_counter()
            with connection.begin():
                kept += _write(connection, batch, inserting)
            pause = (time.perf_counter() - started) * BREATH
    return kept


def _ahead(batches: Iterator[_Batch]) -> Generator[_Batch]:
    """The same, each made by a second thread while the one before it is written."""
    with hurry(), _uncollected(), ThreadPoolExecutor(1, "tokenstream-ready") as second:
        coming = second.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = second.submit(next, batches, None)
            yield batch


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """The garbage collector does not look through all that waits to be written, again and again: there is nothing for it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _next_batch(source: Iterator[Transcript], make: _Make, masks: Masks) -> _Batch | None:
    """The next of them, made ready; None at the end."""
    parts: list[_Part] = []
    wires: dict[str, bytes] = {}
    ids: set[str] = set()
    while part := list(islice(source, min(TOGETHER, BATCH - len(ids)))):  # few of them alive at once: Python looks through all
        new: list[Transcript] = []
        for transcript in part:
            if transcript.id not in ids:
                ids.add(transcript.id)
                new.append(transcript)
        if new:
            parts.append(make(new, masks))
            wires |= {transcript.id: transcript.kept_wire.pack() for transcript in new if transcript.kept_wire is not None}
    return _Batch(parts, wires, len(ids)) if parts else None


def _data(part: list[Transcript], masks: Masks) -> _Part:
    rows = [redacted(to_row(transcript), masks.redactor) for transcript in part]
    for row in rows:
        masks.seen += sum(len(value if isinstance(value, (str, bytes)) else str(value)) for value in row.values() if value)
    return rows


def _write(connection: sa.Connection, batch: _Batch, inserting: Inserting) -> int:
    """Writes those whose ids are not there yet, behind all others in the order of arrival; how many."""
    parts = batch.parts
    if connection.dialect.name == "sqlite":
        known, written = _known(connection, list(chain.from_iterable(part[0] for part in parts))), 0
        now, first = time.time(), next_place(connection)
        driver: Any = connection.connection.driver_connection
        with in_its_words():
            for part in parts:
                written += inserting.insert(driver, part, known, now, first + written)
        if written:
            (postpone if written > FEW else enter)(connection, first, first + written - 1)
    else:
        rows = list(chain.from_iterable(parts))
        known = _known(connection, [row["id"] for row in rows])
        rows = [row for row in rows if row["id"] not in known]
        written = len(rows)
        if rows:
            put_many(connection, rows, time.time())
    for id, packed in batch.wires.items():
        if id not in known:
            put_wire(connection, id, packed)
    return written


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
        self.rows = 0
        self._folder = database.parent if database is not None else None
        self._held: list[_Batch] = []
        self._file: IO[bytes] | None = None
        self._packed = 0

    def add(self, batch: _Batch, characters: int) -> None:
        """One more batch; with it the texts of all are so long."""
        self._held.append(batch)
        self.rows += batch.rows
        self._packed += sum(map(len, batch.wires.values()))
        if self.rows * _ROW + self._packed + characters > _HELD:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, prefix=".ready-")  # noqa: SIM115 - closed by close
            with contextlib.suppress(ValueError):  # values that are like text and numbers, but are none: they stay in memory
                while self._held:
                    made = marshal.dumps(tuple(self._held[0]), _PLAIN)
                    self._file.write(len(made).to_bytes(8, "big") + made)
                    del self._held[0]

    def __iter__(self) -> Iterator[_Batch]:
        if self._file is not None:
            self._file.seek(0)
            while size := self._file.read(8):
                made = self._file.read(int.from_bytes(size, "big"))
                yield _Batch(*marshal.loads(made))  # noqa: S302 - written by nobody but us a moment ago
        yield from self._held

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()
