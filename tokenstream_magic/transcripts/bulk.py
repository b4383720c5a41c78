"""Many settled transcripts into SQLite at once: prepared rows, searched text filled in by the database itself.

Keys are masked before anything is written, as everywhere. What is different is how often somebody looks: a row whose
texts together hold no beginning of a key has nothing to mask, which one pass in C decides.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from tokenstream_magic.record import Transcript
from tokenstream_magic.redaction import Redactor
from tokenstream_magic.transcripts.rows import next_place, redacted, to_row
from tokenstream_magic.transcripts.schema import SEARCHED, WORDS, to_json, transcripts

PAGES_KIB = 64 * 1024  # of the database held in memory meanwhile: eleven indexes are written to in as many places
_USUAL_KIB = 2000
_MANY = 1000
_SHORT = 200  # characters: such texts are looked at together
_NAMES = [column.name for column in transcripts.c]
_JSON = {column.name for column in transcripts.c if isinstance(column.type, sa.JSON)}
_EMPTY = {type(None): "null", dict: "{}", list: "[]"}
_in_order: Callable[[Mapping[str, Any]], tuple[Any, ...]] = itemgetter(*_NAMES)
_INSERT = f"INSERT INTO transcripts ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))})"  # noqa: S608 - our own names
_SEARCH = (
    f"INSERT INTO {WORDS} (rowid, {', '.join(SEARCHED)}) SELECT seq, {', '.join(SEARCHED)} FROM transcripts"  # noqa: S608 - our own names
    " WHERE seq BETWEEN ? AND ?"
)


def add(connection: sa.Connection, found: Sequence[Transcript], redactor: Redactor, updated_at: float) -> list[Transcript]:
    """Writes those whose ids are not there yet, each id once; returns them."""
    marks = ", ".join("?" * len(found))
    known = connection.exec_driver_sql(f"SELECT id FROM transcripts WHERE id IN ({marks})", tuple(t.id for t in found))  # noqa: S608
    there = set(known.scalars())
    new = [transcript for transcript in found if transcript.id not in there]
    if new:
        first = next_place(connection)
        rows = [
            _values({**to_row(one), "owner": None, "updated_at": updated_at, "seq": seq}, redactor) for seq, one in enumerate(new, first)
        ]
        connection.exec_driver_sql(_INSERT, rows)
        connection.exec_driver_sql(_SEARCH, (first, first + len(new) - 1))
    return new


@contextlib.contextmanager
def room(connection: sa.Connection, rows: int) -> Iterator[None]:
    """More of the database in memory while so many rows are written, given back afterwards."""
    if rows < _MANY:
        yield
        return
    connection.exec_driver_sql(f"PRAGMA cache_size=-{PAGES_KIB}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA cache_size=-{_USUAL_KIB}")
        connection.exec_driver_sql("PRAGMA shrink_memory")


def _values(row: dict[str, Any], redactor: Redactor) -> tuple[Any, ...]:
    """The row as SQLite takes it, every key in it masked."""
    values = _written(row)
    texts = [value for value in values if type(value) is str]
    short = "\0".join([text for text in texts if len(text) <= _SHORT])
    if redactor.may_find(short) or any(redactor.may_find(text) for text in texts if len(text) > _SHORT):
        return _written(redacted(row, redactor))
    return values


def _written(row: Mapping[str, Any]) -> tuple[Any, ...]:
    plain = {**row, **{name: to_json(row[name]) if row[name] else _EMPTY[type(row[name])] for name in _JSON}}
    return _in_order(plain)
