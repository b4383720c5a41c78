"""The live view's kernel side: an ipywidgets model used as transport only (ARCHITECTURE decision 7).

Text goes to the page as deltas with sequence numbers, one message a frame, the first at once. ``text`` and ``seq``
are in the model's state, so a page that reloads gets everything with one request, but they are never pushed: n
tokens cost n bytes. The view itself is the labextension's MIME renderer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from time import monotonic, monotonic_ns
from typing import Any

import ipywidgets
import traitlets
from IPython.display import display

from tokenstream_magic.display.bundle import live, settled
from tokenstream_magic.display.pump import Pump
from tokenstream_magic.run import Run

log = logging.getLogger(__name__)

MODULE = "tokenstream-magic"
MODULE_VERSION = "^0.1.0"
PROGRESS_SECONDS = 0.1
KEPT_OPEN = 16

_SHOWN = {"text": "text", "refusal": "text", "reasoning": "reasoning"}  # channel -> where a page shows it

_pump = Pump()
_unacknowledged: list[StreamModel] = []


class StreamModel(ipywidgets.Widget):
    """The page's handle on one run. State: ``text``, ``reasoning``, ``seq``, ``status``, ``meta``; none is pushed."""

    _model_name = traitlets.Unicode("StreamModel").tag(sync=True)
    _model_module = traitlets.Unicode(MODULE).tag(sync=True)
    _model_module_version = traitlets.Unicode(MODULE_VERSION).tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
    reasoning = traitlets.Unicode("").tag(sync=True)
    seq = traitlets.Int(0).tag(sync=True)
    status = traitlets.Unicode("starting").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    bundle = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)

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


class LiveView:
    """Shows one run in a notebook page. A sink on the stream thread; ``open`` and ``settle`` on the cell's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unsent: list[tuple[str, str, int]] = []
        self._sent: dict[str, list[str]] = {"text": [], "reasoning": []}
        self._seq = 0
        self._status = "starting"
        self._meta: dict[str, Any] = {}
        self._bundle: dict[str, Any] | None = None
        self._handle: Any = None
        self._model: StreamModel | None = None
        self._run: Run | None = None
        self._progress_shown = 0.0

    def open(self, run: Run) -> None:
        """Publishes the output that our view binds to."""
        self._run = run
        self._meta = {"stream_id": run.id, "model": run.transcript.model}
        self._model = StreamModel(meta=self._meta)
        self._model.source = self._state
        self._model.on_msg(self._received)
        self._handle = display(live(run.transcript, self._model.model_id), raw=True, display_id=True)

    def wait(self, run: Run) -> None:
        """The page is served from the stream thread."""
        run.wait()

    def settle(self, run: Run) -> None:
        """Replaces the output by the settled bundle. A page that was reloaded does it itself, from ``settled``."""
        if self._handle is not None:
            data, metadata = settled(run.transcript)
            self._handle.update(data, metadata=metadata, raw=True)

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
        if state == "stopping":
            self._send({"op": "stopping"})
        elif state != "streaming":  # the first piece of text says that
            self._send({"op": "state", "state": state, **detail})

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """A piece for the next frame."""
        with self._lock:
            self._unsent.append((channel, text, choice))
            self._status = "streaming"
        _pump.schedule(self, now=self._seq == 0)

    def end(self, run: Run) -> None:
        """The last piece, then the bundle, for a page that has to settle the output itself."""
        _pump.drop(self)
        self.flush()
        data, metadata = settled(run.transcript)
        with self._lock:
            self._status = run.transcript.outcome
            self._bundle = {"data": data, "metadata": metadata}
        self._send({"op": "settled", "bundle": self._bundle})
        _keep_open(self._model)

    def flush(self) -> None:
        """Sends what has gathered since the last frame, one message a channel."""
        with self._lock:
            pieces, self._unsent = self._unsent, []
        if not pieces or self._run is None:
            return
        gathered: dict[tuple[str, int], list[str]] = {}
        for channel, text, choice in pieces:
            gathered.setdefault((channel, choice), []).append(text)
        timeline = self._run.transcript.timeline
        last = timeline.last
        elapsed = 0 if last is None else (last - timeline.origin) // 1_000_000
        for (channel, choice), texts in gathered.items():
            text = "".join(texts)
            with self._lock:
                self._seq += 1
                if choice == 0 and channel in _SHOWN:
                    self._sent[_SHOWN[channel]].append(text)
                message: dict[str, Any] = {"op": "append", "seq": self._seq, "channel": channel, "text": text}
            if choice:
                message["choice"] = choice
            message["ms"], message["n"] = elapsed, len(timeline)
            if self._seq == 1 and timeline.first is not None:
                message["ttft"] = (timeline.first - timeline.origin) / 1e6
                self._meta = {**self._meta, "ttft": message["ttft"]}
            self._send(message)

    # from the page

    def _received(self, _widget: Any, message: Any, _buffers: Any) -> None:
        op = message.get("op") if isinstance(message, dict) else None
        if op == "stop" and self._run is not None:
            self._run.stop("button")
        elif op == "sync":
            self._send({"op": "snapshot", **self._state()})
        elif op == "settled":
            self._close()
        elif op != "hello":
            log.warning("the page sent a message that is not understood and is ignored")

    def _close(self) -> None:
        """The page has what it needs: the transport may go."""
        if self._model is not None and self._bundle is not None:
            if self._model in _unacknowledged:
                _unacknowledged.remove(self._model)
            self._model.close()

    def _state(self) -> dict[str, Any]:
        with self._lock:
            run = self._run
            timeline = run.transcript.timeline if run is not None else None
            now: dict[str, Any] = dict(self._meta)
            if timeline is not None and timeline.last is not None:
                now |= {"ms": (timeline.last - timeline.origin) // 1_000_000, "n": len(timeline)}
            if "waiting_ns" in now:
                now["waited"] = (monotonic_ns() - now.pop("waiting_ns")) / 1e6
            return {
                "text": "".join(self._sent["text"]),
                "reasoning": "".join(self._sent["reasoning"]),
                "seq": self._seq,
                "status": self._status,
                "meta": now,
                "bundle": self._bundle,
            }

    def _send(self, message: dict[str, Any]) -> None:
        if self._model is not None and self._model.comm is not None:
            self._model.send(message)


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
