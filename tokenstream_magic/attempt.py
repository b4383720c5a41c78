"""Attempt: a request sent once, and its answer read to the end.

Mostly that is one exchange. Where the server goes on with an answer whose connection was lost, and only there, the
attempt comes back to the place it had reached: nothing is sent twice, nothing is lost or doubled, and the gap stays a gap
in the timeline. A stop, or giving up, ends such an answer at the server too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from time import monotonic_ns
from typing import Any, Protocol

from tokenstream_magic.answers import begins_stream, is_stream, read_whole
from tokenstream_magic.catalog import Endpoint
from tokenstream_magic.errors import TokenstreamError
from tokenstream_magic.plan import Plan
from tokenstream_magic.record import Transcript
from tokenstream_magic.transport import body, retry
from tokenstream_magic.transport.seam import Call, Exchange, ExchangeError, Read, media_type
from tokenstream_magic.wire.events import Event, Failure, Verdict
from tokenstream_magic.wire.framing import FRAME_LIMIT
from tokenstream_magic.wire.kept import Tap
from tokenstream_magic.wire.lasting import lasting
from tokenstream_magic.wire.protocols import PROTOCOLS, Framing

MOST_RESUMES = 20
CANCEL_PATIENCE = 2.0

_EARLY = "The server closed the stream before the answer's end."


class _NoWayBack(Exception):
    """The server does not go on with the answer."""


class Host(Protocol):
    """What an attempt needs of its Run."""

    @property
    def id(self) -> str:
        """The transcript's id."""

    plan: Plan
    transcript: Transcript
    tap: Tap | None

    def take(self, events: list[Event], read: Read) -> bool:
        """Folds events in; False when nothing after them belongs to this answer."""

    def check_stopped(self) -> None:
        """Raises CancelledError once a stop or a watchdog has spoken."""

    def read_out(self, verdict: Verdict) -> None:
        """The answer was read to its end."""

    def note(self, text: str) -> None:
        """Keeps a diagnostic, keys masked."""

    def report(self, state: str, detail: Mapping[str, Any]) -> None:
        """Tells what the run is doing."""

    async def pause(self, seconds: float, number: int, reason: str) -> None:
        """A visible wait before trying again."""


