"""A job: many runs one after the other, or a few at a time, that can be watched and stopped as one.

It has a thread of its own, so that neither the kernel nor the streams wait for what is done between two runs. A *lane*
is where runs happen: this process (:class:`Here`), or the workers of a cluster (:mod:`.cluster`).
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from time import monotonic
from typing import Any, Protocol

from tokenstream_magic import api, asking
from tokenstream_magic.display.progress import Counts, Progress
from tokenstream_magic.errors import TokenstreamError
from tokenstream_magic.experiments.grid import Item
from tokenstream_magic.record import Transcript
from tokenstream_magic.run import Run

log = logging.getLogger(__name__)

GRACE_SECONDS = 5.0
PARALLEL = "Runs beside each other on one machine disturb each other: their times are not those of each alone."

Ended = Callable[["Transcript | None"], None]
"""Told how a run ended; None when it never began or nothing of it came back."""


class Lane(Protocol):
    """Where runs happen. Used by the job's thread, except :meth:`stop`."""

    @property
    def width(self) -> int:
        """How many runs it takes at a time now."""

    def start(self, item: Item, ended: Ended) -> None:
        """Starts a run. Raises TokenstreamError when it cannot be."""

    def stop(self, cause: str) -> None:
        """Ends everything that runs, at once. Any thread."""

    def abandon(self) -> None:
        """Waits no longer for what has not come back after a stop."""

    def close(self) -> None:
        """The job is over."""


class Here:
    """Runs of this process, each with a connection and a clock of its own."""

    def __init__(self, width: int, tags: Callable[[Item], tuple[str, ...]], begin: Callable[[Item, Any], Run] | None = None) -> None:
        self.width = width
        self._tags = tags
        self._begin = begin or (lambda _, prepared: api.begin(prepared))
        self._lock = threading.Lock()
        self._runs: set[Run] = set()
        self._stopped: str | None = None

    def start(self, item: Item, ended: Ended) -> None:
        """Begins a run of a prepared cell."""
        prepared = item.cell.prepared
        assert prepared is not None
        run = self._begin(item, replace(prepared, tags=(*prepared.tags, *self._tags(item))))
        with self._lock:
            self._runs.add(run)
            stopped = self._stopped
        if stopped is not None:
            run.stop(stopped)

        def over(future: Future[Transcript]) -> None:
            with self._lock:
                self._runs.discard(run)
            ended(future.result())

        run.future.add_done_callback(over)

    def stop(self, cause: str) -> None:
        """Closes every connection."""
        with self._lock:
            self._stopped = cause
            running = list(self._runs)
        for run in running:
            run.stop(cause)

    def abandon(self) -> None:
        """A run always ends when it is stopped."""

    def close(self) -> None:
        """Nothing is left."""


class Job:
    """Works through ``phases`` of items, a phase after the other, and tells ``took`` of each run that ended."""

    def __init__(
        self, transcript: Transcript, phases: Sequence[Sequence[Item]], lane: Lane, took: Callable[[Item, Transcript], None]
    ) -> None:
        self.transcript = transcript
        """What stands for the job in a list of what is running."""
        self.future: Future[Transcript] = Future()
        self.stopped: str | None = None
        self._phases = [deque(phase) for phase in phases]
        self._lane = lane
        self._took = took
        self._news: queue.SimpleQueue[tuple[Item, Transcript | None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._counts = Counts(total=sum(len(phase) for phase in phases))
        self._progress: Progress | None = None

    @property
    def id(self) -> str:
        """The id of the sweep."""
        return self.transcript.id

    def start(self, progress: Progress | None = None) -> Job:
        """Begins; ``progress`` is told how far it is."""
        self._progress = progress
        context = contextvars.copy_context()  # the runs belong to the cell that started them
        api.register(self)
        threading.Thread(target=context.run, args=(self._main,), name="tokenstream-job", daemon=True).start()
        return self

    def wait(self) -> Transcript:
        """Blocks until it is over."""
        return self.future.result()

    def stop(self, cause: str = "api") -> bool:
        """Ends the whole: what runs is stopped at once, what has not begun never does. Any thread."""
        with self._lock:
            if self.future.done() or self.stopped is not None:
                return False
            self.stopped = cause
        if self._progress is not None:
            self._progress.stopping()
        try:
            self._lane.stop(cause)
        finally:
            self._news.put(None)
        return True

    def _main(self) -> None:
        began = monotonic()
        try:
            for phase in self._phases:
                self._work(phase, began)
        except BaseException as error:
            log.exception("a job ended in an unexpected error")
            self._lane.stop("api")
            self._lane.close()
            self.future.set_exception(error)
            return
        self._lane.close()
        self.transcript.outcome = "stopped" if self.stopped is not None else "complete"
        self.transcript.stop_cause = self.stopped
        self.future.set_result(self.transcript)

    def _work(self, waiting: deque[Item], began: float) -> None:
        flying = 0
        deadline: float | None = None
        while True:
            while waiting and flying < self._lane.width and self.stopped is None:
                flying += 1
                self._start(waiting.popleft())
            if not flying and (not waiting or self.stopped is not None):
                return
            if self.stopped is not None and deadline is None:
                deadline = monotonic() + GRACE_SECONDS
            try:
                # a lane may be empty for a while: the last worker of a cluster died and another is on its way
                news = self._news.get(timeout=max(0.0, deadline - monotonic()) if deadline is not None else 0.5 if not flying else None)
            except queue.Empty:
                if deadline is not None:
                    self._lane.abandon()
                    deadline = monotonic() + GRACE_SECONDS
                continue
            if news is None:
                continue
            flying -= 1
            item, transcript = news
            if transcript is None:
                continue
            self._took(item, transcript)
            self._counts.add(transcript.outcome, monotonic() - began)
            if self._progress is not None:
                self._progress.show(self._counts)

    def _start(self, item: Item) -> None:
        try:
            self._lane.start(item, lambda transcript: self._news.put((item, transcript)))
        except TokenstreamError as error:
            self._news.put((item, asking.refused(error, item.cell.model, item.cell.prompt.text)))
