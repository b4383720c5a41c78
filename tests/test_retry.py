"""Trying again: only before anything arrived, only what passes, within what a reader would wait, and Stop meanwhile."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from time import monotonic

import pytest

import tokenstream_magic as ts
from tokenstream_magic import api
from tokenstream_magic.display.views import Quiet
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.transport.retry import is_passing, wait_before

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_statuses_that_pass(status: int) -> None:
    assert is_passing(status, None, {})
    assert not is_passing(status, None, {"x-should-retry": "false"})


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 307])
def test_statuses_that_stay(status: int) -> None:
    assert not is_passing(status, None, {})
    assert is_passing(status, None, {"x-should-retry": "true"})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=20), usegmt=True)}, 20.0),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "121"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": format_datetime(NOW + timedelta(days=1), usegmt=True)}, None),
    ],
)
def test_what_the_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_before(1, headers, NOW) == seconds


@pytest.mark.parametrize("value", ["-5", "nan", "inf", "soon", "", "Thu, 99 Foo", format_datetime(NOW - timedelta(days=1))])
def test_what_cannot_be_meant_is_a_backoff(value: str) -> None:
    assert 0.375 <= wait_before(1, {"retry-after": value}, NOW) <= 0.5


def test_the_backoff_doubles_up_to_a_limit() -> None:
    assert [round(max(wait_before(n, {}, NOW) for _ in range(400)), 1) for n in (1, 2, 3, 4, 5, 9)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


class Busy(dict):
    """Scripts of which the first ``times`` requests fail."""

    def __init__(self, failing: Script, times: int) -> None:
        super().__init__()
        self.failing, self.left = failing, times

    def get(self, name, default=None):
        self.left -= 1
        return self.failing if self.left >= 0 else Script()


def test_a_busy_server_is_asked_again_and_the_answer_is_whole(mock: MockServer) -> None:
    mock.scripts = Busy(Script(status=503, headers={"Retry-After": "0.05"}), 2)
    transcript = ts.stream("Hi", "x", base_url=mock.base_url)
    assert (transcript.outcome, transcript.text) == ("complete", "Hello there.")
    assert len(mock.exchanges) == 3
    assert [note[:11] for note in transcript.diagnostics] == ["tried again", "tried again"]
    assert transcript.timing.ttft_ms < 100, "measured from the attempt that was answered"


def test_a_server_that_stays_busy_is_given_up(mock: MockServer) -> None:
    mock.scripts = Busy(Script(status=429, headers={"Retry-After": "0.02"}), 99)
    assert ts.stream("Hi", "x", base_url=mock.base_url).error["status"] == 429
    assert len(mock.exchanges) == 3
    assert ts.stream("Hi", "x", base_url=mock.base_url, max_retries=0).outcome == "failed"
    assert len(mock.exchanges) == 4


def test_too_long_a_wait_is_said_and_not_waited(mock: MockServer) -> None:
    mock.scripts["x"] = Script(status=429, headers={"Retry-After": "900"})
    started = monotonic()
    transcript = ts.stream("Hi", "x", base_url=mock.base_url)
    assert monotonic() - started < 5
    assert "asks to wait longer than 120 s" in transcript.error["message"]


@pytest.mark.parametrize("script", ["error", "cut", "reset", "unauthorized", "page"])
def test_nothing_is_sent_twice_once_text_arrived_or_when_it_would_not_help(mock: MockServer, script: str) -> None:
    ts.stream("Hi", script, base_url=mock.base_url)
    assert len(mock.exchanges) == 1


def test_a_stop_during_the_wait_ends_it_at_once(mock: MockServer) -> None:
    mock.scripts["x"] = Script(status=503, headers={"Retry-After": "100"})
    told: list[dict] = []

    class Stopper(Quiet):
        def state(self, run, state, detail):
            if state == "retrying":
                told.append(dict(detail))
                run.stop("button")

    started = monotonic()
    transcript = api.start("Hi", "x", base_url=mock.base_url, sinks=[Stopper()]).wait()
    assert monotonic() - started < 5
    assert (transcript.outcome, transcript.stop_cause) == ("stopped", "button")
    assert told[0]["seconds"] == 100.0
    assert len(mock.exchanges) == 1
