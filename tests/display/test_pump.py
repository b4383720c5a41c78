"""How often a kernel speaks to its page: a clock and a comm of the test's own, so that every message is counted."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tokenstream_magic.display.pump import Pump

PER_SECOND = 65


class Time:
    """A loop's clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._number), call))

    def run_until(self, end: float) -> None:
        while self._due and self._due[0][0] <= end:
            self.now, _, call = heapq.heappop(self._due)
            call()
        self.now = end


class Wire:
    """What the page receives: every message with its time."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.messages: list[tuple[float, dict[str, Any]]] = []

    def received(self) -> dict[str, list[str]]:
        """The text every stream got, by its address, in order."""
        texts: dict[str, list[str]] = {}
        for _, message in self.messages:
            streams = message["streams"] if message["op"] == "frame" else {message["to"]: [message]}
            for address, said in streams.items():
                texts.setdefault(address, []).extend(m["text"] for m in said)
        return texts

    def busiest_second(self) -> int:
        times = [at for at, _ in self.messages]
        return max(sum(start <= at < start + 1 for at in times) for start in times)


class Stream:
    """A view that gathers pieces."""

    def __init__(self, address: str, wire: Wire) -> None:
        self.address = address
        self._wire = wire
        self._unsent: list[str] = []

    def add(self, text: str, pump: Pump, urgent: bool = False) -> None:
        self._unsent.append(text)
        pump.schedule(self, urgent)

    def gather(self) -> list[dict[str, Any]]:
        pieces, self._unsent = self._unsent, []
        return [{"op": "append", "to": self.address, "text": "".join(pieces)}] if pieces else []

    def send(self, message: dict[str, Any]) -> None:
        self._wire.messages.append((self._wire.time.now, message))


@pytest.mark.parametrize("streams", [1, 10, 100])
@pytest.mark.parametrize("rate", [20, 1000])
def test_there_are_never_more_than_65_messages_a_second_and_nothing_is_lost(streams: int, rate: int) -> None:
    time = Time()
    wire, pump = Wire(time), Pump(time.later, lambda: time.now)
    views = [Stream(f"s{number}", wire) for number in range(streams)]
    for number in range(3 * rate):
        time.run_until(number / rate)
        for view in views:
            view.add(f"{number} ", pump, urgent=number == 0)
    time.run_until(4)
    assert wire.busiest_second() <= PER_SECOND
    said = "".join(f"{number} " for number in range(3 * rate))
    assert {address: "".join(texts) for address, texts in wire.received().items()} == {view.address: said for view in views}
    waits = [later - earlier for (earlier, _), (later, _) in zip(wire.messages, wire.messages[1:], strict=False)]
    assert max(waits) <= 1 / rate + 0.04


@pytest.mark.parametrize("begin", [0.0, 0.4, 0.75, 1.3])
@pytest.mark.parametrize("gap", [2, 10, 100])
def test_urgent_messages_among_fast_frames_are_within_the_same_65(begin: float, gap: int) -> None:
    time = Time()
    wire, pump = Wire(time), Pump(time.later, lambda: time.now)
    flowing, beginning = Stream("flowing", wire), Stream("beginning", wire)
    for ms in range(2500):
        time.run_until(ms / 1000)
        flowing.add("x", pump)
        if ms / 1000 >= begin and ms % gap == 0:
            beginning.add("y", pump, urgent=True)
    time.run_until(3)
    assert 30 < wire.busiest_second() <= PER_SECOND


def test_what_comes_after_a_pause_goes_out_at_once() -> None:
    time = Time()
    wire, pump = Wire(time), Pump(time.later, lambda: time.now)
    stream = Stream("one", wire)
    for at in (0.0, 0.1, 0.2):
        time.run_until(at)
        stream.add("x", pump)
        time.run_until(at + 0.001)
    assert [sent for sent, _ in wire.messages] == pytest.approx([0.0, 0.1, 0.2])


def test_the_first_piece_of_a_stream_goes_out_at_once() -> None:
    time = Time()
    wire, pump = Wire(time), Pump(time.later, lambda: time.now)
    one, two = Stream("one", wire), Stream("two", wire)
    one.add("a", pump, urgent=True)
    assert [message["text"] for _, message in wire.messages] == ["a"]
    one.add("b", pump)
    two.add("x", pump, urgent=True)
    assert [message["text"] for _, message in wire.messages] == ["a", "x"]
    time.run_until(0.05)
    assert wire.messages[-1][1] == {"op": "append", "to": "one", "text": "b"}


def test_a_hundred_streams_that_begin_together_are_all_there_within_a_frame() -> None:
    time = Time()
    wire, pump = Wire(time), Pump(time.later, lambda: time.now)
    for number in range(100):
        Stream(f"s{number}", wire).add("first", pump, urgent=True)
    time.run_until(0.04)
    assert len(wire.received()) == 100
    assert len(wire.messages) <= 31


def test_everything_for_one_frame_is_one_message() -> None:
    time = Time()
    wire, pump = Wire(time), Pump(time.later, lambda: time.now)
    for name in ("one", "two"):
        Stream(name, wire).add(name, pump)
    time.run_until(0.05)
    (message,) = [message for _, message in wire.messages]
    assert message["op"] == "frame"
    assert {address: said[0]["text"] for address, said in message["streams"].items()} == {"one": "one", "two": "two"}


def test_a_view_whose_page_is_gone_carries_nothing_for_others() -> None:
    time = Time()
    wire, pump = Wire(time), Pump(time.later, lambda: time.now)
    gone, other = Stream("gone", wire), Stream("other", wire)
    gone.add("x", pump)
    other.add("y", pump)
    gone.address = ""
    time.run_until(0.05)
    assert wire.received() == {"other": ["y"]}
