"""A sweep on the workers of a Dask cluster: each times its own runs on its own clock, the driver keeps what they say.

A worker gets the words, the model's name and the flags; the endpoint and its key it takes from its own configuration. At most
``width`` runs are on a worker at a time. What has ended is kept by the driver at once, so a worker that dies takes nothing
with it but what it was doing, which another one does again. Stop is a broadcast that closes every worker's sockets.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenstream_magic import api, asking
from tokenstream_magic.errors import BadRequest, TokenstreamError, one_line
from tokenstream_magic.experiments.grid import Item
from tokenstream_magic.experiments.job import Ended
from tokenstream_magic.prompt import Prompt
from tokenstream_magic.record import Transcript
from tokenstream_magic.run import Run

log = logging.getLogger(__name__)

ROUND_TRIPS = 8


@dataclass(frozen=True)
class Task:
    """What a worker is told: everything about one run but the endpoint's key and address."""

    sweep: str
    width: int
    prompt: Prompt
    model: str | None
    flags: Mapping[str, Any]
    tags: tuple[str, ...]


@dataclass
class Answer:
    """What comes back: ``transcript`` None means that the run never began. ``worker`` is its address in the cluster."""

    transcript: Transcript | None
    worker: str


# on a worker


@dataclass
class _Here:
    """The runs of this worker's process."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    running: dict[str, set[Run]] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    places: int = 0


_here = _Here()


def perform(task: Task) -> Answer:
    """One run, on a worker's thread. It waits while the worker has as many as it may."""
    from distributed import get_worker

    address = str(get_worker().address)
    with _here.changed:
        _here.changed.wait_for(lambda: task.sweep in _here.stopped or _here.places < task.width)
        if task.sweep in _here.stopped:
            return Answer(None, address)
        _here.places += 1
    try:
        return Answer(_run(task), address)
    finally:
        with _here.changed:
            _here.places -= 1
            _here.changed.notify_all()


async def halt(sweep: str, cause: str) -> int:
    """Stops what this worker runs of a sweep, and what it would begin from here on. How many it stopped.

    A coroutine, because that is what a broadcast does not wait for.
    """
    with _here.changed:
        _here.stopped[sweep] = cause
        running = list(_here.running.get(sweep, ()))
        _here.changed.notify_all()
    return sum(run.stop(cause) for run in running)


def wall_clock() -> int:
    """The wall clock of this machine, in ns."""
    return time.time_ns()


def _run(task: Task) -> Transcript:
    try:
        prepared = asking.ask(task.prompt, task.model, no_log=True, tag=task.tags, **task.flags)
        run = api.begin(prepared)
    except TokenstreamError as error:
        transcript = asking.refused(error, task.model, task.prompt.text)
        transcript.tags = list(task.tags)
    else:
        with _here.changed:
            _here.running.setdefault(task.sweep, set()).add(run)
            stopped = _here.stopped.get(task.sweep)
        if stopped is not None:
            run.stop(stopped)
        transcript = run.wait()
        with _here.changed:
            _here.running[task.sweep].discard(run)
    transcript.host = socket.gethostname()
    return transcript


# on the driver


class Workers:
    """The lane of a cluster. ``client`` is a ``dask.distributed.Client``; ``width`` is how many runs a worker has at a time."""

    def __init__(self, client: Any, sweep: str, width: int, tags: Callable[[Item], tuple[str, ...]]) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise BadRequest("A cluster needs Dask.", 'Install it: pip install "tokenstream-magic[experiments]".') from None
        if not isinstance(client, Client) or client.asynchronous:
            raise BadRequest("client is a dask.distributed.Client that is not asynchronous.", 'Example: Client("tcp://scheduler:8786").')
        if client.status != "running" or not client.nthreads():
            raise BadRequest("The cluster has no workers.", "Wait for them: client.wait_for_workers(1).")
        self._client = client
        self._sweep = sweep
        self._each = width
        self._tags = tags
        self._lock = threading.Lock()
        self._flying: dict[Any, tuple[str, Ended, Task]] = {}
        self._offsets: dict[str, float | None] = {}
        self._number = 0
        self._stopped: str | None = None
        for worker in client.nthreads():
            self._offset(worker)

    @property
    def width(self) -> int:
        """So many runs for each worker there is now."""
        return self._each * len(self._client.nthreads())

    def start(self, item: Item, ended: Ended) -> None:
        """Gives a run to the worker with the least to do. If that one dies, the cluster gives it to another."""
        cell = item.cell
        task = Task(self._sweep, self._each, cell.prompt, cell.model, cell.flags, self._tags(item))
        with self._lock:
            busy = Counter(worker for worker, _, _ in self._flying.values())
            worker = min(self._client.nthreads(), key=lambda address: (busy[address], address), default=None)
            self._number += 1
            key = f"tokenstream-{self._sweep}-{self._number}"
        chosen = {"workers": [worker], "allow_other_workers": True} if worker is not None else {}
        future = self._client.submit(perform, task, key=key, pure=False, **chosen)
        with self._lock:
            self._flying[future] = (worker or "", ended, task)
        future.add_done_callback(self._over)

    def stop(self, cause: str) -> None:
        """Every worker closes its connections now; those that do not answer are not waited for."""
        self._stopped = cause
        try:
            self._client.run(halt, self._sweep, cause, wait=False, on_error="ignore")
        except Exception:  # the scheduler may be gone; what does not come back is given up
            log.warning("The workers could not be told to stop.", exc_info=True)

    def abandon(self) -> None:
        """What has not come back is given up."""
        with self._lock:
            left, self._flying = dict(self._flying), {}
        if left:
            log.warning("%d runs did not come back from their workers after Stop and are given up.", len(left))
            self._client.cancel(list(left), force=True)
        for _, ended, _ in left.values():
            ended(None)

    def close(self) -> None:
        """Nothing stays on the cluster."""

    def _over(self, future: Any) -> None:
        """A run came back. On the client's thread for callbacks."""
        with self._lock:
            known = self._flying.pop(future, None)
        if known is None:
            return
        _, ended, task = known
        if future.cancelled():
            ended(None)
            return
        try:
            answer: Answer = future.result()
        except BaseException as error:
            ended(_lost(error, task))
            return
        finally:
            future.release()
        transcript = answer.transcript
        if transcript is not None:
            transcript.clock_offset_ms = self._offset(answer.worker)
        ended(transcript)

    def _offset(self, worker: str) -> float | None:
        """How much a worker's wall clock is ahead, in ms: by the quickest of some round trips, as NTP does (RFC 5905)."""
        if worker not in self._offsets:
            best: tuple[int, int] | None = None
            try:
                for _ in range(ROUND_TRIPS):
                    sent = time.time_ns()
                    there = self._client.run(wall_clock, workers=[worker])[worker]
                    back = time.time_ns()
                    if best is None or back - sent < best[0]:
                        best = back - sent, there - (sent + back) // 2
            except Exception:  # it may be gone already
                log.debug("the clock of %s could not be read", worker, exc_info=True)
            self._offsets[worker] = None if best is None else round(best[1] / 1e6, 3)
        return self._offsets[worker]


def _lost(error: BaseException, task: Task) -> Transcript:
    """The row of a run that could not be done there, or whose workers died of it."""
    reason = f"the worker failed: {type(error).__name__}: {one_line(error)[:300]}"
    transcript = asking.refused(TokenstreamError(reason, type="worker"), task.model, task.prompt.text)
    transcript.tags = list(task.tags)
    return transcript
