"""A server that dies, comes back, or was never there: the stream does not notice, and its row arrives later, once."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import pytest
import sqlalchemy as sa
from postgres_support import Server

import tokenstream_magic as ts
from tokenstream_magic import api
from tokenstream_magic.cli import main
from tokenstream_magic.errors import StoreError
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.record import Transcript
from tokenstream_magic.transcripts import spool
from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.rows import put, to_row
from tokenstream_magic.transcripts.spool import Spool
from tokenstream_magic.transcripts.store import Store

WITHIN_SECONDS = 20


@pytest.fixture
def url(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    if server.named:
        pytest.skip("the named server is not ours to kill")
    if not server.is_up:
        server.start()
    url = server.create()
    monkeypatch.setenv("TOKENSTREAM_DATABASE", url)
    return url


def ids(url: str) -> list[tuple[str, str]]:
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text("SELECT id, outcome FROM transcripts ORDER BY seq"))]
    finally:
        engine.dispose()


def wait_until_spool_is_empty(store: Store) -> None:
    until = monotonic() + WITHIN_SECONDS
    while store.spool.has_any and monotonic() < until:
        store.writer.flush()
    assert not store.spool.has_any


def test_a_server_killed_in_the_middle_is_not_noticed_and_the_row_arrives_once(
    mock: MockServer, server: Server, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    mock.scripts["long"] = Script(tuple(f"{n} " for n in range(300)), gap=0.005)
    store = ts.transcripts.open_store()
    before = ts.stream("before", "hello", base_url=mock.base_url)
    run = api.start("Hi", "long", base_url=mock.base_url)
    mock.wait_for(2)
    store.writer.flush()
    assert ids(url) == [(before.id, "complete"), (run.id, "running")]
    server.kill()
    sent = run.wait()
    meanwhile = ts.stream("meanwhile", "hello", base_url=mock.base_url)
    assert (sent.outcome, sent.text) == ("complete", "".join(f"{n} " for n in range(300)))
    store.writer.flush()
    assert store.get(sent.id).text == sent.text  # from the spool
    assert len([r for r in caplog.records if "cannot be reached" in r.getMessage()]) == 1
    server.start()
    wait_until_spool_is_empty(store)
    assert ids(url) == [(before.id, "complete"), (sent.id, "complete"), (meanwhile.id, "complete")]
    found = store.get(sent.id)
    assert (found.text, list(found.timeline)) == (sent.text, list(sent.timeline))
    later = ts.stream("later", "hello", base_url=mock.base_url)
    store.writer.flush()
    assert ids(url)[-1] == (later.id, "complete")
    engine = store.engine
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM batches")).scalar_one() == 0


def test_a_server_that_is_away_at_the_start_gets_its_rows_later(mock: MockServer, server: Server, url: str) -> None:
    server.kill()
    try:
        started = monotonic()
        sent = ts.stream("Hi", "hello", base_url=mock.base_url)
        assert monotonic() - started < 3
        assert sent.outcome == "complete"
        store = ts.transcripts.open_store()
        assert store.get("last").id == sent.id
    finally:
        server.start()
    wait_until_spool_is_empty(store)
    assert ids(url) == [(sent.id, "complete")]


def test_while_the_server_is_away_a_reader_reads_what_is_in_the_spool_and_is_told(
    mock: MockServer, server: Server, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ts.stream("before", "hello", base_url=mock.base_url, wire=True)
    store = ts.transcripts.open_store()
    assert store.get(before.id).wire is not None
    server.kill()
    try:
        sent = ts.stream("A zebra, meanwhile", "hello", base_url=mock.base_url, wire=True)
        plain = ts.stream("And another", "hello", base_url=mock.base_url)
        assert [t.id for t in ts.transcripts.search("zebra")] == [sent.id]
        assert ts.transcripts.get(sent.id).wire == sent.wire
        assert ts.transcripts.get(plain.id).wire is None
        ts.transcripts.get(sent.id).export(tmp_path / "one.sse")
        assert main(["transcripts", "show", "last"]) == 0
        capsys.readouterr()
        assert main(["transcripts", "status"]) == 0
        said = capsys.readouterr()[0]
        assert "cannot be read" in said
        assert store.spool.database.name in said
        for ask in (  # what the spool does not have may be on the server: nobody is told that there is none
            lambda: ts.transcripts.get(before.id),
            lambda: store.wire(before.id),
            lambda: ts.transcripts.search("before"),
            lambda: ts.transcripts.export(tmp_path / "all.jsonl"),
            lambda: ts.transcripts.backup(tmp_path / "copy.db"),
        ):
            with pytest.raises(StoreError, match="cannot be read") as caught:
                ask()
            assert "Background on this error" not in str(caught.value)
    finally:
        server.start()


def test_two_kernels_bring_the_same_rows_at_once_and_neither_fails(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share the spool of a server, and both find it full when the server is back."""
    engine = sa.create_engine(url)
    kernels = [(Spool(engine.url), Database(engine.url)) for _ in range(2)]
    made = Transcript(model="m", outcome="complete")
    with kernels[0][0].database.writing() as connection:
        put(connection, to_row(made), None, 0.0)

    def put_slowly(connection: sa.Connection, *row: object) -> None:
        put(connection, *row)  # type: ignore[arg-type]
        waiting = sa.text(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = :name)"
        )
        held = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
        until = monotonic() + WITHIN_SECONDS
        with engine.connect() as other:  # the second is at it too by now, and waits for this transaction to end
            while (
                not first.is_set()
                and not other.execute(waiting, {"name": engine.url.database}).scalar_one() + other.execute(held).scalar_one()
            ):
                assert monotonic() < until
                other.rollback()
        first.set()

    first = threading.Event()
    monkeypatch.setattr(spool, "put", put_slowly)
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(one.forward, server) for one, server in kernels]
        assert all(each.result(WITHIN_SECONDS) == 1 for each in both)
    assert ids(url) == [(made.id, "complete")]
    for one, server in kernels:
        one.database.dispose()
        server.dispose()
    engine.dispose()


