"""Many transcripts kept at once: found and counted from the first moment on, whoever dies, deletes or writes in between."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import sqlite3
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import tokenstream_magic as ts
from tokenstream_magic.errors import BadRequest, StoreError
from tokenstream_magic.exchange.portable import to_data
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.transcripts import behind, bulk, columns, ranges, schema, writer
from tokenstream_magic.transcripts.addresses import default_url
from tokenstream_magic.transcripts.rows import put, to_row
from tokenstream_magic.transcripts.schema import to_json
from tokenstream_magic.transcripts.statistics import _by_any, groups
from tokenstream_magic.transcripts.store import Store

KILL_AT_EVERY_STATEMENT = """
import os, signal, sqlite3
import sqlalchemy as sa
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.transcripts import behind, bulk
from tokenstream_magic.transcripts.statistics import _by_any, groups
from tokenstream_magic.transcripts.addresses import default_url
from tokenstream_magic.transcripts.store import Store

bulk.BATCH, bulk.FEW, behind.SLICE, behind.BREATH, bulk.BREATH = 4, 0, 3, 0, 0
made = [
    Transcript(id=f"{n:026d}", model=f"m{n % 2}", prompt=f"question{n}", choices=[Choice(0, "answer")], outcome="complete")
    for n in range(10)
]
for n, transcript in enumerate(made):
    transcript.timing.ttft_ms = float(n)

def add(at):
    store, seen = Store(default_url()), 0
    def count(*_):
        nonlocal seen
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
    sa.event.listen(sa.engine.Engine, "before_cursor_execute", count)
    sa.event.listen(sa.engine.Engine, "commit", count)
    store.add_many(made)
    assert not store.catch_up()

def finish(_):
    store = Store(default_url())
    before = store.count()
    assert len(store.recent(100, query="answer")) == before, before
    assert store.add_many(made) == 10 - before
    assert [t.prompt for t in store.each()] == [t.prompt for t in made]
    assert len(store.recent(100, query="answer")) == 10
    assert {group.by: group for group in groups(store)} == {group.by: group for group in _by_any(store, ["model"])}
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("INSERT INTO transcripts_words (transcripts_words, rank) VALUES ('integrity-check', 1)")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

def in_a_child(what, at):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            what(at)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

at, status = 0, 1
while status:
    at += 2
    status = in_a_child(add, at)
    assert status in (0, -signal.SIGKILL), status
    assert in_a_child(finish, 0) == 0, at
    for ending in ("", "-wal", "-shm"):
        if os.path.exists(os.environ["TOKENSTREAM_DATABASE"] + ending):
            os.unlink(os.environ["TOKENSTREAM_DATABASE"] + ending)
print(at)
"""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and slices of a few rows, and nobody who enters them but who needs it."""
    monkeypatch.setattr(bulk, "BATCH", 4)
    monkeypatch.setattr(bulk, "FEW", 0)
    monkeypatch.setattr(behind, "SLICE", 3)
    monkeypatch.setattr(writer, "QUIET_SECONDS", 3600.0)


def made(n: int, **fields: object) -> Transcript:
    one = Transcript(**{"model": f"lab/m{n % 3}", "prompt": f"question{n}", "outcome": "complete", **fields})  # type: ignore[arg-type]
    one.choices = [Choice(0, f"answer{n} zebra")]
    one.timing.ttft_ms = float(n)
    return one


def by(found: object) -> dict[object, object]:
    return {group.by: group for group in found}  # type: ignore[attr-defined]


def check(store: Store, there: set[str]) -> None:
    """Search and figures know exactly what is there, and the file is whole."""
    assert {t.id for t in store.recent(1000)} == there
    assert {t.id for t in store.recent(1000, query="zebra")} == there
    assert by(groups(store)) == by(_by_any(store, ["model"]))
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.execute("INSERT INTO transcripts_words (transcripts_words, rank) VALUES ('integrity-check', 1)")
        assert connection.execute("SELECT count(*) FROM counted WHERE n <= 0").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM behind").fetchone() == (0,)


