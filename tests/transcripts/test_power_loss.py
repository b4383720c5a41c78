"""A power cut at any instant (D23) keeps every run that was said to be kept; a file system without locks or maps is told (D22)."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import sqlite3
from pathlib import Path

import pytest
from disk import Disk, library, without

import tokenstream_magic as ts
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.transcripts.store import Store

pytestmark = pytest.mark.skipif(library() is None, reason="SQLite is no library of its own in this Python")

CUTS = 60


def cut_at_random_instants(mock: MockServer, tmp_path: Path, cuts: int, seed: int) -> None:
    mock.scripts["slow"] = Script(tuple(f"{n} " for n in range(120)), gap=0.004)
    folder = Path(os.environ["TOKENSTREAM_DATABASE"]).parent
    disk = Disk(folder)
    with disk.inserted():
        store = ts.transcripts.open_store()
        with store.engine.connect() as connection:  # the pool has one connection: checkpoints come often
            connection.exec_driver_sql("PRAGMA wal_autocheckpoint=20")
        for number in range(12):
            sent = ts.stream(f"question {number}", "slow" if number % 4 == 0 else "hello", base_url=mock.base_url)
            store.writer.flush()
            disk.mark(("kept", sent.id, sent.text))
            if number == 6:
                gone = ts.transcripts.recent(3)[-1]
                ts.transcripts.delete(gone.id)
                disk.mark(("deleted", gone.id, ""))
        store.close()
    assert sum(what == "sync" for what, *_ in disk.log) > 20
    chance = random.Random(seed)
    for cut in range(cuts):
        upto = chance.randrange(len(disk.log) + 1)
        left = tmp_path / f"cut-{cut}"
        left.mkdir()
        for path, content in disk.after(upto, chance).items():
            (left / Path(path).name).write_bytes(content)
        file = left / "transcripts.db"
        again = Store(f"sqlite:///{file}")
        promised = {id: text for what, id, text in disk.marks(upto) if what == "kept"}
        for what, id, _ in disk.marks(upto):
            if what == "deleted":
                del promised[id]
        later = {id for what, id, _ in disk.marks(len(disk.log)) if what == "deleted"}
        found = {one.id: one.text for one in again.recent(100)}
        assert {id: text for id, text in promised.items() if id not in later}.items() <= found.items(), (seed, cut, upto)
        again.close()
        assert not [each for each in left.iterdir() if ".corrupt-" in each.name], (seed, cut, upto)
        with sqlite3.connect(file) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def test_a_power_cut_keeps_all_that_was_kept(mock: MockServer, tmp_path: Path) -> None:
    cut_at_random_instants(mock, tmp_path, CUTS, seed=1)


@pytest.mark.soak
def test_many_power_cuts(mock: MockServer, tmp_path: Path) -> None:
    cut_at_random_instants(mock, tmp_path, 1000, seed=2)


def test_without_sync_the_model_does_lose_something(mock: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is worth something only if it fails a store that does not sync."""
    from tokenstream_magic.transcripts import engines

    monkeypatch.setattr(engines, "_PRAGMAS", ("synchronous=OFF", *engines._PRAGMAS[1:]))
    with pytest.raises(AssertionError):
        cut_at_random_instants(mock, tmp_path, CUTS, seed=1)


# D22


def test_a_file_system_without_locks_is_told_and_the_stream_goes_on(
    mock: MockServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = {fcntl.F_SETLK, fcntl.F_SETLKW}

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refused)
    with without("fcntl", lambda _file, command, _about: errno.ENOLCK if command in locks else None):
        sent = [ts.stream("Hi", "hello", base_url=mock.base_url) for _ in range(2)]
    assert [each.outcome for each in sent] == ["complete"] * 2
    said = [record.getMessage() for record in caplog.records if "locks" in record.getMessage()]
    assert len(said) == 1
    assert "TOKENSTREAM_DATABASE" in said[0]


def test_a_file_system_without_shared_memory_gets_a_journal_instead(mock: MockServer, caplog: pytest.LogCaptureFixture) -> None:
    with without("mmap", lambda *about: errno.ENODEV if about[3] & mmap.MAP_SHARED else None):
        sent = [ts.stream(f"{number}", "hello", base_url=mock.base_url) for number in range(3)]
        store = ts.transcripts.open_store()
        store.writer.flush()
        assert [each.id for each in ts.transcripts.recent()] == [each.id for each in reversed(sent)]
        with store.database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
        store.close()
    assert len([record for record in caplog.records if "journal" in record.getMessage()]) == 1
    back = Store(os.environ["TOKENSTREAM_DATABASE"].join(("sqlite:///", "")))
    assert back.count() == 3
    back.close()
