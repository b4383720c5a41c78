"""The fuzz of the wire: broken, spliced and hostile bodies in any cuts. Nothing raises but FramingError, nothing hangs, nothing grows.

``TOKENSTREAM_FUZZ_COUNT`` inputs (a million) from ``TOKENSTREAM_FUZZ_SEED`` on (1). An input is made from the seed and its
number alone, so the number in a failure is enough to make it again: ``print(make(seed, number))``.
"""

from __future__ import annotations

import _thread
import gc
import json
import os
import random
import threading
from dataclasses import replace
from importlib import import_module
from time import monotonic

import psutil
import pytest

from tokenstream_magic.capture import decode
from tokenstream_magic.mock.script import SCRIPTS, STORY, Citation, Script, Tool, cut, words
from tokenstream_magic.wire.framing import FRAME_LIMIT, FramingError
from tokenstream_magic.wire.protocols import PROTOCOLS
from tokenstream_magic.wire.recognise import recognise

LONGEST = 20.0
GROWTH = 24 * 1024 * 1024
WARM = 0.2
NAMES = list(PROTOCOLS)
OUTCOMES = ("complete", "truncated", "failed")

RICH = Script(
    words("Hé \U0001f642 there, all of it."),
    reasoning=("hm", " so"),
    choices=(("Two", " too"),),
    annotations=(Citation("https://example.org/a", "A"),),
    tools=(Tool("f", cut('{"a": [1, {"b": null}]}')), Tool("g")),
    logprobs=(-0.1, -2.5),
    top_logprobs=2,
    cached_tokens=3,
)
FEATURES = [*(script for name, script in SCRIPTS.items() if len(script.pieces) < 70 and not script.giant), RICH, Script(text=STORY)]
ERRORS = [
    {"error": {"message": "m", "type": "t", "code": 400, "param": None}},
    {"error": "text", "error_type": "overloaded"},
    {"object": "error", "message": "m"},
    {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
    {"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "m"}}},
    [{"error": {"code": 499, "status": "CANCELLED"}}],
    {"detail": [{"loc": [1], "msg": "m"}]},
    {"choices": [{"index": 0, "error": {"message": "m"}, "finish_reason": "error"}]},
    {"x_groq": {"error": "m", "usage": {"queue_time": 0.1}}},
    {"promptFeedback": {"blockReason": "SAFETY"}},
    {"choices": [{"delta": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}]}}], "usage": {}},
    {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "willContinue": True}}]}}]},
    {"candidates": [{"content": {"parts": [{"functionCall": {"partialArgs": [{"jsonPath": "$.a[3].b", "stringValue": "x"}]}}]}}]},
    {"prompt_progress": {"total": 9, "processed": 3}, "choices": [], "timings": {"predicted_ms": 1.5}},
]
VALUES = [
    None, True, False, 0, -1, 2**31, 2**53, 10**400, 1.5, -0.0, float("nan"), float("inf"), "", "x", "\ud83d", "\ude00", "\u2028", "0",
    "[DONE]", "error", [], {}, [[]], [{}], [None], {"": None}, [1] * 50, "a" * 3000, {"error": {}}, {"type": "error"},
    {"a": {"a": {"a": {"a": []}}}},
]  # fmt: skip
JUNK = [
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"data:", b"data: ", b"data", b": ping\n", b"data: : ping\n\n", b"event: error\n", b"id: 1\0\n",
    b"retry: 5\n", b"retry: +1\n", b"error: {}\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\xf0\x9f", b"\xe2\x80\xa8", b"{", b"}", b"[", b"]",
    b'"', b",", b"\\ud83d", b"\\", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"data: [DONE]\n\n", b"<html>",
    b"data: {}\n\n", b"{}\n", b'{"error":"x"}\n', b"a" * 70_000,
]  # fmt: skip


def seeds() -> list[tuple[str, bytes]]:
    """Whole bodies of every protocol with everything in it, and every shape of error behind a beginning."""
    made = []
    for protocol in NAMES:
        speech = import_module(f"tokenstream_magic.mock.{protocol.replace('-', '_')}")
        for script in FEATURES:
            ended = speech.ending(replace(script, ending="done"), "m")
            made.append((protocol, b"".join(speech.frames(script, "m")) + ended))
            made.append((protocol, json.dumps(speech.whole(script, "m")).encode()))
        beginning = b"".join(speech.frames(Script(), "m"))
        start, end = (b"", b"\n") if protocol == "ollama" else (b"data: ", b"\n\n")
        made += [(protocol, beginning + start + json.dumps(error).encode() + end) for error in ERRORS]
    return made


SEEDS = seeds()


