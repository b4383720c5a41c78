"""Sweeps: every cell, in a fair order, kept as they go, and gone on with after whatever ended them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter

import pandas as pd
import pytest

import tokenstream_magic as ts
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.experiments import sweep as sweeps
from tokenstream_magic.experiments.grid import rows_of
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer


@pytest.fixture
def lab(mock: MockServer) -> dict[str, object]:
    mock.scripts |= {
        "quick": Script(text="one two three four"),
        "broken": Script(status=503, error="no room"),
        "long": mock.scripts["endless"],
    }
    return {"base_url": mock.base_url, "protocol": "openai-chat", "max_retries": 0}


def words(mock: MockServer) -> list[str]:
    return [exchange.body["messages"][-1]["content"] for exchange in mock.exchanges]


def test_every_cell_is_asked_as_often_as_said_and_is_a_row(mock, lab):
    cities = pd.DataFrame({"city": ["Oslo", "Lima"], "id": [7, 8]})
    result = ts.sweep(
        "A river in {city}, {style}.", ["quick", "broken"], {"style": ["short", "long"], "top_k": [1, 5]}, prompts=cities, repeat=3, **lab
    )
    assert len(mock.exchanges) == len(result) == result.planned == 2 * 2 * 2 * 2 * 3
    frame = result.to_pandas()
    assert {"model", "style", "top_k", "city", "factor_id", "ttft_ms", "prompt_index", "repeat", "order"} <= set(frame.columns)
    assert set(Counter(map(tuple, frame[["model", "style", "top_k", "city", "repeat"]].astype(str).to_numpy())).values()) == {1}
    assert (frame["prompt"] == "A river in " + frame["city"] + ", " + frame["style"] + ".").all()
    assert [t.options["top_k"] for t in result] == list(frame["top_k"])
    sent = Counter((e.body["model"], e.body["messages"][-1]["content"], e.body["top_k"]) for e in mock.exchanges)
    assert set(sent.values()) == {3} and len(sent) == 16
    failed = frame[frame["model"].astype(str).str.contains("broken")]
    assert set(failed["outcome"]) == {"failed"} and failed["ttft_ms"].isna().all() and set(failed["error_message"].str[:7]) == {"no room"}
    assert (
        result.summary(by="model", figures=["ttft_ms"]).loc[frame["model"].iloc[list(frame["outcome"]).index("failed")]]["errors"].iloc[0]
        == 24
    )
    assert result.varied() == ["model", "style", "top_k"]


def test_the_order_is_random_by_its_seed_and_fair_to_every_cell(mock, lab):
    ask = {"prompts": ["a", "b", "c", "d", "e", "f"], "repeat": 4, "model": "quick", **lab}
    first = ts.sweep(order_seed=1, **ask)
    asked = words(mock)
    rounds = [asked[i : i + 6] for i in range(0, 24, 6)]
    assert all(sorted(one) == list("abcdef") for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    ts.sweep(order_seed=1, **ask)
    assert words(mock)[24:] == asked
    ts.sweep(order_seed=2, **ask)
    assert words(mock)[48:] != asked
    assert first.seed == 1 and [t.prompt for t in first] == asked


def test_warmups_come_first_and_are_left_out(mock, lab):
    result = ts.sweep("hi {x}", ["quick", "hello"], {"x": [1, 2]}, warmup=2, **lab)
    assert len(result) == 4 and len(mock.exchanges) == 8
    assert Counter(e.body["model"] for e in mock.exchanges[:4]) == {"quick": 2, "hello": 2}
    assert len(ts.transcripts.recent(20, tag="warmup")) == 4
    assert not any("warmup" in t.tags for t in result)


def test_runs_go_one_at_a_time_unless_asked(mock, lab):
    def most_at_once(width: int) -> int:
        before = len(mock.exchanges)
        result = ts.sweep("hi {x}", ["story"], {"x": [1, 2, 3]}, max_concurrency=width, token_limit=3, **lab)
        assert len(mock.exchanges) - before == 3
        spans = sorted((t.timeline.requested, t.timeline.closed) for t in result)
        return max(sum(start <= at < end for start, end in spans) for at, _ in spans)

    assert most_at_once(1) == 1
    assert most_at_once(3) == 3


def test_what_cannot_be_asked_is_said_before_anything_is_sent(mock, lab):
    for what, how in {
        "did you mean city": {"prompt": "{city}", "grid": {"cty": ["Oslo"]}},
        "given twice": {"prompt": "hi", "grid": {"temperature": [0]}, "temperature": 1},
        "no values": {"prompt": "hi", "grid": {"temperature": []}},
        "named twice": {"prompt": "hi", "models": ["quick"], "grid": {"model": ["hello"]}},
        "whole number": {"prompt": "hi", "repeat": 0},
        "no row": {"prompt": "{x}", "prompts": [1, 2]},
        "no flag": {"prompt": "hi", "models": ["quick"], "temprature": 1},
        "cannot be varied": {"prompt": "hi", "grid": {"tag": ["a"]}},
        "no sweep": {"prompt": "hi", "models": ["quick"], "resume": "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
        "does not go with": {"prompt": "hi", "models": ["quick"], "cid": "x"},
    }.items():
        with pytest.raises(BadRequest, match=f"(?i){what}"):
            ts.sweep(**{**lab, **how})
    assert not mock.exchanges


def test_stop_ends_the_whole_and_resume_repeats_nothing_that_was_finished(mock, lab):
    mock.scripts["one"] = Script(text="a b c", gap=0.01)
    ask = {"prompt": "{x}", "grid": {"x": list(range(6))}, "models": ["one"], "repeat": 2, **lab}
    begun = sweeps.begin(**ask)
    mock.wait_for(5)
    assert begun.job.stop("button")
    begun.job.wait()
    stopped = begun.settled()
    assert stopped.stopped == "button" and 4 <= len(stopped) <= 6
    finished = [t.id for t in stopped if t.outcome == "complete"]
    assert all(t.stop_cause == "button" for t in stopped if t.outcome == "stopped")
    before = len(mock.exchanges)
    whole = ts.sweep(resume="last", **ask)
    assert len(mock.exchanges) - before == 12 - len(finished)
    assert whole.id == stopped.id and whole.seed == stopped.seed and len(whole) == 12
    assert set(finished) <= {t.id for t in whole} and {t.outcome for t in whole} == {"complete"}
    again = ts.sweep(resume=whole.id, **ask)
    assert len(again) == 12 and len(mock.exchanges) == before + 12 - len(finished)
    assert [t.id for t in again] == [t.id for t in whole]


def test_stop_closes_the_sockets_of_all_at_once(mock, lab):
    begun = sweeps.begin("hi {x}", ["long"], {"x": [1, 2, 3]}, max_concurrency=3, **lab)
    mock.wait_for(3)
    for exchange in mock.exchanges:
        while not exchange.sent:
            threading.Event().wait(0.005)
    assert [run.id for run in ts.running() if run.id == begun.job.id]
    ts.stop(begun.job.id)
    assert all(exchange.closed.wait(5) for exchange in mock.exchanges)
    assert {t.outcome for t in (begun.job.wait() and begun.settled())} == {"stopped"}
    assert not ts.running()


SCRIPT = """
import sys
import tokenstream_magic as ts
ts.sweep("{x}", ["story"], {"x": list(range(8))}, base_url=sys.argv[1], protocol="openai-chat", order_seed=4, token_limit=6)
"""


def test_a_killed_process_loses_no_finished_run(mock, lab):
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, mock.base_url], env=dict(os.environ))
    mock.wait_for(4, 60)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    result = ts.sweep("{x}", ["story"], {"x": list(range(8))}, resume="last", base_url=mock.base_url, protocol="openai-chat", token_limit=6)
    assert len(result) == 8 and {t.stop_cause for t in result} == {"limit:tokens"} and result.seed == 4
    assert 8 <= len(mock.exchanges) <= 9 + 1  # only what was on its way is asked again


def test_a_result_shows_a_table_and_a_picture_and_nothing_that_could_run(mock, lab):
    nasty = "<img src=x onerror=alert(1)>|$x^2$"
    result = ts.sweep("{x}", ["quick"], {"x": [nasty, "plain"]}, repeat=2, name="n<b>", **lab)
    data, metadata = result._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/markdown", "image/png"}
    assert "<img" not in data["text/markdown"] and "<b>" not in data["text/markdown"]
    lines = data["text/markdown"].splitlines()
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1  # a bar in a value opens no column
    assert "4 runs" in data["text/plain"] and metadata["tokenstream"]["sweep"] == result.id


def test_nothing_is_kept_when_asked(mock, lab):
    result = ts.sweep("{x}", ["quick"], {"x": [1, 2]}, no_log=True, **lab)
    assert len(result) == 2 and not ts.transcripts.recent(5)


def test_rows_come_from_frames_lists_and_texts():
    assert rows_of(pd.DataFrame({"n": [1], "x": [0.5]})) == [{"n": 1, "x": 0.5}]
    assert type(rows_of(pd.DataFrame({"n": [1]}))[0]["n"]) is int
    assert rows_of(["a"]) == [{"prompt": "a"}] and rows_of(None) == [{}]


def test_the_local_model_answers_a_sweep():
    result = ts.sweep("Say {word}.", ["local"], {"word": ["yes", "no"], "max_tokens": [4, 8]}, repeat=2, temperature=0)
    frame = result.to_pandas()
    assert set(frame["outcome"]) == {"complete"} and (frame["output_tokens"] <= frame["max_tokens"]).all()
    assert (frame["ttft_ms"] > 0).all() and frame.groupby(["word", "max_tokens"])["text"].nunique().max() == 1


def test_groups_and_baseline_are_in_the_order_of_the_grid_whatever_the_seed(mock, lab):
    for seed in range(4):
        result = ts.sweep("hi {x}", ["quick", "hello"], {"x": [2, 1]}, order_seed=seed, **lab)
        names = list(dict.fromkeys(result.summary(by="model", figures=["e2e_ms"]).index.get_level_values("model")))
        assert [name.rpartition("/")[2] for name in names] == ["quick", "hello"]
        assert result.paired("model", ["e2e_ms"]).index.names[0].endswith("against 127.0.0.1/quick")
        assert list(result.paired("x", ["e2e_ms"]).index.get_level_values(0)) == [1]
