"""What can still be read of a damaged database, row by row."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy as sa

from tokenstream_magic.transcripts.rows import from_row, put, put_wire, to_row
from tokenstream_magic.transcripts.schema import transcripts
from tokenstream_magic.transcripts.unfinished import finished
from tokenstream_magic.wire.kept import unpack

if TYPE_CHECKING:
    from tokenstream_magic.transcripts.database import Database

MISSES = 2000  # damaged rows in a row before the rest is given up
SECONDS = 20.0

_JSON = {column.name for column in transcripts.c if isinstance(column.type, sa.JSON)}


def salvage(damaged: Path, into: Database) -> int:
    """Copies the rows of ``damaged`` that can be read into ``into``; how many there were."""
    saved, position, misses = 0, 0, 0
    until = time.monotonic() + SECONDS
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_opened(damaged)) as source:
        while misses < MISSES and time.monotonic() < until:
            try:
                row = source.execute(
                    "SELECT rowid AS place, * FROM transcripts WHERE rowid > ? ORDER BY rowid LIMIT 1", (position,)
                ).fetchone()
            except (sqlite3.Error, UnicodeDecodeError):
                misses, position = misses + 1, position + 1
                continue
            if row is None:
                break
            misses, position = 0, row["place"]
            if _copy(row, _batches(source, row), into):
                saved += 1
                _copy_wire(source, row["id"], into)
    return saved


def _opened(damaged: Path) -> sqlite3.Connection:
    source = sqlite3.connect(f"file:{quote(str(damaged.absolute()))}?mode=ro", uri=True)
    source.row_factory = sqlite3.Row
    source.execute("PRAGMA trusted_schema=OFF")
    source.execute("PRAGMA writable_schema=ON")  # nothing is written: it lets SQLite read a file that is too short
    return source


def _copy_wire(source: sqlite3.Connection, id: str, into: Database) -> None:
    """The wire of a row too, where there is one that can be read."""
    with contextlib.suppress(sqlite3.Error, sa.exc.SQLAlchemyError, ValueError):
        found = source.execute("SELECT packed FROM wires WHERE transcript_id = ?", (id,)).fetchone()
        if found is not None:
            unpack(found["packed"])
            with into.engine.begin() as connection:
                put_wire(connection, id, found["packed"])


def _batches(source: sqlite3.Connection, row: sqlite3.Row) -> list[dict[str, Any]]:
    """What came of a run that was streaming, as far as it can be read."""
    found: list[dict[str, Any]] = []
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError, IndexError):
        if row["outcome"] == "running":
            for batch in source.execute("SELECT * FROM batches WHERE transcript_id = ? ORDER BY number", (row["id"],)):
                with contextlib.suppress(ValueError, TypeError):
                    found.append({**dict(batch), "pieces": json.loads(batch["pieces"]), "number": int(batch["number"])})
    return found


def _copy(row: sqlite3.Row, saved: list[dict[str, Any]], into: Database) -> bool:
    names = set(row.keys())
    try:
        values: dict[str, Any] = {c.name: row[c.name] if c.name in names else None for c in transcripts.c}
        values |= {name: json.loads(values[name]) for name in _JSON if values[name] is not None}
        wire = None
        if values["outcome"] == "running":
            changes, wire = finished(values, saved)
            values |= changes
        with into.engine.begin() as connection:
            put(connection, to_row(from_row(values)), None, time.time())
            if wire is not None:
                put_wire(connection, values["id"], wire)
    except Exception:  # a row that is whole for SQLite may hold anything
        return False
    return True
