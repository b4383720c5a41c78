"""When text came, as a page draws it: a few marks for the live timeline, not a stamp a token."""

from __future__ import annotations

from collections.abc import Sequence

from tokenstream_magic.timing.timeline import CHANNELS, Timeline

GRAIN_NS = 5_000_000  # pieces closer than this are one mark of the live timeline
SPANS = 400  # marks of a timeline that a page gets when it asks for everything


def marks(stamps: Sequence[int], origin: int) -> list[int]:
    """When pieces came, for the page: ms of the first since ``origin``, then ms from mark to mark.

    Pieces closer than 5 ms are one mark: the page could not draw them apart.
    """
    made = [(stamps[0] - origin) // 1_000_000]
    last, reached = stamps[0], made[0]
    for at in stamps:
        if at - last >= GRAIN_NS:
            offset = (at - origin) // 1_000_000
            made.append(offset - reached)
            last, reached = at, offset
    return made


def spans(timeline: Timeline) -> list[float]:
    """The timeline in at most some 400 spans: from, to (ms), pieces and channel of each, in one flat list."""
    if timeline.last is None:
        return []
    grain = max(GRAIN_NS, (timeline.last - timeline.origin) // SPANS)
    made: list[float] = []
    begun = reached = pieces = 0
    current = ""
    for stamp in timeline:
        if pieces and (stamp.channel != current or stamp.offset_ns - reached >= grain):
            made += [begun / 1e6, reached / 1e6, pieces, CHANNELS.index(current)]
            pieces = 0
        if not pieces:
            begun, current = stamp.offset_ns, stamp.channel
        reached, pieces = stamp.offset_ns, pieces + 1
    return [*made, begun / 1e6, reached / 1e6, pieces, CHANNELS.index(current)]
