"""Bodies cut at every byte, live: by a body that ends, a connection that closes, one that is reset, in reads of any size.

What arrived is always a prefix of what was sent, and nothing is ``complete`` before the protocol's own end was there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module

import pytest

from tokenstream_magic import api
from tokenstream_magic.mock import MockServer, Script
from tokenstream_magic.wire.protocols import PROTOCOLS

NAMES = list(PROTOCOLS)
AT_ONCE = 24
SCRIPT = Script(("H\u00e9", " \U0001f642", "."))
TEXT = "H\u00e9 \U0001f642."


def body_of(protocol: str) -> tuple[int, int]:
    """The size of the script's body, and where it is complete: after the last byte that the verdict needs."""
    speech = import_module(f"tokenstream_magic.mock.{protocol.replace('-', '_')}")
    frames, ending = b"".join(speech.frames(SCRIPT, "c0000")), speech.ending(SCRIPT, "c0000")
    needed = ending.partition(b"\n\n")[0] if protocol == "openai-chat" else ending.rstrip()  # there the finish reason is enough
    return len(frames) + len(ending), len(frames) + len(needed)


def cut_everywhere(mock: MockServer, protocol: str, offsets: range, **how: object) -> Iterator[tuple[int, api.Run]]:
    """Runs that are cut at each of the offsets, many at once."""
    mock.scripts = {f"c{k:04}": replace(SCRIPT, cut_at=k, **how) for k in offsets}
    url = mock.base_url.replace("/v1", {"ollama": "/api", "gemini": "/v1beta"}.get(protocol, "/v1"))
    running: deque[tuple[int, api.Run]] = deque()
    for k in offsets:
        running.append((k, api.start("Hi", f"c{k:04}", base_url=url, protocol=protocol, no_log=True, max_retries=0)))
        if len(running) >= AT_ONCE:
            yield running.popleft()
    yield from running


def judge(offset: int, run: api.Run, needed: int, how: str) -> None:
    seen = run.wait()
    assert TEXT.startswith(seen.text.removesuffix("\ufffd")), (offset, seen.text)
    if how == "end" and offset >= needed:
        assert (seen.outcome, seen.text) == ("complete", TEXT), (offset, seen.error)
        return
    if how == "end":
        assert seen.outcome in ("truncated", "failed"), offset
    else:
        assert (seen.outcome, seen.error["type"]) == ("truncated" if seen.text else "failed", "connection_lost"), offset


@pytest.mark.parametrize("how", ["end", "close", "reset"])
@pytest.mark.parametrize("protocol", NAMES)
def test_a_body_cut_at_any_byte_is_a_prefix_and_never_complete(mock: MockServer, protocol: str, how: str) -> None:
    size, needed = body_of(protocol)
    for offset, run in cut_everywhere(mock, protocol, range(size), cut_by=how):
        judge(offset, run, needed, how)


@pytest.mark.parametrize("protocol", NAMES)
def test_the_same_in_reads_of_one_byte(mock: MockServer, protocol: str) -> None:
    size, needed = body_of(protocol)
    for offset, run in cut_everywhere(mock, protocol, range(size - 1, -1, -23), cut_by="end", split=1):
        judge(offset, run, needed, "end")


@pytest.mark.soak
@pytest.mark.parametrize("how", ["end", "close", "reset"])
@pytest.mark.parametrize("protocol", NAMES)
def test_the_same_in_reads_of_one_byte_at_every_offset(mock: MockServer, protocol: str, how: str) -> None:
    size, needed = body_of(protocol)
    for offset, run in cut_everywhere(mock, protocol, range(size), cut_by=how, split=1):
        judge(offset, run, needed, how)


@pytest.mark.parametrize("protocol", NAMES)
def test_the_whole_body_is_complete_in_reads_of_any_size(mock: MockServer, protocol: str) -> None:
    for size in (None, 1, 2, 3, 7, 100):
        mock.scripts["m"] = replace(SCRIPT, split=size)
        url = mock.base_url.replace("/v1", {"ollama": "/api", "gemini": "/v1beta"}.get(protocol, "/v1"))
        seen = api.start("Hi", "m", base_url=url, protocol=protocol, no_log=True).wait()
        assert (seen.outcome, seen.text) == ("complete", TEXT)
