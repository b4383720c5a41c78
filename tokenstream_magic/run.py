"""Run: one stream from request to outcome.

A Run sends the request, folds the events of the answer into a Transcript and tells its sinks. It knows no sink by
name. Everything here happens on the stream thread, except :meth:`Run.start`, :meth:`Run.stop` and waiting, which
any thread may do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from time import monotonic_ns
from typing import Any, Protocol

from tokenstream_magic import catalog, farewell, slots
from tokenstream_magic.attempt import Attempt
from tokenstream_magic.endpoint import Endpoint
from tokenstream_magic.errors import TokenstreamError, one_line, redact
from tokenstream_magic.fold import Fold
from tokenstream_magic.plain import plain_text
from tokenstream_magic.plan import Plan, Report, Starter
from tokenstream_magic.proxies import passwords
from tokenstream_magic.record import Transcript
from tokenstream_magic.redaction import remember
from tokenstream_magic.transport import loop, retry
from tokenstream_magic.transport.seam import ExchangeError, Read
from tokenstream_magic.transport.watch import Watchdog
from tokenstream_magic.wire.events import Content, Event, Failure, Progress, Terminator, Verdict
from tokenstream_magic.wire.framing import FramingError, size
from tokenstream_magic.wire.kept import Tap
from tokenstream_magic.wire.masking import mask

__all__ = ["Plan", "Report", "Run", "Sink", "Starter"]

log = logging.getLogger(__name__)

_NOTE = 500


class Sink(Protocol):
    """Follows a Run, on the stream thread. A sink must not block; one that raises is left out from then on."""

    def begin(self, run: Run) -> None:
        """The run starts."""

    def state(self, run: Run, state: str, detail: Mapping[str, Any]) -> None:
        """What the run is doing: ``fetching``, ``starting``, ``waiting``, ``prefill``, ``streaming``, ``stopping``."""

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """A piece of text arrived, already in the transcript's timeline."""

    def end(self, run: Run) -> None:
        """The outcome is known and the transcript is final."""


