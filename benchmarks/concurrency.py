"""A thousand streams in one process: what each token waits, what they cost the processor, what memory a stream takes.

A server in a process of its own sends every stream ten tokens a second; each token's text is the monotonic ns at which
it was sent, so a token's delay is the client's stamp minus it. Every client is measured in a fresh process, over the
seconds after all its streams are open and flowing: the delay until the token is handed to whoever asked (for ours also
until the stamp in the timeline), CPU time of the process, and what its resident memory grew by. Ours keeps timeline and
transcript, without a view; then with the store too. The peers keep text and arrival times in lists.

Bar, with 1,000 streams: p99 of the delay at most 10 ms, without the store and with it; without it 40 % of one core and
32 KB a stream. Beside other work on the machine the delays are that work's too: ``chrt -f 5`` before the command leaves it out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import multiprocessing
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from array import array
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic_ns, process_time
from typing import Any

from peers import print_table, quantile

RATE = 10  # tokens a second and stream
SLOTS = 100  # of 1 ms, over which the streams' beats are spread
SETTLE = 1.0
DELAY, CORE, MEMORY = 10.0, 40.0, 32.0
CLIENTS = {"ours": "ours", "store": "ours, with the store", "httpx": "httpx + httpx-sse", "openai": "openai client"}
BARS = {"ours": {"p99": DELAY, "core": CORE, "memory": MEMORY}, "store": {"p99": DELAY}}
WARM = 3


# The server


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _pieces() -> tuple[bytes, bytes]:
    """What stands on the wire before and after a stamp of twenty digits."""
    choice = {"index": 0, "delta": {"content": "0" * 20 + " "}, "logprobs": None, "finish_reason": None}
    message = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": "fp", "choices": [choice]}
    before, _, after = _chunk(b"data: " + json.dumps(message).encode() + b"\n\n").partition(b"0" * 20)
    return before, after


class _Load:
    """The streams of one measurement: they flow once all are there, each ``ticks`` tokens, and are told of the window."""

    def __init__(self, streams: int, seconds: float) -> None:
        self.streams, self.seconds = streams, seconds
        self.settle = SETTLE if seconds else 0.1
        self.ticks = round((2 * self.settle + seconds) * RATE)
        self.writers: list[asyncio.WriteTransport] = []
        self.told: list[asyncio.StreamWriter] = []

    async def run(self) -> None:
        before, after = _pieces()
        slots: list[list[asyncio.WriteTransport]] = [[] for _ in range(SLOTS)]
        for writer in self.writers:
            slots[random.randrange(SLOTS)].append(writer)
        await asyncio.sleep(self.settle)
        loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        marks = [(self.settle, b"start"), (self.settle + self.seconds, b"end")]
        for beat in range(self.ticks * SLOTS):
            due = beat / (SLOTS * RATE)
            if marks and due >= marks[0][0]:
                mark = marks.pop(0)[1]
                for told in self.told:
                    told.write(b"%s %d\n" % (mark, monotonic_ns()))
            if (wait := begun + due - loop.time()) > 0:
                await asyncio.sleep(wait)
            for writer in slots[beat % SLOTS]:
                writer.write(before + b"%020d" % monotonic_ns() + after)
        for writer in self.writers:
            writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def _serve(tell: Connection) -> None:
    loads: dict[str, _Load] = {}
    tasks = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readline()
        if first.startswith(b"WATCH"):
            name = first.split()[1].decode()
            loads.setdefault(name, _load(name)).told.append(writer)
            await reader.read()
            loads.pop(name).told.clear()
            return
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        name = json.loads(await reader.readexactly(length))["model"]
        load = loads.setdefault(name, _load(name))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        load.writers.append(writer.transport)
        if len(load.writers) == load.streams:
            tasks.append(asyncio.ensure_future(load.run()))
        with contextlib.suppress(ConnectionError):
            await reader.read()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4096)
    tell.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _load(name: str) -> _Load:
    _, streams, seconds = name.split("-")
    return _Load(int(streams), float(seconds))


def serve(tell: Connection) -> None:
    """The server, in a process of its own so that its work is not counted."""
    asyncio.run(_serve(tell))


# The clients: each runs its streams and returns the delays of what was sent from ``start`` to ``end``


class Window:
    """What the process spent between the server's two marks."""

    def __init__(self, port: int, name: str, streams: int, *, traced: bool) -> None:
        self._streams, self._traced = streams, traced
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(f"WATCH {name}\n".encode())
        self.start = self.end = 0
        self.core = self.memory = 0.0
        gc.collect()
        self._before = self._used()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _used(self) -> float:
        """KB in use."""
        if self._traced:
            return tracemalloc.get_traced_memory()[0] / 1024
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1024

    def _watch(self) -> None:
        marks = self._socket.makefile()
        self.start, spent = int(marks.readline().split()[1]), process_time()
        self.end, spent = int(marks.readline().split()[1]), process_time() - spent
        self.core = spent / ((self.end - self.start) / 1e9) * 100
        self.memory = (self._used() - self._before) / self._streams

    def close(self) -> None:
        """Both marks have come."""
        self._thread.join()
        self._socket.close()


