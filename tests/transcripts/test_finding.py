"""Finding: filters, words, ids; the same in SQLite and PostgreSQL. What is typed is never a query language."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

import tokenstream_magic as ts
from tokenstream_magic import asking
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.plain import plain_text
from tokenstream_magic.prompt import Prompt
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.transcripts.finding import moment

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def keep(text: str = "", prompt: str = "", **more) -> Transcript:
    made = Transcript(model=more.pop("model", "local"), prompt=prompt, outcome=more.pop("outcome", "complete"), **more)
    made.choices = [Choice(text=text)]
    ts.transcripts.open_store().add_many([made])
    return made


def found(**filters) -> list[str]:
    return [t.text for t in ts.transcripts.recent(100, **filters)]


def test_words_are_found_by_their_beginnings_in_any_case_and_place(either: str) -> None:
    keep("The lighthouse keeper slept", "a story")
    keep("A keeper of bees", "about LIGHT")
    keep("Nothing of the kind", "none")
    assert found(query="lightho") == ["The lighthouse keeper slept"]
    assert found(query="KEEPER light") == ["A keeper of bees", "The lighthouse keeper slept"]
    assert found(query='"keeper of"') == ["A keeper of bees"]
    assert found(query="keeper absent") == []


def test_operators_and_wildcards_are_words(either: str) -> None:
    texts = ['say "hi" AND go', "50% off_now", "c++ (NOT java)", "a NEAR b", "col:umn^2", "back\\slash", "日本語の文章", "naïve café", "*"]
    for text in texts:
        keep(text)
    for query, expected in {
        "AND": [texts[0]],
        "50%": [texts[1]],
        "off_n": [texts[1]],
        "c++": [texts[2]],
        "(NOT": [texts[2]],
        "NEAR": [texts[3]],
        "col:umn^2": [texts[4]],
        "back\\slash": [texts[5]],
        "本語": [texts[6]],
        "café": [texts[7]],
        "*": [texts[8]],
        "%": [texts[1]],
        "zzz OR AND": [],
        "' OR 1=1 --": [],
    }.items():
        assert found(query=query) == expected, query


def test_accents_are_neither_needed_nor_in_the_way(either: str) -> None:
    texts = ["crème brûlée", "creme of the crop", "Ångström", "한국어 문장", "cre\u0300me decomposed"]
    for text in texts:
        keep(text)
    for query in ("creme", "crème", "CRÈME"):
        assert found(query=query) == [texts[4], texts[1], texts[0]], query
    assert found(query="angstrom") == [texts[2]]
    assert found(query="brulee creme") == [texts[0]]
    assert found(query="한국") == [texts[3]]


def test_words_far_behind_are_found_and_a_text_of_nothing_but_different_words_by_its_beginning(either: str) -> None:
    keep("many words " * 50_000 + "needle", "question " * 20_000 + "haystack")
    assert len(found(query="needle haystack")) == 1
    endless = " ".join(f"{n:x}\u0958\U0001d15e" for n in range(200_000))  # which are more when they are taken apart
    keep(f"early {endless}", endless)
    assert len(found(query="early")) == 1


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30))
@example("\u08f00")  # a mark that is a letter to some
@example("a\u00b7b\u2014c")
@example("half a pair \ud800 and a NUL \0")
def test_no_text_is_an_error_and_what_is_kept_is_found(either: str, text: str) -> None:
    made = keep(f"start {plain_text(text)} end")
    for name in ("query", "tag", "notebook", "cell", "conversation", "model"):
        ts.transcripts.recent(5, **{name: text})
    if text.strip() and text == plain_text(text) and '"' not in text and text.split() == [text]:
        assert made.id in [t.id for t in ts.transcripts.search(text, limit=200)]


def test_a_model_is_found_by_what_a_cell_calls_it(either: str) -> None:
    """Runs of an endpoint's own model are kept by the endpoint's name, and of an alias by what it stands for."""
    Path(os.environ["TOKENSTREAM_CONFIG"]).write_text('[aliases]\nquick = "mock/hello"\n')
    for model in ("mock/story", "mock", "quick"):
        keep(model, model=asking.describe(asking.ask("Hi", model).plan, Prompt([], "Hi")).model, endpoint="mock")
    assert found(model="mock/story") == found(model="mock:story") == ["mock", "mock/story"]
    assert found(model="mock/hello") == found(model="quick") == ["quick"]
    assert found(model="mock") == ["quick", "mock", "mock/story"]
    assert found(model="nothing/of-the-kind") == []


def test_every_filter(either: str) -> None:
    keep("1", model="openai/gpt", endpoint="openai", tags=["ü", "two words"])
    keep("2", model="local", endpoint="local", notebook="/home/me/tries.ipynb", cell_id="abc-123", outcome="stopped")
    keep("3", model="openai", endpoint="openai", conversation_id="01CONV", created_at=NOW - timedelta(days=400))
    assert found(model="openai") == ["3", "1"]
    assert found(model="openai/gpt") == ["1"]
    assert found(model="open") == []
    assert found(tag="ü") == found(tag="two words") == ["1"]
    assert found(tag="two") == []
    assert found(status="stopped") == found(notebook="tries") == found(cell="abc") == ["2"]
    assert found(conversation="01CONV") == ["3"]
    assert found(since="2h") == ["2", "1"]
    assert found(model="openai", since="1d", tag="ü") == ["1"]
    assert [t.text for t in ts.transcripts.recent(2)] == ["3", "2"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("90m", "2026-11-20T10:30:00.000000+00:00"),
        ("3d", "2026-11-17T12:00:00.000000+00:00"),
        ("1w", "2026-11-13T12:00:00.000000+00:00"),
        ("today", "2026-11-20T00:00:00.000000+00:00"),
        ("yesterday", "2026-11-19T00:00:00.000000+00:00"),
        ("2026-11-01T09:30Z", "2026-11-01T09:30:00.000000+00:00"),
    ],
)
def test_moments(said: str, meant: str) -> None:
    assert moment(said, NOW) == meant


@pytest.mark.parametrize("said", ["soon", "3 fortnights", "2026-13-01", "", "0001-01-01T00:00+14:00"])
def test_what_is_no_moment_is_said(said: str) -> None:
    with pytest.raises(BadRequest):
        moment(said, NOW)


def test_ids_by_their_start_and_place(either: str) -> None:
    first, second = keep("one", id="01ARZ3NDEKTSV4RRFFQ69G5FAA"), keep("two", id="01ARZ3NDEKTSV4RRFFQ69G5FAB")
    assert ts.transcripts.get("01arz3ndektsv4rrffq69g5fab").text == "two"
    assert ts.transcripts.get("last").id == ts.transcripts.get("latest").id == second.id
    assert ts.transcripts.get("last~1").id == first.id
    for wrong, why in {
        "01ARZ": "several",
        "last~2": "not that many",
        "01B": "no transcript",
        "x y": "no transcript id",
        "%": "no transcript id",
    }.items():
        with pytest.raises(BadRequest, match=why):
            ts.transcripts.get(wrong)


def test_a_list_does_not_load_bodies(either: str) -> None:
    keep("long " * 100_000, "p" * 500_000)
    (brief,) = ts.transcripts.open_store().recent(brief=True)
    assert (len(brief.text), len(brief.prompt), len(brief.timeline)) == (200, 200, 0)
    assert ts.transcripts.last().text == "long " * 100_000


def test_the_queries_of_lists_use_an_index() -> None:
    import sqlalchemy as sa

    from tokenstream_magic.transcripts.finding import Filters, columns, newest

    keep("one")
    store = ts.transcripts.open_store()
    for filters in (
        Filters(),
        Filters(model="openai/gpt"),
        Filters(model="local"),
        Filters(status="failed"),
        Filters(conversation="C"),
        Filters(query="two words"),
    ):
        for query in newest(filters, 50, "sqlite", chosen=columns(brief=True)):
            compiled = query.compile(store.engine, compile_kwargs={"literal_binds": True})
            with store.engine.connect() as connection:
                plan = " ".join(row[3] for row in connection.execute(sa.text("EXPLAIN QUERY PLAN " + str(compiled).replace(":", "\\:"))))
            assert "TEMP B-TREE" not in plan, plan
            assert "SCAN transcripts USING INDEX" in plan or "SEARCH transcripts" in plan, plan


def test_many_are_added_at_once_and_each_only_once(either: str) -> None:
    made = [Transcript(model="m", prompt=str(n), outcome="complete") for n in range(1200)]
    store = ts.transcripts.open_store()
    assert store.add_many(made) == 1200
    assert store.add_many(made[:10]) == 0
    assert [t.id for t in store.each()] == [t.id for t in made]
    assert store.count() == 1200


def test_statistics_by_model_and_by_options(either: str) -> None:
    for n in range(101):
        t = Transcript(model="fast" if n % 2 else "slow", options={"temperature": n % 4 / 4}, outcome="failed" if n == 0 else "complete")
        t.timing.ttft_ms = float(n)
        t.timing.decode_tokens_per_second = None if n % 2 else 10.0
        keep_timed(t)
    slow, fast = ts.transcripts.stats()
    assert (slow.by, slow.runs, slow.outcomes, slow.tokens_per_second) == (("slow",), 51, {"complete": 50, "failed": 1}, (10.0, 10.0))
    assert slow.ttft_ms == (50.0, 95.0)
    assert (fast.by, fast.runs, fast.ttft_ms, fast.tokens_per_second) == (("fast",), 50, (50.0, 94.1), None)
    by = ts.transcripts.stats(["model", "temperature"])
    assert {group.by: group.runs for group in by} == {("slow", 0.0): 26, ("fast", 0.25): 25, ("slow", 0.5): 25, ("fast", 0.75): 25}
    with pytest.raises(BadRequest):
        ts.transcripts.stats(["no; drop"])


def keep_timed(transcript: Transcript) -> None:
    ts.transcripts.open_store().add_many([transcript])
