"""Progress is what the answer and the reading of the prompt make; bytes alone are none."""

from __future__ import annotations

import asyncio
import json

import pytest
from transport_support import Peer, chat, head, send

import tokenstream_magic as ts
from tokenstream_magic import api


def prefill(done: int, total: int = 100) -> bytes:
    progress = {"total": total, "cache": 0, "processed": done, "time_ms": 1}
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {}}], "prompt_progress": progress}).encode() + b"\n\n"


class Watcher:
    """Keeps what a run tells of its state."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict]] = []

    def begin(self, run): ...
    def content(self, run, channel, text, choice): ...
    def end(self, run): ...
    def state(self, run, state, detail):
        self.told.append((state, dict(detail)))


def test_reading_the_prompt_extends_the_first_token_limit_and_is_shown() -> None:
    async def answer(asked, writer):
        await send(writer, head())
        for done in range(10, 101, 10):
            await send(writer, prefill(done))
            await asyncio.sleep(0.1)
        await send(writer, *chat("Hello"))

    watcher = Watcher()
    with Peer(answer) as peer:
        transcript = api.start("Hi", "m", base_url=peer.base_url, timeout=0.5, sinks=[watcher]).wait()
    assert (transcript.outcome, transcript.text) == ("complete", "Hello"), "a second of prefill under a limit of half a second"
    assert [detail["done"] for state, detail in watcher.told if state == "prefill"] == list(range(10, 101, 10))
    assert transcript.timing.ttft_ms > 900


@pytest.mark.parametrize("noise", [prefill(10), b": ping\n\n", b'data: {"choices":[]}\n\n', b"event: ping\ndata: {}\n\n", b"retry: 1\n\n"])
def test_what_gets_no_further_does_not(noise: bytes) -> None:
    async def answer(asked, writer):
        await send(writer, head())
        while True:
            await send(writer, noise)
            await asyncio.sleep(0.05)

    with Peer(answer) as peer:
        transcript = ts.stream("Hi", "m", base_url=peer.base_url, timeout=0.5)
        assert (transcript.outcome, transcript.error["type"]) == ("failed", "first_token_timeout")
        assert peer.asked[0].gone.wait(5)


@pytest.mark.parametrize("noise", [prefill(10), b": ping\n\n", b'data: {"choices":[{"index":0,"delta":{"content":""}}]}\n\n'])
def test_nothing_but_content_re_arms_the_idle_limit(noise: bytes) -> None:
    async def answer(asked, writer):
        await send(writer, head(), *chat("Hello", done=False))
        done = 10
        while True:
            await send(writer, noise if noise != prefill(10) else prefill(done))
            done += 1
            await asyncio.sleep(0.05)

    with Peer(answer) as peer:
        transcript = ts.stream("Hi", "m", base_url=peer.base_url, idle_timeout=0.4)
    assert (transcript.outcome, transcript.error["type"], transcript.text) == ("truncated", "idle_timeout", "Hello")
