"""Another HTTP client in httpx's place: h11 over plain asyncio streams, written to the seam and to nothing else of ours."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic_ns
from urllib.parse import urlsplit

import h11
import pytest
from transport_support import Peer, chat, chunk, head, reset, send

import tokenstream_magic as ts
from tokenstream_magic import asking
from tokenstream_magic.mock.script import Script, words
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.run import Run
from tokenstream_magic.transport.seam import Call, Exchange, ExchangeError, Read, Stamps


class PlainExchange:
    """The seam over ``asyncio.open_connection`` and h11."""

    def __init__(self) -> None:
        self.status, self.headers, self.stamps = 0, {}, Stamps()
        self._writer: asyncio.StreamWriter | None = None
        self._http = h11.Connection(h11.CLIENT)
        self._at = 0

    @asynccontextmanager
    async def opened(self, call: Call) -> AsyncIterator[PlainExchange]:
        parts = urlsplit(call.url)
        try:
            self._reader, self._writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        except OSError as error:
            raise ExchangeError(str(error), type="no_connection") from None
        try:
            body = b"" if call.body is None else json.dumps(call.body).encode()
            headers = {"Host": parts.netloc, "Content-Length": str(len(body)), "Connection": "close", **call.headers}
            asked = h11.Request(method=call.verb, target=parts.path, headers=list(headers.items()))
            self.stamps = Stamps(connected=monotonic_ns(), requested=monotonic_ns())
            self._writer.write(self._http.send(asked) + self._http.send(h11.Data(data=body)) + self._http.send(h11.EndOfMessage()))
            response = await self._next()
            self.status = response.status_code
            self.headers = {name.decode(): value.decode() for name, value in response.headers}
            self.stamps = self.stamps._replace(headers=self._at)
            yield self
        finally:
            self.abort()

    async def reads(self) -> AsyncIterator[Read]:
        while isinstance(event := await self._next(), h11.Data):
            yield Read(bytes(event.data), self._at, self.stamps.reads)

    def abort(self) -> None:
        if self._writer is not None and self.stamps.closed is None:
            self._writer.transport.abort()
            self.stamps = self.stamps._replace(closed=monotonic_ns())

    async def _next(self):
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(65536))
                self._at = monotonic_ns()
                self.stamps = self.stamps._replace(reads=self.stamps.reads + 1)
        except (OSError, h11.RemoteProtocolError) as error:
            raise ExchangeError(str(error), type="connection_lost") from None
        return event


def start(base_url: str, name: str, **flags) -> Run:
    plan, asked = asking.prepare("Hi", name, base_url=base_url, **flags)
    plan = replace(plan, client=PlainExchange)
    return Run(plan, asking.describe(plan, asked)).start()


def test_a_stream_runs_over_another_client(mock: MockServer) -> None:
    client: Exchange = PlainExchange()
    assert client.status == 0
    mock.scripts["paced"] = Script(words("a b c d e f"), gap=0.02)
    transcript = start(mock.base_url, "paced").wait()
    assert (transcript.outcome, transcript.text) == ("complete", "a b c d e f")
    assert len(transcript.timeline) == 6
    assert 80 < transcript.timing.e2e_ms < 1000
    assert transcript.timing.ttft_ms > 0


def test_stop_closes_the_other_clients_connection(mock: MockServer) -> None:
    run = start(mock.base_url, "stall")
    exchange = mock.wait_for(1)
    while len(run.transcript.timeline) < 8:
        pass
    run.stop("button")
    transcript = run.wait()
    assert exchange.closed.wait(5)
    assert (transcript.outcome, transcript.stop_cause) == ("stopped", "button")
    assert transcript.timing.stop_latency_ms < 100


@pytest.mark.parametrize("script", ["cut", "reset", "error", "unauthorized", "page", "redirect", "no-finish"])
def test_both_clients_come_to_the_same_verdict(mock: MockServer, script: str) -> None:
    ours, other = ts.stream("Hi", script, base_url=mock.base_url), start(mock.base_url, script).wait()
    assert (ours.outcome, (ours.error or {}).get("type"), ours.text) == (other.outcome, (other.error or {}).get("type"), other.text)


def test_our_client_is_imported_when_the_first_exchange_is_made() -> None:
    # httpx_sse, whose event the frames are, imports httpx: what counts is that our transport does not
    ours = ("tokenstream_magic.transport.http", "tokenstream_magic.transport.network")
    code = f"import sys, tokenstream_magic.run; print([m for m in {ours} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_other_client_retries_and_unpacks_like_ours() -> None:
    packer = zlib.compressobj(wbits=31)
    packed = [packer.compress(frame) + packer.flush(zlib.Z_SYNC_FLUSH) for frame in chat("one ", "two")] + [packer.flush()]

    async def answer(asked, writer):
        if len(peer.asked) == 1:
            reset(writer)
            return
        await send(
            writer,
            head(200, "text/event-stream", "Content-Encoding: gzip", "Transfer-Encoding: chunked"),
            *map(chunk, packed),
            b"0\r\n\r\n",
        )

    with Peer(answer) as peer:
        transcript = start(peer.base_url, "m").wait()
    assert (transcript.outcome, transcript.text) == ("complete", "one two")
    assert any("compressed the stream (gzip)" in note for note in transcript.diagnostics)
