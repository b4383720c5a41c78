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
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import sqlalchemy as sa

from tokenstream_magic.errors import StoreError
from tokenstream_magic.record import Transcript
from tokenstream_magic.transcripts.behind import enter, postpone
from tokenstream_magic.transcripts.columns import TOGETHER, Inserting, Masks, columns
from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.rows import next_place, put_many, put_wire, redacted, to_row
from tokenstream_magic.transcripts.schema import transcripts
from tokenstream_magic.transcripts.trouble import in_its_words
from tokenstream_magic.transport.loop import hurry

BATCH = 4000
BREATH = 1 / 32  # of the time a transaction took, beside what SQLite's own copying out of the log leaves to others who wait to write
FEW = 100  # that are searched and counted at once
_AHEAD = 8  # parts that wait for SQLite
_LONGEST = 0.2  # seconds, about, in which nobody else can write
_LARGEST = 1 << 25  # bytes of texts, about, that are waited for before they are written together
_HELD = 1 << 27  # bytes that wait in memory, about
_ROW = 3000  # of them what a row takes beside its texts
_ANOTHER = "UNIQUE constraint failed: transcripts.id"
_YOUNG = 1  # the generation of objects that are not older than a part or two
_PLAIN = 2  # the version of marshal that looks for no value twice

_Make = Callable[[list[Transcript]], Any]


class _Part(NamedTuple):
    """Some rows of different ids that can be written, as SQLite takes them or as a dictionary each, and their wires."""

    ids: tuple[str, ...]
    rows: Any
    wires: dict[str, bytes]
    size: int  # of texts and wires, about


def add(database: Database, found: Iterable[Transcript]) -> int:
    """Keeps transcripts that have ended, each id once; how many are new. Nothing is written before all of them were seen.

    Raises what SQLAlchemy raises, and OSError; batches that were written until then stay.
    """
    masks, inserting, source = Masks(), Inserting(), iter(found)

    def make(part: list[Transcript]) -> Any:
        return inserting.ready(columns(part, masks)) if database.is_sqlite else _data(part, masks)

    parts = iter(lambda: _next_part(source, make, masks), None)
    with contextlib.ExitStack() as stack:
        if not isinstance(found, Sequence):
            waiting = stack.enter_context(contextlib.closing(_Waiting(database.file)))
            with _uncollected() as collects:
                for part in parts:
                    waiting.add(part)
                    if collects:
                        gc.collect(_YOUNG)  # what was made for this part, and not the whole process
            is_few, parts = waiting.rows <= FEW, iter(waiting)
        else:
            is_few = len(found) <= FEW
            if not is_few:
                parts = stack.enter_context(contextlib.closing(_ahead(parts)))
        if is_few:
            kept = 0
            for part in parts:
                with database.writing() as connection:
                    kept += _write(connection, iter([part]), inserting)
            return kept
        return _write_all(database, parts, inserting)


def _write_all(database: Database, parts: Iterator[_Part], inserting: Inserting) -> int:
    """Writes all of them in transactions that are never long; how many are new. Raises StoreError when they go into a file without a name."""
    kept, coming, most = 0, deque[_Part](), min(TOGETHER, BATCH)  # few in the first transactions: SQLite does not wait for many to be made
    database.prepare()
    generation = database.generation
    with database.roomy() as connection:
        while True:
            while _is_room(coming, most) and (part := next(parts, None)) is not None:
                coming.append(part)  # before others have to wait: it may not be ready yet
            database.prepare()
            if database.generation != generation:
                raise StoreError(
                    f"{database.name} was moved or replaced while transcripts were brought in; not all of them are in the new one.",
                    "Bring them in once more: each is kept once.",
                )
            if not coming:
                return kept
            most = min(2 * most, BATCH)
            started = time.perf_counter()
            with connection.begin():
                kept += _write(connection, _batch(coming), inserting)
            time.sleep((time.perf_counter() - started) * BREATH)


def _is_room(coming: deque[_Part], most: int) -> bool:
    """Whether more can be written in the same transaction, of at most so many rows, about."""
    return sum(len(part.ids) for part in coming) < most and sum(part.size for part in coming) < _LARGEST


def _batch(coming: deque[_Part]) -> Iterator[_Part]:
    """What is written in the transaction that begins now: at least one."""
    started = time.perf_counter()
    yield coming.popleft()
    while coming and time.perf_counter() - started < _LONGEST:
        yield coming.popleft()


