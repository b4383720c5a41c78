"""What streaming did for the reader of one run: figures from its timeline. Pure: stamps in, figures out.

The reader reads at 238 words a minute, the mean for silent reading of English non-fiction (Brysbaert 2019,
doi 10.1016/j.jml.2019.104047), taken as 5.3 tokens/s at 0.75 words a token, or 23.8 characters/s at six characters a word,
the space included. A reader of another language or of code is faster or slower. What is unknown is None, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from tokenstream_magic.timing.metrics import streamed_tokens
from tokenstream_magic.timing.timeline import CHANNELS, Timeline

WORDS_PER_MINUTE = 238
CHARACTERS_PER_SECOND = WORDS_PER_MINUTE * 6 / 60
TTFT_TARGET = 1.0
"""Seconds: the limit up to which a train of thought is not broken (Nielsen 1993), the target of QoE and of fluidity."""
TOKEN_DEADLINE = 0.1
"""Seconds a token may take: the slowest of Etalon's presets (25, 50 and 100 ms)."""

Arrival = tuple[float, int]
"""Seconds from the request, and characters of the answer."""


class Usual(NamedTuple):
    """What answers to a prompt take that nobody stopped: their median number of tokens, and of characters on all channels."""

    tokens: float
    characters: float


@dataclass(frozen=True, slots=True)
class Signals:
    """What streaming did for the reader. Seconds and characters; None where the run does not tell.

    ``first_seconds`` and ``total_seconds`` are TTFT and E2E; ``wait_saved_seconds`` and ``wait_saved_share`` compare them
    with an answer that comes whole; ``read_ahead_characters`` is how far the text was ahead of the reader when it was least
    so, negative when it was behind; ``starved_seconds`` how long the reader sat at the end of the text and waited for more;
    ``qoe`` and ``fluidity`` run from 0 to 1; ``waste_avoided_tokens`` is an estimate of what a Stop left ungenerated.
    """

    first_seconds: float | None = None
    total_seconds: float | None = None
    wait_saved_seconds: float | None = None
    wait_saved_share: float | None = None
    read_ahead_characters: float | None = None
    starved_seconds: float | None = None
    qoe: float | None = None
    fluidity: float | None = None
    waste_avoided_tokens: int | None = None

    def as_dict(self) -> dict[str, float | int | None]:
        """All signals by name."""
        return asdict(self)


def signals(
    timeline: Timeline,
    output_tokens: int | None = None,
    reasoning_tokens: int | None = None,
    *,
    stopped: bool = False,
    usual: Usual | None = None,
) -> Signals:
    """The signals of a run; ``usual`` is what answers to this prompt took that nobody stopped."""
    if timeline.requested is None or timeline.last is None:
        return Signals()
    answer, every = arrivals(timeline), _every(timeline)
    total = (timeline.last - timeline.requested) / 1e9
    tokens = streamed_tokens(timeline, output_tokens, reasoning_tokens)
    began = answer[0][0] if answer else None
    saved = wait_saved(began, total)
    return Signals(
        first_seconds=_round(((timeline.first or timeline.last) - timeline.requested) / 1e9),
        total_seconds=_round(total),
        wait_saved_seconds=_round(saved),
        wait_saved_share=_round(saved / total) if saved is not None and total > 0 else None,
        read_ahead_characters=_round(read_ahead(answer), 1),
        starved_seconds=_round(starved(answer)),
        qoe=_round(qoe(answer)),
        fluidity=_round(fluidity(every, tokens)),
        waste_avoided_tokens=waste_avoided(sum(count for _, count in every), usual) if stopped and usual else None,
    )


def arrivals(timeline: Timeline) -> list[Arrival]:
    """When the text of the first choice arrived, and how much of it; what came together is one arrival."""
    found: list[Arrival] = []
    for stamp in timeline:
        if stamp.channel == CHANNELS[0] and stamp.choice == 0 and stamp.characters:
            at, before = stamp.offset_ns / 1e9, found[-1] if found else (-1.0, 0)
            if at == before[0]:
                found[-1] = (at, before[1] + stamp.characters)
            else:
                found.append((at, stamp.characters))
    return found


