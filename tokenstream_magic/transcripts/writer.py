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
from typing import Any

import sqlalchemy as sa

from tokenstream_magic.errors import one_line
from tokenstream_magic.run import Run
from tokenstream_magic.transcripts import owners
from tokenstream_magic.transcripts.schema import batches, to_row, transcripts

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.1


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
        self._busy = False
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

    def flush(self, timeout: float = 10.0) -> None:
        """Waits until all that was told so far is written, or could not be."""
        with self._lock:
            self._wake(urgent=True)
            self._written.wait_for(lambda: not (self._dirty or self._busy), timeout)

    def close(self) -> None:
        """Writes what is left and ends the thread."""
        with self._lock:
            self._closing = True
            self._wake(urgent=True)
        self._thread.join(timeout=10)

    def _wake(self, urgent: bool = False) -> None:
        self._dirty = True
        self._urgent = self._urgent or urgent
        self._changed.notify()

    # the writer's thread

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._dirty or self._closing, timeout=owners.HEARTBEAT)
                if self._dirty and not self._urgent and not self._closing:
                    self._changed.wait_for(lambda: self._urgent or self._closing, timeout=BATCH_SECONDS)
                work = self._take()
                self._dirty = self._urgent = False
                self._busy, closing = True, self._closing
            failed = self._commit(work) if work else False
            with self._lock:
                self._busy = False
                if not failed:
                    for pending, _pieces, final in work:
                        if final is not None:
                            self._runs.pop(pending.run.id, None)
                self._written.notify_all()
                if closing:
                    return
                if failed:
                    self._changed.wait(timeout=1.0)
                    self._dirty = True

    def _take(self) -> list[tuple[_Pending, list[list[Any]], dict[str, Any] | None]]:
        quiet = time.monotonic() - owners.HEARTBEAT
        work = []
        for pending in self._runs.values():
            if pending.row is not None or pending.pieces or pending.final is not None or pending.touched < quiet:
                work.append((pending, pending.pieces, pending.final))
                pending.pieces = []
        return work

    def _commit(self, work: list[tuple[_Pending, list[list[Any]], dict[str, Any] | None]]) -> bool:
        """Writes the work in one transaction; True when it failed and was put back."""
        stamp = time.time()
        numbers: list[tuple[_Pending, int]] = []
        try:
            with self._engine.begin() as connection:
                for pending, pieces, final in work:
                    row = final or pending.row
                    if not pending.inserted and row is not None:
                        owner = None if final else owners.this_process()
                        connection.execute(transcripts.insert().values(**row, owner=owner, updated_at=stamp))
                    elif final is not None:
                        of_run = transcripts.c.id == pending.run.id
                        connection.execute(transcripts.update().where(of_run).values(**final, owner=None, updated_at=stamp))
                    if final is not None:
                        connection.execute(batches.delete().where(batches.c.transcript_id == pending.run.id))
                        continue
                    if pieces:
                        numbers.append((pending, self._append(connection, pending, pieces)))
                    of_run = transcripts.c.id == pending.run.id
                    connection.execute(transcripts.update().where(of_run).values(updated_at=stamp))
        except Exception as error:  # whatever a driver raises: the stream goes on and the reader is told once
            self._put_back(work, error)
            return True
        self.problem = None
        for pending, _pieces, _final in work:
            pending.inserted, pending.row, pending.touched = True, None, time.monotonic()
        for pending, events in numbers:
            pending.number += 1
            pending.events_written = events
        return False

    def _append(self, connection: sa.Connection, pending: _Pending, pieces: list[list[Any]]) -> int:
        timeline = pending.run.transcript.timeline
        events = len(timeline)
        values = {
            "transcript_id": pending.run.id,
            "number": pending.number,
            "pieces": pieces,
            "timeline": timeline.pack(pending.events_written, events),
        }
        connection.execute(batches.insert().values(**values))
        return events

    def _put_back(self, work: list[tuple[_Pending, list[list[Any]], dict[str, Any] | None]], error: Exception) -> None:
        if self.problem is None:
            self.problem = one_line(getattr(error, "orig", None) or error)
            log.warning("transcripts are not being saved: %s", self.problem)
        with self._lock:
            for pending, pieces, _final in work:
                pending.pieces = pieces + pending.pieces
