"""What servers, networks and users have done or may do: the run ends, the verdict is true, nothing leaks."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from pathlib import Path
from time import monotonic, process_time

import pytest
from jupyter_client.session import Session
from transport_support import tls_front

import tokenstream_magic as ts
from tokenstream_magic import api, asking
from tokenstream_magic.display.bundle import settled
from tokenstream_magic.display.inert import for_markdown, for_terminal
from tokenstream_magic.mock.script import Script, words
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.transcripts.store import Store
from tokenstream_magic.transport import http, loop

KEY = "sk-canary-abcdefghijklmnop"


def body_of(*messages: object, tail: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(m).encode() + b"\n\n" for m in messages) + tail


def text(content: object, **more: object) -> dict:
    return {"choices": [{"index": 0, "delta": {"content": content}, **more}]}


def test_a_stream_over_tls_is_stamped_and_stopped_like_any_other(mock: MockServer, tmp_path: Path, monkeypatch) -> None:
    mock.scripts["paced"] = Script(words("a b c d e f g h i j"), gap=0.03)
    with tls_front(mock.port, tmp_path) as (port, authority):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        http._tls.cache_clear()
        transcript = ts.stream("Hi", "paced", base_url=f"https://127.0.0.1:{port}/v1", idle_timeout=0.25)
        assert (transcript.outcome, transcript.text) == ("complete", "a b c d e f g h i j")
        assert transcript.timing.ttft_ms > 0
        assert transcript.timing.e2e_ms > 200
        assert len({stamp.read for stamp in transcript.timeline}) >= 5  # a busy machine may read two at once
        run = api.start("Hi", "endless", base_url=f"https://127.0.0.1:{port}/v1")
        exchange = mock.wait_for(2)
        run.stop()
        assert run.wait().timing.stop_latency_ms < 1000
        assert exchange.closed.wait(5)
        monkeypatch.delenv("SSL_CERT_FILE")
        http._tls.cache_clear()
        unknown = ts.stream("Hi", "hello", base_url=f"https://127.0.0.1:{port}/v1")
        assert unknown.error["type"] == "no_connection"
        assert "No secure connection" in unknown.error["message"]
    http._tls.cache_clear()


@pytest.mark.parametrize("tick", range(12))
def test_a_stop_at_any_tick_of_the_connecting_ends_the_run(mock: MockServer, tick: int) -> None:
    plan, asked = asking.prepare("Hi", "endless", base_url=mock.base_url)
    run = api.Run(plan, asking.describe(plan, asked))

    async def stop_after() -> None:
        for _ in range(tick):
            await asyncio.sleep(0)
        run.stop("button")

    run.start()
    loop.submit(stop_after()).result(5)
    assert run.future.result(5).outcome == "stopped"


@pytest.mark.parametrize("is_begun", [False, True])
def test_one_run_that_cannot_be_written_does_not_keep_the_others_from_it(mock: MockServer, caplog, is_begun: bool) -> None:
    writer = ts.transcripts.open_store().writer
    broken = api.start("Hi", "endless", base_url=mock.base_url)
    if is_begun:
        mock.wait_for(1)
        writer.flush()
    broken.transcript.tags = [object()]  # nothing that came in from outside: what cleaning cannot foresee
    mock.wait_for(1)
    fine = ts.stream("Hi", "hello", base_url=mock.base_url)
    broken.stop()
    broken.wait()
    writer.flush()
    assert ts.transcripts.get(fine.id).outcome == "complete"
    assert "cannot be saved" in caplog.text
    assert "Traceback" not in caplog.text
    assert any(said.startswith("not saved: ") for said in broken.transcript.diagnostics)
    assert writer._runs == {}


@pytest.mark.parametrize(
    "message",
    [
        {"model": "\ud800", "choices": []},
        {"id": "\0\ud83d", "choices": []},
        text("x", finish_reason="\udfff"),
        {"error": {"message": "\ud800 \0", "code": "\udead"}},
        {"timings": {"x": float("nan"), "y": float("inf")}, "choices": []},
        {"timings": json.loads("[" * 400 + "]" * 400) and {"deep": json.loads("[" * 400 + "]" * 400)}, "choices": []},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"id": "\ud800", "function": {"name": "\udfff", "arguments": "\ud83d"}}]}}]},
    ],
)
def test_unclean_server_values_are_kept_shown_and_sent_as_plain_data(mock: MockServer, message: dict) -> None:
    mock.scripts["unclean"] = Script(body=body_of(text("Hello"), message), content_type="text/event-stream")
    transcript = ts.stream("\ud800 Hi", "unclean", base_url=mock.base_url)
    assert transcript.outcome in ("complete", "failed", "truncated")
    assert transcript.text.startswith("Hello")
    assert Session().pack(list(settled(transcript)))
    kept = ts.transcripts.get(transcript.id)
    assert (kept.outcome, kept.text, kept.error) == (transcript.outcome, transcript.text, transcript.error)


def test_a_huge_choice_index_is_counted_and_costs_nothing(mock: MockServer) -> None:
    huge = {"choices": [{"index": 9007199254740990, "delta": {"content": "far"}}]}
    mock.scripts["huge"] = Script(body=body_of(text("Hello"), huge), content_type="text/event-stream")
    transcript = ts.stream("Hi", "huge", base_url=mock.base_url)
    assert len(transcript.choices) == 1
    assert "1 x unknown: choice index" in transcript.diagnostics


def test_hostile_bulk_takes_linear_time(mock: MockServer) -> None:
    calls = [{"id": f"call-{n}", "function": {"name": "f", "arguments": "{}"}} for n in range(20_000)]
    many = {"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}
    mock.scripts["calls"] = Script(body=body_of(many), content_type="text/event-stream")
    started = process_time()
    assert len(ts.stream("Hi", "calls", base_url=mock.base_url).tool_calls) <= 1024
    for payload in (
        "# " + "#" * 400_000 + "x",
        "```" + "a" * 400_000 + "`",
        "`" * 400_000,
        "**" * 200_000,
        "\x1b]" * 200_000,
        "- " * 200_000,
    ):
        for_markdown(payload)
        for_terminal(payload)
    assert process_time() - started < 20, "quadratic would take hours"


def test_a_corrupt_frame_is_never_complete(mock: MockServer) -> None:
    body = body_of(text("Take 5 "), tail=b"") + b'data: {"choices":[{"ind\n\n' + body_of(text(" please", finish_reason="stop"))
    mock.scripts["corrupt"] = Script(body=body, content_type="text/event-stream")
    transcript = ts.stream("Hi", "corrupt", base_url=mock.base_url)
    assert (transcript.outcome, transcript.text) == ("truncated", "Take 5  please")
    assert "could not be read" in transcript.diagnostics[0]


def test_a_long_answer_in_one_json_object_is_whole(mock: MockServer) -> None:
    answer = {"choices": [{"index": 0, "message": {"content": "x" * 300_000}, "finish_reason": "stop"}]}
    mock.scripts["long"] = Script(body=json.dumps(answer).encode(), content_type="application/json")
    transcript = ts.stream("Hi", "long", base_url=mock.base_url)
    assert (transcript.outcome, len(transcript.text)) == ("complete", 300_000)


@pytest.mark.parametrize("key", [f"{KEY}\nX-More: 1", f"{KEY}\r", "sk-schlüssel-abcdef", f"{KEY}\x00", f"two {KEY}"])
def test_a_key_that_is_no_key_is_refused_without_being_repeated(mock: MockServer, monkeypatch, key: str) -> None:
    import os

    monkeypatch.setattr(os, "environ", {**os.environ, "ODD_KEY": key})
    try:
        transcript = ts.stream("Hi", "hello", base_url=mock.base_url, api_key_env="ODD_KEY")
    except ts.TokenstreamError as error:
        assert "ODD_KEY" in str(error)
        assert "canary" not in str(error)
        assert "schl" not in str(error)
    else:  # white space around a key is not part of it
        assert transcript.outcome == "complete"
        assert key.strip() == KEY


def test_a_key_echoed_anywhere_is_masked_before_anything_is_cut(mock: MockServer, monkeypatch) -> None:
    monkeypatch.setenv("ECHO_KEY", KEY)
    error = {"error": {"message": "x" * 480 + KEY, "type": KEY, "code": KEY}, "model": KEY, "id": KEY, "system_fingerprint": KEY}
    for script in (
        Script(status=401, error="y" * 270 + KEY),
        Script(body=("z" * 290 + KEY).encode(), content_type="text/html"),
        Script(body=body_of(text("hi"), {**error, "timings": {KEY: KEY}}), content_type="text/event-stream"),
    ):
        mock.scripts["echo"] = script
        transcript = ts.stream("Hi", "echo", base_url=mock.base_url, api_key_env="ECHO_KEY")
        everything = json.dumps(settled(transcript), default=str) + repr(ts.transcripts.last())
        assert "canary" not in everything
    ts.transcripts.open_store().writer.flush()
    for file in Path(ts.transcripts.open_store().path).parent.iterdir():
        assert b"canary" not in file.read_bytes()


def test_limits_that_are_none_or_endless(mock: MockServer) -> None:
    stalled = ts.stream("Hi", "stall", base_url=mock.base_url, timeout=None, idle_timeout=0.3)
    assert (stalled.outcome, stalled.error["type"]) == ("truncated", "idle_timeout")
    assert ts.stream("Hi", "hello", base_url=mock.base_url, timeout=float("inf"), idle_timeout=None).outcome == "complete"


def test_reading_transcripts_does_not_wait_for_a_fast_stream(mock: MockServer) -> None:
    mock.scripts["fast"] = Script(words("word " * 5000), gap=0.001)
    run = api.start("Hi", "fast", base_url=mock.base_url)
    mock.wait_for(1)
    started = monotonic()
    ts.transcripts.last()
    took = monotonic() - started
    assert not run.future.done()
    run.stop()
    run.wait()
    assert took < 4


def test_two_kernels_that_open_at_once_recover_a_run_once(mock: MockServer, tmp_path: Path) -> None:
    path = ts.transcripts.open_store().path
    run = api.start("Hi", "endless", base_url=mock.base_url)
    mock.wait_for(1)
    while not sqlite3.connect(path).execute("SELECT count(*) FROM batches").fetchone()[0]:
        run.fold.text()
    ts.transcripts.open_store().writer.flush()
    ts.transcripts.open_store().writer._runs.clear()
    run.stop()
    run.wait()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE transcripts SET owner = NULL, updated_at = 0")
    opened: list[Store] = []
    threads = [threading.Thread(target=lambda: opened.append(Store(f"sqlite:///{path}"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = {store.get("last").text for store in opened}
    for store in opened:
        store.close()
    assert len(opened) == 6
    assert len(texts) == 1
    assert texts.pop().startswith("The lighthouse")


@pytest.mark.parametrize("url", ["postgresql+nonesuch://x/y", "mysql://127.0.0.1/x", "sqlite:////proc/none/x.db", "::::"])
def test_a_database_that_cannot_be_used_is_said_once_and_the_stream_goes_on(mock: MockServer, monkeypatch, caplog, tmp_path, url) -> None:
    monkeypatch.setenv("TOKENSTREAM_DATABASE", url.replace("{tmp}", str(tmp_path)) if "://" in url else "bad://" + url)
    for _ in range(2):
        assert ts.stream("Hi", "hello", base_url=mock.base_url).outcome == "complete"
    assert len([r for r in caplog.records if "Runs are not saved" in r.message]) <= 1