class Run:
    """One request's life. ``transcript`` is final once ``future`` is done."""

    def __init__(self, plan: Plan, transcript: Transcript, sinks: Sequence[Sink] = ()) -> None:
        self.plan = plan
        self.transcript = transcript
        self.fold = Fold(transcript, plan.endpoint.think_tags)
        self.future: Future[Transcript] = Future()
        self.tap = Tap(plan.endpoint.protocol) if plan.wire else None
        self._sinks = list(sinks)
        self._task: asyncio.Task[Any] | None = None
        self._attempt: Attempt | None = None
        self._endpoint: Endpoint | None = None  # with its address, once that is known
        self._lock = threading.Lock()
        self._stop: tuple[str, int] | None = None
        self._expired: str | None = None
        self._decided = False
        self._secrets = [*([plan.endpoint.key.reveal()] if plan.endpoint.key is not None else []), *passwords(plan.endpoint.proxy)]
        remember(self._secrets)
        self._prefilled = -1
        self._watchdog = Watchdog(plan.limits, self._limit_passed)

    @property
    def id(self) -> str:
        """The transcript's id."""
        return self.transcript.id

    def start(self) -> Run:
        """Begins, on the stream thread."""
        loop.spawn(self._main())
        return self

    def wait(self) -> Transcript:
        """Blocks until the outcome is known."""
        return self.future.result()

    def stop(self, cause: str = "api") -> bool:
        """Ends the run from any thread: the connection is closed at once. Returns False when it has ended already.

        The first cause stays; stopping twice, or after the end, has no effect.
        """
        with self._lock:
            if self._decided:
                return False
            self._stop = self._stop or (cause, monotonic_ns())
        # also when a stop is already on its way: whatever swallowed the first cancellation must not swallow them all
        loop.get_loop().call_soon_threadsafe(self._end_now)
        return True

    def amended(self) -> None:
        """The transcript learned something after its end, such as when the text was shown: sinks that can take it are told. Any thread."""
        loop.get_loop().call_soon_threadsafe(self._amended)

    # on the stream thread from here on

    def _amended(self) -> None:
        if not self.future.done():  # it is part of what the sinks are told at the end
            return
        for sink in self._sinks:
            take: Callable[[Run], None] | None = getattr(sink, "amended", None)
            if take is not None:
                try:
                    take(self)
                except Exception:
                    log.exception("a sink could not take what came after the end")

    async def _main(self) -> None:
        with loop.hurry():
            await self._whole()
        if self._endpoint is not None:
            slots.left(self._endpoint)
            await self._look_after(self._endpoint)

    async def _look_after(self, endpoint: Endpoint) -> None:
        """Whether a server that was told to stop goes on generating, where it says so. Everybody has the outcome already."""
        timeline, headers = self.transcript.timeline, self._attempt.headers if self._attempt is not None else {}
        if self.transcript.outcome != "stopped" or timeline.requested is None or not slots.tells(endpoint, headers):
            return
        try:
            if await slots.watch(self.plan, endpoint, timeline):
                self._amended()
        except Exception:
            log.exception("a server could not be asked whether it still generates")

    async def _whole(self) -> None:
        self._task = asyncio.current_task()
        self._tell("begin")
        try:
            if self._stop is not None:
                raise asyncio.CancelledError
            self._watchdog.start()
            verdict = await self._stream()
        except asyncio.CancelledError:
            verdict = self._cut_short()
        except FramingError as error:
            verdict = self._broken(Failure(str(error), type="frame_too_large"))
        except ExchangeError as error:
            verdict = self._cut_short() if self._stop else self._broken(Failure(str(error), type=error.type))
        except TokenstreamError as error:
            verdict = Verdict("failed", str(error), Failure(str(error), type=error.type))
        except Exception as error:
            log.exception("a run ended in an unexpected error")
            reason = f"unexpected {type(error).__name__}: {one_line(error)}"
            verdict = self._broken(Failure(reason, type="internal"))
        try:
            self._decide()
            try:
                await self._leave()
            except (asyncio.CancelledError, Exception):
                log.exception("an answer could not be ended at its server")
            await self._keep_wire()
            self._settle(verdict)
        finally:  # whatever happened, nobody waits for ever
            if not self.future.done():
                self.future.set_result(self.transcript)

    async def _stream(self) -> Verdict:
        endpoint = self.plan.endpoint
        if self.plan.starter is not None:
            endpoint = await self.plan.starter(endpoint, self.report)
            self._secrets += [endpoint.key.reveal()] if endpoint.key is not None else []
            remember(self._secrets)
        self._endpoint = endpoint
        slots.arrived(endpoint)
        number = 0
        while True:
            self.check_stopped()
            self.report("waiting", {})
            self._attempt = attempt = Attempt(self, endpoint, number)
            if attempt.lasts:
                farewell.remember(self)
            try:
                verdict = await attempt.run()
            except ExchangeError as error:
                if error.type != "connection_lost" or self.fold.pieces or self._stop is not None:
                    raise
                verdict = Verdict("failed", str(error), Failure(str(error), type=error.type))
            number += 1
            wait = self._wait_before(number, verdict, attempt.headers)
            if wait is None:
                return verdict
            reason = verdict.failure.message if verdict.failure is not None else ""
            self.note(f"tried again after {wait:.1f} s: {reason}")
            await self._leave()
            await self.pause(wait, number, reason)

    def _wait_before(self, attempt: int, verdict: Verdict, headers: Mapping[str, str]) -> float | None:
        """Seconds to wait for another attempt; None where none may help, once anything arrived, and beyond what a reader would wait."""
        failure = verdict.failure
        if failure is None or self.fold.pieces or attempt > self.plan.limits.retries:
            return None
        if failure.type != "connection_lost" and not retry.is_passing(failure.status, failure.type, headers):
            return None
        wait = retry.wait_before(attempt, headers)
        if wait is None:
            failure.message += f" The server asks to wait longer than {retry.LONGEST:.0f} s."
        return wait

    def read_out(self, verdict: Verdict) -> None:
        """The answer was read to its end: it is not stopped any more, even if a stop comes while the connection closes."""
        if verdict.failure is None or self.fold.pieces:
            self._decide()

    async def pause(self, seconds: float, number: int, reason: str) -> None:
        """A visible wait before trying again."""
        self.report("retrying", {"seconds": seconds, "attempt": number, "reason": self._clean(reason)[:200]})
        self._watchdog.allow(seconds)
        await asyncio.sleep(seconds)
        self.check_stopped()

    def note(self, text: str) -> None:
        """Keeps a diagnostic, keys masked."""
        self.transcript.diagnostics.append(self._clean(text)[:_NOTE])

    def take(self, events: list[Event], read: Read) -> bool:
        """Folds events in; False when nothing after them belongs to this answer."""
        for event in events:
            kind = type(event)
            if kind in Content:
                if self.fold.pieces == 0:
                    self.report("streaming", {})
                self._watchdog.content(read.at)
                for channel, text, choice in self.fold.content(event, read.at, read.number):
                    self._tell("content", channel, text, choice)
                limit = self.plan.limits.tokens
                if limit is not None and self.fold.pieces >= limit:
                    self._limit("limit:tokens")
            elif kind is Progress:
                self._prefill(event)  # type: ignore[arg-type]
            else:
                self.fold.fact(event, read.at)
                if kind is Terminator:
                    return False
        return True

    def _prefill(self, event: Progress) -> None:
        """The server reads the prompt: progress when it is further than it was and nothing was answered; else no more than a ping."""
        if event.done > self._prefilled and self.fold.pieces == 0:
            self._prefilled = event.done
            self.report("prefill", {"done": event.done, "total": event.total})

    # how it ends

    def _end_now(self) -> None:
        """Stop: the connection closes before anything else, then the task is unwound."""
        if self._task is None or self._decided:
            return
        if self._attempt is not None:
            self._attempt.abort()
        self._task.cancel()
        self.report("stopping", {})

    def check_stopped(self) -> None:
        """Goes no further once a stop or a watchdog has spoken, even if the cancellation got lost on its way here."""
        if self._stop is not None or self._expired is not None:
            raise asyncio.CancelledError

    def _limit_passed(self, name: str) -> None:
        if name == "time":
            self.stop("limit:time")
        else:
            self._expired = self._expired or name
            self._end_now()

    def _limit(self, cause: str) -> None:
        with self._lock:
            self._stop = self._stop or (cause, monotonic_ns())
        if self._attempt is not None:
            self._attempt.abort()
        raise asyncio.CancelledError

    def _cut_short(self) -> Verdict:
        if self._stop is not None:
            return Verdict("stopped")
        if self._expired == "first-token":
            failure = Failure(
                f"no token within {self.plan.limits.first_token:g} s; --timeout SECONDS waits longer", type="first_token_timeout"
            )
            return Verdict("failed", failure.message, failure)
        if self._expired == "idle":
            return self._broken(Failure(f"no progress for {self.plan.limits.idle:g} s (--idle-timeout)", type="idle_timeout"))
        return self._broken(Failure("the run was cancelled", type="cancelled"))

    def _broken(self, failure: Failure) -> Verdict:
        """What broke after content arrived is truncated; what broke before has failed."""
        return Verdict("truncated" if self.fold.pieces else "failed", failure.message, failure)

    def _decide(self) -> None:
        """The outcome is known: no stop and no limit changes it any more."""
        self._watchdog.end()
        with self._lock:
            self._decided = True

    async def _leave(self) -> None:
        """Ends at the server what goes on there without a connection; nothing to do for nearly every answer."""
        if self._attempt is not None:
            failed = await self._attempt.cancel_at_server()
            if failed is not None:
                self.note(failed)

    async def _keep_wire(self) -> None:
        """What the tap gathered becomes the transcript's, masked first: off this thread, where there is much of it."""
        if self.tap is None:
            return
        wire, secrets = self.tap.gathered(self.transcript.timeline.origin), [*self._secrets, *catalog.keys_in_use(self.plan.endpoint)]
        masking = asyncio.ensure_future(asyncio.to_thread(mask, wire, secrets))
        while not masking.done():
            with contextlib.suppress(asyncio.CancelledError):  # the outcome is known: nothing is stopped any more
                await asyncio.wait({masking})
        if masking.exception() is not None:  # what is not masked is not kept
            log.error("the wire could not be masked and is not kept", exc_info=masking.exception())
            self.note("the wire is not kept: it could not be masked")
            return
        if wire.left_out:
            self.note(f"the wire is kept up to {size(wire.size)}: {size(wire.left_out)} more came and are left out")
        self.transcript.kept_wire = wire

    def _settle(self, verdict: Verdict) -> None:
        stopped = self._stop if verdict.outcome == "stopped" else None
        for channel, text, choice in self.fold.rest():
            self._tell("content", channel, text, choice)
        self.fold.settle(verdict, stopped, self._secrets)
        self._tell("end")
        self.future.set_result(self.transcript)

    def _clean(self, text: str) -> str:
        return redact(one_line(plain_text(text)), self._secrets)

    # sinks

    def report(self, state: str, detail: Mapping[str, Any]) -> None:
        """Tells the sinks what the run is doing. Also counts as progress: a model being fetched is no stall."""
        if state != "stopping":
            self._watchdog.progress()
        self._tell("state", state, detail)

    def _tell(self, what: str, *details: Any) -> None:
        for sink in list(self._sinks):
            try:
                getattr(sink, what)(self, *details)
            except Exception:
                log.exception("a sink failed and is left out")
                self._sinks.remove(sink)
