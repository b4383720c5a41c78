"""A labelled stream played: by a server at a pace of its own for every write, to a client that clings or not, and a page that draws.

Everything goes over real sockets in real time. What is wrong with a stream, and what is not, is :mod:`traces`' to say.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import monotonic_ns, sleep
from typing import Any

from tokenstream_magic.mock.body import Body, pause
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import Exchange, MockServer
from tokenstream_magic.run import Run
from tokenstream_magic.timing.shown import Frame, Pages, Report, Shown
from tokenstream_magic.timing.timeline import Displayed
from tokenstream_magic.transport.http import HttpExchange

PATHS = {"openai-chat": "/v1", "openai-responses": "/v1", "anthropic": "/v1", "gemini": "/v1beta", "ollama": ""}


@dataclass(frozen=True)
class Trace:
    """One stream: its kind, the faults a diagnosis must find and no other, what the server says and when.

    ``writes`` are the seconds to wait before each write and the pieces it holds, ``empty``: keep-alives before each of them, but
    none in a silence; ``ask`` goes to the client. ``frame_seconds``, ``lead`` and ``hidden`` are those of a page. ``slots``: a
    llama.cpp server, whose slots are ``idle`` or ``busy`` after a Stop.
    """

    kind: str
    expected: frozenset[str]
    script: Script
    writes: tuple[tuple[float, int], ...]
    protocol: str = "openai-chat"
    ask: dict[str, Any] = field(default_factory=dict)
    stop_after: float | None = None
    closes_after: float | None = None
    lasting: bool = False
    frame_seconds: float | None = None
    lead: float = 0.0
    hidden: bool = False
    slots: str | None = None
    empty: bool = False


class PacedServer(MockServer):
    """The mock server, with a pace of its own for every write of a script."""

    def __init__(self, traces: dict[str, Trace]) -> None:
        self.traces = traces
        self.said: dict[str, int] = {}
        super().__init__({name: trace.script for name, trace in traces.items()})

    async def _say(self, script: Script, name: str, speech: Any, exchange: Exchange, body: Body) -> bool:
        async def keep_alive() -> None:
            await body.send(speech.KEEP_ALIVE)

        frames = speech.frames(script, name)
        await body.send(next(frames))
        contents = list(frames)
        said = 0
        for wait, pieces in self.traces[name].writes:
            await pause(wait, script.keep_alive, keep_alive)
            if self.traces[name].empty:
                await keep_alive()
            if script.stall_after is not None and said >= script.stall_after:
                await pause(3600.0, script.keep_alive, keep_alive)
            if script.error_after is not None and said >= script.error_after:
                await body.send(speech.error_frame(script))
                return True
            exchange.sent.append(monotonic_ns())
            await body.send(b"".join(contents[said : said + pieces]))
            said += pieces
            self.said[name] = said
        if script.ending == "stall":
            await pause(3600.0, script.keep_alive, keep_alive)
        if script.ending in ("cut", "reset"):
            closing = speech.ending(replace(script, ending="done"), name)
            await body.send(b"".join(contents[said:]) + closing[: len(closing) // 3])
            await body.break_off("reset" if script.ending == "reset" else "close")
            return False
        await body.send(b"".join(contents[said:]) + speech.ending(script, name))
        return True

    async def _list(self, exchange: Exchange, path: str, writer: asyncio.StreamWriter) -> None:
        name = path.split("/")[1]
        said = [{"id": number, "is_processing": False} for number in range(4)]
        if self.traces[name].slots == "busy":
            said[2] |= {"is_processing": True, "id_task": 7, "next_token": [{"n_decoded": self.said.get(name, 0) + 1}]}
        await self._plain(Script(body=json.dumps(said).encode(), content_type="application/json"), None, writer)


class Clinging(HttpExchange):
    """A client whose connection outlives its abort: what Stop must not meet."""

    seconds = 1.0

    def abort(self) -> None:
        """Leaves the connection open."""

    async def __aexit__(self, *_: object) -> None:
        """Closes it a while after it is over."""
        try:
            await asyncio.sleep(self.seconds)
        finally:
            super().abort()


def clinging(seconds: float) -> Callable[[], Clinging]:
    """A client whose connections close so many seconds late."""

    def make() -> Clinging:
        exchange = Clinging()
        exchange.seconds = seconds
        return exchange

    return make


class Page:
    """A page that draws what has come, a frame after the other, each taking ``frame_seconds``, and tells of it. A sink.

    Its clock is ``lead`` ms ahead; what it draws while ``hidden`` does not count. ``real`` is its lag by the kernel's own clock.
    """

    def __init__(self, frame_seconds: float, lead: float = 0.0, *, hidden: bool = False) -> None:
        self._frame_seconds, self._lead, self._hidden = frame_seconds, lead, hidden
        self.real = Shown()
        self._pages = Pages()
        self._lock = threading.Lock()
        self._messages: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._frames: list[tuple[int, float, float | None]] = []
        self._drawn = 0
        self._thread = threading.Thread(target=self._draw, daemon=True)
        self._thread.start()

    def begin(self, run: Run) -> None:
        """Nothing to draw."""

    def state(self, run: Run, state: str, detail: Any) -> None:
        """Nothing to draw."""

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """A message for the next frame."""
        with self._lock:
            self._pages.sent(run.transcript.timeline.last or 0, monotonic_ns())
        self._messages.put(run.transcript.timeline.last)

    def end(self, run: Run) -> None:
        """The last frame."""
        self._messages.put(None)

    def finish(self) -> Displayed | None:
        """What was measured, once all is drawn."""
        self._thread.join()
        return self._pages.displayed()

    def _draw(self) -> None:
        over, told = False, monotonic_ns()
        while not over:
            waiting = [self._messages.get()]
            while not self._messages.empty():
                waiting.append(self._messages.get())
            received = self._clock()
            sleep(self._frame_seconds)
            over, arrived = None in waiting, [at for at in waiting if at is not None]
            for at in arrived:
                self.real.add(at, monotonic_ns())
            self._frames.append((len(arrived), received, None if self._hidden else self._clock()))
            self._drawn += len(arrived)
            if over or monotonic_ns() - told > 1e9:
                told = self._tell()

    def _clock(self) -> float:
        return monotonic_ns() / 1e6 + self._lead

    def _tell(self) -> int:
        clock = self._clock()
        frames = [Frame(n, clock - received, painted and clock - painted) for n, received, painted in self._frames]
        with self._lock:
            self._pages.report(Report("page", self._drawn, clock, frames, 0.0), monotonic_ns())
        self._frames = []
        return monotonic_ns()


class Learning:
    """Waits for what a transcript learns after its end. A sink."""

    def __init__(self) -> None:
        self.learned = threading.Event()

    def begin(self, run: Run) -> None:
        """Nothing yet."""

    def state(self, run: Run, state: str, detail: Any) -> None:
        """Nothing yet."""

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """Nothing yet."""

    def end(self, run: Run) -> None:
        """Nothing yet."""

    def amended(self, run: Run) -> None:
        """There it is."""
        self.learned.set()
