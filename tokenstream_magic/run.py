"""Run: one stream from request to outcome.

A Run sends the request, folds the events of the answer into a Transcript and tells its sinks. It knows no sink by
name. Everything here happens on the stream thread, except :meth:`Run.start`, :meth:`Run.stop` and waiting, which
any thread may do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any, Protocol

from tokenstream_magic.catalog import Endpoint
from tokenstream_magic.errors import TokenstreamError, one_line
from tokenstream_magic.fold import Fold
from tokenstream_magic.record import Transcript
from tokenstream_magic.transport import loop, retry
from tokenstream_magic.transport.http import Call, Exchange, ExchangeError, Read
from tokenstream_magic.transport.watch import Limits, Watchdog
from tokenstream_magic.wire.events import Content, Event, Failure, Progress, Terminator, Verdict
from tokenstream_magic.wire.failures import failure_of_response
from tokenstream_magic.wire.framing import FRAME_LIMIT, FramingError
from tokenstream_magic.wire.protocols import PROTOCOLS, Framing, StreamDecoder

log = logging.getLogger(__name__)

ERROR_LIMIT = 64 * 1024
STREAM_TYPES = ("text/event-stream", "application/x-ndjson", "application/ndjson", "application/jsonl")

Report = Callable[[str, Mapping[str, Any]], None]
"""Tells what goes on before the request: a state and its details."""

Starter = Callable[[Endpoint, Report], Awaitable[Endpoint]]
"""Makes an endpoint reachable (starts a server, fetches a model) and returns it with its address."""


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


@dataclass(frozen=True)
class Plan:
    """What to run: an endpoint, a model on it, messages, request options, limits."""

    endpoint: Endpoint
    model: str
    messages: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    starter: Starter | None = None

    def call(self, endpoint: Endpoint | None = None) -> Call:
        """The HTTP request, key included."""
        endpoint = endpoint or self.endpoint
        protocol = PROTOCOLS[endpoint.protocol]
        request = protocol.request(self.model, self.messages, {**endpoint.body, **self.options})
        headers = dict(request.headers)
        if endpoint.key is not None:
            headers.update(protocol.authorization(endpoint.key.reveal()))
        return Call(endpoint.base_url + request.path, headers, request.body, endpoint.socket)


class Run:
    """One request's life. ``transcript`` is final once ``future`` is done."""

    def __init__(self, plan: Plan, transcript: Transcript, sinks: Sequence[Sink] = ()) -> None:
        self.plan = plan
        self.transcript = transcript
        self.fold = Fold(transcript)
        self.future: Future[Transcript] = Future()
        self._sinks = list(sinks)
        self._task: asyncio.Task[Any] | None = None
        self._exchange: Exchange | None = None
        self._lock = threading.Lock()
        self._stop: tuple[str, int] | None = None
        self._expired: str | None = None
        self._read_out = False
        self._settled = False
        self._headers: dict[str, str] = {}
        self._watchdog = Watchdog(plan.limits, self._limit_passed)

    @property
    def id(self) -> str:
        """The transcript's id."""
        return self.transcript.id

    def start(self) -> Run:
        """Begins, on the stream thread."""
        loop.submit(self._main())
        return self

    def wait(self) -> Transcript:
        """Blocks until the outcome is known."""
        return self.future.result()

    def stop(self, cause: str = "api") -> bool:
        """Ends the run from any thread: the connection is closed at once. Returns False when it has ended already.

        The first cause stays; stopping twice, or after the end, has no effect.
        """
        with self._lock:
            if self._settled:
                return False
            self._stop = self._stop or (cause, monotonic_ns())
        # also when a stop is already on its way: whatever swallowed the first cancellation must not swallow them all
        loop.get_loop().call_soon_threadsafe(self._end_now)
        return True

    # on the stream thread from here on

    async def _main(self) -> None:
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
            self._settle(verdict)
        finally:  # whatever happened, nobody waits for ever
            if not self.future.done():
                self.future.set_result(self.transcript)

    async def _stream(self) -> Verdict:
        endpoint = self.plan.endpoint
        if self.plan.starter is not None:
            endpoint = await self.plan.starter(endpoint, self.report)
        attempt = 0
        while True:
            self._headers = {}
            try:
                verdict = await self._attempt(endpoint)
            except ExchangeError as error:
                if error.type != "connection_lost" or self.fold.pieces or self._stop is not None:
                    raise
                verdict = Verdict("failed", str(error), Failure(str(error), type=error.type))
            attempt += 1
            if not await self._may_retry(verdict, attempt):
                return verdict

    async def _attempt(self, endpoint: Endpoint) -> Verdict:
        """Sends the request once and reads the answer to its end."""
        self._check_stopped()
        self.report("waiting", {})
        timeline = self.transcript.timeline
        timeline.first_byte = timeline.first_event = timeline.requested = None
        protocol = PROTOCOLS[endpoint.protocol]
        decoder = protocol.Decoder()
        self._exchange = exchange = Exchange()
        try:
            async with exchange.opened(self.plan.call(endpoint)):
                self._note_headers(exchange)
                self._check_stopped()
                if exchange.response.status_code != 200 or exchange.content_type not in (*STREAM_TYPES, ""):
                    return await self._no_stream(exchange, decoder)
                encoding = exchange.response.headers.get("content-encoding", "identity")
                if encoding != "identity":
                    failure = Failure(f"the server compressed the stream ({encoding}) although asked not to", type="compressed")
                    return Verdict("failed", failure.message, failure)
                await self._read(exchange, protocol.FRAMING(), decoder)
                verdict = decoder.verdict()
                # what was read to its end is not stopped any more, even if a stop comes while the connection closes
                self._read_out = verdict.failure is None or bool(self.fold.pieces)
                return verdict
        finally:
            self._note_connection(exchange)

    async def _may_retry(self, verdict: Verdict, attempt: int) -> bool:
        """Waits for another attempt where one may help: before anything arrived, and within what a reader would wait."""
        failure = verdict.failure
        if failure is None or self.fold.pieces or attempt > self.plan.limits.retries:
            return False
        if failure.type != "connection_lost" and not retry.is_passing(failure.status, failure.type, self._headers):
            return False
        wait = retry.wait_before(attempt, self._headers)
        if wait is None:
            failure.message += f" The server asks to wait longer than {retry.LONGEST:.0f} s."
            return False
        self.transcript.diagnostics.append(f"tried again after {wait:.1f} s: {failure.message}")
        self.report("retrying", {"seconds": wait, "attempt": attempt, "reason": one_line(failure.message)[:200]})
        self._watchdog.allow(wait)
        await asyncio.sleep(wait)
        return True

    async def _read(self, exchange: Exchange, framing: Framing, decoder: StreamDecoder) -> None:
        timeline = self.transcript.timeline
        async for read in exchange.reads():
            self._check_stopped()
            if timeline.first_byte is None:
                timeline.first_byte = read.at
            for piece in framing.feed(read.data):
                if timeline.first_event is None:
                    timeline.first_event = read.at
                if not self._take(decoder.decode(piece), read):
                    return
        timeline.ended = monotonic_ns()
        last = Read(b"", timeline.ended, timeline.reads)
        for piece in framing.end():
            self._take(decoder.decode(piece), last)

    def _take(self, events: list[Event], read: Read) -> bool:
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
                self.report("prefill", {"done": event.done, "total": event.total})  # type: ignore[union-attr]
            else:
                self.fold.fact(event, read.at)
                if kind is Terminator:
                    return False
        return True

    async def _no_stream(self, exchange: Exchange, decoder: StreamDecoder) -> Verdict:
        """The response is no event stream: an error, a page, or an answer in one piece."""
        response = exchange.response
        whole = response.status_code == 200 and exchange.content_type == "application/json"
        body = await exchange.text(FRAME_LIMIT if whole else ERROR_LIMIT)
        self._check_stopped()
        arrived = exchange.stream.read_at if exchange.stream is not None else monotonic_ns()
        status = response.status_code
        if 300 <= status < 400:
            target = one_line(response.headers.get("location", "elsewhere"))
            failure = Failure(f"the server redirects to {target}; redirects are not followed", type="redirect", status=status)
            return Verdict("failed", failure.message, failure)
        if whole:
            try:
                events = decoder.whole(json.loads(body))
            except (ValueError, RecursionError):
                events = []
            if events:
                self.transcript.diagnostics.append("the server sent the whole answer at once instead of a stream")
                self._take(events, Read(b"", arrived, 1))
                return decoder.verdict()
        failure = failure_of_response(status, exchange.content_type, body)
        failure.message = f"{failure.message.rstrip('.')}. {self._advice(status)}".strip()
        return Verdict("failed", failure.message, failure)

    def _advice(self, status: int) -> str:
        """What to do about an HTTP status."""
        endpoint = self.plan.endpoint
        if status in (401, 403):
            variable = endpoint.api_key_env
            return f"Check the key in {variable}." if variable else "The server wants a key: name its variable with --api-key-env."
        return {
            404: f"Check the model name {self.plan.model!r} and the address.",
            429: "The server asks for fewer requests: wait and run the cell again.",
        }.get(status, "The server has a problem: try again later." if status >= 500 else "")

    def _note_headers(self, exchange: Exchange) -> None:
        timeline, stream = self.transcript.timeline, exchange.stream
        if stream is not None:
            timeline.requested, timeline.connected = stream.first_write_at, stream.opened_at
            timeline.headers = exchange.headers_at
        headers = exchange.response.headers
        self._headers = dict(headers)
        self.transcript.request_id = headers.get("x-request-id") or headers.get("request-id")

    def _note_connection(self, exchange: Exchange) -> None:
        stream, timeline = exchange.stream, self.transcript.timeline
        if stream is not None:
            timeline.requested = timeline.requested or stream.first_write_at
            timeline.connected = timeline.connected or stream.opened_at
            timeline.closed, timeline.reads = stream.closed_at, stream.reads

    # how it ends

    def _end_now(self) -> None:
        """Stop: the connection closes before anything else, then the task is unwound."""
        if self._task is None or self._read_out or self._settled:
            return
        if self._exchange is not None:
            self._exchange.abort()
        self._task.cancel()
        self.report("stopping", {})

    def _check_stopped(self) -> None:
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
        if self._exchange is not None:
            self._exchange.abort()
        raise asyncio.CancelledError

    def _cut_short(self) -> Verdict:
        if self._stop is not None:
            return Verdict("stopped")
        if self._expired == "first-token":
            failure = Failure(f"no token within {self.plan.limits.first_token:g} s", type="first_token_timeout")
            return Verdict("failed", failure.message, failure)
        if self._expired == "idle":
            return self._broken(Failure(f"no progress for {self.plan.limits.idle:g} s", type="idle_timeout"))
        return self._broken(Failure("the run was cancelled", type="cancelled"))

    def _broken(self, failure: Failure) -> Verdict:
        """What broke after content arrived is truncated; what broke before has failed."""
        return Verdict("truncated" if self.fold.pieces else "failed", failure.message, failure)

    def _settle(self, verdict: Verdict) -> None:
        self._watchdog.end()
        with self._lock:
            self._settled = True
        stopped = self._stop if verdict.outcome == "stopped" else None
        for channel, text, choice in self.fold.rest():
            self._tell("content", channel, text, choice)
        key = self.plan.endpoint.key
        self.fold.settle(verdict, stopped, [key.reveal()] if key is not None else [])
        self._tell("end")
        self.future.set_result(self.transcript)

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
