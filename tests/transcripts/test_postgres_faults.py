"""Whatever a server does to a writer (D15): the stream does not notice, the reader is told once, the rows arrive later, once."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import psycopg
import pytest
import sqlalchemy as sa
from postgres_support import Server
from test_postgres import ids, wait_until_spool_is_empty

import tokenstream_magic as ts
from tokenstream_magic import api
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer

PASSWORD = "canary-pass-word"
WITHIN_SECONDS = 20
FAILS = (
    "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END $$"
)
SLEEPS = "CREATE FUNCTION sleeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$"


@pytest.fixture
def mine(server: Server) -> str:
    """The address of an empty database, for its owner."""
    if server.named:
        pytest.skip("the named server is not ours to change")
    if not server.is_up:
        server.start()
    return server.create()


def said(url: str, *statements: str) -> None:
    """Tells the server something, as its administrator."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def elsewhere(url: str) -> str:
    """The administrator's own database, where nothing is refused."""
    return str(sa.make_url(url).set(database="postgres", drivername="postgresql").render_as_string(hide_password=False))


def name_of(url: str) -> str:
    return str(sa.make_url(url).database)


def all_disconnected(url: str) -> None:
    said(elsewhere(url), f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name_of(url)}'")


@contextlib.contextmanager
def locked(url: str) -> Iterator[None]:
    said(elsewhere(url), f"ALTER DATABASE {name_of(url)} SET statement_timeout = '100ms'")
    all_disconnected(url)
    with psycopg.connect(url.replace("+psycopg", "")) as other:
        other.execute("SET statement_timeout = 0")
        other.execute("LOCK TABLE transcripts")
        yield


@contextlib.contextmanager
def changed(url: str, on: str, off: str) -> Iterator[None]:
    said(elsewhere(url), f"ALTER DATABASE {name_of(url)} {on}")
    all_disconnected(url)
    yield
    said(elsewhere(url), f"ALTER DATABASE {name_of(url)} {off}")
    all_disconnected(url)


@contextlib.contextmanager
def failing(url: str) -> Iterator[None]:
    said(url, FAILS, "CREATE TRIGGER fails BEFORE INSERT OR UPDATE ON transcripts FOR EACH ROW EXECUTE FUNCTION fails()")
    yield
    said(url, "DROP TRIGGER fails ON transcripts")


