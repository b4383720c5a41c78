"""The writer: runs to rows, on a thread of its own.

A run's pieces are gathered without a lock held over I/O and committed together, all runs in one transaction, at
most a tenth of a second after they arrived. A database that fails is reported once and tried again; the stream and
what is shown of it never wait. Keys are masked before anything is written.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from tokenstream_magic.errors import one_line
from tokenstream_magic.run import Run
from tokenstream_magic.timing.packing import encode
from tokenstream_magic.transcripts import behind, owners
from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.flowing import AT_ONCE, write_flowing
from tokenstream_magic.transcripts.pending import Pending, Work
from tokenstream_magic.transcripts.rows import put, put_wire, redacted, to_row
from tokenstream_magic.transcripts.schema import batches, transcripts
from tokenstream_magic.transcripts.spool import Spool
from tokenstream_magic.transcripts.trouble import PASSING, in_its_words, is_damaged, reason

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.1
RETRY_SECONDS = 1.0
CROWD, CROWD_SECONDS = 100, 0.18  # so many runs wait a little longer, and a killed kernel still loses no more than 250 ms
QUIET_SECONDS = 2.0  # after many rows were written at once: there may be more of them
TOGETHER = 250  # runs in one transaction: more would keep others from the database, and the garbage collector busy
ROWS_AT_ONCE = 5
BREATH = 0.002  # between so many runs: the stream thread gets the interpreter, which each of its reads has to ask for again

_AMENDED = transcripts.update().where(transcripts.c.id == sa.bindparam("of")).values(timeline=sa.bindparam("column"))


class Writer:
    """A sink for every run that is kept."""

    def __init__(self, database: Database, spool: Spool | None = None) -> None:
        self.problem: str | None = None
        self._database = database
        self._spool = spool
        self._away_until = 0.0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._runs: dict[str, Pending] = {}
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
        pending = Pending(run)
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
        try:
            final = redacted(to_row(run.transcript), pending.redactor)
        except Exception as error:
            self._give_up(pending, one_line(error))
            return
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
        column = encode(run.transcript.timeline)
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
    def _take(runs: list[Pending]) -> list[Pending]:
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

    def _write(self, pending: list[Pending]) -> bool:
        """Writes what there is, many runs together or else run by run; True when some of it has to be tried again."""
        for start in range(0, len(pending), TOGETHER):
            if start:
                time.sleep(BREATH)
            if self._write_together([Work(one, len(one.pieces), one.final) for one in pending[start : start + TOGETHER]]):
                return True
        self.problem = None
        return False

    def _write_together(self, work: list[Work]) -> bool:
        failed = False
        for one in work:
            one.pending.gather()
            self._dirty = self._dirty or bool(one.pending.tap and one.pending.tap.news)  # there was more of it than goes into a part
        for home in {id(home): home for home in map(self._home, work)}.values():
            mine = [one for one in work if self._home(one) is home]
            failed = self._write_to(home, mine) or failed
        return failed

    def _write_to(self, home: Database, work: list[Work]) -> bool:
        self._attempt(home.prepare)  # it may become another file
        generation = home.generation
        error = self._commit(home, work)
        if error is None and home.generation != generation:  # a reader met damage: this may have gone into the file it set aside
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
                self._give_up(one.pending, reason(error, home.url))
        return failed

    def _give_up(self, pending: Pending, why: str) -> None:
        log.error("the transcript %s cannot be saved: %s", pending.run.id, why)
        pending.run.transcript.diagnostics.append(f"not saved: {why}")
        self._forget(pending)

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

    def _home(self, work: Work) -> Database:
        """Where a run is written: where it is already, else the database, or the spool while that is away."""
        away = self._spool is not None and time.monotonic() < self._away_until
        if self._spool is not None and (away or work.pending.home is self._spool.database):
            return self._spool.database
        return self._database

    def _commit(self, home: Database, work: list[Work]) -> Exception | None:
        """Writes the work in one transaction; what went wrong, if anything did. Writing it twice does no harm."""
        stamp = time.time()

        def write() -> None:
            home.prepare()  # first: it may become another file, which these rows are not in
            flowing = [one for one in work if one.final is None and one.pending.is_in(home)]
            for number, one in enumerate(flowing):  # before others have to wait for the transaction
                if number and not number % AT_ONCE:
                    time.sleep(BREATH)
                one.make_ready(home)
            if home.is_sqlite and len(flowing) == len(work):  # ten times a second, and nothing else to do
                with home.directly() as direct:
                    lost = write_flowing(direct, flowing, stamp)
                if not lost:
                    return
            with home.writing() as connection:
                inner: Any = connection.connection.driver_connection if home.is_sqlite else connection
                with in_its_words():
                    gone = {id(one) for one in write_flowing(inner, flowing, stamp)}
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

    def _write_one(self, connection: sa.Connection, work: Work, stamp: float) -> None:
        """A run that has ended, or one that this database does not know."""
        pending, id = work.pending, work.pending.run.id
        work.passages, work.batch, work.signed = {}, False, True
        if work.final is not None:
            put(connection, work.final, None, stamp)
            if pending.run.transcript.kept_wire is not None:
                put_wire(connection, id, pending.wire_packed())
        else:
            work.events = len(pending.run.transcript.timeline)
            put(connection, pending.whole(work.grow(0), work.events), owners.this_process(), stamp)
        connection.execute(batches.delete().where(batches.c.transcript_id == id))
        work.parts = len(pending.wire_parts)
        if work.final is None and work.parts:
            connection.execute(batches.insert(), [part._asdict() for part in pending.parts_from(0)])

    def _written_now(self, home: Database, work: list[Work]) -> None:
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

    def _forget(self, pending: Pending) -> None:
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
