"""The same answer, delivered another way: what is moved, and what is never moved."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from tokenstream_magic.errors import BadRequest
from tokenstream_magic.timing.counterfactual import Way, way
from tokenstream_magic.timing.metrics import measure
from tokenstream_magic.timing.timeline import Timeline

MS = 1_000_000


def timeline(*milliseconds: int, end: int = 0) -> Timeline:
    """Ten characters at each of these times, and the end of the body."""
    made = Timeline(requested=7 * MS, connected=6 * MS, headers=8 * MS, first_byte=(7 + milliseconds[0]) * MS)
    for number, at in enumerate(milliseconds):
        made.add((7 + at) * MS, 0, 10, number)
    made.finished = made.ended = (7 + max(end, milliseconds[-1])) * MS
    made.reads = len(milliseconds)
    return made


def times(changed: Timeline) -> list[float]:
    return [stamp.offset_ns / MS for stamp in changed]


def test_buffered_and_unstreamed_arrive_at_the_end() -> None:
    original = timeline(100, 200, 300, end=350)
    held = way("buffered").of(original)
    assert times(held) == [350, 350, 350]
    assert [stamp.read for stamp in held] == [0, 0, 0]
    assert held.headers == original.headers
    whole = way("unstreamed").of(original)
    assert times(whole) == [350]
    assert [stamp.characters for stamp in whole] == [30]
    assert whole.headers == whole.first_byte == (7 + 350) * MS
    for changed in (held, whole):
        timing = measure(changed)
        assert timing.ttft_ms == timing.e2e_ms == 350
    assert times(original) == [100, 200, 300]  # the original is untouched


def test_smooth_keeps_a_pace_and_never_shows_what_is_not_there() -> None:
    burst = timeline(100, 100, 100, 1000)
    paced = way("smooth:10").of(burst)  # a chunk a token: 100 ms each
    assert times(paced) == [100, 200, 300, 1000]
    assert times(way("smooth:20").of(burst, output_tokens=8)) == [100, 200, 300, 1000]  # two tokens a chunk
    slow = way("smooth:2").of(burst)
    assert times(slow) == [100, 600, 1100, 1600]
    assert slow.ended == (7 + 1600) * MS


def test_delay_moves_everything_but_the_request() -> None:
    original = timeline(100, 200, end=250)
    later = way("delay:500").of(original)
    assert times(later) == [600, 700]
    assert (later.requested, later.connected) == (original.requested, original.connected)
    assert later.ended - later.requested == 750 * MS
    assert measure(later).icl_p50_ms == measure(original).icl_p50_ms


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 5000), min_size=1, max_size=40),
    name=st.sampled_from(["buffered", "unstreamed", "smooth:3", "smooth:200", "delay:0", "delay:1234.5"]),
    tokens=st.none() | st.integers(1, 500),
)
def test_nothing_is_lost_or_early_or_out_of_order(gaps: list[int], name: str, tokens: int | None) -> None:
    at = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    original = timeline(*at)
    changed = way(name).of(original, tokens)
    assert sum(s.characters for s in changed) == sum(s.characters for s in original)
    assert times(changed) == sorted(times(changed))
    if len(changed) == len(original):
        assert all(late >= soon for late, soon in zip(times(changed), times(original), strict=True))


def test_nothing_at_all_stays_nothing() -> None:
    assert len(Way("buffered").of(Timeline())) == 0


@pytest.mark.parametrize(
    "said", ["", "fast", "smooth", "smooth:", "smooth:0", "smooth:-1", "smooth:nan", "smooth:1e-9", "delay:-1", "delay:1e99", "buffered:3"]
)
def test_what_is_no_delivery_is_refused_in_one_line(said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        way(said)
    assert "\n" not in str(refused.value)
