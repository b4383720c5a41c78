"""Labelled streams for ``benchmarks/diagnosis.py``: what is wrong with each is known, everything else about it is drawn.

Paces, lengths, jitter, protocols and the place of a fault are random, from a seed. ``paced.py`` plays them over real
sockets in real time, our client reads them as it reads any answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from paced import PATHS, Trace

from tokenstream_magic.mock.script import Script, Tool, cut

SYLLABLES = "an be ca do el fi gu ho in ja ke lo mu ni or pa qua re si to un ver wi xe yo zu".split()


class Draw:
    """Draws traces, all from one random generator."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    # material

    def pieces(self, count: int) -> tuple[str, ...]:
        """Words of one to four syllables with a space, as tokens are."""
        rng = self.random
        return tuple(" " + "".join(rng.choices(SYLLABLES, k=rng.choice((1, 1, 2, 2, 3, 4)))) for _ in range(count))

    def any_protocol(self, *, without: tuple[str, ...] = ()) -> str:
        """One of the five."""
        return self.random.choice([name for name in PATHS if name not in without])

    def steady(self, count: int, rate: float, first: float, jitter: float = 0.3) -> list[tuple[float, int]]:
        """One piece a write at ``rate`` a second, gaps spread log-normally."""
        rng = self.random
        return [(first if n == 0 else rng.lognormvariate(0, jitter) / rate, 1) for n in range(count)]

    def plain(self, kind: str, *expected: str, count: int | None = None, rate: float | None = None, **script: Any) -> Trace:
        """A steady answer of 20 to 60 pieces a second, with whatever the script adds to it."""
        rng = self.random
        count = count or rng.randint(60, 120)
        rate = rate or rng.uniform(25, 60)
        writes = self.steady(count, rate, rng.uniform(0.1, 1.5))
        return Trace(kind, frozenset(expected), Script(self.pieces(count), **script), tuple(writes), self.any_protocol())

    # clean

    def clean_steady(self) -> Trace:
        return replace(self.plain("clean: steady"), frame_seconds=self.random.uniform(0.003, 0.015), lead=self.random.uniform(-1e6, 1e6))

    def clean_slow_model(self) -> Trace:
        return self.plain("clean: slow model", count=self.random.randint(8, 14), rate=self.random.uniform(1.5, 5))

    def clean_fast_model(self) -> Trace:
        return self.plain("clean: fast model", count=self.random.randint(150, 500), rate=self.random.uniform(150, 900))

    def clean_speculative(self) -> Trace:
        rng, step = self.random, self.random.uniform(0.02, 0.25)
        sizes = [rng.choice((1, 2, 3, 3, 4, 4, 5, 6, 8)) for _ in range(rng.randint(15, 30))]
        writes = tuple((rng.lognormvariate(0, 0.2) * step, size) for size in sizes)
        return Trace("clean: speculative decoding", frozenset(), Script(self.pieces(sum(sizes))), writes, self.any_protocol())

    def clean_tiny(self) -> Trace:
        count = self.random.randint(1, 8)
        writes = self.steady(count, self.random.uniform(20, 900), self.random.uniform(0.05, 3))
        return Trace("clean: tiny answer", frozenset(), Script(self.pieces(count)), tuple(writes), self.any_protocol())

    def clean_one_chunk(self) -> Trace:
        text = "".join(self.pieces(self.random.randint(3, 80)))
        script = Script((text,), output_tokens=len(text) // 4 + 1)
        return Trace("clean: one chunk", frozenset(), script, ((self.random.uniform(0.1, 4), 1),), self.any_protocol())

    def clean_large_chunks(self) -> Trace:
        rng = self.random
        count = rng.randint(5, 12)
        script = Script(tuple("".join(self.pieces(rng.randint(10, 50))) for _ in range(count)), output_tokens=count * 30)
        return Trace(
            "clean: large chunks", frozenset(), script, tuple((rng.uniform(0.1, 0.9), 1) for _ in range(count)), self.any_protocol()
        )

    def clean_reasoning(self) -> Trace:
        rng, rate = self.random, self.random.uniform(30, 80)
        thought, said = rng.randint(30, 80), rng.randint(20, 80)
        writes = self.steady(thought, rate, rng.uniform(0.1, 1)) + self.steady(said, rate, rng.uniform(0.2, 5))
        script = Script(self.pieces(said), reasoning=self.pieces(thought))
        return Trace("clean: reasoning", frozenset(), script, tuple(writes), self.any_protocol())

    def clean_hidden_reasoning(self) -> Trace:
        rng, count = self.random, self.random.randint(60, 250)
        writes = self.steady(count, rng.uniform(100, 500), rng.uniform(3, 7))
        script = Script(self.pieces(count), output_tokens=count + rng.randint(200, 2000))
        return Trace("clean: hidden reasoning", frozenset(), script, tuple(writes), self.any_protocol())

    def clean_tool_call(self) -> Trace:
        rng, rate = self.random, self.random.uniform(20, 60)
        said, tool = rng.randint(8, 30), Tool("look_up", cut('{"words": "' + "".join(self.pieces(12)) + '"}'))
        writes = self.steady(said, rate, rng.uniform(0.1, 1)) + self.steady(1 + len(tool.arguments), rate, rng.uniform(0.1, 3))
        script = Script(self.pieces(said), tools=(tool,), finish="tool_calls")
        return Trace("clean: tool call", frozenset(), script, tuple(writes), self.any_protocol())

    def clean_stopped(self) -> Trace:
        trace = self.plain("clean: stopped by its reader", count=400)
        return replace(trace, stop_after=self.random.uniform(0.3, 4))

    def clean_queued(self) -> Trace:
        """A queue that is waited in with keep-alives, before the first token."""
        rng, count = self.random, self.random.randint(30, 100)
        writes = self.steady(count, rng.uniform(20, 60), rng.uniform(2, 5))
        script = Script(self.pieces(count), keep_alive=rng.uniform(0.2, 0.8))
        return Trace("clean: queued with keep-alives", frozenset(), script, tuple(writes), self.any_protocol())

    def clean_hidden_tab(self) -> Trace:
        trace = self.plain("clean: in a tab nobody sees", count=60)
        return replace(trace, frame_seconds=self.random.uniform(0.5, 1), lead=self.random.uniform(-1e6, 1e6), hidden=True)

    def clean_ended(self) -> Trace:
        trace = self.clean_stopped()
        script = replace(trace.script, headers={"Server": "llama.cpp"})
        return replace(trace, kind="clean: stopped, slots idle", script=script, protocol="openai-chat", slots="idle")

    def clean_no_end_marker(self) -> Trace:
        trace = self.plain("clean: no end marker", count=self.random.randint(20, 60), ending="no-terminator")
        return replace(trace, protocol=self.random.choice(("openai-chat", "gemini")))

    # delivery

    def held_back(self) -> Trace:
        count = self.random.randint(60, 200)
        return self.plain("held back by a proxy", "held_back", count=count, buffered=True)

    def unstreamed(self) -> Trace:
        rng = self.random
        script = Script(self.pieces(rng.randint(3, 200)), unstreamed=True, delay=rng.uniform(0.2, 4))
        return Trace("sent as one object", frozenset(["held_back"]), script, (), self.any_protocol())

    def blocks(self) -> Trace:
        """Passed on in blocks of what proxies and compressors have: two of them at least."""
        rng = self.random
        size = rng.choice((4096, 8192, 16384))
        # no frame of the five protocols is shorter than 90 bytes, nor longer than 420 with words as short as these
        return self.plain("passed on in blocks", "bursts", count=size * 2 // 90 + 20, rate=rng.uniform(25, 40) * size / 4096, buffered=size)

    def compressed(self) -> Trace:
        return self.plain("compressed, passed on at once", "compression", gzip=True)

    def compressed_whole(self) -> Trace:
        return self.plain("compressed and held back", "compression", "held_back", gzip=True, buffered=True)

    # ends

    def closed_early(self) -> Trace:
        return self.plain("closed in good order too early", "truncated", count=self.random.randint(15, 80), ending="no-finish")

    def broken_off(self) -> Trace:
        ending = self.random.choice(("cut", "reset"))
        return self.plain("broken off", "truncated", count=self.random.randint(15, 80), ending=ending)

    def error_in_stream(self) -> Trace:
        count = self.random.randint(20, 80)
        return self.plain("error in the stream", "error_after_200", count=count, error_after=self.random.randint(1, count - 2))

    def error_as_object(self) -> Trace:
        body = b'{"error": {"message": "The model is overloaded", "type": "overloaded_error"}}'
        script = Script(body=body, content_type="application/json", delay=self.random.uniform(0, 2))
        return Trace("error in place of a stream", frozenset(["error_after_200"]), script, (), self.any_protocol(), {"max_retries": 0})

    def no_usage(self) -> Trace:
        return self.plain("no usage", "missing_usage", usage=False)

    def token_limit(self) -> Trace:
        return self.plain("cut at the token limit", "token_limit", count=self.random.randint(20, 80), finish="length")

    # silence

    def _stalled(self, kind: str, *expected: str, **script: Any) -> Trace:
        """A stream that stands still once, for far longer than it does between its pieces, and goes on."""
        rng = self.random
        trace = self.plain(kind, *expected, count=rng.randint(40, 100), **script)
        writes = list(trace.writes)
        writes[rng.randint(8, len(writes) - 2)] = (rng.uniform(1.5, 5), 1)
        return replace(trace, writes=tuple(writes))

    def stall(self) -> Trace:
        return self._stalled("stalls and goes on", "stall")

    def silent_stall(self) -> Trace:
        """Empty chunks between the pieces, and a silence without any."""
        trace = self._stalled("stalls in silence after empty chunks", "stall")
        return replace(trace, empty=True, protocol=self.any_protocol(without=("ollama",)))

    def stall_of_slow_model(self) -> Trace:
        rng = self.random
        rate, count = rng.uniform(3, 6), rng.randint(12, 20)
        writes = self.steady(count, rate, 0.5, 0.2)
        writes[rng.randint(6, count - 2)] = (8 / rate + rng.uniform(0.5, 2), 1)
        return Trace("a slow model stalls", frozenset(["stall"]), Script(self.pieces(count)), tuple(writes), self.any_protocol())

    def stall_for_good(self) -> Trace:
        rng = self.random
        trace = self.plain("stalls for good", "stall", "truncated", count=60, stall_after=rng.randint(5, 50))
        return replace(trace, ask={"idle_timeout": rng.uniform(1.5, 4)})

    def hangs_at_the_end(self) -> Trace:
        trace = self.plain("hangs at its end", "stall", "truncated", count=self.random.randint(10, 60), ending="stall")
        return replace(trace, ask={"idle_timeout": self.random.uniform(1.5, 4)})

    def silent(self) -> Trace:
        script = Script(self.pieces(3), stall_after=0)
        ask = {"timeout": self.random.uniform(1, 4), "max_retries": 0}
        return Trace("never says a word", frozenset(["stall"]), script, ((0.0, 1),), self.any_protocol(), ask)

    def pings(self) -> Trace:
        trace = self._stalled("keep-alives only, then goes on", "stall", "keep_alive_only", keep_alive=self.random.uniform(0.15, 0.35))
        return replace(trace, protocol=self.any_protocol(without=("ollama",)))

    def pings_for_good(self) -> Trace:
        rng = self.random
        trace = self.plain(
            "keep-alives only, for good", "stall", "keep_alive_only", "truncated", count=60,
            stall_after=rng.randint(5, 50), keep_alive=rng.uniform(0.15, 0.35),
        )  # fmt: skip
        return replace(trace, ask={"idle_timeout": rng.uniform(1.8, 4)}, protocol=self.any_protocol(without=("ollama",)))

    def pings_from_the_start(self) -> Trace:
        rng = self.random
        script = Script(self.pieces(3), stall_after=0, keep_alive=rng.uniform(0.15, 0.35))
        ask = {"timeout": rng.uniform(1.8, 4), "max_retries": 0}
        protocol = self.any_protocol(without=("ollama",))
        return Trace("keep-alives and never a word", frozenset(["stall", "keep_alive_only"]), script, ((0.0, 1),), protocol, ask)

    # reader's side

    def slow_display(self) -> Trace:
        lead = self.random.uniform(-1e6, 1e6)
        return replace(self.plain("slow display", "slow_display"), frame_seconds=self.random.uniform(0.15, 0.6), lead=lead)

    def clinging_stop(self) -> Trace:
        rng = self.random
        trace = self.plain("Stop leaves the connection open", "stop_did_not_stop", count=300)
        return replace(trace, stop_after=rng.uniform(1.5, 3), closes_after=rng.uniform(0.4, 1.5))

    def goes_on(self) -> Trace:
        script = {"headers": {"Server": "llama.cpp"}}
        trace = self.plain("Stop, and a slot goes on", "stop_did_not_stop", count=300, **script)
        return replace(trace, stop_after=self.random.uniform(1.5, 3), slots="busy", protocol="openai-chat")

    def uncancelled(self) -> Trace:
        trace = self.plain("Stop, and the server goes on", "stop_did_not_stop", count=300)
        return replace(trace, stop_after=self.random.uniform(2, 4), lasting=True, protocol="openai-responses")


KINDS: tuple[Callable[[Draw], Trace], ...] = (
    Draw.clean_steady, Draw.clean_slow_model, Draw.clean_fast_model, Draw.clean_speculative, Draw.clean_tiny, Draw.clean_one_chunk,
    Draw.clean_large_chunks, Draw.clean_reasoning, Draw.clean_hidden_reasoning, Draw.clean_tool_call, Draw.clean_stopped,
    Draw.clean_queued, Draw.clean_no_end_marker, Draw.clean_hidden_tab, Draw.clean_ended,
    Draw.held_back, Draw.unstreamed, Draw.blocks, Draw.compressed, Draw.compressed_whole, Draw.closed_early, Draw.broken_off,
    Draw.error_in_stream, Draw.error_as_object, Draw.no_usage, Draw.token_limit, Draw.stall, Draw.stall_of_slow_model,
    Draw.stall_for_good, Draw.hangs_at_the_end, Draw.silent, Draw.pings, Draw.pings_for_good, Draw.pings_from_the_start,
    Draw.silent_stall, Draw.slow_display, Draw.clinging_stop, Draw.goes_on, Draw.uncancelled,
)  # fmt: skip


def draw(seed: int, count: int) -> Iterator[Trace]:
    """``count`` traces, every kind equally often, in random order."""
    drawing = Draw(seed)
    made = [KINDS[number % len(KINDS)](drawing) for number in range(count)]
    drawing.random.shuffle(made)
    yield from made
