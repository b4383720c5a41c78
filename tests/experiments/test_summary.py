"""Percentiles, intervals and paired differences, against numbers that are known another way."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from tokenstream_magic.errors import BadRequest
from tokenstream_magic.experiments.summary import paired, summarise


def frame(**columns) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"outcome": "complete", "prompt_index": 0, "repeat": range(count), **columns})


def test_percentiles_are_those_of_complete_runs_and_the_rest_is_counted():
    values = [10.0, 20.0, 30.0, 1.0, 2.0, None]
    outcomes = ["complete", "complete", "complete", "failed", "stopped", "truncated"]
    row = summarise(frame(ttft_ms=values, outcome=outcomes), [], ["ttft_ms"]).loc["ttft_ms"].iloc[0]
    assert (row["runs"], row["errors"], row["stopped"], row["n"]) == (6, 2, 1, 3)
    assert (row["p50"], row["p95"], row["p99"]) == (20.0, 29.0, 29.8)


def test_what_is_unknown_is_missing_and_never_zero():
    found = summarise(frame(ttft_ms=[5.0, None, None], tpot_ms=[None, None, None]), [], ["ttft_ms", "tpot_ms"])
    one, none = found.loc["ttft_ms"].iloc[0], found.loc["tpot_ms"].iloc[0]
    assert one["p50"] == 5.0 and math.isnan(one["p50_low"])  # one value says nothing about its spread
    assert none["n"] == 0 and none.drop(["runs", "errors", "stopped", "n"]).isna().all()


def test_an_interval_covers_the_truth_as_often_as_it_says():
    chance, inside = np.random.default_rng(7), 0
    for trial in range(200):
        sample = frame(ttft_ms=chance.lognormal(5, 0.5, 40))
        row = summarise(sample, [], ["ttft_ms"], resamples=400, seed=trial).iloc[0]
        inside += row["p50_low"] <= math.exp(5) <= row["p50_high"]
    assert 180 <= inside <= 199  # 95 % of 200, give or take


def test_runs_of_one_prompt_are_no_independent_witnesses():
    chance = np.random.default_rng(3)
    of_prompt = np.repeat(chance.normal(100, 30, 10), 20)
    values = of_prompt + chance.normal(0, 1, 200)
    whole = summarise(frame(ttft_ms=values, prompt_index=np.repeat(range(10), 20)), [], ["ttft_ms"]).iloc[0]
    apart = summarise(frame(ttft_ms=values), [], ["ttft_ms"]).iloc[0]
    assert whole["p50_high"] - whole["p50_low"] > 2 * (apart["p50_high"] - apart["p50_low"])


def test_the_same_seed_gives_the_same_interval():
    sample = frame(ttft_ms=np.random.default_rng(0).normal(100, 10, 30))
    first, again = (summarise(sample, [], ["ttft_ms"], seed=5) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert summarise(sample, [], ["ttft_ms"], seed=6).iloc[0]["p50_low"] != first.iloc[0]["p50_low"]


def test_pairs_find_a_difference_that_the_prompts_hide():
    chance = np.random.default_rng(11)
    hard = chance.normal(500, 200, 30)
    both = pd.concat(
        [
            frame(ttft_ms=hard + shift + chance.normal(0, 2, 30), model=name, prompt_index=range(30), repeat=[0] * 30)
            for name, shift in (("a", 0), ("b", 10))
        ],
        ignore_index=True,
    )
    row = paired(both, "model", [], ["ttft_ms"]).iloc[0]
    assert row["pairs"] == 30
    assert 8 < row["difference_low"] < row["difference"] < row["difference_high"] < 12
    apart = summarise(both, ["model"], ["ttft_ms"])
    assert apart.loc["a"].iloc[0]["p50_high"] > apart.loc["b"].iloc[0]["p50_low"]  # unpaired they cannot be told apart


def test_only_what_both_finished_is_paired():
    runs = pd.DataFrame(
        {
            "model": ["a", "a", "a", "b", "b", "b"],
            "outcome": ["complete", "failed", "complete", "complete", "complete", "complete"],
            "prompt_index": [0, 1, 2, 0, 1, 2],
            "repeat": 0,
            "ttft_ms": [1.0, None, 3.0, 2.0, 50.0, None],
        }
    )
    row = paired(runs, "model", [], ["ttft_ms"]).iloc[0]
    assert (row["pairs"], row["median_a"], row["median_b"], row["difference"]) == (1, 1.0, 2.0, 1.0)
    assert math.isnan(row["difference_low"])
    with pytest.raises(BadRequest, match="nothing to compare"):
        paired(runs[runs["model"] == "a"], "model", [], ["ttft_ms"])