def _ahead(parts: Iterator[_Part]) -> Generator[_Part]:
    """The same, made by a second thread while those before them are written."""
    with hurry(), _uncollected():
        second = ThreadPoolExecutor(1, "tokenstream-ready")
        try:
            coming = deque(second.submit(next, parts, None) for _ in range(_AHEAD))
            while (part := coming.popleft().result()) is not None:
                coming.append(second.submit(next, parts, None))
                yield part
        finally:
            second.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _uncollected() -> Iterator[bool]:
    """The garbage collector does not look through all that waits to be written, again and again: there is nothing for it.

    Whether it was looking before.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield collects
    finally:
        if collects:
            gc.enable()


def _next_part(source: Iterator[Transcript], make: _Make, masks: Masks) -> _Part | None:
    """The next of them, made ready; None at the end."""
    part = list(islice(source, min(TOGETHER, BATCH)))
    if not part:
        return None
    ids = tuple([transcript.id for transcript in part])
    if len(set(ids)) < len(ids):
        part = [transcript for n, transcript in enumerate(part) if transcript.id not in ids[:n]]
        ids = tuple([transcript.id for transcript in part])
    before, rows, wires = masks.seen, make(part), {t.id: t.kept_wire.pack() for t in part if t.kept_wire is not None}
    return _Part(ids, rows, wires, masks.seen - before + sum(map(len, wires.values())))


def _data(part: list[Transcript], masks: Masks) -> list[dict[str, Any]]:
    rows = [redacted(to_row(transcript), masks.redactor) for transcript in part]
    for row in rows:
        masks.seen += sum(len(value if isinstance(value, (str, bytes)) else str(value)) for value in row.values() if value)
    return rows


def _write(connection: sa.Connection, parts: Iterable[_Part], inserting: Inserting) -> int:
    """Writes those whose ids are not there yet, behind all others in the order of arrival; how many."""
    now, written = time.time(), 0
    if connection.dialect.name != "sqlite":
        for part in parts:
            known = _known(connection, part.ids)
            rows = [row for row in part.rows if row["id"] not in known]
            if rows:
                put_many(connection, rows, now)
            written += len(rows)
            _put_wires(connection, part, known)
        return written
    driver: Any = connection.connection.driver_connection
    first, known = next_place(connection), set()
    for part in parts:
        is_tried = inserting.is_whole(part.rows) and not known  # what SQLite refuses is refused whole: most are all new
        known = set() if is_tried else _known(connection, part.ids)
        try:
            with in_its_words():
                written += inserting.insert(driver, part.rows, known, now, first + written)
        except sa.exc.DatabaseError as error:
            if not is_tried or _ANOTHER not in str(error.orig):
                raise
            known = _known(connection, part.ids)
            with in_its_words():
                written += inserting.insert(driver, part.rows, known, now, first + written)
        _put_wires(connection, part, known)
    if written:
        (postpone if written > FEW else enter)(connection, first, first + written - 1)
    return written


def _put_wires(connection: sa.Connection, part: _Part, known: set[str]) -> None:
    for id, packed in part.wires.items():
        if id not in known:
            put_wire(connection, id, packed)


def _known(connection: sa.Connection, ids: tuple[str, ...]) -> set[str]:
    between = sa.select(transcripts.c.id).where(transcripts.c.id.between(min(ids), max(ids))).limit(1)
    if connection.execute(between).first() is None:
        return set()
    return set(connection.execute(sa.select(transcripts.c.id).where(transcripts.c.id.in_(ids))).scalars())


class _Waiting:
    """Rows that can be written: in memory, or when they are much in a file without a name, beside the database."""

    def __init__(self, folder_of: Path | None) -> None:
        self.rows = 0
        self._folder = folder_of.parent if folder_of is not None else None
        self._held: list[_Part] = []
        self._file: IO[bytes] | None = None
        self._size = 0

    def add(self, part: _Part) -> None:
        """Some more."""
        self._held.append(part)
        self.rows += len(part.ids)
        self._size += part.size
        if self.rows * _ROW + self._size > _HELD:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, prefix=".ready-")  # noqa: SIM115 - closed by close
            with contextlib.suppress(ValueError):  # values that are like text and numbers, but are none: they stay in memory
                while self._held:
                    made = marshal.dumps(tuple(self._held[0]), _PLAIN)
                    self._file.write(len(made).to_bytes(8, "big") + made)
                    del self._held[0]

    def __iter__(self) -> Iterator[_Part]:
        if self._file is not None:
            self._file.seek(0)
            while size := self._file.read(8):
                made = self._file.read(int.from_bytes(size, "big"))
                yield _Part(*marshal.loads(made))  # noqa: S302 - written by nobody but us a moment ago
        yield from self._held

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()
