"""Many rows at once are the rows that single runs would have written, whatever they have in common and whatever is odd in them."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tokenstream_magic.errors import StoreError
from tokenstream_magic.record import Choice, Transcript, Usage
from tokenstream_magic.redaction import Redactor
from tokenstream_magic.timing.metrics import Timing
from tokenstream_magic.timing.timeline import Timeline
from tokenstream_magic.transcripts import bulk, columns
from tokenstream_magic.transcripts.rows import put, redacted, to_row
from tokenstream_magic.transcripts.store import Store

COUNT = 2 * columns.TOGETHER + 203  # whole statements, and some rows beside them
TEXTS = (
    "",
    "plain",
    "it's 'quoted'",
    "two\nlines",
    "nul \0 inside",
    "Grüße 東京",
    "x" * 300,
    '{"null": 1}',
    "?1 :name @at $it",
    "-- ; DROP",
)
EAST = timezone(timedelta(hours=5, minutes=30))
SOME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def same_in_stretches(chance: random.Random, values: Sequence[object]) -> list[object]:
    """So many values, often the same, or all of them empty, in as many rows as are written together."""
    made: list[object] = []
    while len(made) < COUNT:
        one, empty = chance.choice(values), [value for value in values if not value]
        several = [lambda: one, lambda: chance.choice(values), lambda: chance.choice(empty or values)]
        of = chance.choice(several)
        made += [of() for _ in range(columns.TOGETHER)]
    return made[:COUNT]


def varied(seed: int) -> list[Transcript]:
    chance = random.Random(seed)

    def of(*values: object) -> list[object]:
        return same_in_stretches(chance, values)

    texts: dict[str, list[object]] = {name: of(None, *TEXTS) for name in ("system", "note", "cell_id", "request_id", "host", "notebook")}
    texts |= {name: of(*TEXTS) for name in ("model", "endpoint", "prompt")}
    plain: dict[str, list[object]] = {
        "messages": of([], [{"role": "user", "content": "it's"}], [{"n": 1 << 70}, {"content": "\u2028"}], [float("nan")]),
        "options": of({}, {"temperature": 0.1, "null": None}, {"deep": [{"er": {}}]}),
        "error": of(None, {}, {"type": "http", "status": 500}),
        "tags": of([], ["a", "b'c"]),
        "execution_count": of(None, 0, 1, -1, (1 << 63) - 1),
        "clock_offset_ms": of(None, 0.0, -0.0, 0.1, 1e300, float("inf"), 3),
        "created_at": of(SOME, SOME.astimezone(EAST), SOME.replace(microsecond=7)),
        "outcome": of("complete", "failed"),
    }
    times = {f.name: of(None, 0.0, 0.1 + 0.2, 1e-300, 7, True) for f in fields(Timing) if f.name not in ("server", "chunks")}
    usage = {f.name: of(None, 0, 12, 1 << 70, -(1 << 80)) for f in fields(Usage) if f.name != "source"}
    chosen = of(
        [],
        [Choice(0, "it's", finish_reason="stop")],
        [Choice(0, "", "thought", "no")],
        [Choice(3, "three", finish_reason="length")],
        [Choice(0, "a", tool_calls=[{"id": "1", "name": "f", "arguments": "{}"}], finish_reason="tool")],
        [Choice(0, "a"), Choice(1, "b", logprobs=[{"token": "b", "logprob": -0.5, "alternatives": []}])],
    )
    servers, sources = of({}, {"queue_ms": 1.5}), of(None, "reported")
    made = []
    for n in range(COUNT):
        timing = Timing(**{name: values[n] for name, values in times.items()}, chunks=n % 3, server=servers[n])  # type: ignore[arg-type]
        counts = Usage(**{name: values[n] for name, values in usage.items()}, source=sources[n])  # type: ignore[arg-type]
        timeline = Timeline(requested=5, headers=7 if n % 2 else None)
        for event in range(n % 40):
            timeline.add(10 + event * 1_000_000, event % 4, event, event // 2)
        given = {name: values[n] for name, values in (texts | plain).items()}
        made.append(Transcript(**given, choices=chosen[n], timing=timing, usage=counts, timeline=timeline))  # type: ignore[arg-type]
    return made


def rows(file: Path) -> list[dict[str, object]]:
    with sqlite3.connect(file) as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute("SELECT * FROM transcripts ORDER BY seq")]
    structured = ("messages", "options", "error", "tags", "variables", "diagnostics", "choices", "server_timing", "owner", "moments")
    for row in found:
        row.pop("updated_at")
        row |= {name: repr(json.loads(row[name] or "null")) for name in structured}
    return found


@pytest.mark.parametrize("seed", range(2))
def test_rows_are_as_single_ones_would_be(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = varied(seed)
    one_by_one, at_once, older, seen = (tmp_path / f"{name}.db" for name in ("one", "many", "older", "seen"))
    store = Store(f"sqlite:///{one_by_one}")
    with store.database.writing() as connection:
        for transcript in kept:
            put(connection, redacted(to_row(transcript), Redactor()), None, 0.0)
    store.close()
    for file, given in ((at_once, kept), (seen, iter(kept)), (older, kept)):
        if file is older:
            monkeypatch.setattr(columns, "_MANY_VALUES", (99,))
        store = Store(f"sqlite:///{file}")
        assert store.add_many(given) == COUNT
        assert store.add_many(kept) == 0
        store.close()
        differ = [
            (n, name, a[name], b[name])
            for n, (a, b) in enumerate(zip(rows(file), rows(one_by_one), strict=True))
            for name in a
            if a[name] != b[name]
        ]
        assert differ == []


def test_those_that_are_there_already_are_left_out_of_whole_statements(tmp_path: Path) -> None:
    kept = varied(9)
    there = set(random.Random(9).sample(range(COUNT), 400))
    store = Store(f"sqlite:///{tmp_path / 'some.db'}")
    assert store.add_many([replace(kept[n], note="before") for n in sorted(there)]) == 400
    assert store.add_many([*kept, *kept[:50]]) == COUNT - 400
    found = {t.id: t for t in store.each()}
    store.close()
    assert [found[t.id].note == "before" for t in kept] == [n in there for n in range(COUNT)]
    assert len(found) == COUNT


def test_few_statements_are_made_however_the_rows_vary(tmp_path: Path) -> None:
    columns._statement.cache_clear()
    store = Store(f"sqlite:///{tmp_path / 'many.db'}")
    kept = [Transcript(outcome="complete", model=f"m{n // columns.TOGETHER}", note=f"n{n // 1000}") for n in range(12 * columns.TOGETHER)]
    assert store.add_many(kept) == len(kept)
    store.close()
    assert columns._statement.cache_info().misses <= 3


def test_what_fails_while_the_next_is_made_ready_leaves_no_thread_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 50)
    store = Store(f"sqlite:///{tmp_path / 'broken.db'}")
    kept = [Transcript(outcome="complete", model="m") for _ in range(300)]
    kept[120].created_at = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        store.add_many(kept)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tokenstream-ready")]
    assert store.count() == 100
    kept[120].created_at = SOME
    assert store.add_many(kept) == 200
    store.close()


def test_what_is_there_is_asked_only_after_sqlite_refused_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    known = bulk._known
    monkeypatch.setattr(bulk, "_known", lambda connection, ids: asked.append(len(ids)) or known(connection, ids))
    store = Store(f"sqlite:///{tmp_path / 'many.db'}")
    kept = [Transcript(outcome="complete", model="m") for _ in range(4 * columns.TOGETHER)]
    last = kept[-columns.TOGETHER :]
    assert store.add_many(kept[: -columns.TOGETHER]) == 3 * columns.TOGETHER
    assert asked == []
    assert store.add_many([*kept, *last, last[0]]) == columns.TOGETHER
    assert asked == [columns.TOGETHER] * 4 + [1]  # in each of three transactions, after a part with nothing known
    assert [t.id for t in store.each()] == [t.id for t in kept]
    store.close()


@pytest.mark.parametrize(("longest", "largest", "transactions"), [(60, 1 << 20, 3), (0, 1 << 20, 6), (60, 1, 6)])
def test_a_transaction_of_large_rows_is_not_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest: float, largest: int, transactions: int
) -> None:
    begun = 0
    write = bulk._write

    def counted(*arguments: Any) -> int:
        nonlocal begun
        begun += 1
        return write(*arguments)

    for name, value in (("TOGETHER", 50), ("BATCH", 150), ("_LONGEST", longest), ("_LARGEST", largest), ("_write", counted)):
        monkeypatch.setattr(bulk, name, value)
    store = Store(f"sqlite:///{tmp_path / 'large.db'}")
    assert store.add_many([Transcript(outcome="complete", model="m") for _ in range(300)]) == 300
    assert (begun, store.count()) == (transactions, 300)
    store.close()


def test_nobody_waits_for_rows_that_are_not_ready_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, made, made_ready = tmp_path / "many.db", 0, bulk.columns

    def ready_once_another_has_written(part: list[Transcript], masks: columns.Masks) -> list[columns.Column]:
        nonlocal made
        made += 1
        if made in (3, 5):  # the second of a transaction
            with sqlite3.connect(file, timeout=3, isolation_level=None) as another:
                another.execute("BEGIN IMMEDIATE")
                another.execute("COMMIT")
            another.close()
        return made_ready(part, masks)

    for name, value in (("TOGETHER", 50), ("BATCH", 150), ("_LONGEST", 60), ("columns", ready_once_another_has_written)):
        monkeypatch.setattr(bulk, name, value)
    store = Store(f"sqlite:///{file}")
    assert store.add_many([Transcript(outcome="complete", model="m") for _ in range(300)]) == 300
    assert (made, store.count()) == (6, 300)
    store.close()


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be moved")
@pytest.mark.parametrize("at", [1, 6])
def test_rows_that_went_into_a_file_that_was_moved_are_not_said_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    file, written, put_wires = tmp_path / "many.db", 0, bulk._put_wires

    def moved(*arguments: Any) -> None:
        nonlocal written
        written += 1
        if written == at:
            file.rename(tmp_path / "moved.db")
        put_wires(*arguments)

    for name, value in (("TOGETHER", 50), ("BATCH", 150), ("_put_wires", moved)):
        monkeypatch.setattr(bulk, name, value)
    store = Store(f"sqlite:///{file}")
    kept = [Transcript(outcome="complete", model="m") for _ in range(300)]
    with pytest.raises(StoreError, match=r"moved or replaced .* once more"):
        store.add_many(iter(kept))
    assert store.count() == 0
    assert store.add_many(kept) == 300
    assert [t.id for t in store.each()] == [t.id for t in kept]
    store.close()
