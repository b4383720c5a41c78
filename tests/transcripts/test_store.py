"""The store: rows from the start, batches while it streams, and a killed process found again."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from dataclasses import fields
from pathlib import Path
from time import monotonic_ns

import pytest
import sqlalchemy as sa

import tokenstream_magic as ts
from tokenstream_magic import api
from tokenstream_magic.display import listing
from tokenstream_magic.errors import BadRequest, StoreError
from tokenstream_magic.mock.script import Script, words
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.record import Choice, Transcript, Usage, new_id, now
from tokenstream_magic.run import Run, Sink
from tokenstream_magic.timing.metrics import Timing
from tokenstream_magic.timing.packing import encode, pack
from tokenstream_magic.timing.timeline import Displayed, Timeline
from tokenstream_magic.transcripts.addresses import default_url
from tokenstream_magic.transcripts.readable import DAMAGED
from tokenstream_magic.transcripts.rows import CRASHED, TIMES_DAMAGED, to_row
from tokenstream_magic.transcripts.salvage import salvage
from tokenstream_magic.transcripts.schema import batches
from tokenstream_magic.transcripts.store import Store
from tokenstream_magic.transcripts.unfinished import finished
from tokenstream_magic.transport import loop
from tokenstream_magic.wire.kept import Wire

LOST_NS = 250_000_000


WITHIN_SECONDS = 20


class Came(Sink):
    """Tells when the fifth piece of text came."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.pieces = 0

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        self.pieces += 1
        if self.pieces == 5:
            self.event.set()


def database() -> Path:
    return Path(os.environ["TOKENSTREAM_DATABASE"])


def test_a_transcript_comes_back_as_it_was(mock: MockServer, either: str) -> None:
    mock.scripts["full"] = Script(words("An answer with words. \U0001f642"), reasoning=("Let", " me", " think"), gap=0.002)
    sent = ts.stream("A question", "full", base_url=mock.base_url, temperature=0.5, system="Be brief", tag="kept", note="why")
    found = ts.transcripts.get(sent.id)
    assert found == sent
    assert found.timeline.moments() == sent.timeline.moments()
    assert [s[:4] for s in found.timeline] == [s[:4] for s in sent.timeline]


def test_every_field_of_a_transcript_is_kept(either: str) -> None:
    """Also one that is added to the record later and forgotten here."""
    made = Transcript()
    given = {
        "prompt": "p", "system": "s", "messages": [{"role": "user", "content": ["x", {"y": 1}]}], "options": {"o": [1, 2.5, None]},
        "template": "{x}", "variables": {"x": "ü"}, "outcome": "stopped", "stop_cause": "button", "model": "m", "resolved_model": "m-1",
        "endpoint": "e", "protocol": "gemini", "error": {"type": "t", "status": 5, "code": None, "message": "m"},
        "usage": Usage(1, 2**40, 3, 4, "reported"), "diagnostics": ["d"], "conversation_id": "c", "parent_id": new_id(),
        "notebook": "n.ipynb", "cell_id": "cell", "execution_count": 7, "tags": ["a", "ß"], "note": "n", "request_id": "r",
        "system_fingerprint": "f", "package_version": "9", "id": new_id(), "created_at": now(),
        "choices": [Choice(0, "one", "r", "no", [{"id": "1", "name": "n", "arguments": "{}"}], "stop"), Choice(3, "two", "", "", [], "length")],
        "timing": Timing(*(1.5 + n for n in range(10)), 7, 1.25, 2, 0.5, 3.5, {"eval": 1}),
    }  # fmt: skip
    timeline = Timeline(requested=1000, connected=900, headers=1500, first_byte=2001, finished=9000, closed=9001, reads=5, keep_alives=2)
    timeline.add(2001, 1, 3, 1)
    timeline.add(2001, 0, 2, 1, 3)
    timeline.add(8999, 2, 0, 4)
    timeline.keep_alive_offsets, timeline.displayed = [-5, 1500, 10**9], Displayed(1, 2, 3, 4, 5, 6, 7)
    timeline.server_busy, timeline.server_idle = 9500, 9900
    given["timeline"] = timeline
    given |= {"host": "worker-1", "clock_offset_ms": -2.5, "kept_wire": Wire("gemini", left_out=3)}
    for field in fields(Transcript):
        if field.name in ("growing", "format", "replayed", "wire_source"):
            continue
        assert field.name in given, f"is {field.name} kept? Then give it a value here"
        setattr(made, field.name, given[field.name])
    store = ts.transcripts.open_store()
    store.add_many([made])
    assert store.get(made.id) == made
    assert store.get(made.id).wire == made.kept_wire
    assert list(store.get(made.id).timeline) == list(timeline)


