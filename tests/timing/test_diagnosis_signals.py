"""The reader's figures, against values worked out by hand and against a reader simulated character by character."""

import pytest
from hypothesis import given, strategies as st

from tokenstream_magic.timing import reading
from tokenstream_magic.timing.delivery import delivery
from tokenstream_magic.timing.shown import KEPT, Shown
from tokenstream_magic.timing.timeline import CHANNELS, Timeline


def timeline(*events, requested=0):
    """A timeline of (seconds, characters[, channel])."""
    made = Timeline(requested=requested)
    for number, (at, characters, *channel) in enumerate(events):
        made.add(int(at * 1e9), CHANNELS.index(channel[0]) if channel else 0, characters, number)
    return made


def test_the_wait_saved_is_what_comes_after_the_first_answer_text():
    told = reading.signals(timeline((1, 9, "reasoning"), (3, 10), (12, 10)))
    assert (told.first_seconds, told.total_seconds, told.wait_saved_seconds, told.wait_saved_share) == (1, 12, 9, 0.75)


def test_a_reader_ahead_and_a_reader_starved():
    # 10 characters/s: 20 characters last from 1 s to 3 s; the next come at 2 s (10 unread), then at 6 s (read out at 4 s)
    answer = [(1.0, 20), (2.0, 10), (6.0, 10)]
    assert reading.read_ahead(answer[:2], 10) == 10
    assert reading.read_ahead(answer, 10) == 30 - 50
    assert reading.starved(answer, 10) == 2
    assert reading.read_ahead([(1.0, 20)], 10) is None


def test_text_that_came_together_is_one_arrival():
    assert reading.arrivals(timeline((1, 3), (1, 4), (2, 5), (2, 9, "reasoning"), (3, 0))) == [(1.0, 7), (2.0, 5)]


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 12)), min_size=1, max_size=12))
def test_qoe_and_starvation_are_those_of_a_reader_who_reads_one_character_after_the_other(gaps):
    speed, target, at, answer = 8.0, 1.0, 0.0, []
    for gap, characters in gaps:
        at += gap / 100
        answer.append((at, characters))
    moments, late, before = [], 0.0, None
    for arrived, characters in answer:
        for _ in range(characters):
            actual = arrived if before is None else max(arrived, before + 1 / speed)
            late += max(0.0, actual - (target + len(moments) / speed))
            moments.append(actual)
            before = actual
    expected = 1 - late / sum(moments) if sum(moments) else None
    assert reading.qoe(answer, speed, target) == pytest.approx(expected)
    read = sum(count for _, count in answer) / speed
    assert answer[0][0] + read + reading.starved(answer, speed) == pytest.approx(before + 1 / speed)


def test_qoe_of_a_stream_on_time_is_one_and_of_a_late_one_less():
    assert reading.qoe([(0.5 + n / 50, 4) for n in range(100)]) == 1
    assert reading.qoe([(10.0, 400)]) < 0.8


def test_fluidity_counts_the_deadlines_a_late_token_missed():
    steady = [(0.5 + n * 0.05, 4) for n in range(21)]
    assert reading.fluidity(steady, 21) == 1
    # slack at the pause: 0.5 s of the first token and 20 x 0.05 s; a gap of 2.05 s overruns it by 0.55 s, five deadlines
    assert reading.fluidity([*steady, (1.5 + 2.05, 4)], 22) == pytest.approx(21 / 26)
    assert reading.fluidity(steady, None) is None


def test_what_a_stop_saved_is_an_estimate_only_when_there_is_something_to_compare_with():
    stream, usual = timeline((1, 4), (2, 4), (2, 12, "reasoning")), reading.Usual(120, 400)
    assert reading.signals(stream, stopped=True, usual=usual).waste_avoided_tokens == 114
    assert reading.signals(stream, stopped=True, usual=reading.Usual(5, 10)).waste_avoided_tokens == 0
    assert reading.signals(stream, stopped=True).waste_avoided_tokens is None
    assert reading.signals(stream, usual=usual).waste_avoided_tokens is None


def test_without_a_clock_or_without_text_everything_is_unknown():
    untimed = Timeline()
    untimed.add(0, 0, 5, 0)
    for stream in (untimed, Timeline(requested=0)):
        assert set(reading.signals(stream, 5).as_dict().values()) == {None}


def test_a_step_of_the_model_is_no_lump_and_a_buffer_passed_on_is():
    steps = delivery(timeline(*((n * 0.1, 4) for n in range(20) for _ in range(8))))
    assert (steps.gathered, steps.share, steps.in_lumps) == ((), 0, False)
    blocks = delivery(timeline(*((n * 0.5, 4) for n in range(4) for _ in range(9))))
    assert blocks.in_lumps
    assert (len(blocks.gathered), blocks.share, blocks.median_pause) == (4, 1, 0.5)
    fast = delivery(timeline(*((1 + n / 3000, 4) for n in range(600))))  # the fastest there is: nothing was gathered
    assert fast.gathered == ()


def test_a_display_keeps_its_lags_in_bounded_memory():
    shown = Shown()
    assert shown.percentile_ms(50) is None
    for number in range(10 * KEPT):
        shown.add(0, number * 1000)
    assert shown.pieces == 10 * KEPT
    assert len(shown._lags) <= KEPT
    assert shown.percentile_ms(50) == pytest.approx(5 * KEPT / 1000, rel=0.01)
    assert shown.max_ms == shown.last_ms == (10 * KEPT - 1) / 1000
