"""The live view's kernel side: an ipywidgets model used as transport only (ARCHITECTURE decision 7).

Text goes to the page as deltas with sequence numbers, one message a frame for all streams, the first at once. The
text so far is in the model's state, so a page that reloads gets everything with one request, but it is never pushed:
n tokens cost n bytes. The settled bundle, too, goes only to a page that asks for it, because the kernel's own update
brought it to every other. The view itself is the labextension's MIME renderer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic, monotonic_ns
from typing import Any

import ipywidgets
import traitlets
from IPython.display import display

from tokenstream_magic import catalog
from tokenstream_magic.display.bundle import live, settled
from tokenstream_magic.display.drawn import report_of
from tokenstream_magic.display.marks import marks, spans
from tokenstream_magic.display.plain import Plain
from tokenstream_magic.display.pump import Message, Pump
from tokenstream_magic.display.views import where
from tokenstream_magic.redaction import Growing, Redactor
from tokenstream_magic.run import Run
from tokenstream_magic.timing.shown import Pages
from tokenstream_magic.timing.timeline import Timeline
from tokenstream_magic.transport import loop

log = logging.getLogger(__name__)

MODULE = "tokenstream-magic"
MODULE_VERSION = "^0.1.0"
PROGRESS_SECONDS = 0.1
TICK_SECONDS = 0.1
KEPT_OPEN = 16

_SHOWN = {"text": "text", "refusal": "text", "reasoning": "reasoning"}  # channel -> where a page shows it

_pump = Pump()
_unacknowledged: list[StreamModel] = []


class StreamModel(ipywidgets.Widget):
    """The page's handle on one run. Nothing of its state is pushed.

    ``text``, ``reasoning`` and ``tool_calls`` are those of the first choice, ``choices`` the further ones
    (``{index, text, reasoning, tool_calls}``); ``spans`` is when text came, four numbers each: from, to (ms), pieces,
    channel.
    """

    _model_name = traitlets.Unicode("StreamModel").tag(sync=True)
    _model_module = traitlets.Unicode(MODULE).tag(sync=True)
    _model_module_version = traitlets.Unicode(MODULE_VERSION).tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
    reasoning = traitlets.Unicode("").tag(sync=True)
    tool_calls: Any = traitlets.List().tag(sync=True)
    choices: Any = traitlets.List().tag(sync=True)
    spans: Any = traitlets.List().tag(sync=True)
    seq = traitlets.Int(0).tag(sync=True)
    status = traitlets.Unicode("starting").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)

    source: Any = None

    def _should_send_property(self, key: str, value: Any) -> bool:
        return False

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """The state with what has arrived so far; answers a page that asks."""
        if self.source is not None:
            for name, value in self.source().items():
                self.set_trait(name, value)
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        return state


@dataclass(slots=True)
class _Sent:
    """What the page has been sent of one choice; a tool call is its name and the pieces of its arguments."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[tuple[str, list[str]]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As the page gets it."""
        calls = [{"name": name, "arguments": "".join(pieces)} for name, pieces in self.calls]
        return {"text": "".join(self.text), "reasoning": "".join(self.reasoning), "tool_calls": calls}


