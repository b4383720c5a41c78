"""The table of wires: written with its transcript, gone with it, and taken along wherever transcripts are taken."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic

import pytest
import sqlalchemy as sa
from postgres_support import Server

import tokenstream_magic as ts
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.transcripts.store import Store

WITHIN_SECONDS = 20


def rows() -> int:
    store = ts.transcripts.open_store()
    return int(store.query(sa.text("SELECT count(*) AS n FROM wires"))[0]["n"])


def test_it_is_kept_copied_and_deleted_with_its_transcript(either: str, mock: MockServer, tmp_path: Path) -> None:
    sent, other = (ts.stream("Hi", "story", base_url=mock.base_url, wire=True) for _ in range(2))
    assert rows() == 2
    assert ts.transcripts.get(sent.id).wire == sent.wire
    copy = Store(f"sqlite:///{ts.transcripts.backup(tmp_path / 'copy.db')}")
    assert copy.get(sent.id).wire == sent.wire
    copy.close()
    ts.transcripts.delete(sent.id)
    assert rows() == 1
    assert ts.transcripts.get(other.id).wire == other.wire
    assert ts.transcripts.wire(sent.id) is None


def test_it_waits_in_the_spool_while_the_server_is_away(mock: MockServer, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if server.named:
        pytest.skip("the named server is not ours to kill")
    monkeypatch.setenv("TOKENSTREAM_DATABASE", server.create())
    server.kill()
    try:
        sent = ts.stream("Hi", "hello", base_url=mock.base_url, wire=True)
        store = ts.transcripts.open_store()
        store.writer.flush()
        assert store.spool is not None
        assert store.spool.has_any
    finally:
        server.start()
    until = monotonic() + WITHIN_SECONDS
    while store.spool.has_any and monotonic() < until:
        store.writer.flush()
    assert rows() == 1
    assert store.get(sent.id).wire == sent.wire
    assert store.spool.database.read(sa.text("SELECT * FROM wires")) == []


def test_what_can_be_read_of_a_damaged_file_takes_its_wire_along(mock: MockServer) -> None:
    sent = ts.stream("Hi", "hello", base_url=mock.base_url, wire=True)
    store = ts.transcripts.open_store()
    store.writer.flush()
    store.database.set_aside(sa.exc.DatabaseError("", {}, Exception("malformed")))
    assert store.get(sent.id).wire == sent.wire


@pytest.mark.parametrize("how", ["%transcripts", "call"])
def test_a_body_that_is_exported_decodes_to_the_same_transcript(mock: MockServer, tmp_path: Path, how: str) -> None:
    from tokenstream_magic import transcript_commands

    sent = ts.stream("Hi", "tools", base_url=mock.base_url, wire=True)
    file = tmp_path / "body.sse"
    if how == "call":
        ts.transcripts.get(sent.id).export(str(file))
    else:
        transcript_commands.perform(["export", sent.id, "-o", str(file)], "%transcripts")
    assert sent.wire is not None
    assert file.read_bytes() == sent.wire.body()
    if os.name == "posix":
        assert file.stat().st_mode & 0o077 == 0
    again = ts.decode(file.read_bytes())
    assert (again.outcome, again.text, again.tool_calls, again.usage) == (sent.outcome, sent.text, sent.tool_calls, sent.usage)


def test_a_body_that_was_not_kept_is_not_exported(mock: MockServer, tmp_path: Path) -> None:
    sent = ts.stream("Hi", "hello", base_url=mock.base_url)
    with pytest.raises(ts.TokenstreamError, match="%%stream --wire keeps it"):
        ts.transcripts.get(sent.id).export(str(tmp_path / "body.sse"))
    assert list(tmp_path.glob("*.sse")) == []