def test_they_are_found_and_counted_right_after(either: str) -> None:
    store = ts.transcripts.open_store()
    kept = [made(n) for n in range(30)]
    assert store.add_many(kept) == 30
    if either == "sqlite":
        assert behind.is_behind(store.database)
    assert [t.id for t in store.recent(5, query="zebra")] == [t.id for t in reversed(kept[-5:])]
    store.add_many([made(30)])
    assert by(groups(store)) == by(_by_any(store, ["model"]))
    assert len(store.recent(100, query="zebra")) == 31
    assert store.recent(100, query="answer30")[0].prompt == "question30"


def test_what_a_dead_process_left_is_finished_by_who_searches() -> None:
    done = subprocess.run([sys.executable, "-c", KILL_AT_EVERY_STATEMENT], capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 40


def test_a_kernel_finishes_it_by_itself_when_it_has_nothing_else_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    Store(default_url()).add_many(made(n) for n in range(10))
    monkeypatch.setattr(writer, "QUIET_SECONDS", 0.0)
    entered, finished = behind.catch_up, threading.Event()

    def watched(database: object, slices: int | None = None) -> bool:
        all_of_it = entered(database, slices)  # type: ignore[arg-type]
        if all_of_it:
            finished.set()
        return all_of_it

    monkeypatch.setattr(behind, "catch_up", watched)
    store = Store(default_url())
    assert finished.wait(30)
    assert not behind.is_behind(store.database)
    assert len(store.recent(100, query="zebra")) == 10
    store.close()


def test_it_stays_right_whatever_is_written_and_deleted(tmp_path: Path) -> None:
    store, chance = Store(default_url()), random.Random(5)
    odd = [None, 0.0, 0.001, 0.99, 1.0, 3.999999999, 4.0, 63.9, 64.0, 200.0, 200.0, 200.1, 1e9, 1e12, -1.0, 1e300]
    there: dict[str, Transcript] = {}
    for step in range(60):
        several = [made(n, outcome=chance.choice(["complete", "failed", "stopped"])) for n in range(chance.randint(1, 9))]
        for one in several:
            one.timing.ttft_ms, one.timing.decode_tokens_per_second = chance.choice(odd), chance.choice(odd)
        what = step % 5
        if what in (0, 1):
            store.add_many(several)
            there |= {t.id: t for t in several}
        elif what == 2:
            store.delete(chance.choice(list(there)))
            there = {t.id: t for t in store.recent(1000)}
        elif what == 3:  # written again with other figures, as from a spool
            id = chance.choice(list(there))
            several[0].id = id
            with store.database.writing() as connection:
                put(connection, to_row(several[0]), None, 0.0)
        elif chance.random() < 0.5:
            behind.catch_up(store.database, slices=1)
    check(store, set(there))
    store.close()


def test_deleting_takes_them_out_of_what_is_behind() -> None:
    store = Store(default_url())
    kept = [made(n, model=f"secret-model-{n}") for n in range(6)]
    store.add_many(kept)
    behind.catch_up(store.database, slices=1)
    store.delete(kept[1].id)  # entered already
    store.delete(kept[4].id)  # not yet
    check(store, {t.id for t in kept} - {kept[1].id, kept[4].id})
    store.close()
    file = Path(store.path)
    written = b"".join(Path(f"{file}{ending}").read_bytes() for ending in ("", "-wal") if Path(f"{file}{ending}").exists())
    assert b"secret-model-0" in written
    assert b"secret-model-1" not in written
    assert b"secret-model-4" not in written


def test_where_it_cannot_be_finished_it_is_read_through(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(default_url())
    store.add_many(made(n) for n in range(10))
    store.database.read_only = "It is only read."
    assert [t.prompt for t in store.recent(3, query="zebra")] == ["question9", "question8", "question7"]
    assert [t.prompt for t in store.recent(3, query="zebra answer4")] == ["question4"]
    assert by(groups(store)) == by(_by_any(store, ["model"]))
    store.database.read_only = None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(behind, "catch_up", full)
    assert [t.prompt for t in store.recent(3, query="zebra")] == ["question9", "question8", "question7"]
    store.close()


def test_what_a_kernel_of_an_older_version_wrote_is_counted(tmp_path: Path) -> None:
    store = Store(default_url())
    store.add_many(made(n) for n in range(10))
    groups(store)
    with sqlite3.connect(store.path) as older:
        older.execute("DELETE FROM counted")
        older.execute("DELETE FROM measured WHERE seq > 3")
    check(store, {t.id for t in store.each()})
    store.close()


def test_nothing_is_written_before_the_last_one_was_seen(either: str) -> None:
    store = ts.transcripts.open_store()

    def bad() -> Iterator[Transcript]:
        yield from (made(n) for n in range(11))
        raise BadRequest("The twelfth is hostile.")

    with pytest.raises(BadRequest, match="twelfth"):
        store.add_many(bad())
    assert store.count() == 0
    assert not list(Path(store.path).parent.glob(".ready-*")) if either == "sqlite" else True


def test_a_long_file_is_not_held_in_memory_and_refused_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, lines = tmp_path / "all.jsonl", [to_json(to_data(made(n))) for n in range(60)]
    file.write_text("\n".join([*lines, '{"schema": "tokenstream.transcript/1"}']))
    with pytest.raises(BadRequest, match="line 61 has no id"):
        ts.transcripts.import_file(file)
    assert ts.transcripts.open_store().count() == 0

    alive: list[weakref.ref[Transcript]] = []
    most = 0
    make = bulk.columns

    def counted(part: list[Transcript], masks: columns.Masks) -> list[object]:
        nonlocal most
        alive.extend(map(weakref.ref, part))
        most = max(most, sum(one() is not None for one in alive))
        return make(part, masks)

    monkeypatch.setattr(bulk, "columns", counted)
    file.write_text("\n".join([*lines, *lines[:5]]))
    assert ts.transcripts.import_file(file) == (60, 5)
    assert most <= bulk.BATCH + 3
    assert [t.prompt for t in ts.transcripts.open_store().each()] == [f"question{n}" for n in range(60)]
    assert not behind.is_behind(ts.transcripts.open_store().database)


@pytest.mark.parametrize("fails", [False, True])
def test_the_collector_looks_at_what_an_import_made_and_not_through_the_whole_process(either: str, fails: bool) -> None:
    class Circle:
        def __init__(self) -> None:
            self.own = self

    generations: set[int] = set()
    alive: list[weakref.ref[Circle]] = []
    most = 0

    def looked(phase: str, about: dict[str, int]) -> None:
        generations.add(about["generation"])

    def circular() -> Iterator[Transcript]:
        nonlocal most
        gc.callbacks.append(looked)
        for n in range(50):
            assert not gc.isenabled()
            alive.append(weakref.ref(Circle()))
            most = max(most, sum(one() is not None for one in alive))
            yield made(n)
        gc.callbacks.remove(looked)
        if fails:
            raise BadRequest("The last is hostile.")

    assert gc.isenabled()
    with pytest.raises(BadRequest) if fails else contextlib.nullcontext():
        assert ts.transcripts.open_store().add_many(circular()) == 50
    assert gc.isenabled()
    assert generations == {1}
    assert most <= 2 * bulk.BATCH


def test_what_fts5_holds_in_memory_is_much_only_while_many_are_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    store, held = ts.transcripts.open_store(), []
    enter = behind._enter

    def sizes() -> list[tuple[int]]:
        with sqlite3.connect(store.path) as connection:
            return connection.execute("SELECT v FROM transcripts_words_config WHERE k = 'hashsize'").fetchall()

    def seen(connection: sa.Connection, first: int, last: int) -> None:
        held.append(connection.exec_driver_sql("SELECT v FROM transcripts_words_config WHERE k = 'hashsize'").scalar())
        if len(held) == 2:
            raise OSError(28, "No space left on device")
        enter(connection, first, last)

    store.add_many([made(n) for n in range(10)])
    monkeypatch.setattr(behind, "_enter", seen)
    assert store.catch_up() and sizes() == [(behind._USUAL,)]
    assert not store.catch_up() and sizes() == [(behind._USUAL,)]
    assert len(held) > 3 and {*held} == {behind._MUCH}
    assert len(store.recent(100, query="zebra")) == 10


def test_what_waits_is_counted_whatever_it_is_called(either: str) -> None:
    masks = columns.Masks()
    make = columns.columns if either == "sqlite" else bulk._data
    kept = [made(n, notebook="task-1.ipynb", note="n" * 1000) for n in range(100)]
    assert make(kept, masks)
    assert masks.seen >= 100_000


def test_an_interrupted_one_can_be_repeated(either: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, kept, written = ts.transcripts.open_store(), [made(n) for n in range(10)], 0
    write = bulk._write

    def failing(*arguments: object) -> int:
        nonlocal written
        written += 1
        if written == 2:
            raise OSError(28, "No space left on device")
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(bulk, "_write", failing)
    with pytest.raises(StoreError, match="No space"):
        store.add_many(kept)
    assert store.count() == bulk.BATCH
    assert store.add_many(kept) == 10 - bulk.BATCH
    assert [t.id for t in store.each()] == [t.id for t in kept]
    assert len(store.recent(100, query="zebra")) == 10


def test_what_only_behaves_like_text_is_kept_too(either: str) -> None:
    class Said(str):
        __slots__ = ()

    store, kept = ts.transcripts.open_store(), [made(n, note=Said("n") if n > 4 else "n") for n in range(20)]
    assert store.add_many(kept) == 20
    assert [t.id for t in store.each()] == [t.id for t in kept]
    assert {t.note for t in store.each()} == {"n"}


def test_what_no_database_takes_is_no_error_in_the_middle(either: str) -> None:
    half = "half \ud800 of a pair"
    store, kept = ts.transcripts.open_store(), [made(n) for n in range(12)]
    kept[5].note, kept[6].tags, kept[7].options, kept[8].execution_count = half, [half], {half: [half]}, 1 << 70
    kept[9].choices, kept[10].model = [Choice(0, half, finish_reason="stop"), Choice(1, half)], half
    assert store.add_many(kept) == 12
    found = list(store.each())
    whole = half.replace("\ud800", "\ufffd")
    assert (found[5].note, found[6].tags, found[7].options, found[8].execution_count) == (whole, [whole], {whole: [whole]}, None)
    assert [choice.text for choice in found[9].choices] == [whole, whole]
    assert [t.prompt for t in found] == [f"question{n}" for n in range(12)]


def test_the_ranges_of_values_are_in_order_and_exact() -> None:
    chance = random.Random(3)
    some = [chance.choice((1, -1)) * 10 ** chance.uniform(-9, 12) for _ in range(3000)]
    edges = [scale for power in range(18) for scale in (4.0**power, 4.0**power * (1 - 2**-53), 4.0**power * (1 + 2**-52))]
    query = f"SELECT {ranges.sql('v')} FROM (SELECT ? AS v)"
    with sqlite3.connect(":memory:") as connection:
        before = -1
        for value in sorted([*some, *edges, 0.0, float("inf"), float("-inf")]):
            (number,) = connection.execute(query, (value,)).fetchone()
            assert number >= before
            assert ranges.lowest(number) <= value
            before = number
            lowest = ranges.lowest(number)
            assert number < 0 or connection.execute(query, (lowest,)).fetchone() == (number,)
            assert not 1 <= value < 4**16 or value - lowest <= value / ranges.PARTS


def test_figures_that_are_kept_beside_are_of_columns_that_are_there() -> None:
    assert set(schema.MEASURED) <= {column.name for column in schema.transcripts.c}
