"""What is written ten times a second. SQLite is asked in its own words, which takes a fraction of building and keying a query."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa

from tokenstream_magic.transcripts.pending import Batch, Work
from tokenstream_magic.transcripts.schema import batches, transcripts

AT_ONCE = 50  # runs with one statement
_Connection = sa.Connection | sqlite3.Connection
_SAME_BATCH = batches.delete().where(batches.c.transcript_id == sa.bindparam("of"), batches.c.number == sa.bindparam("at"))
_KEEP = (
    "INSERT OR REPLACE INTO batches (transcript_id, number, pieces, timeline)"
    " SELECT * FROM (SELECT ? AS id, ?, ?, ?) AS made WHERE EXISTS (SELECT 1 FROM transcripts WHERE transcripts.id = made.id)"
)


def write_flowing(connection: _Connection, work: list[Work], stamp: float) -> list[Work]:
    """What came of runs whose rows are there, many with each statement. Returns those whose rows are there no more."""
    gone: list[Work] = []
    for start in range(0, len(work), AT_ONCE):
        part = {one.pending.run.id: one for one in work[start : start + AT_ONCE]}
        signed = [id for id, one in part.items() if one.signed]
        made = [batch for one in part.values() for batch in one.batches]
        all_there = not signed or _sign(connection, signed, stamp)
        if (not made or _keep(connection, made)) and all_there:  # kept in any case: the others of this part have rows
            continue
        there = _there(connection, list(part))
        gone += [one for id, one in part.items() if id not in there]  # somebody deleted it, or the file is another one
    return gone


def _there(connection: _Connection, ids: list[str]) -> set[str]:
    """Those of the ids that have rows."""
    if isinstance(connection, sqlite3.Connection):
        found = connection.execute(f"SELECT id FROM transcripts WHERE id IN ({', '.join('?' * len(ids))})", ids)  # noqa: S608
        return {row[0] for row in found}
    return set(connection.execute(sa.select(transcripts.c.id).where(transcripts.c.id.in_(ids))).scalars())


def _sign(connection: _Connection, ids: list[str], stamp: float) -> bool:
    """A sign of life of runs; whether all of them have rows."""
    if isinstance(connection, sqlite3.Connection):
        signed = connection.executemany("UPDATE transcripts SET updated_at = ? WHERE id = ?", [(stamp, id) for id in ids])
        return signed.rowcount == len(ids)
    return connection.execute(transcripts.update().where(transcripts.c.id.in_(ids)).values(updated_at=stamp)).rowcount == len(ids)


def _keep(connection: _Connection, made: list[Batch]) -> bool:
    """Writes batches of runs that have rows, in the place of those with their numbers; whether all of them have."""
    if isinstance(connection, sqlite3.Connection):
        return connection.executemany(_KEEP, made).rowcount == len(made)
    there = _there(connection, list({batch.transcript_id for batch in made}))
    kept = [batch for batch in made if batch.transcript_id in there]
    if kept:
        connection.execute(_SAME_BATCH, [{"of": batch.transcript_id, "at": batch.number} for batch in kept])
        connection.execute(batches.insert(), [batch._asdict() for batch in kept])
    return len(kept) == len(made)