def test_what_a_transcript_learns_after_its_end_is_kept(mock: MockServer, either: str) -> None:
    run = api.start("Hi", "hello", base_url=mock.base_url)
    sent = run.wait()
    sent.timeline.displayed = Displayed(3, 10, 20, 30, 10, 2, 1)
    run.amended()
    loop.submit(asyncio.sleep(0)).result()  # the sinks are told
    found = ts.transcripts.get(sent.id)
    assert found == sent
    assert found.diagnosis["slow_display"].verdict == "clear"
    ts.transcripts.delete(sent.id)
    run.amended()
    loop.submit(asyncio.sleep(0)).result()
    with pytest.raises(BadRequest):
        ts.transcripts.get(sent.id)


@pytest.mark.parametrize("script", ["hello", "cut", "error", "unauthorized", "no-finish"])
def test_every_outcome_is_a_row(mock: MockServer, either: str, script: str) -> None:
    sent = ts.stream("Hi", script, base_url=mock.base_url)
    assert ts.transcripts.last().id == sent.id
    assert ts.transcripts.last().outcome == sent.outcome != "running"


def test_a_row_with_the_text_so_far_exists_while_the_stream_runs(mock: MockServer, either: str, tmp_path: Path) -> None:
    came = Came()
    run = api.start("Hi", "endless", base_url=mock.base_url, sinks=[came])
    assert came.event.wait(WITHIN_SECONDS)
    so_far = ts.transcripts.last()
    assert so_far.outcome == "running"
    assert so_far.text
    assert len(so_far.timeline) == so_far.timing.chunks > 0
    with pytest.raises(BadRequest, match="still streaming"):
        so_far.export(tmp_path / "one.sse")
    run.stop()
    sent = run.wait()
    assert ts.transcripts.last().outcome == "stopped"
    assert sent.text.startswith(so_far.text)


def test_finding(mock: MockServer, either: str) -> None:
    for text in ("alpha", "beta", "gamma 100%"):
        ts.stream(text, "hello", base_url=mock.base_url)
    newest, _, oldest = ts.transcripts.recent()
    assert ts.transcripts.get("last").id == newest.id
    assert ts.transcripts.get("last~2").id == oldest.id
    assert ts.transcripts.get(newest.id[:23].lower()).id == newest.id or len({t.id[:23] for t in ts.transcripts.recent()}) < 3
    assert [t.prompt for t in ts.transcripts.search("BETA")] == ["beta"]
    assert [t.prompt for t in ts.transcripts.search("100%")] == ["gamma 100%"]
    assert [t.prompt for t in ts.transcripts.recent(status="failed")] == []
    assert len(ts.transcripts.recent(model="127.0.0.1")) == 3
    for wrong in ("last~3", "nothing!", "ZZZZ", "01"):
        with pytest.raises(BadRequest):
            ts.transcripts.get(wrong)