def swapped(chance: random.Random, body: bytes) -> bytes:
    """One value of one JSON message in the body is another one."""
    lines = body.splitlines(keepends=True)
    at = chance.randrange(len(lines)) if lines else 0
    prefix = b"data: " if lines and lines[at].startswith(b"data: ") else b""
    try:
        message = json.loads(lines[at][len(prefix) :])
    except (ValueError, IndexError, RecursionError):
        return body
    node = message
    while isinstance(node, (dict, list)) and node:
        key = chance.choice(list(node)) if isinstance(node, dict) else chance.randrange(len(node))
        if not isinstance(node[key], (dict, list)) or not node[key] or chance.random() < 0.25:
            if isinstance(node, dict) and chance.random() < 0.15:
                del node[key]
            else:
                node[key] = chance.choice(VALUES) if chance.random() < 0.8 else chance.choice(ERRORS)
            break
        node = node[key]
    text = json.dumps(message, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    lines[at] = prefix + text + b"\n"
    return b"".join(lines)


def flipped(chance: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.randint(1, 8)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def spliced(chance: random.Random, body: bytes) -> bytes:
    other = chance.choice(SEEDS)[1]
    return body[: chance.randrange(len(body) + 1)] + other[chance.randrange(len(other) + 1) :]


def moved(chance: random.Random, body: bytes) -> bytes:
    start, end = sorted((chance.randrange(len(body) + 1), chance.randrange(len(body) + 1)))
    return body[:start] + body[end:] if chance.random() < 0.6 else body[:end] + body[start:]


def stuffed(chance: random.Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    return body[:at] + chance.choice(JUNK) + body[at:]


MUTATIONS = (swapped, swapped, swapped, flipped, spliced, moved, stuffed)


def make(seed: int, number: int) -> tuple[str, bytes, list[bytes], int]:
    """Input ``number``: the protocol it is read in, the body, its reads, and the limit of a frame."""
    chance = random.Random(seed << 40 | number)
    protocol, body = chance.choice(SEEDS)
    if chance.random() < 0.05:
        protocol = chance.choice(NAMES)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        body = chance.choice(MUTATIONS)(chance, body)[:200_000]
    most = chance.choice((1, 7, 64, 1500, 1 << 20)) if len(body) < 4000 else chance.choice((64, 1500, 1 << 20))
    reads, at = [], 0
    while at < len(body):
        size = chance.randint(1, most)
        reads.append(body[at : at + size])
        at += size
    return protocol, body, reads, 300 if chance.random() < 0.1 else FRAME_LIMIT


def read(protocol: str, reads: list[bytes], limit: int) -> tuple[list[object], str, object]:
    """The events of a body, the outcome, and why it was given up, if it was."""
    wire = PROTOCOLS[protocol]
    framing, decoder, events, over = wire.FRAMING(limit), wire.Decoder(), [], None
    try:
        for data in reads:
            for piece in framing.feed(data):
                events += decoder.decode(piece)
        for piece in framing.end():
            events += decoder.decode(piece)
    except FramingError as error:
        over = str(error)
    return events, decoder.verdict().outcome, over


def check(seed: int, number: int) -> None:
    """Reads one input in all the ways there are, as often as each is worth."""
    protocol, body, reads, limit = make(seed, number)
    events, outcome, over = read(protocol, reads, limit)
    assert outcome in OUTCOMES
    if number % 4 == 0 and over is None:
        again, outcome_again, over = read(protocol, [body], limit)
        assert (repr(events), outcome) == (repr(again), outcome_again) or over, "the cuts make a difference"
    if number % 8 == 1:
        assert recognise(body) in (None, *NAMES)
    if number % 8 == 2:
        transcript = decode(reads, protocol)
        assert transcript.outcome in OUTCOMES
        json.dumps([transcript.text, transcript.error, transcript.diagnostics, transcript.tool_calls]).encode("utf-8")
    if number % 8 == 3:
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            return
        decoder = PROTOCOLS[protocol].Decoder()
        decoder.whole(message)
        assert decoder.verdict().outcome in OUTCOMES


@pytest.mark.soak
def test_a_million_broken_bodies_raise_nothing_hang_nowhere_and_leave_memory_flat(capsys: pytest.CaptureFixture[str]) -> None:
    count, seed = int(os.environ.get("TOKENSTREAM_FUZZ_COUNT", "1000000")), int(os.environ.get("TOKENSTREAM_FUZZ_SEED", "1"))
    process, warm, begun = psutil.Process(), max(int(count * WARM), 1), monotonic()
    state = {"number": 0, "began": begun, "hangs": False, "over": False}

    def watch() -> None:
        while not state["over"]:
            if monotonic() - state["began"] > LONGEST:
                state["hangs"] = True
                _thread.interrupt_main()
                return
            threading.Event().wait(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    before = slowest = 0.0
    try:
        for number in range(count):
            if number == warm:
                gc.collect()
                before = process.memory_info().rss
            state["number"], state["began"] = number, monotonic()
            check(seed, number)
            slowest = max(slowest, monotonic() - state["began"])
    except KeyboardInterrupt:
        if not state["hangs"]:
            raise
        pytest.fail(f"seed {seed}, input {number}: over {LONGEST:.0f} s")
    except Exception as error:
        raise AssertionError(f"seed {seed}, input {number}: {type(error).__name__}: {error}") from error
    finally:
        state["over"] = True
        watcher.join()
    gc.collect()
    grown = process.memory_info().rss - before
    took = monotonic() - begun
    with capsys.disabled():
        said = (
            f"{count} inputs, {count / took:.0f}/s, slowest {slowest * 1e3:.0f} ms, memory {grown / 2**20:+.1f} MiB after the first fifth"
        )
        print(f"\nwire fuzz, seed {seed}: {said}")
    assert grown < GROWTH, f"memory grew by {grown / 2**20:.1f} MiB"
