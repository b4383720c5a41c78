import statistics

import pytest
from hypothesis import given, strategies as st

from tokenstream_magic.timing.metrics import Timing, measure, percentile, streamed_tokens
from tokenstream_magic.timing.timeline import CHANNELS, Timeline

MS = 1_000_000
START = 7_000 * MS


def timeline(*events, requested=0, **moments):
    """A timeline of events at ms after START; a pair is (ms, channel)."""
    made = Timeline(requested=START + requested * MS, **{name: START + int(at * MS) for name, at in moments.items()})
    for number, event in enumerate(events):
        at, channel = event if isinstance(event, tuple) else (event, "text")
        made.add(START + int(at * MS), CHANNELS.index(channel), 4, number)
    return made


def test_first_byte_first_token_and_end_count_from_the_request():
    timing = measure(timeline(300, 400, 700, requested=100, first_byte=150))
    assert (timing.ttfb_ms, timing.ttft_ms, timing.ttfa_ms, timing.e2e_ms) == (50, 200, 200, 600)


@pytest.mark.parametrize("channel", ["reasoning", "refusal", "tool"])
def test_the_first_token_is_on_any_channel_and_the_first_answer_is_text(channel):
    timing = measure(timeline((100, channel), (200, channel), 900, 1000))
    assert (timing.ttft_ms, timing.ttfa_ms) == (100, 900)


def test_without_an_answer_the_time_to_it_is_unknown():
    timing = measure(timeline((100, "reasoning"), (200, "reasoning")))
    assert (timing.ttft_ms, timing.ttfa_ms, timing.e2e_ms) == (100, None, 200)


def test_frames_without_content_are_no_first_token():
    timing = measure(timeline(500, first_byte=20, first_event=20))
    assert (timing.ttfb_ms, timing.ttft_ms) == (20, 500)


def test_the_end_is_the_last_content_and_not_the_terminator():
    assert measure(timeline(100, 200, finished=250, usage=260, ended=900, closed=950)).e2e_ms == 200


def test_time_per_token_divides_by_the_intervals_between_tokens():
    timing = measure(timeline(100, 200, 500), output_tokens=5)
    assert timing.tpot_ms == 100
    assert timing.decode_tokens_per_second == 10
    assert timing.output_tokens_per_second == 10


def test_time_per_token_does_not_count_the_wait_for_the_first():
    assert measure(timeline(5000, 5100), output_tokens=11).tpot_ms == 10


def test_a_single_token_has_no_time_per_token():
    timing = measure(timeline(100), output_tokens=1)
    assert (timing.tpot_ms, timing.decode_tokens_per_second, timing.output_tokens_per_second) == (None, None, 10)


def test_many_tokens_in_one_chunk_have_no_time_per_token():
    timing = measure(timeline(100), output_tokens=50)
    assert (timing.tpot_ms, timing.decode_tokens_per_second, timing.chunks_per_second) == (None, None, None)


def test_one_token_in_two_chunks_has_no_time_per_token():
    assert measure(timeline(100, 200), output_tokens=1).tpot_ms is None


def test_hidden_reasoning_is_left_out_of_the_tokens():
    timing = measure(timeline(0.5, 4000.5), output_tokens=2200, reasoning_tokens=2000)
    assert timing.decode_tokens_per_second == pytest.approx(199 / 4, abs=0.01)
    assert timing.tpot_ms == pytest.approx(4000 / 199, abs=0.001)
    assert timing.output_tokens_per_second == pytest.approx(200 / 4.0005, abs=0.01)


def test_reasoning_that_was_streamed_counts():
    streamed = timeline((100, "reasoning"), 200)
    assert streamed_tokens(streamed, 30, 20) == 30
    assert measure(streamed, 11, 5).tpot_ms == 10


@pytest.mark.parametrize(
    ("output", "reasoning", "tokens"),
    [(None, None, None), (None, 5, None), (30, None, 30), (30, 0, 30), (30, 20, 10), (5, 20, 0), (0, 0, 0)],
)
def test_the_tokens_that_were_streamed(output, reasoning, tokens):
    assert streamed_tokens(timeline(100, 200), output, reasoning) == tokens