class LiveView:
    """Shows one run in a notebook page. A sink on the stream thread; ``open`` and ``settle`` on the cell's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unsent: list[tuple[str, str, int, int]] = []
        self._messages: list[Callable[[], Message]] = []
        self._sent: dict[int, _Sent] = {0: _Sent()}
        self._masks: dict[tuple[str, int, int], Growing] = {}
        self._seq = 0
        self._status = "starting"
        self._meta: dict[str, Any] = {}
        self._handle: Any = None
        self._model: StreamModel | None = None
        self._run: Run | None = None
        self._progress_shown = 0.0
        self._moved_ns = monotonic_ns()
        self._restored = False
        self._cell: str | None = None
        self._plain: Plain | None = None
        self._pages = Pages()

    def open(self, run: Run) -> None:
        """Publishes the output that our view binds to."""
        self.attach(run)
        model_id = self.connect().model_id
        self._handle = display(live(run.transcript, model_id), raw=True, display_id=True)
        self._plain = Plain(run, self._handle, model_id)

    def attach(self, run: Run) -> None:
        """From here on this is the view of ``run``."""
        self._run = run
        self._meta = {**self._meta, "stream_id": run.id, "model": run.transcript.model}
        drawn_as = getattr(run.transcript, "format", None)
        if drawn_as:
            self._meta["format"] = drawn_as
        if run.transcript.replayed is not None:
            self._meta["replayed"] = run.transcript.replayed
        plan = getattr(run, "plan", None)  # a job that is shown like a run has none
        if plan is not None:
            borne = {"timeout": plan.limits.first_token, "idle": plan.limits.idle}
            self._meta |= {name: seconds for name, seconds in borne.items() if seconds is not None}

    def connect(self) -> StreamModel:
        """Opens the comm to the page."""
        self._cell = where().get("cell_id")
        self._model = StreamModel(meta=self._meta, status=self._status)
        self._model.source = self._state
        self._model.on_msg(self._received)
        return self._model

    def wait(self, run: Run) -> None:
        """The page is served from the stream thread; only a front end without our extension is served from here."""
        while not wait([run.future], TICK_SECONDS).done:
            self.tick(awaited=False)

    def tick(self, *, awaited: bool) -> None:
        """Looks whether a page with our extension is there; without one the text grows by the front end's own means."""
        if self._plain is not None:
            self._plain.tick(awaited=awaited)

    def settle(self, run: Run) -> None:
        """Replaces the output by the settled bundle. A page that was reloaded does it itself: it asks for the bundle."""
        if self._plain is not None:
            self._plain.end()
        if self._handle is not None:
            data, metadata = settled(run.transcript)
            self._handle.update(data, metadata=metadata, raw=True)

    def bundle(self) -> dict[str, Any] | None:
        """The settled output, once there is one."""
        if self._run is None or self._run.transcript.outcome == "running":
            return None
        data, metadata = settled(self._run.transcript)
        return {"data": data, "metadata": metadata}

    def output(self) -> dict[str, Any]:
        """The output as it is now, for a page whose notebook was loaded without it."""
        assert self._run is not None
        return self.bundle() or {"data": live(self._run.transcript, self.address), "metadata": {}}

    # Sink

    def begin(self, run: Run) -> None:
        """The page learns when the clock started from the first state."""

    def state(self, run: Run, state: str, detail: Mapping[str, Any]) -> None:
        """What the run is doing; a progress that moves fast is told ten times a second."""
        if state == "fetching":
            now = monotonic()
            if now - self._progress_shown < PROGRESS_SECONDS and detail.get("done") != detail.get("total"):
                return
            self._progress_shown = now
            detail = {**detail, "text": _meter(detail)}
        if state == "waiting":
            self._meta = {**self._meta, "waiting_ns": monotonic_ns()}
        with self._lock:
            self._status = state
            self._moved_ns = monotonic_ns()
        if state == "stopping":
            self.tell({"op": "stopping"})
        elif state != "streaming":  # the first piece of text says that
            self.tell({"op": "state", "state": state, **detail})

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """A piece for the next frame."""
        timeline = run.transcript.timeline
        with self._lock:
            self._unsent.append((channel, text, choice, timeline.last or timeline.origin))
            self._status = "streaming"
        _pump.schedule(self, urgent=self._seq == 0)

    def end(self, run: Run) -> None:
        """The last piece, then the outcome."""
        with self._lock:
            self._status = run.transcript.outcome
        self._say_settled(run.transcript.outcome)

    def _say_settled(self, outcome: str) -> None:
        """The outcome; with the bundle where a page was reloaded, which the kernel's own update does not reach."""
        bundle = {"bundle": self.bundle()} if self._restored else {}
        self.tell({"op": "settled", "outcome": outcome, **bundle})
        _keep_open(self._model)

    def tell(self, message: Message) -> None:
        """Says something beside the text, after the text there is. On the stream thread."""
        self._tell(lambda: message)

    def _tell(self, make: Callable[[], Message], *, urgent: bool = True) -> None:
        with self._lock:
            self._messages.append(make)
        _pump.schedule(self, urgent=urgent)

    # Outbox

    @property
    def address(self) -> str:
        """The id of the widget model, as long as its comm is open."""
        model = self._model
        return str(model.model_id) if model is not None and model.comm is not None else ""

    def gather(self) -> list[Message]:
        """What has come since the last frame: an ``append`` a channel, and what is to be said beside it."""
        with self._lock:
            pieces, self._unsent = self._unsent, []
            said, self._messages = self._messages, []
        messages = [*self._appends(pieces), *self._held_back()]
        # a snapshot is taken only now, so that it holds the text in front of it
        return messages + [make() for make in said]

    def send(self, message: Message) -> None:
        """One message to the page."""
        if self._model is not None and self._model.comm is not None:
            _post(self._model, message)

    def _appends(self, pieces: list[tuple[str, str, int, int]]) -> Iterator[Message]:
        if not pieces or self._run is None:
            return
        gathered: dict[tuple[str, int], tuple[list[str], list[int]]] = {}
        for channel, text, choice, at in pieces:
            texts, stamps = gathered.setdefault((channel, choice), ([], []))
            texts.append(text)
            stamps.append(at)
        timeline = self._run.transcript.timeline
        for (channel, choice), (texts, stamps) in gathered.items():
            when: Message = {"ms": (stamps[-1] - timeline.origin) // 1_000_000, "n": len(timeline)}
            moments = marks(stamps, timeline.origin)
            if moments != [when["ms"]]:  # one mark at ``ms`` goes without saying
                when["at"] = moments
            for part in self._taken(channel, choice, "".join(texts)):
                self._seq += 1
                with self._lock:
                    self._pages.sent(stamps[0], monotonic_ns())
                message: Message = {"op": "append", "seq": self._seq, "channel": channel, **part}
                if choice:
                    message["choice"] = choice
                message |= when
                when["at"] = []  # what came at these moments is told once
                if self._seq == 1 and timeline.first is not None:
                    message["ttft"] = (timeline.first - timeline.origin) / 1e6
                    self._meta = {**self._meta, "ttft": message["ttft"]}
                yield message
            if channel == "reasoning" and choice == 0:
                began = self._meta.get("thought", [(stamps[0] - timeline.origin) // 1_000_000])[0]
                self._meta = {**self._meta, "thought": [began, when["ms"]]}

    def _taken(self, channel: str, choice: int, text: str) -> list[Message]:
        """What the page is sent of a piece, from here on part of every snapshot."""
        with self._lock:
            sent = self._sent.setdefault(choice, _Sent())
            if channel == "tool":
                return list(self._calls(sent, choice))
            text = self._mask(channel, choice).feed(text)
            (sent.reasoning if channel == "reasoning" else sent.text).append(text)
            return [{"text": text}]

    def _calls(self, sent: _Sent, choice: int) -> Iterator[Message]:
        """What is new of the tool calls of a choice: the number of the call, its name when it is new, more arguments."""
        assert self._run is not None
        for number, (name, pieces) in enumerate(self._run.fold.calls(choice)):
            fresh = number == len(sent.calls)
            if fresh:
                sent.calls.append((self._redactor.text(name or ""), []))
            known, mask = sent.calls[number][1], self._mask("tool", choice, number)
            more = [mask.feed(piece) for piece in pieces[len(known) :]]
            known += more
            if fresh:
                yield {"text": "".join(more), "call": number, "name": sent.calls[number][0]}
            elif more:
                yield {"text": "".join(more), "call": number}

    @cached_property
    def _redactor(self) -> Redactor:
        """What may not be shown, known by the time of the first piece."""
        return catalog.redactor()

    def _mask(self, channel: str, choice: int, call: int = 0) -> Growing:
        """What keeps keys out of one strand of text."""
        if (channel, choice, call) not in self._masks:
            self._masks[channel, choice, call] = Growing(self._redactor)
        return self._masks[channel, choice, call]

    def _held_back(self) -> Iterator[Message]:
        """The rest of each strand, once nothing can follow that would make a key of it."""
        if self._run is None or self._run.transcript.outcome == "running":
            return
        for (channel, choice, call), mask in self._masks.items():
            rest = mask.end()
            if rest:
                with self._lock:
                    self._pages.sent(self._run.transcript.timeline.last or 0, monotonic_ns())
                    sent, self._seq = self._sent[choice], self._seq + 1
                    (sent.calls[call][1] if channel == "tool" else sent.reasoning if channel == "reasoning" else sent.text).append(rest)
                message: Message = {"op": "append", "seq": self._seq, "channel": channel, "text": rest, "at": []}
                timeline = self._run.transcript.timeline
                message |= {"ms": ((timeline.last or timeline.origin) - timeline.origin) // 1_000_000, "n": len(timeline)}
                yield message | ({"choice": choice} if choice else {}) | ({"call": call} if channel == "tool" else {})

    # from the page

    def _received(self, _widget: Any, message: Any, _buffers: Any) -> None:
        op = message.get("op") if isinstance(message, dict) else None
        if self._plain is not None:
            self._plain.heard()
        if op in ("hello", "sync") and message.get("restored"):
            self._restored = True
        if op == "drawn" or (op == "hello" and "clock" in message):
            self._drawn(message)
        if op == "stop":
            self.stop()
        elif op == "sync" or (op == "hello" and self._has_begun()):
            on_stream_thread(lambda: self._tell(lambda: {"op": "snapshot", **self._state()}))
        elif op == "bundle":
            on_stream_thread(lambda: self._tell(lambda: {"op": "bundle", "bundle": self.bundle()}))
        elif op == "place":
            on_stream_thread(lambda: self._tell(lambda: {"op": "place", "cell": self._cell, "output": self.output()}))
        elif op == "settled":
            self._close()
        elif op not in ("hello", "drawn"):
            log.warning("the page sent a message that is not understood and is ignored")

    def _drawn(self, message: dict[str, Any]) -> None:
        """When a page drew what it was sent: part of the transcript, also when it is told only after the end."""
        at, report, run = monotonic_ns(), report_of(message), self._run
        if report is None:
            log.warning("the page sent a report that is not understood and is ignored")
            return
        with self._lock:
            told = self._pages.report(report, at)
            displayed = self._pages.displayed() if told else None
        if displayed is not None and run is not None and run.transcript.replayed is None:
            before, run.transcript.timeline.displayed = run.transcript.timeline.displayed, displayed
            run.amended()
            if displayed != before and self._is_over:  # the settled output was made without it
                news = {"op": "displayed", "displayed": displayed._asdict()}
                on_stream_thread(lambda: self._tell(lambda: news, urgent=False))

    @property
    def _is_over(self) -> bool:
        """Whether what becomes known from now on may be missing in the settled output."""
        return self._run is not None and self._run.transcript.outcome != "running"

    def _has_begun(self) -> bool:
        """Whether a page that comes only now has missed something."""
        return self._seq > 0 or (self._run is not None and self._run.transcript.outcome != "running")

    def stop(self) -> None:
        """The page's Stop."""
        if self._run is not None:
            self._run.stop("button")

    def _close(self) -> None:
        """The page has what it needs: the transport may go, after what it was still to bring."""
        if self._model is not None and self.bundle() is not None:
            on_stream_thread(self._let_go)

    def _let_go(self) -> None:
        assert self._model is not None
        for message in self.gather():
            self.send(message)
        if self._model in _unacknowledged:
            _unacknowledged.remove(self._model)
        self._model.close()

    def _state(self) -> dict[str, Any]:
        with self._lock:
            timeline = self._run.transcript.timeline if self._run is not None else Timeline()
            now: dict[str, Any] = dict(self._meta)
            if timeline.last is not None:
                now |= {"ms": (timeline.last - timeline.origin) // 1_000_000, "n": len(timeline)}
            if "waiting_ns" in now:
                now["waited"] = (monotonic_ns() - now.pop("waiting_ns")) / 1e6
                now["still"] = (monotonic_ns() - self._moved_ns) / 1e6
            if timeline.displayed is not None and self._is_over:
                now["displayed"] = timeline.displayed._asdict()
            return {
                **self._sent[0].as_dict(),
                "choices": [{"index": index, **sent.as_dict()} for index, sent in sorted(self._sent.items()) if index],
                "spans": spans(timeline),
                "seq": self._seq,
                "status": self._status,
                "meta": now,
            }


def _post(model: StreamModel, content: Message) -> None:
    """Sends what answers no request, and so without the header of one: a third of what it would weigh on the wire."""
    comm: Any = model.comm
    kernel = getattr(comm, "kernel", None)
    session, socket = getattr(kernel, "session", None), getattr(kernel, "iopub_socket", None)
    if session is None or socket is None:
        model.send(content)
        return
    data = {"method": "custom", "content": content}
    session.send(socket, "comm_msg", {"data": data, "comm_id": comm.comm_id}, ident=comm.topic)


def on_stream_thread(call: Callable[[], None]) -> None:
    """Has ``call`` made where messages to the page are sent from."""
    loop.get_loop().call_soon_threadsafe(call)


def _keep_open(model: StreamModel | None) -> None:
    """Models whose page never answered stay open for one that comes back, the last few of them."""
    if model is not None:
        _unacknowledged.append(model)
        while len(_unacknowledged) > KEPT_OPEN:
            _unacknowledged.pop(0).close()


def _meter(detail: Mapping[str, Any]) -> str:
    """Tqdm's own words for a download."""
    from tqdm import tqdm

    return str(
        tqdm.format_meter(
            detail["done"],
            detail["total"],
            detail.get("elapsed", 0.0),
            unit="B",
            unit_scale=True,
            bar_format="{percentage:.0f} % of {total_fmt}B, {rate_fmt}",
        )
    )
