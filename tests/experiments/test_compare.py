"""Comparisons: each side by itself, in an order left to chance; blind until the vote; votes that add up."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest

import tokenstream_magic as ts
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.experiments import compare as comparing
from tokenstream_magic.experiments.job import PARALLEL
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.record import Transcript
from tokenstream_magic.transcripts import preferences
from tokenstream_magic.transcripts.preferences import vote_tags, wilson


@pytest.fixture
def lab(mock: MockServer) -> dict[str, object]:
    mock.scripts |= {name: Script(text=f"I am {i}", gap=0.005) for i, name in enumerate(("red", "green", "blue"))}
    return {"base_url": mock.base_url, "protocol": "openai-chat", "max_retries": 0}


def test_each_side_has_its_own_run_and_its_row(mock, lab):
    result = ts.compare("Who are you?", models=["red", "green", "unauthorized"], **lab)
    frame = result.to_pandas()
    assert [t.text for t in result] == ["I am 0", "I am 1", ""]
    assert list(frame["outcome"]) == ["complete", "complete", "failed"]
    assert frame["cost"].isna().all() and frame["ttft_ms"].isna().tolist() == [False, False, True]
    asked = [exchange.body["model"] for exchange in mock.exchanges]
    assert asked == [result.names[result.labels.index(label)] for label in result.order]
    spans = sorted((t.timeline.requested, t.timeline.closed) for t in result)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert {t.id for t in ts.transcripts.recent(5, tag=f"compare:{result.id}")} == {t.id for t in result}


def test_the_order_is_that_of_the_seed(mock, lab):
    orders = {ts.compare("x", models=["red", "green", "blue"], order_seed=seed, **lab).order[0] for seed in range(8)}
    assert len(orders) == 3
    again = [ts.compare("x", models=["red", "green", "blue"], order_seed=5, **lab).order for _ in range(2)]
    assert again[0] == again[1]


def test_in_parallel_only_with_a_warning(mock, lab, caplog):
    with caplog.at_level(logging.WARNING):
        result = ts.compare("x", models=["story", "endless"], max_concurrency=2, token_limit=5, **lab)
    assert [r.message for r in caplog.records] == [PARALLEL]
    first, second = sorted((t.timeline.requested, t.timeline.closed) for t in result)
    assert second[0] < first[1]


def test_the_server_says_what_it_costs(lab):
    result = ts.compare("x", models=["red", "green"], **lab)
    result.transcripts[0].timing.server["cost"] = 0.00042
    assert result.to_pandas()["cost"].tolist()[0] == 0.00042
    assert "0.00042" in result._repr_mimebundle_()[0]["text/plain"]


def test_the_table_has_no_column_that_is_empty_and_parts_no_figure_from_its_unit(lab):
    result = ts.compare("x", models=["red", "unauthorized"], **lab)
    result.transcripts[0].timing.ttft_ms = 304.2
    result.transcripts[0].choices[0].text = "one two three four five six seven"
    header, lines = result.table()
    assert "cost" not in header and {len(line) for line in lines} == {len(header)}
    shown = result._repr_mimebundle_()[0]
    assert "| 304\u00a0ms |" in shown["text/markdown"]  # one line, however narrow the column
    assert "| one\u00a0two\u00a0three\u00a0four\u00a0five\u00a0six seven |" in shown["text/markdown"]  # nor a word a line
    assert " 304 ms " in shown["text/plain"] and "\u00a0" not in shown["text/plain"]


def test_a_blind_comparison_says_no_name_until_the_vote(mock, lab, monkeypatch):
    settled = []
    monkeypatch.setattr("tokenstream_magic.display.views.front_end", lambda: "headless")
    monkeypatch.setattr("IPython.display.publish_display_data", lambda data, metadata: settled.append(repr((data, metadata))))
    mock.scripts["green"] = Script(status=404, error="no model green here")
    result = ts.compare("x", models=["red", "green"], blind=True, **lab)
    shown = repr(result) + repr(result._repr_mimebundle_()) + "".join(settled)
    for name in ("red", "green", "127.0.0.1"):
        assert name not in shown.replace("rendered", "").replace("shared", "").replace("hundred", "")
    with pytest.raises(BadRequest, match="hidden"):
        result.to_pandas()
    with pytest.raises(BadRequest, match="no side"):
        result.vote("red")
    comparing.vote("b")
    assert result.voted == "B" and "red" in settled[-1] and "red" in repr(result)
    winner = ts.transcripts.recent(1, tag="vote:won")[0]
    assert winner.id == result["B"].id and "side:B" in winner.tags


def test_votes_add_up_to_rates_with_intervals(lab):
    for winner in ("red", "red", "red", "green", "tie"):
        ts.compare("x", models=["red", "green"], **lab).vote(winner)
    best, other = ts.transcripts.votes()
    assert (best.model, best.votes, best.won, best.tied) == ("127.0.0.1/red", 5, 3, 1)
    assert best.win_rate == 0.7 and other.win_rate == pytest.approx(0.3)
    assert best.low < 0.7 < best.high and best.strength + other.strength == pytest.approx(1)
    assert ts.transcripts.votes().to_pandas().loc["127.0.0.1/green", "won"] == 1


def test_another_vote_takes_the_place_of_the_first(lab):
    result = ts.compare("x", models=["red", "green"], **lab)
    result.vote("A").vote("B")
    assert [(s.model[-3:], s.won) for s in ts.transcripts.votes()] == [("een", 1), ("red", 0)]


def test_strengths_follow_who_beat_whom_and_never_say_certain():
    def one(number: int, *models_and_won: tuple[str, bool]) -> list[Transcript]:
        return [Transcript(model=model, tags=vote_tags(str(number), [], won)) for model, won in models_and_won]

    votes = [t for n in range(10) for t in one(n, ("a", True), ("b", False))]
    votes += [t for n in range(10, 20) for t in one(n, ("b", True), ("c", False))]
    found = preferences.standings(votes)
    assert [s.model for s in found] == ["a", "b", "c"]  # a never met c
    assert 0.5 < found[0].strength < 1 and 0 < found[2].strength < 0.5
    assert wilson(1.0, 10)[0] == pytest.approx(0.7225, abs=1e-3)  # 10 of 10: the textbook's 72.2 %
    assert repr(preferences.standings([])) == "No votes yet."


def test_stop_ends_every_side_and_those_that_waited_never_begin(mock, lab):
    begun = comparing.begin("x", ["endless", "slow"], order_seed=1, quiet=True, **lab)
    mock.wait_for(1)
    begun.job.stop("interrupt")
    begun.job.wait()
    result = begun.settled()
    assert [t.outcome for t in result] == ["stopped", "stopped"] and len(result.order) == 1 and len(mock.exchanges) == 1


def test_what_is_no_comparison_is_refused(mock, lab):
    for models in (None, ["red"], ["red"] * 13):
        with pytest.raises(BadRequest, match="from 2 to 12"):
            ts.compare("x", models=models, **lab)
    with pytest.raises(BadRequest, match="temprature"):
        ts.compare("x", models=["red", "green"], temprature=1, **lab)
    assert not mock.exchanges
