"""A database with a wrong byte anywhere (D07): an error in one line or none, no stream lost, the damaged file kept beside the new one."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

import tokenstream_magic as ts
from tokenstream_magic.errors import TokenstreamError
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.record import Choice, Transcript, new_id
from tokenstream_magic.transcripts import behind, store as store_module
from tokenstream_magic.transcripts.rows import put, to_row
from tokenstream_magic.transcripts.store import Store
from tokenstream_magic.wire.kept import Exchange, Request, Wire

PAGE = 4096
SEED = 7


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small database that has been used: settled runs with their wires, one that was streaming, words and figures."""
    folder = tmp_path_factory.mktemp("sound")
    store = Store(f"sqlite:///{folder / 'transcripts.db'}")
    made = []
    for number in range(30):
        one = Transcript(model=f"m{number % 3}", prompt=f"question {number}", outcome="complete", tags=["a"], options={"temperature": 0.5})
        one.choices = [Choice(0, f"answer {number} " + "word " * 60)]
        one.timing.ttft_ms = 12.5
        one.kept_wire = Wire("openai-chat", [Exchange(0, Request("POST", "http://127.0.0.1/v1"), body=b"")]) if number % 5 == 0 else None
        made.append(one)
    store.add_many(made[:-1])
    store.database.prepare()
    with store.database.writing() as connection:
        put(connection, {**to_row(made[-1]), "outcome": "running"}, None, 0.0)
    behind.catch_up(store.database)
    store.close()
    connection = sqlite3.connect(folder / "transcripts.db", isolation_level=None)
    with connection:
        connection.execute("INSERT INTO batches VALUES (?, 0, '[[\"text\", 0, \"more\"]]', x'')", (made[-1].id,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    return folder / "transcripts.db"


def used(mock: MockServer) -> None:
    """Everything a reader does, after which the present run must be there whatever happened."""
    sent = ts.stream("Hi", "hello", base_url=mock.base_url)
    assert (sent.outcome, sent.text) == ("complete", "Hello there.")
    known = [new_id()]
    for ask in (
        lambda: known.extend(t.id for t in ts.transcripts.recent(50)),
        lambda: [ts.transcripts.get(id) for id in known[1:]],
        lambda: ts.transcripts.search("answer"),
        lambda: ts.transcripts.recent(5, model="m1", status="complete", tag="a"),
        ts.transcripts.stats,
        ts.transcripts.status,
        lambda: [ts.transcripts.wire(id) for id in known[1:]],
        lambda: list(ts.transcripts.open_store().each()),
        lambda: ts.transcripts.open_store().models(),
        lambda: ts.transcripts.open_store().retag({known[-1]: ["b"]}),
        lambda: ts.transcripts.delete(known[-1]),
        lambda: ts.transcripts.to_pandas("chunks"),
    ):
        try:
            ask()
        except TokenstreamError as error:
            assert "\n" not in str(error)
            assert "Traceback" not in str(error)
            assert "malformed" not in str(error)  # whoever meets damage has the file set aside, and goes on
    again = ts.stream("Hi again", "hello", base_url=mock.base_url)
    ts.transcripts.open_store().writer.flush()
    assert again.outcome == "complete"
    assert not any(note.startswith("not saved:") for note in again.diagnostics + sent.diagnostics)
    assert ts.transcripts.get(again.id).text == again.text
    assert ts.transcripts.open_store().writer.unsaved == 0


def check(mock: MockServer, folder: Path, monkeypatch: pytest.MonkeyPatch, before: bytes) -> bool:
    """Uses the damaged database in ``folder``; whether it was moved aside, which it then was whole."""
    monkeypatch.setenv("TOKENSTREAM_DATABASE", str(folder / "transcripts.db"))
    try:
        used(mock)
        aside = [file for file in folder.iterdir() if ".corrupt-" in file.name and not file.name.endswith(("-wal", "-shm"))]
        if aside:
            kept = aside[0].read_bytes()
            assert len(kept) >= min(len(before), PAGE) or len(before) == 0
            with sqlite3.connect(folder / "transcripts.db") as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return bool(aside)
    finally:
        for opened in store_module._open.values():
            opened.close()
        store_module._open.clear()
        store_module._failed.clear()


def flipped(sound: Path, folder: Path, chance: random.Random, number: int) -> bytes:
    """A copy with one byte changed: of headers of pages and cells as often as of what they hold."""
    folder.mkdir()
    whole = bytearray(sound.read_bytes())
    page = chance.randrange(len(whole) // PAGE) * PAGE
    at = page + chance.randrange(100 if number % 2 and page == 0 else 16 if number % 4 == 1 else PAGE)
    whole[at] ^= chance.choice([1, 0x80, 0xFF, 0x20])
    (folder / "transcripts.db").write_bytes(whole)
    (folder / "transcripts.db").chmod(0o600)
    return bytes(whole)


def flips(sound: Path, tmp_path: Path, mock: MockServer, monkeypatch: pytest.MonkeyPatch, count: int, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(count):
        folder = tmp_path / f"{number}"
        before = flipped(sound, folder, chance, number)
        try:
            check(mock, folder, monkeypatch, before)
        except BaseException as error:
            raise AssertionError(f"flip {number} of seed {seed}: {type(error).__name__}: {error}") from error
        shutil.rmtree(folder)


def test_forty_wrong_bytes_lose_no_stream_and_show_no_traceback(
    sound: Path, tmp_path: Path, mock: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    flips(sound, tmp_path, mock, monkeypatch, 40, SEED)


@pytest.mark.soak
def test_five_hundred_wrong_bytes(sound: Path, tmp_path: Path, mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    flips(sound, tmp_path, mock, monkeypatch, 500, SEED + 1)


@pytest.mark.parametrize("how", ["first", "half", "last", "one short"])
def test_a_file_cut_off_at_a_page_is_moved_aside(
    sound: Path, tmp_path: Path, mock: MockServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    whole = sound.read_bytes()
    pages = len(whole) // PAGE
    size = {"first": PAGE, "half": pages // 2 * PAGE, "last": (pages - 1) * PAGE, "one short": len(whole) - 1}[how]
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "transcripts.db").write_bytes(whole[:size])
    check(mock, tmp_path / "x", monkeypatch, whole[:size])


@pytest.mark.soak
def test_a_file_cut_off_at_every_page(sound: Path, tmp_path: Path, mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sound.read_bytes()
    for size in range(PAGE, len(whole), PAGE):
        folder = tmp_path / f"{size}"
        folder.mkdir()
        (folder / "transcripts.db").write_bytes(whole[:size])
        check(mock, folder, monkeypatch, whole[:size])


@pytest.mark.parametrize("how", ["empty", "log damaged", "log missing", "log of another", "index stale", "log cut off"])
def test_what_is_beside_the_file_may_be_wrong(
    sound: Path, tmp_path: Path, mock: MockServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The files of a process that was killed: the file, its write-ahead log and the index of that."""
    folder = tmp_path / "x"
    folder.mkdir()
    file, log, index = (folder / f"transcripts.db{ending}" for ending in ("", "-wal", "-shm"))
    source = sqlite3.connect(tmp_path / "live.db", isolation_level=None)
    shutil.copy(sound, tmp_path / "live.db")
    source.execute("PRAGMA journal_mode=WAL")
    source.execute("UPDATE transcripts SET note = 'in the log'")
    for ending, to in (("", file), ("-wal", log), ("-shm", index)):
        shutil.copy(tmp_path / f"live.db{ending}", to)
    source.close()
    chance = random.Random(SEED)
    if how == "empty":
        for each in (file, log, index):
            each.write_bytes(b"")
    elif how == "log damaged":
        bytes_ = bytearray(log.read_bytes())
        for _ in range(50):
            bytes_[chance.randrange(len(bytes_))] ^= 0xFF
        log.write_bytes(bytes_)
    elif how == "log missing":
        log.unlink()
    elif how == "log of another":
        other = Store(f"sqlite:///{tmp_path / 'other.db'}")
        other.add_many([Transcript(model="m", outcome="complete")])
        shutil.copy(tmp_path / "other.db-wal", log)
        other.close()
    elif how == "index stale":
        index.write_bytes(os.urandom(len(index.read_bytes())))
    else:
        log.write_bytes(log.read_bytes()[: len(log.read_bytes()) // 2 + 7])
    check(mock, folder, monkeypatch, file.read_bytes())
    if how == "index stale":
        monkeypatch.setenv("TOKENSTREAM_DATABASE", str(file))
        assert "in the log" in {t.note for t in ts.transcripts.recent(100)}


def test_a_row_that_lost_its_place_is_listed_last(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "transcripts.db"
    shutil.copy(sound, file)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE transcripts SET seq = NULL WHERE seq = 20")
    store = Store(f"sqlite:///{file}")
    found = store.recent(50)
    assert len(found) == len(list(store.each())) == 30
    assert found[-1].prompt == "question 19"
    store.close()
