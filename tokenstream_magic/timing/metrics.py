"""The figures of a run, from its timeline and usage. Pure: stamps in, milliseconds out.

Definitions and where they come from: TTFT is the first generated text on any channel, TTFA the first answer text;
an empty role chunk counts for neither (aiperf, guidellm; unlike vLLM). Gaps between chunks are inter-chunk
latency, never called inter-token. TPOT divides by N - 1, because N tokens span N - 1 intervals. N comes from usage
and excludes reasoning that was billed but never streamed. What is unknown is None, never 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tokenstream_magic.timing.timeline import CHANNELS, Timeline

STALL_FLOOR_NS = 1_000_000_000
STALL_FACTOR = 5
_TEXT = CHANNELS.index("text")


@dataclass(slots=True)
class Timing:
    """The figures of INTERFACE §4: times in ms, rates per second, ``server`` as the server sent it."""

    ttfb_ms: float | None = None
    ttft_ms: float | None = None
    ttfa_ms: float | None = None
    e2e_ms: float | None = None
    tpot_ms: float | None = None
    icl_p50_ms: float | None = None
    icl_p95_ms: float | None = None
    icl_max_ms: float | None = None
    output_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None
    chunks: int = 0
    chunks_per_second: float | None = None
    stalls: int | None = None
    stall_ratio: float | None = None
    stop_latency_ms: float | None = None
    server: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All figures by name."""
        return asdict(self)


def measure(
    timeline: Timeline,
    output_tokens: int | None = None,
    reasoning_tokens: int | None = None,
    server: dict[str, Any] | None = None,
) -> Timing:
    """The figures of a timeline; ``output_tokens`` and ``reasoning_tokens`` come from usage, None when unknown."""
    timing = Timing(chunks=len(timeline), server=server or {})
    timing.ttfb_ms = _between(timeline.requested, timeline.first_byte)
    timing.stop_latency_ms = _between(timeline.stop_requested, timeline.closed)
    requested, first, last = timeline.requested, timeline.first, timeline.last
    if first is None or last is None:
        return timing
    answered = timeline.first_on(_TEXT)
    timing.ttft_ms = _between(requested, first)
    timing.ttfa_ms = timing.ttft_ms if answered == first else _between(requested, answered)
    timing.e2e_ms = _between(requested, last)
    streamed = last - first
    gaps = timeline.gaps()
    if gaps:
        gaps.sort()
        middle, most = percentile(gaps, 50), gaps[-1]
        timing.icl_p50_ms = _ms(middle)
        timing.icl_p95_ms = _ms(percentile(gaps, 95))
        timing.icl_max_ms = _ms(most)
        threshold = max(STALL_FLOOR_NS, STALL_FACTOR * middle)
        stalled = [gap for gap in gaps if gap > threshold] if most > threshold else []
        timing.stalls = len(stalled)
        if streamed > 0:
            timing.stall_ratio = round(sum(gap - threshold for gap in stalled) / streamed, 4) if stalled else 0.0
            timing.chunks_per_second = round(len(gaps) / (streamed / 1e9), 2)
    tokens = streamed_tokens(timeline, output_tokens, reasoning_tokens)
    if tokens is not None:
        if tokens >= 2 and streamed > 0:
            timing.tpot_ms = _ms(streamed / (tokens - 1))
            timing.decode_tokens_per_second = round((tokens - 1) / (streamed / 1e9), 2)
        if timing.e2e_ms and tokens:
            timing.output_tokens_per_second = round(tokens / (timing.e2e_ms / 1e3), 2)
    return timing


def streamed_tokens(timeline: Timeline, output_tokens: int | None, reasoning_tokens: int | None) -> int | None:
    """How many tokens the stream carried: reasoning that was counted but never streamed is left out."""
    if output_tokens is None:
        return None
    if reasoning_tokens and timeline.first_on(CHANNELS.index("reasoning")) is None:
        return max(0, output_tokens - reasoning_tokens)
    return output_tokens


def percentile(ordered: list[int], percent: float) -> float:
    """The percentile of a sorted list, linear between neighbours (numpy's default)."""
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def _between(start: int | None, end: int | None) -> float | None:
    return None if start is None or end is None else _ms(end - start)


def _ms(nanoseconds: float) -> float:
    return round(nanoseconds / 1e6, 3)
