"""Runs against the mock server: outcomes, limits, figures, and what never leaves the process."""

from __future__ import annotations

import os
import socket
import threading

import pytest

import tokenstream_magic as ts
from tokenstream_magic import api, asking
from tokenstream_magic.mock.script import Script, words
from tokenstream_magic.mock.server import MockServer


@pytest.mark.parametrize(
    ("script", "outcome", "kind"),
    [
        ("hello", "complete", None),
        ("no-terminator", "complete", None),
        ("no-finish", "truncated", None),
        ("cut", "truncated", "connection_lost"),
        ("reset", "truncated", "connection_lost"),
        ("error", "failed", "mock_error"),
        ("unauthorized", "failed", "mock_error"),
        ("page", "failed", "not_a_stream"),
        ("redirect", "failed", "redirect"),
    ],
)
def test_outcomes(mock: MockServer, script: str, outcome: str, kind: str | None) -> None:
    transcript = ts.stream("Hi", script, base_url=mock.base_url)
    assert transcript.outcome == outcome
    assert (transcript.error or {}).get("type") == kind
    assert ts.transcripts.last().outcome == outcome


def test_what_arrived_before_an_error_is_kept(mock: MockServer) -> None:
    transcript = ts.stream("Hi", "error", base_url=mock.base_url)
    assert transcript.text == "The lighthouse had been dark for"
    assert transcript.error["message"] == "the mock server was told to fail"


def test_the_first_token_limit_and_the_idle_limit(mock: MockServer) -> None:
    silent = ts.stream("Hi", "silent", base_url=mock.base_url, timeout=0.2)
    assert (silent.outcome, silent.error["type"]) == ("failed", "first_token_timeout")
    mock.scripts["pings"] = Script(words("one two three four"), stall_after=2, keep_alive=0.05)
    pings = ts.stream("Hi", "pings", base_url=mock.base_url, idle_timeout=0.4)
    assert (pings.outcome, pings.error["type"], pings.text) == ("truncated", "idle_timeout", "one two")
    assert pings.timeline.keep_alives >= 2


def test_an_idle_limit_shorter_than_the_first_token_limit_still_fires(mock: MockServer) -> None:
    mock.scripts["late"] = Script(words("one two three"), first=0.3, stall_after=1)
    late = ts.stream("Hi", "late", base_url=mock.base_url, timeout=30, idle_timeout=0.2)
    assert (late.outcome, late.error["type"], late.text) == ("truncated", "idle_timeout", "one")


def test_an_answer_in_one_json_object_is_taken_and_marked(mock: MockServer) -> None:
    body = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"All at once."},"finish_reason":"stop"}]}'
    mock.scripts["whole"] = Script(body=body, content_type="application/json")
    transcript = ts.stream("Hi", "whole", base_url=mock.base_url)
    assert (transcript.outcome, transcript.text) == ("complete", "All at once.")
    assert "instead of a stream" in transcript.diagnostics[0]


def test_figures_of_a_known_schedule(mock: MockServer) -> None:
    mock.scripts["paced"] = Script(words("a b c d e f g h i j"), reasoning=("hm",), first=0.1, gap=0.02)
    transcript = ts.stream("Hi", "paced", base_url=mock.base_url)
    timing, sent = transcript.timing, mock.exchanges[-1].sent
    arrived = [transcript.timeline.origin + stamp.offset_ns for stamp in transcript.timeline]
    assert len(arrived) == len(sent) == 11
    assert all(0 < at - was < 50e6 for at, was in zip(arrived, sent))
    assert timing.ttft_ms == pytest.approx(transcript.timeline.moments()["first_event"] + 100, abs=60)
    assert timing.ttfa_ms > timing.ttft_ms
    assert timing.chunks == 11
    assert transcript.usage.output_tokens == 11
    assert transcript.reasoning == "hm"
    assert timing.tpot_ms == pytest.approx((arrived[-1] - arrived[0]) / 10 / 1e6, rel=0.01)


