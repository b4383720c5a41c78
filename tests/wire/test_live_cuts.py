"""Bodies cut at every byte, live: by a body that ends, a connection that closes, one that is reset, in reads of any size.

What arrived is always a prefix of what was sent, and nothing is ``complete`` before the protocol's own end was there. The
mock server is a process of its own, so that thousands of connections share the work of two.
"""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from importlib import import_module

import pytest

from tokenstream_magic import asking
from tokenstream_magic.mock import Script
from tokenstream_magic.prompt import Prompt
from tokenstream_magic.run import Plan, Run
from tokenstream_magic.wire.protocols import PROTOCOLS

NAMES = list(PROTOCOLS)
WAYS = ("end", "close", "reset")
AT_ONCE = 24
TEXT = "H\u00e9 \U0001f642."
SCRIPT = Script(("H\u00e9", " \U0001f642."))
# the model "reset-1-00042" is cut at byte 42 by a reset, in writes of one byte (0: whole frames)
SERVER = """
import sys
from dataclasses import replace
from tokenstream_magic.mock import MockServer, Script

class Cuts(dict):
    def get(self, name, default=None):
        how, split, offset = name.rsplit("-", 2)
        script = replace(Script(("H\\u00e9", " \\U0001f642.")), split=int(split) or None)
        return script if how == "whole" else replace(script, cut_at=int(offset), cut_by=how.rstrip("_"))

with MockServer() as server:
    server.scripts = Cuts()
    print(server.port, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield int(process.stdout.readline())
        process.stdin.close()
        assert process.wait(20) == 0


def body_of(protocol: str) -> tuple[int, int]:
    """The size of the script's body, and where it is complete: after the last byte that the verdict needs."""
    speech = import_module(f"tokenstream_magic.mock.{protocol.replace('-', '_')}")
    frames, ending = b"".join(speech.frames(SCRIPT, "reset-0-00000")), speech.ending(SCRIPT, "reset-0-00000")
    needed = ending.partition(b"\n\n")[0] if protocol == "openai-chat" else ending.rstrip()  # there the finish reason is enough
    return len(frames) + len(ending), len(frames) + len(needed)


@lru_cache
def prepared(port: int, protocol: str) -> tuple[Plan, Prompt]:
    path = {"ollama": "api", "gemini": "v1beta"}.get(protocol, "v1")
    return asking.prepare("Hi", "m", base_url=f"http://127.0.0.1:{port}/{path}", protocol=protocol, max_retries=0)


def start(port: int, protocol: str, model: str) -> Run:
    plan, asked = prepared(port, protocol)
    return Run(replace(plan, model=model), asking.describe(plan, asked)).start()


def check(port: int, protocol: str, how: str, split: int, offsets: Iterable[int]) -> None:
    """Runs cut at each of the offsets, many at once."""
    _, needed = body_of(protocol)
    running: deque[tuple[int, Run]] = deque()
    for offset in offsets:
        running.append((offset, start(port, protocol, f"{how:_<5}-{split}-{offset:05}")))
        if len(running) >= AT_ONCE:
            judge(*running.popleft(), how, needed)
    for offset, run in running:
        judge(offset, run, how, needed)


def judge(offset: int, run: Run, how: str, needed: int) -> None:
    seen = run.wait()
    assert TEXT.startswith(seen.text), (offset, seen.text)
    if how == "end" and offset >= needed:
        assert (seen.outcome, seen.text) == ("complete", TEXT), (offset, seen.error)
    elif how == "end":
        assert seen.outcome in ("truncated", "failed"), offset
        assert (seen.outcome == "truncated") >= bool(seen.text), offset
    else:
        assert (seen.outcome, seen.error["type"]) == ("truncated" if seen.text else "failed", "connection_lost"), offset


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("protocol", NAMES)
def test_a_body_cut_at_any_byte_is_a_prefix_and_never_complete(port: int, protocol: str, how: str) -> None:
    check(port, protocol, how, 0, range(0, body_of(protocol)[0], 3))  # every one in the long loops


@pytest.mark.parametrize("protocol", NAMES)
def test_the_same_when_the_connection_closes_without_the_end_of_the_body(port: int, protocol: str) -> None:
    check(port, protocol, "close", 0, range(0, body_of(protocol)[0], 15))  # all of them in the long loops


@pytest.mark.parametrize("protocol", NAMES)
def test_the_same_in_reads_of_one_byte(port: int, protocol: str) -> None:
    size, _ = body_of(protocol)
    for which, how in enumerate(WAYS):
        check(port, protocol, how, 1, range(size - 1 - which, -1, -61))


@pytest.mark.soak
@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("protocol", NAMES)
def test_every_offset_in_every_way_in_whole_frames_and_in_reads_of_one_byte(port: int, protocol: str, how: str, split: int) -> None:
    check(port, protocol, how, split, range(body_of(protocol)[0]))


@pytest.mark.parametrize("protocol", NAMES)
def test_the_whole_body_is_complete_in_reads_of_any_size(port: int, protocol: str) -> None:
    for size in (0, 1, 2, 3, 7, 100):
        seen = start(port, protocol, f"whole-{size}-00000").wait()
        assert (seen.outcome, seen.text) == ("complete", TEXT)
