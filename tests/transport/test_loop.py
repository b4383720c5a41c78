"""The stream thread beside a thread that computes."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading

import pytest

from tokenstream_magic import api
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.transport import loop


@pytest.fixture(autouse=True)
def interval():
    before, collected = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(before)
    gc.set_threshold(*collected)


def test_while_a_stream_runs_a_computing_thread_gives_way_sooner_and_afterwards_as_before() -> None:
    sys.setswitchinterval(0.02)
    with MockServer() as mock:
        mock.scripts["long"] = Script(("word ",) * 10_000, gap=0.01)
        first = api.start("Hi", "long", base_url=mock.base_url, no_log=True)
        second = api.start("Hi", "long", base_url=mock.base_url, no_log=True)
        for run in (first, second):
            while not run.transcript.text:
                threading.Event().wait(0.001)
        assert sys.getswitchinterval() == pytest.approx(loop.SWITCH_SECONDS, abs=1e-5)
        first.stop()
        first.wait()
        assert sys.getswitchinterval() == pytest.approx(loop.SWITCH_SECONDS, abs=1e-5)
        second.stop()
        second.wait()
    settled = threading.Event()
    loop.get_loop().call_soon_threadsafe(settled.set)
    assert settled.wait(5)
    assert sys.getswitchinterval() == pytest.approx(0.02, abs=1e-5)


def test_what_a_user_set_meanwhile_or_set_shorter_stays() -> None:
    sys.setswitchinterval(0.00005)
    with loop.hurry():
        assert sys.getswitchinterval() == pytest.approx(0.00005, abs=1e-5)
    assert sys.getswitchinterval() == pytest.approx(0.00005, abs=1e-5)
    sys.setswitchinterval(0.02)
    with loop.hurry():
        sys.setswitchinterval(0.05)
    assert sys.getswitchinterval() == pytest.approx(0.05, abs=1e-5)


def test_while_very_many_streams_run_all_objects_are_looked_through_more_rarely() -> None:
    gc.set_threshold(600, 9, 8)
    with contextlib.ExitStack() as few:
        for _ in range(loop.CROWD - 1):
            few.enter_context(loop.hurry())
        assert gc.get_threshold() == (600, 9, 8)
        with loop.hurry(), loop.hurry():
            assert gc.get_threshold() == (600, 9, 8 * loop.RARELY)
        assert gc.get_threshold() == (600, 9, 8)
        with loop.hurry():
            gc.set_threshold(5, 5, 5)
        assert gc.get_threshold() == (5, 5, 5)