Delays = tuple[list[float], list[float]]
"""In ms: until handed on, and (ours only) until the stamp."""


class _Arrivals:
    """A sink that notes when each piece was handed on, of all runs."""

    def __init__(self) -> None:
        self.at = array("q")
        self.sent = array("q")

    def begin(self, run: Any) -> None:
        """Nothing to do."""

    def state(self, run: Any, state: str, detail: Any) -> None:
        """Nothing to do."""

    def content(self, run: Any, channel: str, text: str, choice: int) -> None:
        """Notes the moment."""
        self.at.append(monotonic_ns())
        self.sent.append(int(text))

    def end(self, run: Any) -> None:
        """Nothing to do."""


def ours(base_url: str, name: str, streams: int, window: Window | None, *, kept: bool = False) -> Delays:
    """Runs as users start them, without a view."""
    from tokenstream_magic import api

    arrivals = _Arrivals()
    runs = [api.start("x", name, base_url=base_url, no_log=not kept, sinks=[arrivals]) for _ in range(streams)]
    stamped = []
    ticks = _load(name).ticks
    for run in runs:
        transcript = run.wait()
        assert (transcript.outcome, len(transcript.timeline)) == ("complete", ticks), transcript
        sent = [int(word) for word in transcript.text.split()]
        assert sent == sorted(sent)
        stamped += [
            (transcript.timeline.origin + stamp.offset_ns - at) / 1e6
            for stamp, at in zip(transcript.timeline, sent, strict=True)
            if window is None or window.start <= at < window.end
        ]
    return _delays(arrivals.sent, arrivals.at, window), stamped


def _delays(sent: Any, at: Any, window: Window | None) -> list[float]:
    return [(b - a) / 1e6 for a, b in zip(sent, at, strict=True) if window is None or window.start <= a < window.end]


def _gathered(streams: int, window: Window | None, stream: Callable[[list[str], Any], Any]) -> Delays:
    """Many streams on one loop; each keeps its texts and arrival times."""
    kept: list[tuple[list[str], Any]] = [([], array("q")) for _ in range(streams)]

    async def run() -> None:
        await asyncio.gather(*(stream(*lists) for lists in kept))

    asyncio.run(run())
    return [delay for texts, at in kept for delay in _delays([int(text) for text in texts], at, window)], []


def with_httpx(base_url: str, name: str, streams: int, window: Window | None) -> Delays:
    """httpx.AsyncClient, httpx-sse and json: what a careful user writes."""
    import httpx
    from httpx_sse import aconnect_sse

    client = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=None), trust_env=False)
    body = {"model": name, "messages": [{"role": "user", "content": "x"}], "stream": True}

    async def stream(texts: list[str], at: Any) -> None:
        async with aconnect_sse(client, "POST", f"{base_url}/chat/completions", json=body) as source:
            async for event in source.aiter_sse():
                if event.data == "[DONE]":
                    break
                texts.append(json.loads(event.data)["choices"][0]["delta"]["content"])
                at.append(monotonic_ns())

    return _gathered(streams, window, stream)


