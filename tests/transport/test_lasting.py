"""Answers that outlive their connection: ended at the server by Stop, gone on with where they broke off, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from time import monotonic

import pytest
from transport_support import Asked, Peer, chat, chunk, configure, head, reset, send

import tokenstream_magic as ts
from tokenstream_magic import api

KEY = "sk-lasting-abcdefghijkl"
WORDS = [f"word{n} " for n in range(30)]
TEXT = "".join(WORDS)


def events() -> list[bytes]:
    """A background response, an event a frame, numbered from 0."""
    messages: list[dict] = [{"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "model": "m"}}]
    messages += [{"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": w} for w in WORDS]
    messages += [{"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": []}}]
    return [
        f"event: {m['type']}\ndata: {json.dumps({**m, 'sequence_number': n})}\n\n".encode() for n, m in enumerate(messages)
    ]  # fmt: skip


class Server:
    """A server with lasting answers, in both kinds. Its connections break after as many bytes as ``cuts`` say, one after another."""

    def __init__(self, cuts: list[int], how: str = "reset", stall: bool = False) -> None:
        self.cuts, self.how, self.stall = list(cuts), how, stall
        self.cancelled = threading.Event()
        self.status = 200
        self.hang = False

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        assert asked.headers["authorization"] == f"Bearer {KEY}"
        path, _, query = asked.path.partition("?")
        named = dict(part.split("=") for part in query.split("&")) if query else {}
        if asked.method == "DELETE" or path.endswith("/cancel"):
            self.cancelled.set()
            if self.hang:
                await asyncio.sleep(60)
            await send(writer, head(self.status, "application/json", "Content-Length: 2"), b"{}")
            return
        if asked.method == "GET" and self.status != 200:
            await send(writer, head(self.status, "application/json", "Content-Length: 2"), b"{}")
            return
        if path.startswith("/v1/stream") or path.endswith("/chat/completions"):
            body = b"".join(chat(*WORDS))[int(named.get("from", "0")) :]
        else:
            body = b"".join(events()[int(named.get("starting_after", "-1")) + 1 :])
        await send(writer, head(200, "text/event-stream", "Transfer-Encoding: chunked"))
        if self.cuts:
            body = body[: self.cuts.pop(0)]
            await send(writer, chunk(body) if body else b"")
            if self.stall and not self.cuts:
                await asyncio.sleep(60)
            await asyncio.sleep(0.02)  # a reset must not overtake what was sent before it
            if self.how == "reset":
                reset(writer)
            elif self.how == "end":
                await send(writer, b"0\r\n\r\n")
            return
        await send(writer, chunk(body), b"0\r\n\r\n")


@pytest.fixture(params=["openai-responses", "openai-chat"])
def lab(request, monkeypatch):
    """Makes an endpoint ``lab`` with lasting answers at a peer."""
    monkeypatch.setenv("LAB_KEY", KEY)
    # no test waits for the pause before a resumption
    monkeypatch.setattr("tokenstream_magic.transport.retry._FIRST", 0.01)

    def at(peer: Peer) -> str:
        configure(
            f'[endpoints.lab]\nprotocol = "{request.param}"\nbase_url = "{peer.base_url}"\napi_key_env = "LAB_KEY"\nresumable = true\n'
        )
        return "lab/m"

    at.protocol = request.param
    return at


@pytest.mark.parametrize("how", ["reset", "close", "end"])
def test_an_answer_that_breaks_off_goes_on_where_it_was(lab, how: str) -> None:
    whole = b"".join(events() if lab.protocol == "openai-responses" else chat(*WORDS))
    named = lab.protocol == "openai-chat" or how != "end"  # a stream that ends well before the server named the answer is just empty
    for cut in ((1, 150) if named else ()) + (400, 401, len(whole) // 2, len(whole) - 1):
        server = Server([cut, 333], how)
        with Peer(server) as peer:
            transcript = ts.stream("Hi", lab(peer))
        assert (transcript.outcome, transcript.text) == ("complete", TEXT), (cut, transcript.error, transcript.diagnostics)
        again = [asked for asked in peer.asked if asked.method == "GET"]
        first_identified = lab.protocol == "openai-chat" or cut > 150
        enough = how == "end" and cut == len(whole) - 1  # a finish reason and a stream that ends well: nothing is missed
        assert again or not first_identified or enough
        if again and first_identified:
            assert sum(asked.method == "POST" and not asked.path.endswith("/cancel") for asked in peer.asked) == 1, "asked once"
            assert any("was resumed after" in note for note in transcript.diagnostics)
        assert len(transcript.timeline) == len(WORDS)


def test_the_gap_stays_a_gap_and_the_reads_count_on(lab, monkeypatch) -> None:
    monkeypatch.setattr("tokenstream_magic.transport.retry._FIRST", 0.4)
    with Peer(Server([1500])) as peer:
        transcript = ts.stream("Hi", lab(peer))
    assert transcript.text == TEXT
    gaps = transcript.timeline.gaps()
    assert max(gaps) >= 0.25e9
    stamps = list(transcript.timeline)
    assert [stamp.offset_ns for stamp in stamps] == sorted(stamp.offset_ns for stamp in stamps)
    assert len({stamp.read for stamp in stamps}) == 2
    moments = transcript.timeline.moments()
    assert 0 <= moments["headers"] <= moments["first_byte"] <= stamps[0].offset_ns / 1e6 + 0.01 < 300


def test_it_gives_up_after_the_tries_the_user_allows_and_keeps_what_came(lab) -> None:
    server = Server([1500, 0, 0, 0, 0, 0, 0], "close")
    with Peer(server) as peer:
        transcript = ts.stream("Hi", lab(peer), max_retries=3)
    assert (transcript.outcome, transcript.error["type"]) == ("truncated", "connection_lost")
    assert transcript.text
    assert TEXT.startswith(transcript.text)
    assert sum(asked.method == "GET" for asked in peer.asked) == 3
    assert server.cancelled.is_set(), "nobody reads it any more"
    with Peer(Server([1500], "close")) as peer:
        assert ts.stream("Hi", lab(peer), max_retries=0).outcome == "truncated"
        assert sum(asked.method == "GET" for asked in peer.asked) == 0


def test_a_server_that_flaps_for_ever_is_given_up(lab, monkeypatch) -> None:
    monkeypatch.setattr("tokenstream_magic.attempt.MOST_RESUMES", 4)
    with Peer(Server([400] * 50, "close")) as peer:
        transcript = ts.stream("Hi", lab(peer), max_retries=3)
    assert transcript.outcome == "truncated"
    assert sum(asked.method == "GET" for asked in peer.asked) == 4


def test_a_server_that_no_longer_knows_the_answer_is_not_asked_twice(lab) -> None:
    server = Server([1500], "close")
    server.status = 404
    with Peer(server) as peer:
        transcript = ts.stream("Hi", lab(peer))
    assert (transcript.outcome, transcript.error["type"]) == ("truncated", "connection_lost")
    assert "HTTP 404" in transcript.error["message"]
    assert sum(asked.method == "GET" for asked in peer.asked) == 1


def test_stop_closes_the_connection_first_and_then_asks_the_server_to_cancel(lab) -> None:
    server = Server([1500], stall=True)
    with Peer(server) as peer:
        run = api.start("Hi", lab(peer))
        asked = peer.wait_for(1)
        while not run.fold.pieces:
            pass
        run.stop("button")
        transcript = run.wait()
        cancelling = peer.wait_for(2)
        assert asked.gone.is_set(), "its connection was closed before the call went out"
    assert server.cancelled.is_set()
    expected = ("POST", "/v1/responses/resp_1/cancel") if lab.protocol == "openai-responses" else ("DELETE", "/v1/stream?conv_id=")
    assert cancelling.method == expected[0]
    assert cancelling.path.startswith(expected[1])
    assert (transcript.outcome, transcript.stop_cause) == ("stopped", "button")
    assert transcript.timing.stop_latency_ms < 100
    assert not any("cancel" in note for note in transcript.diagnostics)


@pytest.mark.parametrize(("status", "hang", "said"), [(500, False, "answered HTTP 500"), (200, True, "did not answer within 2 s")])
def test_a_cancel_that_fails_is_said_and_never_waited_for_long(lab, status: int, hang: bool, said: str) -> None:
    server = Server([1500], stall=True)
    server.status, server.hang = status, hang
    with Peer(server) as peer:
        run = api.start("Hi", lab(peer))
        asked = peer.wait_for(1)
        while not run.fold.pieces:
            pass
        started = monotonic()
        run.stop("button")
        assert asked.gone.wait(1), "the connection closes at once"
        transcript = run.wait()
        assert monotonic() - started < 3.5
    assert (transcript.outcome, transcript.timing.stop_latency_ms < 100) == ("stopped", True)
    assert f"the server was asked to cancel and {said}: it may go on generating" in transcript.diagnostics
    assert KEY not in repr(transcript.diagnostics)


def test_a_server_without_conversations_is_ended_by_the_closed_connection(lab) -> None:
    server = Server([1500], stall=True)
    server.status = 404
    with Peer(server) as peer:
        run = api.start("Hi", lab(peer))
        peer.wait_for(1)
        while not run.fold.pieces:
            pass
        run.stop()
        notes = run.wait().diagnostics
    told = any("HTTP 404: it may go on generating" in note for note in notes)
    assert told == (lab.protocol == "openai-responses")


def test_stop_works_while_it_waits_to_come_back(lab, monkeypatch) -> None:
    monkeypatch.setattr("tokenstream_magic.transport.retry._FIRST", 8.0)
    seen = threading.Event()

    class Watcher:
        def begin(self, run): ...
        def content(self, run, channel, text, choice): ...
        def end(self, run): ...
        def state(self, run, state, detail):
            if state == "retrying":
                assert "broke off" in detail["reason"]
                seen.set()

    server = Server([1500])
    with Peer(server) as peer:
        run = api.start("Hi", lab(peer), sinks=[Watcher()])
        assert seen.wait(10)
        started = monotonic()
        run.stop("button")
        transcript = run.wait()
        assert monotonic() - started < 2
    assert (transcript.outcome, server.cancelled.is_set()) == ("stopped", True)


def test_the_end_of_the_process_ends_the_answer_at_the_server(lab) -> None:
    code = "from tokenstream_magic import api; run = api.start('Hi', 'lab/m')\nwhile not run.fold.pieces: pass\nimport sys; sys.exit(0)"
    server = Server([1500], stall=True)
    with Peer(server) as peer:
        lab(peer)
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
        assert server.cancelled.wait(5)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_event_sent_again_is_not_taken_twice(lab) -> None:
    if lab.protocol != "openai-responses":
        pytest.skip("conversations are counted in bytes")

    class Early(Server):
        async def __call__(self, asked, writer):
            asked.path = asked.path.replace("starting_after", "ignored")
            await super().__call__(asked, writer)

    with Peer(Early([1500])) as peer:
        assert ts.stream("Hi", lab(peer)).text == TEXT


@pytest.mark.parametrize("protocol", ["openai-chat", "openai-responses", "anthropic", "ollama", "gemini"])
def test_without_being_asked_for_nothing_lasts(protocol: str, monkeypatch) -> None:
    async def cut(asked: Asked, writer: asyncio.StreamWriter) -> None:
        bodies = {"openai-chat": chat("a", "b", done=False), "openai-responses": events()[:5]}
        anthropic = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}\n\n'
        )
        gemini = b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\n\n'
        ollama = b'{"message":{"content":"a"},"done":false}\n'
        more = {"anthropic": [anthropic], "gemini": [gemini], "ollama": [ollama]}
        kind = "application/x-ndjson" if protocol == "ollama" else "text/event-stream"
        await send(writer, head(200, kind, "Transfer-Encoding: chunked"), *map(chunk, {**bodies, **more}[protocol]))
        writer.close()

    with Peer(cut) as peer:
        configure(f'[endpoints.lab]\nprotocol = "{protocol}"\nbase_url = "{peer.base_url}"\n')
        transcript = ts.stream("Hi", "lab/m")
        assert (transcript.outcome, len(peer.asked)) == ("truncated", 1), transcript.error
        assert "x-conversation-id" not in peer.asked[0].headers
        assert b"background" not in peer.asked[0].body
