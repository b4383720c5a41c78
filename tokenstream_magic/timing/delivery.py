"""In what portions an answer was delivered. Pure: a timeline in, portions out.

Pieces that a model wrote one after another can come together for two reasons: the model wrote several in one step, or
something on the way gathered them. They are told apart by pace and size: a portion counts as gathered when more pieces came
faster than a model writes them and than one step of it makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tokenstream_magic.timing.timeline import Timeline

PACE = 5000
"""Pieces a second. No hosted model writes this fast: the fastest served in public make some 3,000 tokens/s."""
STEP = 8
"""Pieces. Speculative decoding accepts two to six tokens a step, seldom as many as its drafts are long, mostly up to eight."""
BREATH = 0.02
"""Seconds. A new portion begins after a gap longer than this, a frame of a 60 Hz display and the jitter of a busy machine."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Pieces that came in a row: seconds from the request, how many, their characters, and the seconds nothing had come before."""

    begins: float
    ends: float
    pieces: int
    characters: int
    pause: float

    @property
    def is_gathered(self) -> bool:
        """Whether these pieces came together faster than any model writes, and were more than one step of it makes."""
        return self.pieces > STEP and self.pieces - 1 >= PACE * (self.ends - self.begins)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the answer came. ``gathered`` are the portions that were held back somewhere, ``share`` their part of the characters."""

    portions: tuple[Portion, ...]
    gathered: tuple[Portion, ...]
    share: float
    median_pause: float | None
    """Seconds without anything before a gathered portion, the wait for the first one left out."""

    @property
    def in_lumps(self) -> bool:
        """Whether most of the text came in gathered portions, and in more than one."""
        return len(self.gathered) >= 2 and self.share > 0.5


def delivery(timeline: Timeline) -> Delivery:
    """The portions of a timeline."""
    found = tuple(_portions([(stamp.offset_ns / 1e9, stamp.characters) for stamp in timeline]))
    gathered = tuple(portion for portion in found if portion.is_gathered)
    characters = sum(portion.characters for portion in found)
    share = sum(portion.characters for portion in gathered) / characters if characters else 0.0
    pauses = [portion.pause for portion in gathered if portion is not found[0]]
    return Delivery(found, gathered, share, median(pauses) if pauses else None)


def _portions(pieces: Sequence[tuple[float, int]]) -> list[Portion]:
    found: list[Portion] = []
    start = 0
    for index in range(1, len(pieces) + 1):
        if index < len(pieces) and pieces[index][0] - pieces[index - 1][0] <= BREATH:
            continue
        begins, ends = pieces[start][0], pieces[index - 1][0]
        pause = begins - (pieces[start - 1][0] if start else 0.0)
        found.append(Portion(begins, ends, index - start, sum(count for _, count in pieces[start:index]), pause))
        start = index
    return found
