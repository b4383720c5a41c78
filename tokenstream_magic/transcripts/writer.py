"""The writer: runs to rows, on a thread of its own.

A run's pieces are gathered without a lock held over I/O and committed together, all runs in one transaction, at
most a tenth of a second after they arrived. A database that fails is reported once and tried again; the stream and
what is shown of it never wait. Keys are masked before anything is written.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from tokenstream_magic import catalog
from tokenstream_magic.redaction import Passage, advance
from tokenstream_magic.run import Run
from tokenstream_magic.transcripts import behind, owners
from tokenstream_magic.transcripts.database import PASSING, Database, in_its_words, is_damaged, reason
from tokenstream_magic.transcripts.rows import TEXTS, put, put_wire, redacted, to_row
from tokenstream_magic.transcripts.schema import batches, to_json, transcripts
from tokenstream_magic.transcripts.spool import Spool
from tokenstream_magic.wire.parts_kept import Parts

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.1
RETRY_SECONDS = 1.0
SIGN_SECONDS = owners.HEARTBEAT / 5
CROWD, CROWD_SECONDS = 100, 0.18  # so many runs wait a little longer, and a killed kernel still loses no more than 250 ms
QUIET_SECONDS = 2.0  # after many rows were written at once: there may be more of them
TOGETHER = 250  # runs in one transaction: more would keep others from the database, and the garbage collector busy
AT_ONCE, ROWS_AT_ONCE = 50, 5
BREATH = 0.002  # between so many runs: the stream thread gets the interpreter, which each of its reads has to ask for again

_Key = tuple[str, int]
_Connection = sa.Connection | sqlite3.Connection
_AMENDED = transcripts.update().where(transcripts.c.id == sa.bindparam("of")).values(timeline=sa.bindparam("column"))
_SAME_BATCH = batches.delete().where(batches.c.transcript_id == sa.bindparam("of"), batches.c.number == sa.bindparam("at"))
_KEEP = (
    "INSERT OR REPLACE INTO batches (transcript_id, number, pieces, timeline)"
    " SELECT * FROM (SELECT ? AS id, ?, ?, ?) AS made WHERE EXISTS (SELECT 1 FROM transcripts WHERE transcripts.id = made.id)"
)


class _Batch(NamedTuple):
    """A row of its table."""

    transcript_id: str
    number: int
    pieces: Any
    timeline: bytes


class _Pending:
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
        self.passages: dict[_Key, Passage] = {}
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

    def parts_from(self, number: int) -> list[_Batch]:
        """The parts from number ``number`` on, as batches: their numbers are below zero."""
        id = self.run.id
        return [_Batch(id, -1 - place, [], part) for place, part in enumerate(self.wire_parts[number:], number)]

    def wire_packed(self) -> bytes:
        """The wire for its table, packed once, however often it has to be written."""
        kept = self.run.transcript.kept_wire
        if self.wire is None and kept is not None:
            self.wire = kept.pack()
        return self.wire or b""

    def whole(self, texts: Mapping[_Key, str], events: int) -> dict[str, Any]:
        """A row with all of this run so far in it, for a place that knows nothing of it yet."""
        row = to_row(self.run.transcript, events)
        row |= {name: texts.get((name, 0), "") for name in TEXTS}
        others = sorted({choice for _, choice in texts} - {0})
        row["choices"] = [{"index": 0}, *({"index": n, **{name: texts.get((name, n), "") for name in TEXTS}} for n in others)]
        row["outcome"] = "running"
        return redacted(row, self.redactor)


@dataclass(slots=True)
class _Work:
    """What of one run goes into the next transaction, and what is true of it once that is committed."""

    pending: _Pending
    upto: int
    final: dict[str, Any] | None
    events: int = 0
    parts: int = 0
    batch: bool = False
    signed: bool = False
    passages: dict[_Key, Passage] = field(default_factory=dict)
    batches: list[_Batch] = field(default_factory=list)


class Writer:
    """A sink for every run that is kept."""

    def __init__(self, database: Database, spool: Spool | None = None) -> None:
        self.problem: str | None = None
        self._database = database
        self._spool = spool
        self._away_until = 0.0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._runs: dict[str, _Pending] = {}
        self._amended: dict[str, bytes] = {}  # timelines that became known better after their row was written
        self._dirty = False
        self._urgent = False
        self._closing = False
        self._adding = 0  # how many threads write many rows at once
        self._behind_at: float | None = time.monotonic() + QUIET_SECONDS if database.is_sqlite else None
        self._written = threading.Condition(self._lock)
        self._asked = 0  # how often somebody had something to write, and how much of that was seen to
        self._seen_to = 0
        self._thread = threading.Thread(target=self._serve, name="tokenstream-store", daemon=True)
        self._thread.start()

    # Sink, on the stream thread

    def begin(self, run: Run) -> None:
        """A row exists from here on."""
        pending = _Pending(run)
        with self._lock:
            self._runs[run.id] = pending
            self._wake(urgent=True)
        if run.tap is not None:
            run.tap.follow(self._more)

    def state(self, run: Run, state: str, detail: Mapping[str, Any]) -> None:
        """States are not kept."""

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """A piece of text; written with the next batch."""
        pending = self._runs.get(run.id)
        if pending is not None:
            pending.pieces += (channel, choice, text)
            if not self._dirty:  # else the writer will look anyway: it says so before it looks
                with self._lock:
                    self._wake()

    def _more(self) -> None:
        """Something came over a wire that is kept."""
        if not self._dirty:
            with self._lock:
                self._wake()

    def end(self, run: Run) -> None:
        """The final transcript takes the place of its batches. What the reader should know of its keeping is added to it."""
        pending = self._runs.get(run.id)
        if pending is None:
            return
        before, pending.redactor.masked = pending.redactor.masked, 0
        final = redacted(to_row(run.transcript), pending.redactor)
        masked = pending.redactor.masked
        if masked or before:
            note = f"{max(masked, 1)} x masked in the saved transcript: text that looks like a key, or is one in use"
            run.transcript.diagnostics.append(note)
            final["diagnostics"] = [*final["diagnostics"], note]
        if self.problem is not None:
            run.transcript.diagnostics.append(f"not saved yet ({self.problem}); it is kept in memory and tried again")
        with self._lock:
            pending.final = final
            self._wake(urgent=True)

    def amended(self, run: Run) -> None:
        """The timeline knows more than it did at the end."""
        column = run.transcript.timeline.encode()
        with self._lock:
            self._amended[run.id] = column
            self._wake()

    # any thread

    @property
    def unsaved(self) -> int:
        """How many runs have something that is not written yet."""
        with self._lock:
            return sum(p.new or p.final is not None or p.written < len(p.pieces) for p in self._runs.values())

    def flush(self, timeout: float = 5.0) -> None:
        """Waits until all that was told so far is written, or could not be; not for what comes meanwhile."""
        if threading.current_thread() is self._thread or not self._thread.is_alive():
            return
        with self._lock:
            if not self._runs and not self._amended:  # a run is forgotten only once all of it is committed
                return
            self._wake(urgent=True)
            asked = self._asked
            self._written.wait_for(lambda: self._seen_to >= asked, timeout)

    @contextlib.contextmanager
    def others_wait(self) -> Iterator[None]:
        """While many rows are written at once nothing is entered for search and figures; a while afterwards it is."""
        with self._lock:
            self._adding += 1
        try:
            yield
        finally:
            with self._lock:
                self._adding -= 1
                if self._database.is_sqlite:
                    self._behind_at = time.monotonic() + QUIET_SECONDS
                    self._changed.notify()

    def close(self) -> None:
        """Writes what is left and ends the thread."""
        with self._lock:
            self._closing = True
            self._wake(urgent=True)
        self._thread.join(timeout=10)

    def _wake(self, urgent: bool = False) -> None:
        self._dirty = True
        self._asked += 1
        self._urgent = self._urgent or urgent
        self._changed.notify()

    # the writer's thread

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._dirty or self._closing, timeout=self._patience())
                if self._dirty and not self._urgent and not self._closing:
                    self._changed.wait_for(
                        lambda: self._urgent or self._closing, timeout=BATCH_SECONDS if len(self._runs) < CROWD else CROWD_SECONDS
                    )
                self._dirty = self._urgent = False
                runs, asked, closing = list(self._runs.values()), self._asked, self._closing
            work = self._take(runs)
            failed = self._write(work) if work else False
            self._amend()
            if not closing:
                self._enter_some()
            if self._spool is not None and time.monotonic() >= self._away_until:
                self._forward()
            if not self._runs:
                self._database.let_go()
                if self._spool is not None:
                    self._spool.database.let_go()
            with self._lock:
                self._seen_to = asked
                self._written.notify_all()
                if closing:
                    return
                if failed:
                    self._changed.wait(timeout=RETRY_SECONDS)
                    self._dirty = True

    def _patience(self) -> float:
        waiting = self._spool is not None and self._spool.has_any
        patience = RETRY_SECONDS if waiting else owners.HEARTBEAT
        return patience if self._behind_at is None or self._adding else min(patience, max(0.0, self._behind_at - time.monotonic()))

    def _enter_some(self) -> None:
        """A slice of what was written at once is made searched and counted, where nobody had to wait for it."""
        if self._behind_at is None or self._adding or time.monotonic() < self._behind_at:
            return
        if self._runs:  # what streams is written in time, which a slice would be in the way of
            self._behind_at = time.monotonic() + QUIET_SECONDS
            return
        more: list[bool] = []
        generation = self._database.generation
        error = self._attempt(lambda: more.append(behind.catch_up(self._database, slices=1)))
        if error is not None and self._database.read_only is None and is_damaged(error, self._database):
            damage = error
            error = self._attempt(lambda: self._database.mend(damage, generation))
        if error is None:
            self._behind_at = None if more == [True] else 0.0
        elif self._database.read_only is not None:
            self._behind_at = None
        else:
            log.info("transcripts are entered for search later: %s", reason(error, self._database.url))
            self._behind_at = time.monotonic() + owners.HEARTBEAT

    @staticmethod
    def _take(runs: list[_Pending]) -> list[_Pending]:
        """Those that have something to write."""
        quiet = time.monotonic() - owners.HEARTBEAT
        return [
            pending
            for pending in runs
            if pending.new
            or pending.written < len(pending.pieces)
            or pending.final is not None
            or pending.touched < quiet
            or pending.has_news
        ]

    def _write(self, pending: list[_Pending]) -> bool:
        """Writes what there is, many runs together or else run by run; True when some of it has to be tried again."""
        for start in range(0, len(pending), TOGETHER):
            if start:
                time.sleep(BREATH)
            if self._write_together([_Work(one, len(one.pieces), one.final) for one in pending[start : start + TOGETHER]]):
                return True
        self.problem = None
        return False

    def _write_together(self, work: list[_Work]) -> bool:
        failed = False
        for one in work:
            one.pending.gather()
            self._dirty = self._dirty or bool(one.pending.tap and one.pending.tap.news)  # there was more of it than goes into a part
        for home in {id(home): home for home in map(self._home, work)}.values():
            mine = [one for one in work if self._home(one) is home]
            failed = self._write_to(home, mine) or failed
        return failed

    def _write_to(self, home: Database, work: list[_Work]) -> bool:
        self._attempt(home.prepare)  # it may become another file
        generation = home.generation
        error = self._commit(home, work)
        if error is not None and home.is_passing_read_only(error):
            home.dispose()
            error = self._commit(home, work)
        if error is not None and is_damaged(error, home):
            damage = error
            error = self._attempt(lambda: home.mend(damage, generation)) or self._commit(home, work)
        if error is None:
            self._written_now(home, work)
            return False
        if self._spool is not None and home is self._database and isinstance(error, PASSING):
            self._go_away(error)
            return self._write_to(self._spool.database, work)
        failed = False
        for one in work:
            error = self._commit(home, [one])
            if error is None:
                self._written_now(home, [one])
            elif isinstance(error, PASSING):
                self._tell(error)
                failed = True
            else:  # this run cannot be written at all: it must not keep the others from it
                log.error("the transcript %s cannot be saved: %s", one.pending.run.id, reason(error, home.url))
                one.pending.run.transcript.diagnostics.append(f"not saved: {reason(error, home.url)}")
                self._forget(one.pending)
        return failed

    def _amend(self) -> None:
        """Writes what timelines learned after their end. It is no part of the answer: where it cannot be written it is given up."""
        with self._lock:
            ready = [id for id in self._amended if id not in self._runs]
            columns = [{"of": id, "column": self._amended.pop(id)} for id in ready]
        if not columns or time.monotonic() < self._away_until:
            return

        def write() -> None:
            with self._database.writing() as connection:
                connection.execute(_AMENDED, columns)

        error = self._attempt(write)
        if error is not None:
            log.info("when the text was shown is not saved: %s", reason(error, self._database.url))

    def _home(self, work: _Work) -> Database:
        """Where a run is written: where it is already, else the database, or the spool while that is away."""
        away = self._spool is not None and time.monotonic() < self._away_until
        if self._spool is not None and (away or work.pending.home is self._spool.database):
            return self._spool.database
        return self._database

    def _commit(self, home: Database, work: list[_Work]) -> Exception | None:
        """Writes the work in one transaction; what went wrong, if anything did. Writing it twice does no harm."""
        stamp = time.time()

        def write() -> None:
            home.prepare()  # first: it may become another file, which these rows are not in
            flowing = [one for one in work if one.final is None and one.pending.is_in(home)]
            self._make_ready(flowing, home)
            if home.is_sqlite and len(flowing) == len(work):  # ten times a second, and nothing else to do
                with home.directly() as direct:
                    lost = _write_flowing(direct, flowing, stamp)
                if not lost:
                    return
            with home.writing() as connection:
                inner: Any = connection.connection.driver_connection if home.is_sqlite else connection
                with in_its_words():
                    gone = {id(one) for one in _write_flowing(inner, flowing, stamp)}
                whole = [one for one in work if one.final is not None or not one.pending.is_in(home) or id(one) in gone]
                for number, one in enumerate(whole):
                    if number and not number % ROWS_AT_ONCE:
                        time.sleep(BREATH)
                    self._write_one(connection, one, stamp)

        return self._attempt(write)

    @staticmethod
    def _attempt(what: Callable[[], object]) -> Exception | None:
        try:
            what()
        except Exception as error:  # whatever a driver raises: the stream goes on
            return error
        return None

    def _write_one(self, connection: sa.Connection, work: _Work, stamp: float) -> None:
        """A run that has ended, or one that this database does not know."""
        pending, id = work.pending, work.pending.run.id
        work.passages, work.batch, work.signed = {}, False, True
        if work.final is not None:
            put(connection, work.final, None, stamp)
            if pending.run.transcript.kept_wire is not None:
                put_wire(connection, id, pending.wire_packed())
        else:
            work.events = len(pending.run.transcript.timeline)
            put(connection, pending.whole(self._grow(work, 0), work.events), owners.this_process(), stamp)
        connection.execute(batches.delete().where(batches.c.transcript_id == id))
        work.parts = len(pending.wire_parts)
        if work.final is None and work.parts:
            connection.execute(batches.insert(), [part._asdict() for part in pending.parts_from(0)])

    def _make_ready(self, work: list[_Work], home: Database) -> None:
        """Makes what came of runs whose rows are there into batches, before others have to wait for the transaction."""
        for number, one in enumerate(work):
            if number and not number % AT_ONCE:
                time.sleep(BREATH)
            pending, timeline = one.pending, one.pending.run.transcript.timeline
            one.passages, one.batch, one.batches = {}, one.upto > pending.written, []
            one.signed = pending.signed < time.monotonic() - SIGN_SECONDS
            if one.batch:
                one.events = len(timeline)
                pieces = [[channel, choice, text] for (channel, choice), text in self._grow(one, pending.written).items()]
                one.batches = [_Batch(pending.run.id, pending.number, pieces, timeline.pack(pending.events, one.events))]
            one.parts = len(pending.wire_parts)
            one.batches += pending.parts_from(pending.parts_written)
            if home.is_sqlite:
                one.batches = [made._replace(pieces=to_json(made.pieces)) for made in one.batches]

    @staticmethod
    def _grow(work: _Work, start: int) -> dict[_Key, str]:
        """The text from piece number ``start`` on, of each channel and choice, as far as it can be written."""
        pending = work.pending
        before = pending.passages if start else {}
        texts: dict[_Key, list[str]] = {}
        more = iter(pending.pieces[start : work.upto])
        for channel, choice, text in zip(more, more, more, strict=True):
            texts.setdefault((channel, choice), []).append(text)
        safe: dict[_Key, str] = {}
        for key, several in texts.items():
            grown = advance(pending.redactor, before.get(key, Passage()), "".join(several))
            work.passages[key] = grown.passage
            safe[key] = grown.text
        return safe

    def _written_now(self, home: Database, work: list[_Work]) -> None:
        for one in work:
            pending = one.pending
            pending.home, pending.generation, pending.new, pending.touched = home, home.generation, False, time.monotonic()
            pending.signed = pending.touched if one.signed else pending.signed
            pending.passages |= one.passages
            pending.number += one.batch
            pending.parts_written = one.parts
            if one.upto > pending.written or one.events:
                pending.written, pending.events = one.upto, one.events
            if one.final is not None:
                self._forget(pending)
            elif self._spool is not None and home is self._spool.database:
                self._spool.has_any = True
        if self._spool is not None and home is self._spool.database:
            self._spool.has_any = True

    def _forget(self, pending: _Pending) -> None:
        with self._lock:
            self._runs.pop(pending.run.id, None)

    def _tell(self, error: Exception) -> None:
        if self.problem is None:
            self.problem = reason(error, self._database.url)
            log.warning("transcripts are not being saved: %s", self.problem)

    # the spool

    def _go_away(self, error: Exception) -> None:
        assert self._spool is not None
        if not self._away_until:
            log.warning(
                "%s cannot be reached (%s); transcripts are kept in %s and brought there later.",
                self._database.name,
                reason(error, self._database.url),
                self._spool.database.name,
            )
        self._away_until = time.monotonic() + RETRY_SECONDS

    def _forward(self) -> None:
        assert self._spool is not None
        if not self._spool.has_any:
            self._away_until = 0.0
            return
        error = self._attempt(lambda: self._spool.forward(self._database))  # type: ignore[union-attr]
        if error is None:
            self._away_until = 0.0
        elif isinstance(error, PASSING):
            self._go_away(error)
        else:
            log.error(
                "transcripts in %s cannot be brought to the database: %s", self._spool.database.name, reason(error, self._database.url)
            )
            self._away_until = time.monotonic() + 10 * RETRY_SECONDS


# what is done ten times a second: of SQLite it is asked in its own words, which takes a fraction of building and keying a query


def _write_flowing(connection: _Connection, work: list[_Work], stamp: float) -> list[_Work]:
    """What came of runs whose rows are there, many with each statement. Returns those whose rows are there no more."""
    gone: list[_Work] = []
    for start in range(0, len(work), AT_ONCE):
        part = {one.pending.run.id: one for one in work[start : start + AT_ONCE]}
        signed = [id for id, one in part.items() if one.signed]
        made = [batch for one in part.values() for batch in one.batches]
        all_there = not signed or _sign(connection, signed, stamp)
        if (not made or _keep(connection, made)) and all_there:  # kept in any case: the others of this part have rows
            continue
        there = _there(connection, list(part))
        gone += [one for id, one in part.items() if id not in there]  # somebody deleted it, or the file is another one
    return gone


def _there(connection: _Connection, ids: list[str]) -> set[str]:
    """Those of the ids that have rows."""
    if isinstance(connection, sqlite3.Connection):
        found = connection.execute(f"SELECT id FROM transcripts WHERE id IN ({', '.join('?' * len(ids))})", ids)  # noqa: S608
        return {row[0] for row in found}
    return set(connection.execute(sa.select(transcripts.c.id).where(transcripts.c.id.in_(ids))).scalars())


def _sign(connection: _Connection, ids: list[str], stamp: float) -> bool:
    """A sign of life of runs; whether all of them have rows."""
    if isinstance(connection, sqlite3.Connection):
        signed = connection.executemany("UPDATE transcripts SET updated_at = ? WHERE id = ?", [(stamp, id) for id in ids])
        return signed.rowcount == len(ids)
    return connection.execute(transcripts.update().where(transcripts.c.id.in_(ids)).values(updated_at=stamp)).rowcount == len(ids)


def _keep(connection: _Connection, made: list[_Batch]) -> bool:
    """Writes batches of runs that have rows, in the place of those with their numbers; whether all of them have."""
    if isinstance(connection, sqlite3.Connection):
        return connection.executemany(_KEEP, made).rowcount == len(made)
    there = _there(connection, list({batch.transcript_id for batch in made}))
    kept = [batch for batch in made if batch.transcript_id in there]
    if kept:
        connection.execute(_SAME_BATCH, [{"of": batch.transcript_id, "at": batch.number} for batch in kept])
        connection.execute(batches.insert(), [batch._asdict() for batch in kept])
    return len(kept) == len(made)