def test_a_kernel_killed_while_the_server_was_away_leaves_its_text_to_the_next(mock: MockServer, server: Server, url: str) -> None:
    mock.scripts["long"] = Script(tuple(f"{n} " for n in range(2000)), gap=0.005)
    program = f"""
        import sys
        import tokenstream_magic as ts
        for piece in ts.events("Hi", "long", base_url={mock.base_url!r}):
            if piece.text in ("40 ", "160 "):
                print(piece.text, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout.readline() == "40 \n"
    server.kill()
    assert process.stdout.readline() == "160 \n"
    process.kill()
    process.communicate()
    server.start()
    store = ts.transcripts.open_store()
    wait_until_spool_is_empty(store)
    (found,) = store.recent()
    numbers = [int(word) for word in found.text.split()]
    assert (found.outcome, found.stop_cause) == ("truncated", "crash")
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 100


def test_no_password_is_shown(mock: MockServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:  # bound and not listening: refused at once
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TOKENSTREAM_DATABASE", f"postgresql://someone:canary-pass-word@127.0.0.1:{taken.getsockname()[1]}/db")
        store = ts.transcripts.open_store()
        ts.stream("Hi", "hello", base_url=mock.base_url)
        store.writer.flush()
        said = [r.getMessage() for r in caplog.records] + [store.path]
        with pytest.raises(StoreError) as caught:
            store.database.read(sa.text("SELECT 1"))
        said.append(str(caught.value))
        assert any("cannot be reached" in line for line in said)
        assert "canary" not in "\n".join(said)


def test_a_backup_of_a_server_is_a_file_that_opens(mock: MockServer, url: str, tmp_path: Path) -> None:
    sent = [ts.stream(f"question {n}", "hello", base_url=mock.base_url) for n in range(3)]
    file = ts.transcripts.backup(tmp_path / "copy.db")
    copy = Store(f"sqlite:///{file}")
    assert [t.id for t in copy.recent()] == [t.id for t in reversed(sent)]
    assert copy.get(sent[0].id) == sent[0]
    copy.close()
