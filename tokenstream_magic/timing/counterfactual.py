"""Counterfactuals: the same answer, delivered another way.

Pure functions from a timeline to a timeline. They answer how an answer would have felt behind a proxy that buffers,
without streaming, paced evenly, or with a later first token. What was generated, and when the server was done with it,
stays; only when it reached the reader changes. Nothing arrives before it really did.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.timing.timeline import CHANNELS, MOMENTS, Stamp, Timeline

EXAMPLE = "There are: buffered, unstreamed, smooth:TOKENS_PER_SECOND, delay:MS."
LONGEST_DELAY_MS = 3_600_000.0
SLOWEST = 0.01  # tokens per second

_WAY = re.compile(r"([a-z]+)(?::(.+))?")


@dataclass(frozen=True)
class Way:
    """Another way of delivery: its ``name``, and the ``amount`` of ``smooth`` (tokens per second) and ``delay`` (ms)."""

    name: str
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}:{self.amount:g}" if self.name in _AMOUNTS else self.name

    def of(self, timeline: Timeline, output_tokens: int | None = None) -> Timeline:
        """``timeline`` as it would have been. ``output_tokens`` are what the text amounts to; unknown, a chunk counts as a token."""
        if not len(timeline):
            return _copy(timeline)
        if self.name == "smooth":
            return smooth(timeline, self.amount, output_tokens)
        if self.name == "delay":
            return delayed(timeline, self.amount)
        return {"buffered": buffered, "unstreamed": unstreamed}[self.name](timeline)


_AMOUNTS: dict[str, tuple[Callable[[float], bool], str]] = {
    "smooth": (lambda rate: rate >= SLOWEST, f"smooth takes tokens per second, from {SLOWEST} up: smooth:20."),
    "delay": (lambda ms: 0 <= ms <= LONGEST_DELAY_MS, "delay takes milliseconds, up to an hour: delay:2000."),
}


def way(text: str) -> Way:
    """What ``--as`` says. Raises BadRequest."""
    found = _WAY.fullmatch(text.strip().lower())
    name = found[1] if found else ""
    if found is None or name not in ("buffered", "unstreamed", *_AMOUNTS):
        raise BadRequest(f"There is no delivery {one_line(text)!r}.", EXAMPLE)
    if name not in _AMOUNTS:
        if found[2]:
            raise BadRequest(f"{name} takes no amount.", EXAMPLE)
        return Way(name)
    fits, advice = _AMOUNTS[name]
    try:
        amount = float(found[2] or "")
    except ValueError:
        raise BadRequest(f"{name} needs an amount.", advice) from None
    if not math.isfinite(amount) or not fits(amount):
        raise BadRequest(f"{name}:{found[2]} cannot be.", advice)
    return Way(name, amount)


def buffered(timeline: Timeline) -> Timeline:
    """Behind a proxy that holds the body back: every chunk at the end of the body, in one read; the headers as they came."""
    end = _end(timeline)
    changed = _moments(timeline)
    changed.first_byte = changed.first_event = changed.finished = end
    changed.usage = None if timeline.usage is None else end
    changed.ended, changed.reads, changed.keep_alives = end, 1, timeline.keep_alives
    changed.keep_alive_offsets = []
    for stamp in timeline:
        _add(changed, stamp, end, 0)
    return changed


def unstreamed(timeline: Timeline) -> Timeline:
    """Asked for without streaming: nothing, not even headers, before all of it is there; one chunk a channel and choice."""
    whole: dict[tuple[int, str], int] = {}
    for stamp in timeline:
        key = (stamp.choice, stamp.channel)
        whole[key] = whole.get(key, 0) + stamp.characters
    end = _end(timeline)
    changed = _moments(timeline)
    changed.headers = changed.first_byte = changed.first_event = changed.finished = changed.ended = end
    changed.usage = None if timeline.usage is None else end
    changed.reads, changed.keep_alives = 1, 0
    for (choice, channel), characters in whole.items():
        changed.add(end, CHANNELS.index(channel), characters, 0, choice)
    return changed


def smooth(timeline: Timeline, tokens_per_second: float, output_tokens: int | None = None) -> Timeline:
    """Paced by the client: a chunk is shown when it is there and the one before it has had its time.

    A chunk's time is its tokens at ``tokens_per_second``; its tokens are its share of the characters of ``output_tokens``.
    """
    stamps = list(timeline)
    characters = sum(stamp.characters for stamp in stamps)
    changed = _moments(timeline)
    changed.reads, changed.keep_alives = timeline.reads, timeline.keep_alives
    changed.keep_alive_offsets = timeline.keep_alive_offsets
    free = 0.0
    last = 0
    for stamp in stamps:
        at = max(stamp.offset_ns, math.ceil(free))
        weight = output_tokens * stamp.characters / characters if output_tokens and characters else 1.0
        free = at + weight / tokens_per_second * 1e9
        _add(changed, stamp, timeline.origin + at, stamp.read)
        last = timeline.origin + at
    for name in ("finished", "usage", "ended", "closed"):
        at_end = getattr(timeline, name)
        setattr(changed, name, None if at_end is None else max(at_end, last))
    return changed


def delayed(timeline: Timeline, milliseconds: float) -> Timeline:
    """With a later first token: all that came after the request comes so much later."""
    wait = round(milliseconds * 1e6)
    changed = Timeline(requested=timeline.origin, connected=timeline.connected)
    for name in MOMENTS[2:]:
        at = getattr(timeline, name)
        setattr(changed, name, None if at is None else at + wait)
    changed.reads, changed.keep_alives = timeline.reads, timeline.keep_alives
    alive = timeline.keep_alive_offsets
    changed.keep_alive_offsets = alive and [offset + wait for offset in alive]
    for stamp in timeline:
        _add(changed, stamp, timeline.origin + stamp.offset_ns + wait, stamp.read)
    return changed


def _end(timeline: Timeline) -> int:
    """When the server was done: the end of the body, and never before the last content."""
    return max(at for at in (timeline.last, timeline.ended, timeline.finished) if at is not None)


def _moments(timeline: Timeline) -> Timeline:
    """The single stamps alone."""
    changed = Timeline()
    for name in MOMENTS:
        setattr(changed, name, getattr(timeline, name))
    changed.requested = timeline.origin
    return changed


def _copy(timeline: Timeline) -> Timeline:
    changed = _moments(timeline)
    changed.reads, changed.keep_alives, changed.displayed = timeline.reads, timeline.keep_alives, timeline.displayed
    changed.keep_alive_offsets = timeline.keep_alive_offsets
    for stamp in timeline:
        _add(changed, stamp, timeline.origin + stamp.offset_ns, stamp.read)
    return changed


def _add(timeline: Timeline, stamp: Stamp, at: int, read: int) -> None:
    timeline.add(at, CHANNELS.index(stamp.channel), stamp.characters, read, stamp.choice)
