"""What can happen to the database while a stream runs: the stream goes on, the reader is told once, nothing is lost."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import tokenstream_magic as ts
from tokenstream_magic import api
from tokenstream_magic.errors import StoreError
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.record import Transcript
from tokenstream_magic.transcripts import pending
from tokenstream_magic.transcripts.addresses import default_url
from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.store import Store


def database() -> Path:
    return Path(os.environ["TOKENSTREAM_DATABASE"])


def whole(file: Path) -> bool:
    with sqlite3.connect(file) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def kept(n: int, size: int = 200) -> list[Transcript]:
    made = []
    for i in range(n):
        t = Transcript(model="m", prompt=f"question {i}", outcome="complete")
        t.choices = [ts.record.Choice(text=f"answer {i} " + "word " * (size // 5))]
        made.append(t)
    ts.transcripts.open_store().add_many(made)
    return made


def told(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return len([r for r in caplog.records if words in r.getMessage()])


# D01, D02


def test_a_full_disk_is_told_once_and_made_good_when_there_is_room(mock: MockServer, caplog: pytest.LogCaptureFixture) -> None:
    mock.scripts["long"] = Script(tuple("many words " * 20 for _ in range(300)), gap=0.001)
    store = ts.transcripts.open_store()
    with store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    def full(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    sa.event.listen(store.engine, "connect", full)
    store.database.dispose()
    sent = ts.stream("Hi", "long", base_url=mock.base_url)
    store.writer.flush()
    assert sent.outcome == "complete"
    assert "full" in store.writer.problem
    assert store.writer.unsaved == 1
    again = ts.stream("Hi", "hello", base_url=mock.base_url)
    assert any(note.startswith("not saved yet") for note in again.diagnostics)
    assert told(caplog, "not being saved") == 1
    assert whole(database())
    sa.event.remove(store.engine, "connect", full)
    store.database.dispose()
    store.close()
    back = Store(default_url())
    assert back.get(sent.id).text == sent.text
    assert back.get(again.id).outcome == "complete"
    back.close()


def test_a_file_that_may_not_grow_does_not_disturb_the_stream(mock: MockServer) -> None:
    """RLIMIT_FSIZE: every write beyond it fails, in the database, its log and its index alike."""
    pieces = tuple(f"word {n} " * 30 for n in range(200))
    mock.scripts["long"] = Script(pieces, gap=0.001)
    program = f"""
        import resource, signal
        import tokenstream_magic as ts
        store = ts.transcripts.open_store()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = 120_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        sent = ts.stream("Hi", "long", base_url={mock.base_url!r})
        store.writer.flush()
        print(sent.outcome, len(sent.text), store.writer.problem is not None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    length = len("".join(pieces))
    assert ran.stdout.split() == ["complete", str(length), "True"], ran.stderr
    assert ran.stderr.count("not being saved") == 1
    assert whole(database())
    assert len(ts.transcripts.last().text) == length


# D03, D04


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="becomes another user to lose the right to write")
@pytest.mark.parametrize("mode", [0o555, 0o755], ids=["directory", "file"])
def test_a_place_that_cannot_be_written_can_be_read(mock: MockServer, mode: int, tmp_path: Path) -> None:
    import shutil
    import tempfile

    kept(3)
    ts.transcripts.open_store().close()
    public = Path(tempfile.mkdtemp(prefix="ts-ro-", dir="/tmp"))
    try:
        file = public / "transcripts.db"
        shutil.copy(database(), file)
        file.chmod(0o444)
        public.chmod(mode)
        program = f"""
            import os
            import tokenstream_magic as ts
            ts.stream("all that is imported on first use", "hello", base_url={mock.base_url!r})
            os.environ["TOKENSTREAM_DATABASE"] = {str(file)!r}
            os.environ["HOME"] = {str(public)!r}
            os.environ["TOKENSTREAM_CONFIG"] = {str(public / "none.toml")!r}
            os.setgid(65534), os.setuid(65534)
            print(ts.transcripts.last().prompt)
            for _ in range(2):
                print(ts.stream("Hi", "hello", base_url={mock.base_url!r}).outcome)
        """
        ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
        assert ran.stdout.split("\n")[:3] == ["question 2", "complete", "complete"], ran.stderr
        assert ran.stderr.count("Runs are not saved") == 1
        assert "cannot be written" in ran.stderr
    finally:
        shutil.rmtree(public)


