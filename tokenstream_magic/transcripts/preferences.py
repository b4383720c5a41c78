"""Votes: what readers preferred, kept as tags of the transcripts they compared, so that a vote goes where its transcripts go.

Win rates have Wilson intervals (doi 10.1080/01621459.1927.10502953), a tie counting half. With more than two models the
strengths of Bradley and Terry (doi 10.2307/2334029) are fitted to who was preferred to whom, by Hunter's algorithm (doi
10.1214/aos/1079120141), with half a win and half a loss for each against an average model so that few votes give no certainty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tokenstream_magic.record import Transcript

COMPARE = "compare"
VOTED = "voted"
TIE = "tie"
WON, LOST, TIED = "vote:won", "vote:lost", "vote:tie"

_Z = 1.959963984540054  # 95 %
_ROUNDS = 10_000
_CLOSE = 1e-10


@dataclass(frozen=True)
class Standing:
    """How a model fared: comparisons it was voted on in, won, tied, the share won with its interval, and its strength.

    ``strength`` is the chance to be preferred to an average model of those voted on.
    """

    model: str
    votes: int
    won: int
    tied: int
    win_rate: float
    low: float
    high: float
    strength: float


class Standings(Sequence[Standing]):
    """The models, the most preferred first."""

    def __init__(self, found: Sequence[Standing]) -> None:
        self._found = list(found)

    def __getitem__(self, index: Any) -> Any:
        return self._found[index]

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Standing]:
        return iter(self._found)

    def to_pandas(self) -> Any:
        """One row a model."""
        import pandas as pd

        return pd.DataFrame([asdict(one) for one in self._found], columns=list(Standing.__dataclass_fields__)).set_index("model")

    def __repr__(self) -> str:
        lines = [f"{s.model}: won {s.won} of {s.votes}, {s.tied} tied, {s.win_rate:.0%} [{s.low:.0%}, {s.high:.0%}]" for s in self._found]
        return "\n".join(lines) or "No votes yet."


def vote_tags(comparison: str, tags: Sequence[str], won: bool | None) -> list[str]:
    """The tags of one side after a vote, which takes the place of an earlier one. ``won`` None is a tie."""
    kept = [tag for tag in tags if tag not in (VOTED, WON, LOST, TIED)]
    own = [] if COMPARE in kept else [COMPARE, f"{COMPARE}:{comparison}"]
    return [*kept, *own, VOTED, TIED if won is None else WON if won else LOST]


def standings(found: Iterable[Transcript]) -> Standings:
    """The votes in the tags of transcripts; what is not voted on is left out."""
    sides: dict[str, list[Transcript]] = {}
    for transcript in found:
        comparison = next((tag for tag in transcript.tags if tag.startswith(f"{COMPARE}:")), None)
        if comparison is not None and VOTED in transcript.tags:
            sides.setdefault(comparison, []).append(transcript)
    votes: dict[str, int] = {}
    won: dict[str, int] = {}
    tied: dict[str, int] = {}
    beaten: dict[tuple[str, str], float] = {}
    for of_one in sides.values():
        winners = [t.model for t in of_one if WON in t.tags]
        for transcript in of_one:
            votes[transcript.model] = votes.get(transcript.model, 0) + 1
            tied[transcript.model] = tied.get(transcript.model, 0) + (TIED in transcript.tags)
            won[transcript.model] = won.get(transcript.model, 0) + (WON in transcript.tags)
        for winner in winners:
            for transcript in of_one:
                if transcript.model != winner:
                    beaten[winner, transcript.model] = beaten.get((winner, transcript.model), 0) + 1
        if not winners:
            models = [t.model for t in of_one]
            for a in models:
                for b in models:
                    if a != b:
                        beaten[a, b] = beaten.get((a, b), 0) + 0.5
    strengths = _strengths(list(votes), beaten)
    rows = []
    for model, count in votes.items():
        share = (won[model] + tied[model] / 2) / count
        rows.append(Standing(model, count, won[model], tied[model], share, *wilson(share, count), strengths[model]))
    return Standings(sorted(rows, key=lambda row: (-row.strength, -row.win_rate, row.model)))


def wilson(share: float, count: int) -> tuple[float, float]:
    """The interval of a share of ``count``, at 95 %."""
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _strengths(models: Sequence[str], beaten: dict[tuple[str, str], float]) -> dict[str, float]:
    if not models:
        return {}
    strength = dict.fromkeys(models, 1.0)
    for _ in range(_ROUNDS):
        fresh: dict[str, float] = {}
        for model in models:
            wins = 0.5 + sum(beaten.get((model, other), 0.0) for other in models if other != model)
            met = 1 / (strength[model] + 1)  # the half win and half loss against an average model, whose strength is 1
            for other in models:
                games = beaten.get((model, other), 0.0) + beaten.get((other, model), 0.0)
                if other != model and games:
                    met += games / (strength[model] + strength[other])
            fresh[model] = wins / met
        moved = max(abs(fresh[m] - strength[m]) / strength[m] for m in models)
        strength = fresh
        if moved < _CLOSE:
            break
    return {model: value / (value + 1) for model, value in strength.items()}