def with_openai(base_url: str, name: str, streams: int, window: Window | None) -> Delays:
    """The async client of the openai package."""
    import openai

    http = openai.DefaultAsyncHttpxClient(trust_env=False)
    client = openai.AsyncOpenAI(api_key="x", base_url=base_url, timeout=None, max_retries=0, http_client=http)

    async def stream(texts: list[str], at: Any) -> None:
        chunks = await client.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}], stream=True)
        async for chunk in chunks:
            texts.append(chunk.choices[0].delta.content or "")
            at.append(monotonic_ns())

    return _gathered(streams, window, stream)


def measure(client: str, port: int, streams: int, seconds: float, *, traced: bool) -> dict[str, float]:
    """The figures of one client, in this process."""
    base_url = f"http://127.0.0.1:{port}/v1"
    run: Callable[..., Delays] = {"httpx": with_httpx, "openai": with_openai}.get(client, ours)
    more = {"kept": True} if client == "store" else {}
    run(base_url, f"{os.getpid()}w-{WARM}-0", WARM, None, **more)  # whatever is imported and learned on first use
    if traced:
        tracemalloc.start()
    name = f"{os.getpid()}-{streams}-{seconds:g}"
    window = Window(port, name, streams, traced=traced)
    handed, stamped = run(base_url, name, streams, window, **more)
    window.close()
    figures = {"core": window.core, "memory": window.memory, "p50": quantile(handed, 50), "p99": quantile(handed, 99)}
    return {**figures, "stamp": quantile(stamped, 99)} if stamped else figures


# The table


def _in_a_process(client: str, port: int, streams: int, seconds: float, *, traced: bool = False) -> dict[str, float]:
    arguments = [client, str(port), str(streams), str(seconds), "traced" if traced else ""]
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "TOKENSTREAM_DATABASE": str(Path(directory) / "transcripts.db")}
        command = [sys.executable, __file__, "--client", *arguments]
        told = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    figures: dict[str, float] = json.loads(told)
    return figures


def _row(streams: int, client: str, rounds: list[dict[str, float]]) -> list[str]:
    best = {figure: min(each[figure] for each in rounds) for figure in rounds[0]}
    stamp = f"{best['stamp']:.2f}" if "stamp" in best else "-"
    return [f"{streams:,} x {CLIENTS[client]}", *(f"{best[name]:.2f}" for name in ("p50", "p99")), stamp,
            f"{best['core']:.1f}", f"{best['memory']:.1f}"]  # fmt: skip


def main() -> None:
    """Prints the delays, the share of a core and the memory, ours and the peers'."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--only", nargs="+", default=list(CLIENTS), choices=list(CLIENTS))
    parser.add_argument("--client", nargs=5, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))
    if asked.client:
        client, port, streams, seconds, traced = asked.client
        print(json.dumps(measure(client, int(port), int(streams), float(seconds), traced=bool(traced))))
        return
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        port = mine.recv()
        loads, rows, missed = [], [], []
        for streams in asked.streams:
            found: dict[str, list[dict[str, float]]] = {client: [] for client in asked.only}
            for _ in range(asked.rounds):
                for client in asked.only:
                    found[client].append(_in_a_process(client, port, streams, asked.seconds))
                    loads.append(os.getloadavg()[0])
            rows += [_row(streams, client, rounds) for client, rounds in found.items()]
            if "ours" in found:
                traced = _in_a_process("ours", port, streams, 2.0, traced=True)["memory"]
                rows[-len(found)][-1] += f" (tracemalloc {traced:.1f})"
            for client, bars in BARS.items() if streams == 1000 else ():
                best = {name: min(each[name] for each in found.get(client, [{name: 0.0}])) for name in bars}
                missed += [f"{CLIENTS[client]}: {name} {best[name]:.1f}" for name, bar in bars.items() if best[name] > bar]
    finally:
        server.terminate()
        server.join()
    header = [f"{RATE}/s a stream, best of {asked.rounds}", "p50 ms", "p99 ms", "stamp p99 ms", "% of a core", "KB a stream"]
    print_table(header, rows)
    print(f"load average meanwhile, others' work included: {min(loads):.1f} to {max(loads):.1f}")
    verdict = f"MISSED: {', '.join(missed)}" if missed else "met"
    also = f"p99 {DELAY:.0f} ms with the store and without; without {CORE:.0f} % of one core, {MEMORY:.0f} KB a stream"
    print(f"bar: 1,000 streams: {also}: {verdict}")


if __name__ == "__main__":
    main()