FAULTS: dict[str, Callable[[str], contextlib.AbstractContextManager[None]]] = {
    "too many connections": lambda url: changed(url, "CONNECTION LIMIT 0", "CONNECTION LIMIT -1"),
    "statement timeout": locked,
    "read-only replica": lambda url: changed(url, "SET default_transaction_read_only = on", "RESET default_transaction_read_only"),
    "serialization failure": failing,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_server_refuses_is_spooled_and_arrives_once(
    mock: MockServer, mine: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    said(elsewhere(mine), f"DROP ROLE IF EXISTS clerk_{name_of(mine)}", f"CREATE ROLE clerk_{name_of(mine)} LOGIN PASSWORD '{PASSWORD}'")
    said(mine, f"GRANT ALL ON SCHEMA public TO clerk_{name_of(mine)}")
    asked = sa.make_url(mine).set(username=f"clerk_{name_of(mine)}", password=PASSWORD).render_as_string(hide_password=False)
    monkeypatch.setenv("TOKENSTREAM_DATABASE", asked)
    store = ts.transcripts.open_store()
    before = ts.stream("before", "hello", base_url=mock.base_url)
    store.writer.flush()
    with FAULTS[fault](mine):
        sent = ts.stream("Hi", "hello", base_url=mock.base_url)
        assert (sent.outcome, sent.text) == ("complete", "Hello there.")
        store.writer.flush(WITHIN_SECONDS)
        assert store.spool is not None
        assert store.spool.has_any
    wait_until_spool_is_empty(store)
    assert ids(mine) == [(before.id, "complete"), (sent.id, "complete")]
    assert store.get(sent.id).text == sent.text
    told = [record.getMessage() for record in caplog.records if "cannot be reached" in record.getMessage()]
    assert len(told) == 1
    assert "canary" not in caplog.text
    store.close()
    said(mine, f"DROP OWNED BY clerk_{name_of(mine)}")
    said(elsewhere(mine), f"DROP ROLE clerk_{name_of(mine)}")


def test_a_wrong_password_is_told_without_it_and_the_right_one_later_brings_the_rows(
    mock: MockServer, server: Server, mine: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rules = server.data / "pg_hba.conf"
    own = rules.read_text()
    said(mine, "DROP ROLE IF EXISTS knocker", "CREATE ROLE knocker LOGIN SUPERUSER PASSWORD 'another'")
    rules.write_text("local all knocker scram-sha-256\n" + own)
    try:
        said(mine, "SELECT pg_reload_conf()")
        asked = sa.make_url(mine).set(username="knocker", password=PASSWORD).render_as_string(hide_password=False)
        monkeypatch.setenv("TOKENSTREAM_DATABASE", asked)
        sent = ts.stream("Hi", "hello", base_url=mock.base_url)
        store = ts.transcripts.open_store()
        store.writer.flush()
        assert store.get(sent.id).text == sent.text
        assert any("password authentication failed" in record.getMessage() for record in caplog.records)
        assert "canary" not in caplog.text
        said(mine, f"ALTER ROLE knocker PASSWORD '{PASSWORD}'")
        wait_until_spool_is_empty(store)
        assert ids(mine) == [(sent.id, "complete")]
        store.close()
    finally:
        rules.write_text(own)
        said(mine, "SELECT pg_reload_conf()")


def test_a_server_killed_while_it_commits_has_the_row_once(
    mock: MockServer, server: Server, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENSTREAM_DATABASE", mine)
    store = ts.transcripts.open_store()
    before = ts.stream("before", "hello", base_url=mock.base_url)
    store.writer.flush()
    said(
        mine,
        SLEEPS,
        "CREATE CONSTRAINT TRIGGER sleeps AFTER INSERT ON transcripts DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleeps()",
    )
    sent = ts.stream("Hi", "hello", base_url=mock.base_url)
    committing = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name_of(mine)}' AND query = 'COMMIT' AND state = 'active'"
    until = monotonic() + WITHIN_SECONDS
    with psycopg.connect(elsewhere(mine), autocommit=True) as watching:
        while watching.execute(committing).fetchone() != (1,):
            assert monotonic() < until
    server.kill()
    server.start()
    said(mine, "DROP TRIGGER sleeps ON transcripts")
    store.writer.flush(WITHIN_SECONDS)
    wait_until_spool_is_empty(store)
    assert ids(mine) == [(before.id, "complete"), (sent.id, "complete")]
    store.close()


class Line:
    """A TCP line to the server's socket that can be cut."""

    def __init__(self, server: Server) -> None:
        self._to = str(server.home / ".s.PGSQL.5432")
        self._listening: socket.socket | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.port = 0
        self.mend()

    def mend(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def cut(self) -> None:
        assert self._listening is not None
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._to)
                self._pairs.append((near, far))
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    @staticmethod
    def _carry(near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), near, far:
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    (far if ready is near else near).sendall(data)


@pytest.fixture
def line(server: Server, mine: str) -> Iterator[Line]:
    made = Line(server)
    yield made
    made.cut()


def by(line: Line, mine: str, **query: str) -> str:
    url = sa.make_url(mine).set(host="127.0.0.1", port=line.port, password=PASSWORD, query=query)
    return url.render_as_string(hide_password=False)


def test_a_network_that_is_cut_in_the_middle_is_not_noticed(
    mock: MockServer, mine: str, line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mock.scripts["long"] = Script(tuple(f"{n} " for n in range(300)), gap=0.003)
    monkeypatch.setenv("TOKENSTREAM_DATABASE", by(line, mine))
    store = ts.transcripts.open_store()
    run = api.start("Hi", "long", base_url=mock.base_url)
    mock.wait_for(1)
    store.writer.flush()
    assert ids(mine) == [(run.id, "running")]
    line.cut()
    sent = run.wait()
    assert (sent.outcome, sent.text) == ("complete", "".join(f"{n} " for n in range(300)))
    store.writer.flush()
    assert store.get(sent.id).text == sent.text
    line.mend()
    wait_until_spool_is_empty(store)
    assert ids(mine) == [(sent.id, "complete")]
    assert "canary" not in caplog.text
    store.close()


def test_a_server_without_the_encryption_that_was_asked_for_is_told(
    mock: MockServer, mine: str, line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TOKENSTREAM_DATABASE", by(line, mine, sslmode="require"))
    sent = ts.stream("Hi", "hello", base_url=mock.base_url)
    store = ts.transcripts.open_store()
    store.writer.flush()
    assert store.get(sent.id).text == sent.text
    assert any("SSL" in record.getMessage() for record in caplog.records)
    assert "canary" not in caplog.text
    store.close()
