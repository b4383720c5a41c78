"""The live view's kernel side, without a kernel: what the page is sent, and what it gets when it asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tokenstream_magic.display import live as live_module, live_columns
from tokenstream_magic.display.bundle import MIME
from tokenstream_magic.display.live import LiveView
from tokenstream_magic.display.live_columns import LiveColumns
from tokenstream_magic.display.marks import marks, spans
from tokenstream_magic.display.pump import Pump
from tokenstream_magic.endpoint import Endpoint
from tokenstream_magic.fold import Fold
from tokenstream_magic.plan import Plan
from tokenstream_magic.record import Transcript
from tokenstream_magic.timing.timeline import Timeline
from tokenstream_magic.transport.watch import Limits
from tokenstream_magic.wire.events import Failure, Reasoning, Text, ToolCall, Verdict

MS = 1_000_000


class Comm:
    """The widget model as the view uses it, with a page at the other end that sees every message."""

    def __init__(self, **state: Any) -> None:
        self.model_id = f"model-{id(self)}"
        self.comm: object | None = object()
        self.sent: list[dict[str, Any]] = []
        self.receive: Any = None

    def on_msg(self, call: Any) -> None:
        self.receive = lambda message: call(self, message, [])

    def send(self, message: dict[str, Any]) -> None:
        json.dumps(message)
        self.sent.append(message)

    def close(self) -> None:
        self.comm = None


class Answer:
    """A run that is told what arrives."""

    def __init__(self, view: LiveView, model: str = "m") -> None:
        self.transcript = Transcript(model=model)
        self.transcript.timeline.requested = 0
        self.fold = Fold(self.transcript)
        self.plan = Plan(Endpoint("acme"), model, [], {}, Limits(first_token=20.0, idle=30.0))
        self.view = view
        self.stopped: list[str] = []
        self.amended_times = 0

    @property
    def id(self) -> str:
        return self.transcript.id

    def stop(self, cause: str) -> None:
        self.stopped.append(cause)

    def amended(self) -> None:
        self.amended_times += 1

    def say(self, at_ms: float, event: Any) -> None:
        for channel, text, choice in self.fold.content(event, int(at_ms * MS), 0):
            self.view.content(self, channel, text, choice)  # type: ignore[arg-type]

    def end(self, verdict: Verdict = Verdict("complete")) -> None:
        self.fold.settle(verdict, None)
        self.view.end(self)  # type: ignore[arg-type]


class Frames:
    """Frames that come when the test says so."""

    def __init__(self) -> None:
        self.due: list[Any] = []

    def later(self, _seconds: float, call: Any) -> None:
        self.due.append(call)

    def pass_(self) -> None:
        due, self.due[:] = list(self.due), []
        for call in due:
            call()


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> Iterator[Frames]:
    made = Frames()
    shown: list[Any] = []

    class Handle:
        def update(self, *args: Any, **how: Any) -> None:
            shown.append(args)

    monkeypatch.setattr(live_module, "StreamModel", Comm)
    monkeypatch.setattr(live_module, "_pump", Pump(made.later, lambda: 0.0))
    for module in (live_module, live_columns):
        monkeypatch.setattr(module, "display", lambda *_, **__: Handle())
        monkeypatch.setattr(module, "on_stream_thread", lambda call: call())
    monkeypatch.setattr(live_module, "_unacknowledged", [])
    yield made


@pytest.fixture
def answer(frames: Frames) -> Answer:
    view = LiveView()
    made = Answer(view)
    view.open(made)  # type: ignore[arg-type]
    return made


def comm(answer: Answer) -> Comm:
    return answer.view._model  # type: ignore[return-value]


def said(answer: Answer) -> list[dict[str, Any]]:
    """Every message to this stream, out of its frame."""
    return [m for sent in comm(answer).sent for m in (sent["streams"][comm(answer).model_id] if sent["op"] == "frame" else [sent])]


def test_the_page_is_sent_when_pieces_came_and_no_text_twice(answer: Answer, frames: Frames) -> None:
    for number in range(4):
        answer.say(100 + 12 * number, Text(f"w{number} "))
    frames.pass_()
    first, second = said(answer)
    assert first == {"op": "append", "seq": 1, "channel": "text", "text": "w0 ", "ms": 100, "n": 1, "ttft": 100.0}
    assert second == {"op": "append", "seq": 2, "channel": "text", "text": "w1 w2 w3 ", "ms": 136, "n": 4, "at": [112, 12, 12]}


def test_marks_are_no_finer_than_can_be_drawn() -> None:
    assert marks([100 * MS, 102 * MS, 104 * MS, 106 * MS, 120 * MS], 0) == [100, 6, 14]
    assert len(marks([n * MS for n in range(1000)], 0)) == 200


def test_choices_and_tool_calls_reach_the_page_as_deltas(answer: Answer, frames: Frames) -> None:
    answer.say(1, Text("one"))
    answer.say(2, Text("two", choice=1))
    answer.say(3, ToolCall(0, "id", "find", '{"a', choice=1))
    frames.pass_()
    answer.say(4, ToolCall(0, arguments='":1}', choice=1))
    answer.say(5, ToolCall(1, "id2", "stop", "{}", choice=1))
    frames.pass_()
    parts = [{name: m[name] for name in ("channel", "choice", "call", "name", "text") if name in m} for m in said(answer)]
    assert parts == [
        {"channel": "text", "text": "one"},
        {"channel": "text", "choice": 1, "text": "two"},
        {"channel": "tool", "choice": 1, "call": 0, "name": "find", "text": '{"a'},
        {"channel": "tool", "choice": 1, "call": 0, "text": '":1}'},
        {"channel": "tool", "choice": 1, "call": 1, "name": "stop", "text": "{}"},
    ]
    assert [m["seq"] for m in said(answer)] == [1, 2, 3, 4, 5]
    comm(answer).receive({"op": "sync"})
    snapshot = said(answer)[-1]
    assert snapshot["choices"] == [
        {
            "index": 1,
            "text": "two",
            "reasoning": "",
            "tool_calls": [{"name": "find", "arguments": '{"a":1}'}, {"name": "stop", "arguments": "{}"}],
        }
    ]


def test_a_snapshot_holds_what_was_about_to_be_sent_and_comes_after_it(answer: Answer, frames: Frames) -> None:
    answer.say(10, Reasoning("hm"))
    answer.say(40, Reasoning("."))
    frames.pass_()
    answer.say(50, Text("a"))
    comm(answer).receive({"op": "sync"})
    append, snapshot = said(answer)[-2:]
    assert (append["op"], append["seq"]) == ("append", 3)
    assert (snapshot["op"], snapshot["seq"], snapshot["text"], snapshot["reasoning"]) == ("snapshot", 3, "a", "hm.")
    assert snapshot["meta"]["thought"] == [10, 40]
    assert snapshot["spans"] == [10.0, 10.0, 1, 1, 40.0, 40.0, 1, 1, 50.0, 50.0, 1, 0]


def test_a_page_that_comes_late_is_told_everything_and_an_early_one_nothing(answer: Answer, frames: Frames) -> None:
    comm(answer).receive({"op": "hello"})
    assert said(answer) == []
    answer.say(1, Text("a"))
    comm(answer).receive({"op": "hello"})
    assert said(answer)[-1]["op"] == "snapshot"


def test_when_a_page_drew_becomes_part_of_the_transcript_also_after_the_end(
    answer: Answer, frames: Frames, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1_000.0
    monkeypatch.setattr(live_module, "monotonic_ns", lambda: int(now * MS))
    for number in range(3):  # each piece waits 5 ms for its message
        now = 1_000.0 + 100 * number
        answer.say(now - 5, Text("a"))
        frames.pass_()
    page = {"page": "p", "clock": 77_000.0, "work": 1.0}  # reports and messages take 1 ms; painted 20, 20 and 400 ms after they came
    now = 1_000.0 + 601
    drawn = {"op": "drawn", "seq": 3, "frames": [[1, 599, 579], [1, 499, 479], [1, 399, 0]], **page}
    comm(answer).receive({"op": "hello", **page, "clock": 76_000.0})
    comm(answer).receive(drawn)
    shown = answer.transcript.timeline.displayed
    assert shown is not None
    assert abs(shown.most - 405_000) <= shown.error <= 1_000
    assert answer.transcript.diagnosis["slow_display"].verdict == "found"
    answer.end()
    assert answer.amended_times == 1
    for bad in ({**drawn, "frames": 7}, {**drawn, "clock": float("nan")}, {"op": "drawn"}):
        comm(answer).receive(bad)
    assert caplog.text.count("not understood") == 3
    assert answer.amended_times == 1
    answer.transcript.replayed = {"of": answer.id}
    comm(answer).receive({**drawn, "page": "q"})
    assert answer.amended_times == 1


def figures(answer: Answer) -> list[dict[str, int]]:
    """What the page was told of how far behind it is."""
    return [message["displayed"] for message in said(answer) if message["op"] == "displayed"]


def test_a_report_that_comes_after_the_end_is_answered_with_the_figures_and_no_other_is(
    answer: Answer, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "monotonic_ns", lambda: 1_000 * MS)
    for _ in range(3):
        answer.say(990, Text("a"))
        frames.pass_()
    drawn = {"op": "drawn", "page": "p", "clock": 77_000.0, "work": 1.0}
    monkeypatch.setattr(live_module, "monotonic_ns", lambda: 1_100 * MS)
    comm(answer).receive({**drawn, "seq": 2, "frames": [[1, 90, 50], [1, 90, 40]]})
    frames.pass_()
    assert figures(answer) == []
    assert "displayed" not in answer.view._state()["meta"]
    answer.end()
    last = {**drawn, "seq": 3, "frames": [[1, 90, 30]]}
    comm(answer).receive(last)
    comm(answer).receive(last | {"frames": [[1, None, None]], "page": "hidden"})
    comm(answer).receive(last | {"work": float("inf")})
    comm(answer).receive({"op": "settled"})  # the page lets go before the frame that brings the answer
    shown = answer.transcript.timeline.displayed
    assert shown is not None
    assert shown.messages == 3
    assert figures(answer) == [shown._asdict()]
    assert comm(answer).comm is None
    assert answer.view._state()["meta"]["displayed"] == shown._asdict()


def test_a_column_is_told_its_figures_only_when_all_are_settled(frames: Frames) -> None:
    columns = LiveColumns(["a", "b"])
    columns.open()
    first, second = (Answer(sink, sink.transcript.model) for sink in columns.sinks)
    for sink, run in zip(columns.sinks, (first, second), strict=True):
        sink.open(run)  # type: ignore[arg-type]
        sink.begin(run)  # type: ignore[arg-type]
        run.say(5, Text("said"))
    frames.pass_()
    drawn = {"op": "drawn", "page": "p", "clock": 77_000.0, "work": 1.0, "seq": 1, "frames": [[1, 9, 5]]}
    first.end()
    comm(first).receive(drawn)
    second.end()
    frames.pass_()
    assert figures(first) == []
    columns.settle()
    comm(second).receive(drawn)
    frames.pass_()
    bundle = columns.bundle()
    assert bundle is not None
    kept = [column["timeline"].get("displayed_us") for column in bundle["metadata"]["tokenstream"]["columns"]]
    assert kept[0] == first.transcript.timeline.displayed._asdict()  # type: ignore[union-attr]
    assert kept[1] is None
    assert figures(second) == [second.transcript.timeline.displayed._asdict()]  # type: ignore[union-attr]


def test_the_bundle_goes_only_to_a_page_that_asks(answer: Answer, frames: Frames) -> None:
    answer.say(1, Text("the answer"))
    comm(answer).receive({"op": "bundle"})
    assert said(answer)[-1] == {"op": "bundle", "bundle": None}
    answer.end()
    assert said(answer)[-1] == {"op": "settled", "outcome": "complete"}
    assert "bundle" not in answer.view._state()
    comm(answer).receive({"op": "bundle"})
    bundle = said(answer)[-1]["bundle"]
    assert bundle["data"][MIME]["text"] == "the answer"
    comm(answer).receive({"op": "settled"})
    assert comm(answer).comm is None


def test_a_page_that_was_reloaded_is_brought_the_bundle(answer: Answer, frames: Frames) -> None:
    answer.say(1, Text("the answer"))
    comm(answer).receive({"op": "hello", "restored": True})
    answer.end()
    assert said(answer)[-1]["op"] == "settled"
    assert said(answer)[-1]["bundle"]["data"][MIME]["text"] == "the answer"


def test_bytes_are_in_proportion_to_the_text(answer: Answer, frames: Frames) -> None:
    def cost(pieces: int) -> int:
        before = sum(len(json.dumps(m)) for m in comm(answer).sent)
        for number in range(pieces):
            answer.say(12.5 * (cost.said + number), Text(" tokens"))  # type: ignore[attr-defined]
            if number % 3 == 2:
                frames.pass_()
        cost.said += pieces  # type: ignore[attr-defined]
        frames.pass_()
        return sum(len(json.dumps(m)) for m in comm(answer).sent) - before

    cost.said = 0  # type: ignore[attr-defined]
    first = cost(3000)
    assert cost(30_000) < 10 * first * 1.05


def test_spans_of_a_long_run_are_few() -> None:
    timeline = Timeline(requested=0)
    for number in range(50_000):
        timeline.add(number * 20 * MS, 0, 5, number)
    flat = spans(timeline)
    assert len(flat) <= 4 * 402
    assert sum(flat[2::4]) == 50_000
    assert flat[-3] == 49_999 * 20
    assert spans(Timeline()) == []


def test_columns_wait_their_turn_stop_before_it_and_settle_together(frames: Frames) -> None:
    columns = LiveColumns(["a", "b"])
    columns.open()
    first, second = (Answer(sink, sink.transcript.model) for sink in columns.sinks)
    assert [sink._status for sink in columns.sinks] == ["queued", "queued"]
    for sink, run in zip(columns.sinks, (first, second), strict=True):
        if sink is columns.sinks[1]:
            comm(second).receive({"op": "stop"})
            assert (sink.stopped, second.stopped) == (True, [])
        sink.open(run)  # type: ignore[arg-type]
        sink.begin(run)  # type: ignore[arg-type]
        run.say(5, Text(f"said by {run.transcript.model}"))
        run.end()
    assert second.stopped == ["button"]
    assert [m["state"] for m in said(first) if m["op"] == "state"] == ["starting", "complete"]
    assert "settled" not in [m["op"] for m in said(first)]
    comm(first).receive({"op": "bundle"})
    frames.pass_()
    assert said(first)[-1]["bundle"] is None
    columns.settle()
    frames.pass_()
    assert said(first)[-1] == {"op": "settled", "outcome": "complete"}
    comm(second).receive({"op": "bundle"})
    frames.pass_()
    (bundle,) = [m["bundle"] for m in said(second) if m["op"] == "bundle"]
    shown = bundle["data"][MIME]
    assert [column["text"] for column in shown["columns"]] == ["said by a", "said by b"]


@pytest.mark.parametrize("hidden", [False, True])
def test_a_column_that_failed_says_why_while_others_go_on(frames: Frames, hidden: bool) -> None:
    columns = LiveColumns(["A", "B"], hidden)
    columns.open()
    first, second = (Answer(sink, model) for sink, model in zip(columns.sinks, ("acme/large", "acme/small"), strict=True))
    for sink, run in zip(columns.sinks, (first, second), strict=True):
        sink.open(run)  # type: ignore[arg-type]
        sink.begin(run)  # type: ignore[arg-type]
        run.transcript.endpoint = "acme"
    second.say(10, Text("Hello"))
    message = "404: acme has no model acme/large. %stream models acme lists them."
    first.end(Verdict("failed", message, Failure(message, type="not_found")))
    frames.pass_()
    assert second.transcript.outcome == "running"
    told = [m for m in said(first) if m.get("state") == "failed"]
    shown = "404: … has no model …. %stream models … lists them." if hidden else message
    assert told == [{"op": "state", "state": "failed", "problem": shown}]
    assert columns.sinks[0]._state()["meta"]["problem"] == shown  # and a page that is loaded only now is told too
    assert [(m["timeout"], m["idle"]) for m in said(second) if m.get("state") == "starting"] == [(20.0, 30.0)]


def test_a_column_that_never_ran_is_shown_as_stopped(frames: Frames) -> None:
    columns = LiveColumns(["a", "b"])
    columns.open()
    columns.settle()
    bundle = columns.bundle()
    assert bundle is not None
    shown = bundle["data"][MIME]
    assert [(column["model"], column["outcome"]) for column in shown["columns"]] == [("a", "stopped"), ("b", "stopped")]


class PageCopy:
    """A page that adds up deltas as the front end does, and loses messages on the way."""

    def __init__(self, answer: Answer, lost: Callable[[int], bool]) -> None:
        self.text, self.seq, self.syncing, self.snapshots = "", 0, False, 0
        self._answer, self._lost, self._read = answer, lost, 0

    def read(self) -> None:
        """Takes what was sent since; a message that is lost is lost whole."""
        sent = comm(self._answer).sent
        while self._read < len(sent):
            message, self._read = sent[self._read], self._read + 1
            if not self._lost(self._read):
                for part in message["streams"].get(comm(self._answer).model_id, []) if message["op"] == "frame" else [message]:
                    self._take(part)

    def _take(self, message: dict[str, Any]) -> None:
        if message["op"] == "snapshot":
            self.text, self.seq, self.syncing = message["text"], message["seq"], False
            self.snapshots += 1
        elif message["op"] == "append" and message["seq"] == self.seq + 1:
            self.text, self.seq = self.text + message["text"], message["seq"]
        elif message["op"] == "append" and message["seq"] > self.seq and not self.syncing:
            self.syncing = True
            comm(self._answer).receive({"op": "sync"})


def test_a_page_that_loses_messages_has_the_whole_text_in_the_end(answer: Answer, frames: Frames) -> None:
    page = PageCopy(answer, lambda number: number % 7 == 3 and number < 60)
    for number in range(300):
        answer.say(number, Text(f"w{number} "))
        if number % 3 == 2:
            frames.pass_()
            page.read()
    frames.pass_()
    page.read()
    assert page.text == answer.fold.text()
    assert 5 < page.snapshots < 15