def test_files_are_for_the_user_alone(mock: MockServer) -> None:
    ts.stream("Hi", "hello", base_url=mock.base_url)
    assert stat.S_IMODE(database().parent.stat().st_mode) == 0o700
    for file in database().parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_pragmas_are_durable(mock: MockServer) -> None:
    store = ts.transcripts.open_store()
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_a_store_that_cannot_be_written_is_told_once_and_the_stream_goes_on(
    mock: MockServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("TOKENSTREAM_DATABASE", str(tmp_path / "file" / "t.db"))
    for _ in range(2):
        assert ts.stream("Hi", "hello", base_url=mock.base_url).outcome == "complete"
    assert len([r for r in caplog.records if "Runs are not saved" in r.message]) == 1


def test_a_failing_commit_is_tried_again(mock: MockServer, caplog: pytest.LogCaptureFixture) -> None:
    store = ts.transcripts.open_store()
    blocker = sqlite3.connect(database(), isolation_level=None)
    store.engine.dispose()
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
    blocker.execute("ALTER TABLE batches RENAME TO elsewhere")
    run = api.start("Hi", "story", base_url=mock.base_url)
    transcript = run.wait()
    store.writer.flush()
    assert transcript.outcome == "complete"
    blocker.execute("ALTER TABLE elsewhere RENAME TO batches")
    blocker.close()
    store.writer.close()
    assert store.get(transcript.id).text == transcript.text
    assert len([r for r in caplog.records if "not being saved" in r.message]) == 1


def test_a_newer_database_is_only_read(mock: MockServer) -> None:
    ts.stream("Hi", "hello", base_url=mock.base_url)
    ts.transcripts.open_store().close()
    with sqlite3.connect(database()) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    before = database().read_bytes()
    store = Store(f"sqlite:///{database()}")
    assert store.get("last").text
    with pytest.raises(StoreError, match="newer version"):
        _ = store.writer
    with pytest.raises(StoreError, match="newer version"):
        store.delete("last")
    assert "are not kept" in listing.store(store.status())
    store.close()
    assert database().read_bytes() == before


@pytest.mark.parametrize("script", ["told", "hello"])
def test_what_no_database_can_write_does_not_cost_a_transcript(mock: MockServer, either: str, script: str) -> None:
    """Halves of surrogate pairs, as in a file name that is no UTF-8, and NUL, which PostgreSQL has in no text."""
    mock.scripts["told"] = Script(("A NUL \0", " of a model"))
    sent = ts.stream("Hi \0", script, base_url=mock.base_url, tag=["a\udcff", "b\0"], note="c\ud800\0", system="s\ud800")
    assert sent.outcome == "complete"
    found = ts.transcripts.get(sent.id)
    assert found.outcome == "complete"
    assert (found.tags, found.note) == (sent.tags, sent.note) == (["a\ufffd", "b\ufffd"], "c\ufffd\ufffd")
    assert found.text == (sent.text if either == "sqlite" else sent.text.replace("\0", "\ufffd"))
    named = ts.stream("Hi", "no such \ud800 model \0", base_url=mock.base_url)
    assert (named.outcome, named.error["status"]) == ("failed", 404)
    assert ts.transcripts.get(named.id).model == named.model


@pytest.mark.parametrize("kept_with", [{"tag": 5}, {"tag": ["a", None]}, {"note": 5}])
def test_a_tag_or_a_note_that_is_no_text_is_refused(mock: MockServer, kept_with: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="are text"):
        ts.stream("Hi", "hello", base_url=mock.base_url, **kept_with)


def test_a_database_in_memory_is_refused_and_the_stream_goes_on(mock: MockServer, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("TOKENSTREAM_DATABASE", "sqlite://")
    assert ts.stream("Hi", "hello", base_url=mock.base_url).outcome == "complete"
    assert ["in memory" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("name", ["kept-{n}.db", "sqlite:///kept-{n}.db", "a name? #{n} with 100%41.db"])
def test_a_name_means_the_same_file_after_a_change_of_directory(mock: MockServer, tmp_path: Path, monkeypatch, name: str) -> None:
    (tmp_path / "sub").mkdir()
    named = name.format(n=new_id())  # what a name means is settled when it is first used
    monkeypatch.setenv("TOKENSTREAM_DATABASE", named)
    monkeypatch.chdir(tmp_path)
    first = ts.stream("one", "hello", base_url=mock.base_url)
    monkeypatch.chdir(tmp_path / "sub")
    second = ts.stream("two", "hello", base_url=mock.base_url)
    assert [t.id for t in ts.transcripts.recent()] == [second.id, first.id]
    assert (tmp_path / named.removeprefix("sqlite:///")).is_file()
    assert list((tmp_path / "sub").iterdir()) == []


@pytest.mark.parametrize("name", ["~nobody-of-that-name/x.db", "100%41-no-\udcff-utf-8.db"])
def test_a_name_that_is_none_is_refused_and_the_stream_goes_on(mock: MockServer, tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.setenv("TOKENSTREAM_DATABASE", name)
    monkeypatch.chdir(tmp_path)
    assert ts.stream("Hi", "hello", base_url=mock.base_url).outcome == "complete"
    with pytest.raises(StoreError):
        ts.transcripts.last()


def test_a_backup_that_finds_no_room_is_told_and_leaves_nothing(mock: MockServer, tmp_path: Path, monkeypatch) -> None:
    def full(_file: Path, copy: Path) -> None:
        copy.touch()
        raise sqlite3.OperationalError("database or disk is full")

    ts.stream("Hi", "hello", base_url=mock.base_url)
    monkeypatch.setattr("tokenstream_magic.transcripts.copying.copy_file", full)
    (tmp_path / "to").mkdir()
    with pytest.raises(StoreError, match="disk is full"):
        ts.transcripts.backup(tmp_path / "to" / "copy.db")
    assert list((tmp_path / "to").iterdir()) == []


def test_something_that_is_no_database_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "notes.db"
    file.write_bytes(b"these are notes, not a database, and long enough to be read as one" * 50)
    with pytest.raises(StoreError) as caught:
        Store(f"sqlite:///{file}")
    assert "file is not a database" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert file.read_bytes().startswith(b"these are notes")


@pytest.mark.parametrize("column", [b"\x08\x01", b"\x05nothing that unpacks", b"\xfc\0\1\1", b"\x08" + bytes(8) + b"\1"])
def test_a_damaged_timeline_is_told_and_costs_nothing_else(mock: MockServer, tmp_path: Path, column: bytes) -> None:
    sent = [ts.stream("Hi", "hello", base_url=mock.base_url) for _ in range(3)]
    ts.transcripts.open_store().writer.flush()
    with sqlite3.connect(database()) as connection:
        connection.execute("UPDATE transcripts SET timeline = ? WHERE id = ?", (column, sent[1].id))
    last, damaged, first = ts.transcripts.recent()
    assert (damaged.text, damaged.outcome, damaged.timing) == (sent[1].text, "complete", sent[1].timing)
    assert (len(damaged.timeline), damaged.diagnostics[-1]) == (0, TIMES_DAMAGED)
    assert (first.timeline, last.timeline) == (sent[0].timeline, sent[2].timeline)
    assert (first.diagnostics, last.diagnostics) == (sent[0].diagnostics, sent[2].diagnostics)
    assert set(ts.transcripts.to_pandas("chunks")["transcript"]) == {sent[0].id, sent[2].id}
    assert api.start("", replay=damaged.id, speed="instant").wait().text == sent[1].text
    file = ts.transcripts.export(tmp_path / "all.jsonl")
    into = Store(f"sqlite:///{tmp_path / 'saved.db'}")
    assert salvage(database(), into.database) == 3
    assert into.get(damaged.id).diagnostics[-1] == TIMES_DAMAGED
    into.close()
    ts.transcripts.delete(damaged.id)
    assert ts.transcripts.import_file(file) == (1, 2)
    assert ts.transcripts.get(damaged.id).text == sent[1].text


def test_a_killed_run_whose_first_times_are_damaged_keeps_its_text_and_claims_no_times(mock: MockServer) -> None:
    sent = ts.stream("Hi", "hello", base_url=mock.base_url)
    batch = {"number": 0, "pieces": [["text", 0, sent.text]], "timeline": pack(sent.timeline, 1)}
    row = {**to_row(sent), "text": "", "reasoning": "", "refusal": "", "choices": None, "outcome": "running"}
    whole, _ = finished(row | {"timeline": encode(sent.timeline, 1)}, [batch])
    assert (whole["text"], whole["chunks"]) == (sent.text, len(sent.timeline))
    damaged, _ = finished(row | {"timeline": b"\x08\x01"}, [batch])
    assert (damaged["text"], damaged["chunks"], damaged["stop_cause"]) == (sent.text, 0, "crash")
    assert damaged["diagnostics"] == [DAMAGED, CRASHED]


@pytest.mark.parametrize("killed_after", [8, 25, 60])
def test_a_killed_process_loses_at_most_a_quarter_of_a_second(mock: MockServer, either: str, killed_after: int) -> None:
    if either != "sqlite":  # what a server of its own takes to connect and to commit is added
        killed_after += 100
    mock.scripts["long"] = Script(tuple(f"{n} " for n in range(2000)), gap=0.01)
    program = f"""
        import tokenstream_magic as ts
        for piece in ts.events("Hi", "long", base_url={mock.base_url!r}):
            if piece.text == "{killed_after} ":
                print("now", flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "now\n"
    killed = monotonic_ns()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()

    assert [t.outcome for t in ts.transcripts.recent()] == ["truncated"]
    found = ts.transcripts.last()
    numbers = [int(word) for word in found.text.split()]
    assert numbers == list(range(len(numbers)))
    due = len([at for at in mock.exchanges[0].sent if at < killed - (LOST_NS if either == "sqlite" else 4 * LOST_NS)])
    assert len(numbers) >= due
    assert len(found.timeline) >= len(numbers) - 1
    assert found.stop_cause == "crash"
    assert "kernel ended" in found.diagnostics[-1]
    assert ts.transcripts.open_store().query(sa.select(batches)) == []
    if either == "sqlite":
        with sqlite3.connect(database()) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_run_of_a_living_process_is_left_alone(mock: MockServer, either: str) -> None:
    run = api.start("Hi", "endless", base_url=mock.base_url)
    mock.wait_for(1)
    ts.transcripts.open_store().writer.flush()
    other = Store(default_url())
    assert other.get("last").outcome == "running"
    other.close()
    run.stop()
    run.wait()


def test_the_log_is_as_long_from_the_first_batch_on_as_it_ever_gets() -> None:
    """A commit that makes its file longer waits for the file system's journal too."""
    store = ts.transcripts.open_store()
    log, pages = Path(f"{database()}-wal"), store.database.fetch("PRAGMA page_count", ())

    def batch(id: str, number: int) -> int:
        with store.database.directly() as connection:
            connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", (id, number, "x" * 1200, b"x" * 500))
        return log.stat().st_size

    size = batch("one", 0)
    assert store.database.fetch("PRAGMA page_count", ()) == pages
    assert store.database.fetch("SELECT count(*) FROM wires", ()) == [(0,)]
    assert {batch("one", number) for number in range(1, 400)} == {size}
    store.database.let_go()
    assert batch("two", 0) == size
    assert store.database.fetch("SELECT count(*) FROM batches", ()) == [(401,)]
    assert store.database.fetch("PRAGMA integrity_check", ()) == [("ok",)]