def test_a_stop_before_anything_arrived(mock: MockServer) -> None:
    run = api.start("Hi", "silent", base_url=mock.base_url)
    exchange = mock.wait_for(1)
    assert run.stop("api")
    transcript = run.wait()
    assert exchange.closed.wait(5)
    assert (transcript.outcome, transcript.stop_cause, transcript.text) == ("stopped", "api", "")
    assert transcript.timing.stop_latency_ms is not None
    assert transcript.timing.ttft_ms is None


def test_a_stop_before_the_run_has_begun_sends_nothing(mock: MockServer) -> None:
    plan, asked = asking.prepare("Hi", "hello", base_url=mock.base_url)
    run = api.Run(plan, asking.describe(plan, asked))
    run.stop("api")
    run.start()
    assert run.wait().outcome == "stopped"
    assert mock.exchanges == []


def test_many_threads_stopping_end_in_one_record(mock: MockServer) -> None:
    run = api.start("Hi", "endless", base_url=mock.base_url)
    mock.wait_for(1)
    threads = [threading.Thread(target=run.stop, args=(cause,)) for cause in ("api", "button", "interrupt") * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.wait().stop_cause in ("api", "button", "interrupt")
    assert run.stop("api") is False
    assert ts.transcripts.last().stop_cause == run.transcript.stop_cause


def test_leaving_the_events_early_stops_the_run(mock: MockServer) -> None:
    for piece in ts.events("Hi", "endless", base_url=mock.base_url):
        assert piece.channel == "text"
        break
    assert mock.exchanges[-1].closed.wait(5)
    assert ts.transcripts.last().outcome == "stopped"


def test_stop_by_id_and_stop_all(mock: MockServer) -> None:
    runs = [api.start("Hi", "endless", base_url=mock.base_url) for _ in range(3)]
    mock.wait_for(3)
    assert ts.stop(runs[1].id) == [runs[1]]
    assert runs[1].wait().outcome == "stopped"
    assert set(ts.stop("all")) == {runs[0], runs[2]}
    assert {run.wait().stop_cause for run in runs} == {"api"}
    assert ts.running() == []


def test_a_redirect_is_never_followed_and_gets_no_request(mock: MockServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sink:
        sink.settimeout(0.3)
        target = f"http://127.0.0.1:{sink.getsockname()[1]}/v1"
        mock.scripts["away"] = Script(status=307, headers={"Location": target})
        os.environ["AWAY_KEY"] = "key-that-stays-here"
        try:
            transcript = ts.stream("Hi", "away", base_url=mock.base_url, api_key_env="AWAY_KEY")
        finally:
            del os.environ["AWAY_KEY"]
        assert target in transcript.error["message"]
        with pytest.raises(TimeoutError):
            sink.accept()


def test_proxy_variables_do_not_apply(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ts.stream("Hi", "hello", base_url=mock.base_url).outcome == "complete"


def test_an_error_that_echoes_the_key_is_redacted(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_KEY", "sk-echoed-back-to-you")
    mock.scripts["echo"] = Script(status=401, error="Incorrect API key provided: sk-echoed-back-to-you")
    transcript = ts.stream("Hi", "echo", base_url=mock.base_url, api_key_env="ECHO_KEY")
    assert transcript.error["message"] == "Incorrect API key provided: ***. Check the key in ECHO_KEY."
    assert "sk-echoed" not in repr(ts.transcripts.last().__dict__)


def test_a_sink_that_fails_does_not_disturb_the_run(mock: MockServer) -> None:
    class Broken:
        def begin(self, run):
            raise RuntimeError("no")

    run = api.start("Hi", "hello", base_url=mock.base_url, sinks=[Broken()])
    assert run.wait().text == "Hello there."


def test_a_stream_compressed_as_nothing_here_unpacks_is_refused_in_words(mock: MockServer) -> None:
    mock.scripts["br"] = Script(headers={"Content-Encoding": "br"})
    transcript = ts.stream("Hi", "br", base_url=mock.base_url)
    assert (transcript.outcome, transcript.error["type"]) == ("failed", "compressed")
    assert transcript.error["message"].startswith("The server compressed the stream (br) although asked not to. Turn compression off")
    assert mock.exchanges[-1].headers["accept-encoding"] == "identity"