class Attempt:
    """Attempt number ``number`` (from 0) of a run. ``headers`` are those of the response, once there is one."""

    def __init__(self, host: Host, endpoint: Endpoint, number: int) -> None:
        timeline = host.transcript.timeline
        timeline.first_byte = timeline.first_event = timeline.requested = None
        protocol = PROTOCOLS[endpoint.protocol]
        self.headers: dict[str, str] = {}
        self._host = host
        self._number = number
        self._endpoint = endpoint
        self._request = host.plan.request(endpoint, f"tokenstream-{host.id}-{number}")
        self._decoder = protocol.Decoder()
        self._framing: Framing = protocol.FRAMING(endpoint.frame_limit or FRAME_LIMIT)
        self._lasting = lasting(self._request, self._decoder)
        self._exchange: Exchange | None = None
        self._reads = 0  # of the connections before this one
        self._bytes = 0
        self._sent = False
        self._over = False  # the server has nothing to go on with
        self._lost: str | None = None  # why the connection before was lost
        self._lost_at = 0

    @property
    def lasts(self) -> bool:
        """Whether the server goes on with the answer when the connection is gone."""
        return self._lasting is not None

    async def run(self) -> Verdict:
        """The verdict on the answer. Raises ExchangeError when it broke off and there is no way back."""
        call: Call | None = self._host.plan.call(self._endpoint, self._request)
        tries = resumes = 0
        while True:
            assert call is not None
            before, broken = self._bytes, None
            try:
                verdict = await self._one_exchange(call)
                if verdict is not None:
                    return verdict
                self._lost = _EARLY
            except _NoWayBack as error:
                raise ExchangeError(str(error), type="connection_lost") from None
            except ExchangeError as error:
                if error.type != "connection_lost" and (self._lost is None or error.type != "no_connection"):
                    raise
                broken, self._lost = error, error.message
            if tries == 0 or self._bytes > before:
                tries, self._lost_at = 0, monotonic_ns()
            tries, resumes = tries + 1, resumes + 1
            call = self._way_back() if tries <= self._host.plan.limits.retries and resumes <= MOST_RESUMES else None
            if call is None:
                if broken is not None:
                    raise broken
                return self._finish()
            await self._host.pause(retry.wait_before(tries, {}) or 0.0, tries, f"{self._lost} Going on where it broke off.")

    def abort(self) -> None:
        """Closes the connection now. On the loop thread only."""
        if self._exchange is not None:
            self._exchange.abort()

    async def cancel_at_server(self) -> str | None:
        """Ends a lasting answer at the server, if it may still go on there; returns what to tell when that did not work.

        Waits for at most two seconds; the connection of the answer is closed already.
        """
        if self._lasting is None or self._over or not self._sent:
            return None
        errand = self._lasting.cancel()
        if errand is None:
            return "the server had not named the answer yet and could not be asked to cancel it: it may go on generating"
        exchange = self._host.plan.client()

        async def asked() -> int:
            async with exchange.opened(self._host.plan.errand(self._endpoint, errand)):
                return exchange.status

        task = asyncio.ensure_future(asked())
        try:
            await asyncio.wait({task}, timeout=CANCEL_PATIENCE)
            if not task.done():
                said = f"did not answer within {CANCEL_PATIENCE:.0f} s"
            else:
                status = task.result()
                if self._lasting.is_over(status):
                    return None
                said = f"answered HTTP {status}"
        except TokenstreamError as error:
            said = f"could not be reached ({error.message.rstrip('.')})"
        finally:
            exchange.abort()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, TokenstreamError):
                await task
        return f"the server was asked to cancel and {said}: it may go on generating"

    def _way_back(self) -> Call | None:
        if self._lasting is None:
            return None
        errand = self._lasting.resume()
        return self._host.plan.errand(self._endpoint, errand) if errand is not None else None

    async def _one_exchange(self, call: Call) -> Verdict | None:
        """One connection's part of the answer: the verdict, or None when the server closed it in good order before the end."""
        host = self._host
        host.check_stopped()
        self._exchange = exchange = host.plan.client()
        if host.tap is not None:
            again = self._lasting is not None and self._lost is not None and not self._lasting.mid_frame
            host.tap.begin(self._number, call.verb, call.url, call.headers, renewed=again)
        try:
            async with exchange.opened(call):
                if host.tap is not None:
                    host.tap.sent(exchange.stamps.requested, getattr(exchange, "asked", None))
                    host.tap.answered(exchange.status, _pairs(exchange.headers))
                if self._lost is not None:
                    self._came_back(exchange)
                else:
                    self._note_headers(exchange)
                host.check_stopped()
                reads = body.reads(exchange)
                if host.tap is not None:
                    reads = _tapped(reads, host.tap, self._reads)
                if not is_stream(exchange):
                    first = await anext(reads, None)
                    reads = body.from_the_start(first, reads)
                    if not begins_stream(exchange, first):
                        return await self._no_stream(exchange, reads)
                    host.note(f"the server says the stream is {media_type(exchange)[:80]}")
                coding = body.encoding(exchange)
                if coding is not None:
                    host.note(f"the server compressed the stream ({coding[:40]}) although asked not to: compression may hold text back")
                if not await self._read(reads):
                    return None
                verdict = self._finish()
                host.read_out(verdict)
                return verdict
        finally:
            self._note_connection(exchange)

    async def _read(self, reads: AsyncIterator[Read]) -> bool:
        """Reads to the end of the body, or of the answer; False when a lasting answer has not come to its end with it."""
        host, timeline, framing, decoder = self._host, self._host.transcript.timeline, self._framing, self._decoder
        async for read in reads:
            host.check_stopped()
            read.number += self._reads
            self._bytes += len(read.data)
            if self._lasting is not None:
                self._lasting.received(len(read.data))
            if timeline.first_byte is None:
                timeline.first_byte = read.at
            for piece in framing.feed(read.data):
                if timeline.first_event is None:
                    timeline.first_event = read.at
                if not host.take(decoder.decode(piece), read):
                    self._over = True
                    return True
        return self._over or self._lasting is None or not self._is_open()

    def _is_open(self) -> bool:
        """Whether the answer goes on, as far as was decoded."""
        verdict = self._decoder.verdict()
        return verdict.outcome == "truncated" or (verdict.failure is not None and verdict.failure.type == "empty_stream")

    def _finish(self) -> Verdict:
        """The body is over: what it left unfinished still counts."""
        if not self._over:
            timeline = self._host.transcript.timeline
            timeline.ended = monotonic_ns()
            last = Read(b"", timeline.ended, self._reads + timeline.reads)
            for piece in self._framing.end():
                self._host.take(self._decoder.decode(piece), last)
        verdict = self._decoder.verdict()
        self._over = self._over or not self._is_open()
        return verdict

    def _came_back(self, exchange: Exchange) -> None:
        """The response to a resumption: the stream goes on, or the answer is lost. Raises _NoWayBack, or ExchangeError when it may come back yet."""
        if not is_stream(exchange):
            message = f"{self._lost} Going on where it broke off did not work: the server answered HTTP {exchange.status}."
            if retry.is_passing(exchange.status, None, exchange.headers):
                raise ExchangeError(message, type="connection_lost")
            raise _NoWayBack(message)
        assert self._lasting is not None
        if not self._lasting.mid_frame:
            self._framing = PROTOCOLS[self._endpoint.protocol].FRAMING(self._endpoint.frame_limit or FRAME_LIMIT)
        gap = (monotonic_ns() - self._lost_at) / 1e9
        self._host.note(f"the answer was resumed after {gap:.1f} s: {self._lost}")
        self._host.report("streaming", {})

    async def _no_stream(self, exchange: Exchange, reads: AsyncIterator[Read]) -> Verdict:
        """The response is no event stream."""
        host, endpoint = self._host, self._endpoint
        if host.tap is not None:
            host.tap.whole()
        found = await read_whole(exchange, reads, self._decoder, endpoint, host.plan.model)
        host.check_stopped()
        self._over = True
        if isinstance(found, Failure):
            return Verdict("failed", found.message, found)
        host.transcript.diagnostics.append("the server sent the whole answer at once instead of a stream")
        host.take(found, Read(b"", monotonic_ns(), 1))
        return self._decoder.verdict()

    def _note_headers(self, exchange: Exchange) -> None:
        transcript, stamps = self._host.transcript, exchange.stamps
        timeline = transcript.timeline
        timeline.requested, timeline.connected, timeline.headers = stamps.requested, stamps.connected, stamps.headers
        self.headers = {name.lower(): value for name, value in exchange.headers.items()}
        transcript.request_id = self.headers.get("x-request-id") or self.headers.get("request-id")

    def _note_connection(self, exchange: Exchange) -> None:
        timeline, stamps = self._host.transcript.timeline, exchange.stamps
        if self._host.tap is not None:
            self._host.tap.sent(stamps.requested, getattr(exchange, "asked", None))
        timeline.requested = timeline.requested or stamps.requested
        timeline.connected = timeline.connected or stamps.connected
        self._sent = self._sent or stamps.requested is not None
        if stamps.closed is not None:
            timeline.closed = stamps.closed
        self._reads += stamps.reads
        timeline.reads = self._reads


async def _tapped(reads: AsyncIterator[Read], tap: Tap, before: int) -> AsyncIterator[Read]:
    """The same reads, kept on their way; ``before``: those of the connections before this one."""
    async for read in reads:
        tap.take(read.data, read.at, before + read.number)
        yield read


def _pairs(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Headers in their order; those that are there several times too, where the client tells them apart."""
    several = getattr(headers, "multi_items", headers.items)
    return [(str(name), str(value)) for name, value in several()]