def test_without_usage_there_are_chunks_and_no_tokens():
    timing = measure(timeline(100, 300, 500))
    assert (timing.tpot_ms, timing.output_tokens_per_second, timing.decode_tokens_per_second) == (None, None, None)
    assert (timing.chunks, timing.chunks_per_second) == (3, 5)


def test_gaps_between_chunks_have_percentiles():
    timing = measure(timeline(0, 10, 30, 60, 100))
    assert (timing.icl_p50_ms, timing.icl_p95_ms, timing.icl_max_ms) == (25, 38.5, 40)


def test_chunks_of_one_read_have_a_gap_of_zero():
    timing = measure(timeline(100, 100, 100))
    assert (timing.icl_p50_ms, timing.icl_max_ms, timing.stalls) == (0, 0, 0)
    assert (timing.chunks_per_second, timing.stall_ratio) == (None, None)


@pytest.mark.parametrize(("gap", "stalls", "ratio"), [(1000, 0, 0), (1001, 1, round(1 / 1041, 4)), (3000, 1, round(2000 / 3040, 4))])
def test_a_stall_is_a_gap_over_a_second(gap, stalls, ratio):
    timing = measure(timeline(0, 10, 20, 20 + gap, 30 + gap, 40 + gap))
    assert (timing.stalls, timing.stall_ratio) == (stalls, ratio)


@pytest.mark.parametrize(("gap", "stalls"), [(2000, 0), (2001, 1)])
def test_for_a_slow_model_a_stall_is_a_gap_over_five_medians(gap, stalls):
    timing = measure(timeline(0, 400, 800, 800 + gap, 1200 + gap, 1600 + gap))
    assert timing.stalls == stalls
    assert timing.stall_ratio == (round(1 / (1600 + gap), 4) if stalls else 0)


def test_the_stall_ratio_is_the_share_of_time_over_the_threshold():
    timing = measure(timeline(0, 100, 200, 300, 400, 2400, 2500, 5500))
    assert timing.stalls == 2
    assert timing.stall_ratio == round((1000 + 2000) / 5500, 4)


def test_one_chunk_has_no_gaps_and_no_stalls():
    timing = measure(timeline(100))
    assert (timing.icl_p50_ms, timing.icl_p95_ms, timing.icl_max_ms, timing.stalls, timing.stall_ratio) == (None,) * 5


def test_stopping_took_from_the_request_to_the_closed_socket():
    assert measure(timeline(10, stop_requested=500, closed=502.5)).stop_latency_ms == 2.5
    assert measure(timeline(10, closed=500)).stop_latency_ms is None


@pytest.mark.parametrize("empty", [Timeline(), Timeline(requested=START)])
def test_what_is_unknown_is_none_and_never_zero(empty):
    figures = measure(empty, output_tokens=None).as_dict()
    assert figures.pop("chunks") == 0
    assert figures.pop("server") == {}
    assert set(figures.values()) == {None}


def test_tokens_that_never_arrived_make_no_rate():
    figures = measure(Timeline(requested=START), output_tokens=50)
    assert (figures.tpot_ms, figures.output_tokens_per_second) == (None, None)
    assert measure(timeline(10, 20), output_tokens=0).output_tokens_per_second is None


def test_without_the_time_of_the_request_only_the_gaps_are_known():
    unknown = Timeline()
    for at in (0, 10, 20):
        unknown.add(START + at * MS, 0, 1, 0)
    timing = measure(unknown, output_tokens=3)
    assert (timing.ttft_ms, timing.e2e_ms, timing.output_tokens_per_second) == (None, None, None)
    assert (timing.icl_p50_ms, timing.tpot_ms) == (10, 10)


def test_the_servers_own_figures_are_kept_as_sent():
    assert measure(timeline(10), server={"predicted_ms": 5}).server == {"predicted_ms": 5}
    assert Timing().server is not Timing().server


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=50).map(sorted))
def test_percentiles_are_linear_between_neighbours(ordered):
    assert percentile(ordered, 0) == ordered[0]
    assert percentile(ordered, 100) == ordered[-1]
    assert percentile(ordered, 50) == pytest.approx(statistics.median(ordered))
    assert percentile(ordered, 95) == pytest.approx(statistics.quantiles(ordered, n=20, method="inclusive")[18])