def _every(timeline: Timeline) -> list[Arrival]:
    return [(stamp.offset_ns / 1e9, stamp.characters) for stamp in timeline]


def wait_saved(first_answer: float | None, total: float) -> float | None:
    """``E2E - TTFA``, in seconds: how much earlier the answer could be read than one that comes whole. metrics.md §1.4."""
    return None if first_answer is None else total - first_answer


def read_ahead(answer: Sequence[Arrival], speed: float = CHARACTERS_PER_SECOND) -> float | None:
    """``min over k of (characters arrived before t_k - speed x (t_k - TTFA))``, in characters. metrics.md §1.4.

    Looked at just before each piece, when the reader is nearest to the end of the text; below 0 the reader was starved. None
    when there is only one moment to look at.
    """
    if len(answer) < 2:
        return None
    began, here = answer[0]
    margins = []
    for at, characters in answer[1:]:
        margins.append(here - speed * (at - began))
        here += characters
    return min(margins)


def starved(answer: Sequence[Arrival], speed: float = CHARACTERS_PER_SECOND) -> float | None:
    """Seconds a reader at ``speed`` sat at the end of the text after its beginning, waiting for more of it."""
    if not answer:
        return None
    reader, waited = answer[0][0], 0.0
    for at, characters in answer:
        waited += max(0.0, at - reader)
        reader = max(reader, at) + characters / speed
    return waited


def qoe(answer: Sequence[Arrival], speed: float = CHARACTERS_PER_SECOND, target: float = TTFT_TARGET) -> float | None:
    """Quality of experience of Andes (arXiv 2404.16283v2), by the character: 0 to 1, at least 0.9 is good.

    ``1 - sum max(0, T_actual - T_ideal) / sum T_actual`` with ``T_ideal(i) = target + i/speed`` and ``T_actual(i) =
    max(arrival(i), T_actual(i-1) + 1/speed)``: nobody reads faster than ``speed``.
    """
    late = whole = 0.0
    reader, read = 0.0, 0
    for at, characters in answer:
        begins = max(at, reader)
        # the characters of one piece are all equally late, and their moments are an arithmetic series
        late += characters * max(0.0, begins - (target + read / speed))
        whole += characters * begins + characters * (characters - 1) / 2 / speed
        reader, read = begins + characters / speed, read + characters
    return 1 - late / whole if whole else None


def fluidity(pieces: Sequence[Arrival], tokens: int | None, target: float = TTFT_TARGET, deadline: float = TOKEN_DEADLINE) -> float | None:
    """Fluidity index of Etalon (arXiv 2407.07000): the share of token deadlines that were met, 0 to 1.

    The first token is due after ``target`` seconds, each further one ``deadline`` after the one before. A token that is early
    leaves its slack to those after it; one that is late counts ``floor((gap - slack) / deadline)`` missed deadlines, at least
    one, and the slack is gone. The tokens of a piece come together; which piece brought how many follows from its share of
    the characters. None when the number of tokens is not known.
    """
    characters = sum(count for _, count in pieces)
    if not tokens or tokens < 0 or not characters:
        return None
    met = missed = given = read = 0
    slack, before = 0.0, 0.0
    for at, count in pieces:
        read += count
        due, given = tokens * read // characters - given, tokens * read // characters
        if not due:
            continue
        gap, allowed = at - before, (deadline if met + missed else target)
        before = at
        if gap <= allowed + slack:
            met += 1
            slack += allowed - gap
        else:
            missed += max(1, int((gap - slack) / deadline))
            slack = 0.0
        met += due - 1  # those that came with it: no gap
        slack += (due - 1) * deadline
    return met / (met + missed)


def waste_avoided(characters: int, usual: Usual) -> int:
    """``usual tokens x (1 - characters / usual characters)``: the tokens a Stop left ungenerated, an estimate. metrics.md §1.4.

    By characters, because a server does not count the tokens of an answer that was stopped.
    """
    return round(usual.tokens * max(0.0, 1 - characters / usual.characters)) if usual.characters else 0


def _round(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
