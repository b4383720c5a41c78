"""From versions 1 to 3: everything stays, whatever happens on the way, and a copy of the file as it was."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
import version1

import tokenstream_magic as ts
from tokenstream_magic.transcripts import migrations, schema
from tokenstream_magic.transcripts.addresses import default_url
from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.statistics import _by_any, groups
from tokenstream_magic.transcripts.store import Store
from tokenstream_magic.wire.kept import Wire

OPEN = """
from tokenstream_magic.transcripts.addresses import default_url
from tokenstream_magic.transcripts.store import Store
store = Store(default_url())
assert store.count() == 6
store.close()
"""

KILL_AT_EVERY_STATEMENT = f"""
import os, signal
import alembic.config, alembic.runtime.environment, alembic.script
import sqlalchemy as sa
from tokenstream_magic.transcripts.addresses import default_url
import tokenstream_magic.transcripts.store

def open_and_die(at):
    seen = 0
    def count(*_):
        nonlocal seen
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
    sa.event.listen(sa.engine.Engine, "before_cursor_execute", count)
    sa.event.listen(sa.engine.Engine, "commit", count)
    exec({OPEN!r})

at, status = 0, 1
while status:
    at += 1
    child = os.fork()
    if child == 0:
        open_and_die(at)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    engine = sa.create_engine(default_url())
    with engine.connect() as connection:  # the old version or the new one, never something between
        version = connection.execute(sa.text("SELECT version FROM schema_version")).scalar_one()
        columns = {{c["name"] for c in sa.inspect(connection).get_columns("transcripts")}}
        wires = sa.inspect(connection).has_table("wires")
        assert ("seq" in columns) == (version > 1), (at, version)
        assert wires == (version > 2), (at, version)
        beside = sa.inspect(connection).has_table("counted")
        assert beside == (version > 3 and engine.dialect.name == "sqlite"), (at, version)
        assert version in (int(os.environ["BEFORE"]), 5), (at, version)
        assert connection.execute(sa.text("SELECT count(*) FROM transcripts")).scalar_one() == 6
    engine.dispose()
print(at)
"""


def old(either: str, version: int = 1) -> str:
    """The address of a database of an older version."""
    url = default_url()
    if either == "sqlite":
        Path(sa.make_url(url).database).parent.mkdir(mode=0o700)
        os.close(os.open(sa.make_url(url).database, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(url)
    version1.make(engine)
    engine.dispose()
    if version > 1:  # as the package of that version left it
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(migrations, "REVISION", f"{version:04d}")
            patch.setattr(Database, "_recover", lambda _: None)  # which writes as the present version does
            before = Store(url)
            assert before.count() == version1.ROWS + 1  # a server is made ready when it is first asked
            before.close()
        for copy in Path(sa.make_url(url).database or "nothing").parent.glob("*.before-v*"):
            copy.unlink()
    return url


def check_all_there(store: Store) -> None:
    found = store.recent(10)
    assert [t.id for t in found] == version1.IDS[::-1]
    assert (found[0].outcome, found[0].stop_cause, found[0].text) == ("truncated", "crash", "half an answer")
    assert len(found[0].timeline) == 4
    for n, t in enumerate(found[:0:-1]):
        assert (t.text, t.prompt, t.outcome, t.tags) == (f"answer number {n} zebra", f"question {n}", "complete", ["old"])
        assert [s.offset_ns for s in t.timeline] == [1_000_000, 2_000_000, 3_000_000, 4_000_000]
        assert t.timeline.moments()["closed"] == 9.25
        assert (t.timeline.reads, t.timeline.keep_alives) == (4, 1)
    assert store.recent(10, query="zébra") == store.recent(10, query="zebra")
    assert {t.id for t in store.recent(10, query="zebra")} == set(version1.IDS[:-1])
    assert [t.id for t in store.recent(10, query="half")] == version1.IDS[-1:]
    figures = {group.by: group for group in groups(store)}
    assert figures == {group.by: group for group in _by_any(store, ["model"])}
    assert sum(group.runs for group in figures.values()) == len(version1.IDS)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_an_older_version_becomes_the_present_one(either: str, version: int) -> None:
    store = Store(old(either, version))
    check_all_there(store)
    assert store.status()["version"] == schema.VERSION
    sent = ts.Transcript(model="later", outcome="complete")
    store.add_many([sent])
    assert store.get("last").id == sent.id
    assert store.wire(sent.id) is None
    sent = ts.Transcript(model="later", outcome="complete", kept_wire=Wire("openai-chat"))
    store.add_many([sent])
    assert store.get("last").wire == sent.wire
    store.close()


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_migrated_database_is_what_a_new_one_is(version: int) -> None:
    url = old("sqlite", version)
    Store(url).close()
    fresh = Path(sa.make_url(url).database).with_name("fresh.db")
    Store(f"sqlite:///{fresh}").close()
    of_old, of_new = (_shape(Path(file)) for file in (sa.make_url(url).database, fresh))
    assert of_old == of_new


def _shape(file: Path) -> dict[str, object]:
    affinity = {"BIGINT": "INTEGER"}
    with sqlite3.connect(file) as connection:
        shape: dict[str, object] = {}
        for kind, name in connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall():
            if kind == "table":
                columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
                shape[name] = sorted((c[1], affinity.get(c[2], c[2]), c[3], c[5]) for c in columns)
            else:
                shape[name] = [row[2] for row in connection.execute(f"PRAGMA index_info({name})")]
        shape["alembic"] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        shape["version"] = connection.execute("SELECT version FROM schema_version").fetchall()
    return shape


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_file_as_it_was_is_kept(version: int) -> None:
    url = old("sqlite", version)
    Store(url).close()
    file = Path(sa.make_url(url).database)
    copy = file.with_name(file.name + f".before-v{schema.VERSION}")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(version,)]
        assert connection.execute("SELECT count(*) FROM transcripts").fetchone() == (version1.ROWS + 1,)


def test_a_file_in_which_only_the_number_changes_is_not_copied() -> None:
    url = old("sqlite", 4)
    Store(url).close()
    file = Path(sa.make_url(url).database)
    assert not list(file.parent.glob("*.before-*"))
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(schema.VERSION,)]


@pytest.mark.parametrize(("version", "statements"), [(1, 15), (2, 5), (3, 4), (4, 2)])
def test_a_process_killed_at_any_statement_of_a_migration_loses_nothing(either: str, version: int, statements: int) -> None:
    url = old(either, version)
    environment = {**os.environ, "BEFORE": str(version)}
    done = subprocess.run([sys.executable, "-c", KILL_AT_EVERY_STATEMENT], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > statements
    store = Store(url)
    check_all_there(store)
    store.close()
    if either == "sqlite":
        with sqlite3.connect(sa.make_url(url).database) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_several_processes_migrate_once(either: str) -> None:
    url = old(either)
    started = [subprocess.Popen([sys.executable, "-c", OPEN], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in started:
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    store = Store(url)
    check_all_there(store)
    store.close()


def test_opening_a_present_database_does_not_load_alembic() -> None:
    Store(default_url()).close()
    program = "import sys; from tokenstream_magic.transcripts.store import *; Store(default_url()).close(); print('alembic' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ.copy(), check=True)
    assert said.stdout == "False\n"
