"""The writer: runs to rows, on a thread of its own.

A run's pieces are gathered without a lock held over I/O and committed together, all runs in one transaction, at
most a tenth of a second after they arrived. A database that fails is reported once and tried again; the stream and
what is shown of it never wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tokenstream_magic.errors import one_line
from tokenstream_magic.run import Run
from tokenstream_magic.transcripts import owners
from tokenstream_magic.transcripts.schema import batches, to_row, transcripts

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.1
RETRY_SECONDS = 1.0


class _Pending:
    """What one run still has to have written."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.row: dict[str, Any] | None = to_row(run.transcript)
        self.inserted = False
        self.number = 0
        self.pieces: list[list[Any]] = []
        self.events_written = 0
        self.final: dict[str, Any] | None = None
        self.touched = time.monotonic()


@dataclass(slots=True)
class _Work:
    """What of one run goes into the next transaction."""

    pending: _Pending
    pieces: list[list[Any]]
    final: dict[str, Any] | None
    events: int = 0


class Writer:
    """A sink for every run that is kept."""

    def __init__(self, engine: sa.Engine) -> None:
        self.problem: str | None = None
        self._engine = engine
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._runs: dict[str, _Pending] = {}
        self._dirty = False
        self._urgent = False
        self._closing = False
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

    def state(self, run: Run, state: str, detail: Mapping[str, Any]) -> None:
        """States are not kept."""

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """A piece of text; written with the next batch."""
        with self._lock:
            pending = self._runs.get(run.id)
            if pending is not None:
                pending.pieces.append([channel, choice, text])
                self._wake()

    def end(self, run: Run) -> None:
        """The final transcript takes the place of its batches."""
        final = to_row(run.transcript)
        with self._lock:
            pending = self._runs.get(run.id)
            if pending is not None:
                pending.final = final
                self._wake(urgent=True)

    # any thread

    def flush(self, timeout: float = 5.0) -> None:
        """Waits until all that was told so far is written, or could not be; not for what comes meanwhile."""
        with self._lock:
            self._wake(urgent=True)
            asked = self._asked
            self._written.wait_for(lambda: self._seen_to >= asked, timeout)

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
                self._changed.wait_for(lambda: self._dirty or self._closing, timeout=owners.HEARTBEAT)
                if self._dirty and not self._urgent and not self._closing:
                    self._changed.wait_for(lambda: self._urgent or self._closing, timeout=BATCH_SECONDS)
                work, asked = self._take(), self._asked
                self._dirty = self._urgent = False
                closing = self._closing
            failed = self._write(work) if work else False
            with self._lock:
                self._seen_to = asked
                self._written.notify_all()
                if closing:
                    return
                if failed:
                    self._changed.wait(timeout=RETRY_SECONDS)
                    self._dirty = True

    def _write(self, work: list[_Work]) -> bool:
        """Writes what there is, all together or else run by run; True when some of it has to be tried again."""
        if self._commit(work) is None:
            self._written_now(work)
            return False
        failed = False
        for one in work:
            error = self._commit([one])
            if error is None:
                self._written_now([one])
            elif isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError, OSError)):
                self._put_back(one, error)
                failed = True
            else:  # this run cannot be written at all: it must not keep the others from it
                log.error("the transcript %s cannot be saved: %s", one.pending.run.id, one_line(getattr(error, "orig", None) or error))
                with self._lock:
                    self._runs.pop(one.pending.run.id, None)
        if not failed:
            self.problem = None
        return failed

    def _take(self) -> list[_Work]:
        quiet = time.monotonic() - owners.HEARTBEAT
        work = []
        for pending in self._runs.values():
            if pending.row is not None or pending.pieces or pending.final is not None or pending.touched < quiet:
                work.append(_Work(pending, pending.pieces, pending.final))
                pending.pieces = []
        return work

    def _commit(self, work: list[_Work]) -> Exception | None:
        """Writes the work in one transaction; what went wrong, if anything did. Writing it twice does no harm."""
        stamp = time.time()
        try:
            with self._engine.begin() as connection:
                for one in work:
                    self._write_one(connection, one, stamp)
        except Exception as error:  # whatever a driver raises: the stream goes on
            return error
        return None

    def _write_one(self, connection: sa.Connection, work: _Work, stamp: float) -> None:
        pending, id = work.pending, work.pending.run.id
        of_run = transcripts.c.id == id
        row = work.final or pending.row
        if not pending.inserted and row is not None:
            connection.execute(transcripts.delete().where(of_run))
            owner = None if work.final else owners.this_process()
            connection.execute(transcripts.insert().values(**row, owner=owner, updated_at=stamp))
        elif work.final is not None:
            connection.execute(transcripts.update().where(of_run).values(**work.final, owner=None, updated_at=stamp))
        else:
            connection.execute(transcripts.update().where(of_run).values(updated_at=stamp))
        if work.final is not None:
            connection.execute(batches.delete().where(batches.c.transcript_id == id))
        elif work.pieces:
            timeline = pending.run.transcript.timeline
            work.events = len(timeline)
            key = {"transcript_id": id, "number": pending.number}
            connection.execute(batches.delete().where(batches.c.transcript_id == id, batches.c.number == pending.number))
            packed = timeline.pack(pending.events_written, work.events)
            connection.execute(batches.insert().values(**key, pieces=work.pieces, timeline=packed))

    def _written_now(self, work: list[_Work]) -> None:
        for one in work:
            pending = one.pending
            pending.inserted, pending.row, pending.touched = True, None, time.monotonic()
            if one.pieces and one.final is None:
                pending.number += 1
                pending.events_written = one.events
            if one.final is not None:
                with self._lock:
                    self._runs.pop(pending.run.id, None)

    def _put_back(self, work: _Work, error: Exception) -> None:
        if self.problem is None:
            self.problem = one_line(getattr(error, "orig", None) or error)
            log.warning("transcripts are not being saved: %s", self.problem)
        with self._lock:
            work.pending.pieces = work.pieces + work.pending.pieces