@pytest.mark.parametrize("place", ["directory", "fifo", "device", "long", "missing file as parent", "not text"])
def test_a_place_that_is_no_file_is_refused_in_one_line(mock: MockServer, place: str, tmp_path: Path, monkeypatch) -> None:
    made = {
        "directory": tmp_path,
        "fifo": tmp_path / "fifo",
        "device": Path("/dev/full"),
        "long": tmp_path / ("x" * 4096),
        "missing file as parent": tmp_path / "plain" / "t.db",
        "not text": tmp_path / "\udcff.db",
    }[place]
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "plain").write_text("")
    monkeypatch.setenv("TOKENSTREAM_DATABASE", str(made))
    if place != "not text":  # a name that is no Unicode may work or be refused
        with pytest.raises(StoreError) as caught:
            ts.transcripts.open_store()
        assert "\n" not in str(caught.value)
        assert "TOKENSTREAM_DATABASE" in str(caught.value)
    assert ts.stream("Hi", "hello", base_url=mock.base_url).outcome == "complete"


# D05, D06


def test_a_locked_database_is_waited_for_and_nothing_shows(mock: MockServer, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    store = ts.transcripts.open_store()
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
    locker = sqlite3.connect(database(), isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    sent = ts.stream("Hi", "hello", base_url=mock.base_url)
    assert time.monotonic() - started < 2
    assert sent.outcome == "complete"
    locker.execute("ROLLBACK")
    locker.close()
    store.close()
    again = Store(default_url())
    assert again.get(sent.id).text == sent.text
    again.close()


@pytest.mark.parametrize("each", [40])
def test_eight_kernels_write_at_once_and_none_sees_a_lock(mock: MockServer, each: int) -> None:
    program = f"""
        import tokenstream_magic as ts
        for n in range({each}):
            assert ts.stream("Hi", "hello", base_url={mock.base_url!r}).outcome == "complete"
    """
    started = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        for _ in range(8)
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * 8, said
    assert said == [""] * 8
    store = ts.transcripts.open_store()
    assert store.count() == 8 * each
    assert {t.outcome for t in store.recent(8 * each, brief=True)} == {"complete"}
    assert whole(database())


# D07


@pytest.mark.parametrize("damage", ["page", "half", "schema"])
def test_a_damaged_file_is_moved_aside_and_what_can_be_read_is_kept(mock: MockServer, damage: str, caplog) -> None:
    made = kept(300)
    ts.transcripts.open_store().close()
    size = database().stat().st_size
    with database().open("r+b") as file:
        if damage == "half":
            file.truncate(size // 2 // 4096 * 4096)
        else:
            at = 100 if damage == "schema" else size // 3 // 4096 * 4096
            file.seek(at)
            file.write(b"\xff" * (4096 if damage == "page" else 1500))
    before = database().read_bytes()
    _forget_open_store()
    sent = ts.stream("Hi", "hello", base_url=mock.base_url)
    assert sent.outcome == "complete"
    ts.transcripts.search("nothing")
    for t in made[:300:40]:
        try:
            ts.transcripts.get(t.id)
        except (StoreError, ts.TokenstreamError):
            continue
    ts.transcripts.open_store().writer.flush()
    aside = [f for f in database().parent.iterdir() if ".corrupt-" in f.name and not f.name.endswith(("-wal", "-shm"))]
    if damage == "page" and not aside:  # a page nobody has needed yet
        return
    assert len(aside) == 1
    assert len(aside[0].read_bytes()) >= len(before)
    assert told(caplog, "is damaged") == 1
    assert ts.transcripts.get(sent.id).text == sent.text
    assert whole(database())
    if damage == "half":
        assert ts.transcripts.open_store().count() > 1


def test_a_version_that_is_no_number_is_damage(caplog: pytest.LogCaptureFixture) -> None:
    made = kept(20)
    ts.transcripts.open_store().close()
    with sqlite3.connect(database()) as connection:
        connection.execute("UPDATE schema_version SET version = x'3f'")
    _forget_open_store()
    assert ts.transcripts.open_store().count() == len(made)
    assert told(caplog, "is damaged") == 1
    assert len([f for f in database().parent.iterdir() if ".corrupt-" in f.name and f.suffix[-4:] not in ("-wal", "-shm")]) == 1


def test_damage_that_only_a_reader_meets_is_set_aside_too(caplog: pytest.LogCaptureFixture) -> None:
    made = kept(300)
    ts.transcripts.open_store().catch_up()
    ts.transcripts.open_store().close()
    page = database().read_bytes().index(b"answer 150 word") // 4096
    with database().open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xff" * 4096)
    _forget_open_store()
    barrier, found = threading.Barrier(4), []

    def read() -> None:
        barrier.wait()
        found.append({t.id for t in ts.transcripts.recent(1000)})

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(found) == 4
    assert all(ids == found[0] and 280 < len(ids) < 300 for ids in found)
    lost = [t for t in made if t.id not in found[0]]
    with pytest.raises(ts.TokenstreamError, match="There is no transcript"):
        ts.transcripts.get(lost[0].id)
    assert len(ts.transcripts.search("answer", limit=1000)) == len(found[0])
    assert told(caplog, "is damaged") == 1
    assert len([f for f in database().parent.glob("*.corrupt-*") if not f.name.endswith(("-wal", "-shm"))]) == 1
    assert whole(database())


def test_what_is_committed_while_a_reader_sets_the_file_aside_is_in_the_new_one(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store, set_aside = ts.transcripts.open_store(), threading.Event()
    commit = store.writer._commit
    monkeypatch.setattr("tokenstream_magic.transcripts.salvage.salvage", lambda *_: 0)  # it had read the old one before

    def overtaken(home: Database, work: list[pending.Work]) -> Exception | None:
        error = commit(home, work)
        if work[0].final is not None and not set_aside.is_set():
            set_aside.set()
            home.mend(sqlite3.DatabaseError("malformed"), home.generation)
        return error

    monkeypatch.setattr(store.writer, "_commit", overtaken)
    sent = ts.stream("Hi", "hello", base_url=mock.base_url)
    store.writer.flush()
    assert set_aside.is_set()
    assert ts.transcripts.get(sent.id).text == sent.text


def test_a_file_that_is_no_database_keeps_its_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("Somebody else's notes. " * 100)
    file.chmod(0o644)
    monkeypatch.setenv("TOKENSTREAM_DATABASE", str(file))
    _forget_open_store()
    with pytest.raises(StoreError, match="not a database"):
        ts.transcripts.recent()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert file.read_text().startswith("Somebody")


def test_a_database_damaged_while_open_goes_on_in_a_new_one(mock: MockServer, caplog: pytest.LogCaptureFixture) -> None:
    kept(50)
    store = ts.transcripts.open_store()
    run = api.start("Hi", "story", base_url=mock.base_url)
    mock.wait_for(1)
    store.writer.flush()
    with sqlite3.connect(database()) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with database().open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (database().stat().st_size - 4096))
    store.engine.dispose()
    sent = run.wait()
    store.writer.flush()
    assert sent.outcome == "complete"
    assert store.get(sent.id).text == sent.text
    assert told(caplog, "is damaged") == 1
    assert whole(database())


def test_a_file_of_ours_that_is_no_database_makes_room(mock: MockServer, data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENSTREAM_DATABASE")
    data_home.mkdir(parents=True)
    (data_home / "transcripts.db").write_bytes(b"no database at all " * 400)
    sent = ts.stream("Hi", "hello", base_url=mock.base_url)
    assert ts.transcripts.last().id == sent.id
    (aside,) = [f for f in data_home.iterdir() if ".corrupt-" in f.name]
    assert aside.read_bytes().startswith(b"no database at all")


# D10


@pytest.mark.parametrize("how", ["deleted", "replaced", "moved"])
def test_a_file_that_goes_away_while_open_is_made_again(mock: MockServer, how: str) -> None:
    store = ts.transcripts.open_store()
    ts.stream("before", "hello", base_url=mock.base_url)
    run = api.start("Hi", "endless", base_url=mock.base_url)
    mock.wait_for(2)
    store.writer.flush()
    if how == "deleted":
        database().unlink()
    elif how == "moved":
        database().rename(database().with_name("elsewhere.db"))
    else:
        other = Store(f"sqlite:///{database().with_name('other.db')}")
        other.close()
        database().with_name("other.db").replace(database())
    run.stop()
    sent = run.wait()
    store.writer.flush()
    assert store.get(sent.id).text == sent.text
    again = Store(default_url())
    assert [t.id for t in again.recent()] == [sent.id]
    again.close()


def test_a_transcript_deleted_while_it_streams_comes_back_whole(mock: MockServer) -> None:
    mock.scripts["slow"] = Script(tuple(f"{n} " for n in range(60)), gap=0.01)
    store = ts.transcripts.open_store()
    run = api.start("Hi", "slow", base_url=mock.base_url)
    mock.wait_for(1)
    store.writer.flush()
    with sqlite3.connect(database()) as other:
        other.execute("DELETE FROM batches")
        other.execute("DELETE FROM transcripts")
    sent = run.wait()
    assert store.get(sent.id) == sent


# D17


def test_a_clock_that_is_set_back_does_not_change_the_order(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ts.stream("first", "hello", base_url=mock.base_url)
    real = time.time_ns
    for step in (-3600, -(365 * 86400), 3600 * 24 * 365 * 20):
        monkeypatch.setattr(time, "time_ns", lambda step=step: max(0, real() + step * 10**9))
        later = ts.stream(f"{step}", "hello", base_url=mock.base_url)
        assert ts.transcripts.last().id == later.id
        assert ts.transcripts.get("last~1").id == first.id
        assert later.timing.e2e_ms >= 0
        first = later


# D20


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_files_are_private_whatever_the_umask(mock: MockServer, mask: int) -> None:
    before = os.umask(mask)
    try:
        ts.stream("Hi", "hello", base_url=mock.base_url)
        ts.transcripts.backup(database().with_name("copy.db"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(database().parent.stat().st_mode) == 0o700
    assert {f.name: stat.S_IMODE(f.stat().st_mode) for f in database().parent.iterdir() if stat.S_IMODE(f.stat().st_mode) != 0o600} == {}


def test_a_file_that_others_could_read_is_made_private(mock: MockServer, caplog: pytest.LogCaptureFixture) -> None:
    kept(1)
    ts.transcripts.open_store().close()
    database().chmod(0o644)
    Store(default_url()).close()
    assert stat.S_IMODE(database().stat().st_mode) == 0o600
    assert told(caplog, "made private") == 1


# a run that is not to be kept


def test_no_log_leaves_nothing_on_the_disk(mock: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    before = set(tmp_path.rglob("*"))
    ts.stream("a secret question", "hello", base_url=mock.base_url, no_log=True)
    assert set(tmp_path.rglob("*")) == before


def test_off_keeps_nothing_and_on_keeps_again(mock: MockServer) -> None:
    ts.transcripts.off()
    ts.stream("unkept", "hello", base_url=mock.base_url)
    assert ts.transcripts.status()["on"] is False
    assert ts.transcripts.recent() == []
    ts.transcripts.on()
    ts.stream("kept", "hello", base_url=mock.base_url)
    assert [t.prompt for t in ts.transcripts.recent()] == ["kept"]


def test_memory_of_ended_runs_is_let_go(mock: MockServer) -> None:
    store = ts.transcripts.open_store()
    for _ in range(5):
        ts.stream("Hi", "hello", base_url=mock.base_url)
    store.writer.flush()
    assert store.writer._runs == {}
    assert threading.active_count() < 20


def _forget_open_store() -> None:
    from tokenstream_magic.transcripts import store

    store._open.clear()


def test_damage_that_a_transaction_of_several_runs_meets_is_damage(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    mock.scripts["slow"] = Script(tuple(f"{n} " for n in range(100)), gap=0.01)
    store = ts.transcripts.open_store()
    first = api.start("A", "slow", base_url=mock.base_url)
    mock.wait_for(1)
    store.writer.flush()
    write, met = store.writer._write, threading.Event()

    def together(pending: list[Any]) -> bool:
        """Waits until one run begins while the other flows."""
        if not met.is_set():
            if not (any(one.new for one in pending) and any(not one.new and one.written < len(one.pieces) for one in pending)):
                return False
            met.set()
        return write(pending)

    monkeypatch.setattr(store.writer, "_write", together)
    with sqlite3.connect(database()) as other:
        size = other.execute("PRAGMA page_size").fetchone()[0]
        pages = other.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'batches'").fetchall()
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with database().open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
    store.database.dispose()
    second = api.start("B", "slow", base_url=mock.base_url)
    said = [first.wait(), second.wait()]
    store.writer.flush()
    assert met.is_set()
    assert [store.get(t.id).text for t in said] == [t.text for t in said]
    assert list(database().parent.glob("*.corrupt-*"))


def test_a_row_that_somebody_deletes_takes_no_text_of_the_other_runs_with_it(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "SIGN_SECONDS", 0.0)  # a sign of life in every transaction
    mock.scripts["slow"] = Script(tuple(f"{n} " for n in range(2000)), gap=0.005)
    store = ts.transcripts.open_store()
    runs = [api.start(name, "slow", base_url=mock.base_url) for name in "AB"]

    def numbers(id: str) -> list[int]:
        with sqlite3.connect(database()) as other:
            row = other.execute("SELECT text FROM transcripts WHERE id = ?", (id,)).fetchone()
            kept = other.execute("SELECT pieces FROM batches WHERE transcript_id = ? ORDER BY number", (id,)).fetchall()
        other.close()
        return [int(n) for n in "".join([(row and row[0]) or "", *(text for (part,) in kept for _, _, text in json.loads(part))]).split()]

    def grown(least: int) -> list[list[int]]:
        """What is kept of both, once there is so much."""
        while True:
            store.writer.flush()
            kept = [numbers(run.id) for run in runs]
            if min(map(len, kept)) >= least:
                return kept

    grown(20)
    with sqlite3.connect(database()) as other:
        other.execute("DELETE FROM transcripts WHERE id = ?", (runs[0].id,))
    other.close()
    store.writer.flush()
    for kept in grown(80):
        assert kept == list(range(len(kept)))
    for run in runs:
        run.stop()
        run.wait()
