"""What a token costs the client, beside httpx and httpx-sse in the same run, and whether size stays linear.

* CPU: the same chunks over loopback, at 500 chunks/s (a read each) and as fast as the server can; µs of process time a
  chunk, the whole run with timeline and transcript against a bare loop. Bar: no more than httpx + httpx-sse + json.
* One frame of 64 MiB against one of 8 MiB: the time a byte must stay the same.
* Memory a finished transcript keeps, beyond its text. Bar: 16 bytes a token.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import tracemalloc
from collections.abc import Callable
from multiprocessing.connection import Connection
from time import perf_counter, process_time

import httpx
from httpx_sse import aconnect_sse
from peers import print_table

from tokenstream_magic import api
from tokenstream_magic.wire.framing import EventStreamFraming

CHUNKS = 20_000
PACED, PACE = 1_500, 500.0
ROUNDS = 3
MIB = 1024 * 1024


def _chunk(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    message = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": "fp", "choices": [choice]}
    data = b"data: " + json.dumps(message).encode() + b"\n\n"
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    paced = json.loads(await reader.readexactly(length))["model"] == "paced"
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number in range(PACED if paced else CHUNKS):
        if paced:
            await asyncio.sleep(max(0.0, started + number / PACE - loop.time()))
        writer.write(_chunk(f" word{number % 97}"))
        if number % 64 == 0:
            await writer.drain()
    writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    await writer.drain()
    writer.close()


def serve(tell: Connection) -> None:
    """The server, in a process of its own so that its work is not counted."""

    async def run() -> None:
        server = await asyncio.start_server(_answer, "127.0.0.1", 0)
        tell.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def ours(base_url: str, model: str, count: int) -> None:
    """A run as users start it, without a view and without the store."""
    transcript = api.start("x", model, base_url=base_url, no_log=True).wait()
    assert (transcript.outcome, transcript.timing.chunks) == ("complete", count), transcript


def bare(base_url: str, model: str, count: int) -> None:
    """What a careful user writes: text and arrival times in lists."""

    async def stream() -> None:
        texts, times = [], []
        body = {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": True}
        async with (
            httpx.AsyncClient(timeout=60) as client,
            aconnect_sse(client, "POST", f"{base_url}/chat/completions", json=body) as source,
        ):
            async for event in source.aiter_sse():
                if event.data == "[DONE]":
                    break
                texts.append(json.loads(event.data)["choices"][0]["delta"]["content"])
                times.append(perf_counter())
        assert len(texts) == count

    asyncio.run(stream())


def costs(base_url: str) -> bool:
    """Prints µs of CPU a chunk; whether ours is no more than the peer's."""
    best: dict[tuple[str, str], float] = {}
    peers: list[tuple[str, Callable[[str, str, int], None]]] = [("ours", ours), ("httpx + httpx-sse + json", bare)]
    for _ in range(ROUNDS):
        for pace, count in (("paced", PACED), ("fast", CHUNKS)):
            for name, run in peers:
                started = process_time()
                run(base_url, pace, count)
                spent = (process_time() - started) / count * 1e6
                best[name, pace] = min(spent, best.get((name, pace), spent))
    rows = [[name, *(f"{best[name, pace]:.1f}" for pace in ("paced", "fast"))] for name, _ in peers]
    ratios = [best["ours", pace] / best[peers[1][0], pace] for pace in ("paced", "fast")]
    print_table(["CPU µs a chunk, best of 3", f"{PACE:.0f}/s", "as fast as it goes"], [*rows, ["ratio", *(f"{r:.2f}" for r in ratios)]])
    return max(ratios) <= 1


def giant() -> bool:
    """Prints the time of a giant frame; whether it grows in line with its size."""
    times = {}
    for size in (8, 64):
        body = b"data: " + b"x" * (size * MIB) + b"\n\n"
        reads = [body[start : start + 65536] for start in range(0, len(body), 65536)]
        elapsed = []
        for _ in range(ROUNDS):
            framing, started = EventStreamFraming(frame_limit=65 * MIB), perf_counter()
            frames = sum(len(framing.feed(read)) for read in reads)
            elapsed.append(perf_counter() - started)
            assert frames == 1
        times[size] = min(elapsed)
    ratio = (times[64] / 64) / (times[8] / 8)
    print(f"one frame of 64 MiB: {times[64] * 1e3:.0f} ms, {ratio:.2f} times the time a byte of one of 8 MiB")
    return ratio < 2


def memory(base_url: str) -> bool:
    """Prints what a finished transcript keeps a token, beyond its text."""
    ours(base_url, "fast", CHUNKS)  # whatever is imported on first use
    gc.collect()
    tracemalloc.start()
    transcript = api.start("x", "fast", base_url=base_url, no_log=True).wait()
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    a_token = (kept - len(transcript.text)) / CHUNKS
    print(f"a finished transcript of {CHUNKS:,} tokens keeps {a_token:.1f} bytes a token beyond its text")
    return a_token <= 16


def main() -> None:
    """Prints the three, and whether the bars are met."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        base_url = f"http://127.0.0.1:{mine.recv()}/v1"
        met = [costs(base_url), giant(), memory(base_url)]
    finally:
        server.terminate()
        server.join()
    print(f"bars: CPU no more than httpx + httpx-sse, linear, 16 bytes a token: {'met' if all(met) else 'MISSED'}")


if __name__ == "__main__":
    main()
