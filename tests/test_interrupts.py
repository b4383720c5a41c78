"""An interrupt of a call that blocks: whatever it strikes, the run is stopped, its view settled, and nobody held for ever."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tokenstream_magic import api, asking, interrupts, iterating
from tokenstream_magic.display import views
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.run import Run


def strike(*_: Any) -> None:
    signal.raise_signal(signal.SIGINT)


class Struck(views.Quiet):
    """A view in which an interrupt strikes, in the step named ``where``."""

    def __init__(self, where: str) -> None:
        self.where, self.settled = where, False

    def open(self, run: Run) -> None:
        if self.where == "open":
            strike()

    def wait(self, run: Run) -> None:
        if self.where == "wait":
            self.where = "nowhere"
            strike()
        run.wait()

    def settle(self, run: Run) -> None:
        if self.where == "settle":
            strike()
        self.settled = True


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert api.running() == []


def struck(mock: MockServer, monkeypatch: pytest.MonkeyPatch, where: str, script: str = "endless") -> tuple[Any, Struck]:
    view = Struck(where)
    monkeypatch.setattr(views, "choose", lambda: view)
    prepared = asking.ask("Go on.", script, base_url=mock.base_url, no_log=True)
    return api.answer(prepared, strike if where == "started" else lambda _: None), view


@pytest.mark.parametrize("where", ["open", "started", "wait"])
def test_an_interrupt_stops_the_run_wherever_it_strikes(mock: MockServer, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    transcript, view = struck(mock, monkeypatch, where)
    assert (transcript.outcome, transcript.stop_cause, view.settled) == ("stopped", "interrupt", True)


def test_an_interrupt_after_the_end_changes_nothing(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    transcript, view = struck(mock, monkeypatch, "settle", "hello")
    assert (transcript.outcome, view.settled) == ("complete", True)


def test_a_second_interrupt_gets_out_of_whatever_holds_the_first(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "BOUNCE_SECONDS", -1)
    held = Struck("nowhere")

    def hold(_: Run) -> None:
        strike()
        strike()
        pytest.fail("it is held")

    monkeypatch.setattr(held, "wait", hold)
    run = api.start("Go on.", "endless", base_url=mock.base_url, no_log=True)
    with pytest.raises(KeyboardInterrupt):
        api.blocked(run, held)
    assert run.wait().stop_cause == "interrupt"


def test_two_interrupts_at_once_are_one(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "BOUNCE_SECONDS", 1e9)
    twice = Struck("nowhere")
    monkeypatch.setattr(twice, "wait", lambda run: (strike(), strike(), run.wait()))
    run = api.start("Go on.", "endless", base_url=mock.base_url, no_log=True)
    api.blocked(run, twice)
    assert (run.transcript.outcome, run.transcript.stop_cause, twice.settled) == ("stopped", "interrupt", True)


def test_an_interrupt_that_finds_nothing_to_stop_is_raised_and_not_lost(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = api.begin

    def interrupted(*args: Any, **how: Any) -> Run:
        strike()
        return begin(*args, **how)

    monkeypatch.setattr(api, "begin", interrupted)
    pieces = iterating.events("Go on.", "endless", base_url=mock.base_url, no_log=True)
    with pytest.raises(KeyboardInterrupt):
        next(pieces)
    assert pieces.transcript is not None
    assert pieces.transcript.outcome == "stopped"


@pytest.mark.parametrize("raises", [False, True])
def test_a_handler_that_is_somebodys_own_stays(mock: MockServer, raises: bool) -> None:
    """Where it raises KeyboardInterrupt, that stops the run; where it does not, it is no business of ours."""
    heard: list[int] = []

    def own(number: int, _frame: object) -> None:
        heard.append(number)
        if raises:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, own)
    try:
        run = api.start("Go on.", "endless", base_url=mock.base_url, no_log=True, token_limit=None if raises else 3)
        api.blocked(run, Struck("wait"))
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]
    assert run.transcript.stop_cause == ("interrupt" if raises else "limit:tokens")
