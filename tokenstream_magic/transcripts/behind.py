"""What SQLite has beside the table for search and figures, entered with each transcript that settles, or a little later.

A transcript that settles is entered in the transaction that writes it. Many that are written at once are only noted, as a span
of places in the order of arrival, in the transaction that writes them; they are entered afterwards, a slice in a transaction.
Whoever searches or asks for figures finishes that first, so nothing is ever missed; a process that dies in between leaves the
rest to the next.
"""

from __future__ import annotations

from time import perf_counter, sleep
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tokenstream_magic.errors import StoreError
from tokenstream_magic.transcripts import ranges
from tokenstream_magic.transcripts.schema import MEASURED, SEARCHED, WORDS

if TYPE_CHECKING:
    from tokenstream_magic.transcripts.database import Database

SLICE = 4000
_MUCH, _USUAL = 1 << 24, 1 << 20  # bytes of words that FTS5 holds before they become a part of its index, to be merged with others
BREATH = 1 / 16  # of the time a transaction took: others who wait to write look again in pauses, and must find one

_TEXTS = ", ".join(SEARCHED)
_SPAN = "FROM transcripts WHERE seq BETWEEN ? AND ? AND outcome != 'running'"
_MORE = "ON CONFLICT DO UPDATE SET n = n + excluded.n"
_SEARCH = f"INSERT INTO {WORDS} (rowid, {_TEXTS}) SELECT seq, {_TEXTS} {_SPAN}"
_HOLD = f"INSERT INTO {WORDS} ({WORDS}, rank) VALUES ('hashsize', ?)"  # noqa: S608 - ours
_COUNT = (
    f"INSERT INTO counted SELECT 'outcome', model, outcome, count(*) {_SPAN} GROUP BY model, outcome {_MORE}",
    *(
        f"INSERT INTO counted SELECT '{name}', model, {ranges.sql(name)} AS part, count(*) {_SPAN} AND {name} IS NOT NULL"
        f" GROUP BY model, part {_MORE}"
        for name in MEASURED
    ),
    *(
        f"INSERT INTO measured SELECT '{name}', model, {name}, seq {_SPAN} AND {name} IS NOT NULL ORDER BY model, {name}, seq"
        for name in MEASURED
    ),
)
_LEAVE = (
    f"INSERT INTO {WORDS} ({WORDS}, rowid, {_TEXTS}) SELECT 'delete', seq, {_TEXTS} FROM transcripts WHERE seq = ?",  # noqa: S608
    "UPDATE counted SET n = n - 1 WHERE what = 'outcome' AND (model, range) = (SELECT model, outcome FROM transcripts WHERE seq = ?)",
    *(
        f"UPDATE counted SET n = n - 1 WHERE what = '{name}'"  # noqa: S608
        f" AND (model, range) = (SELECT model, {ranges.sql(name)} FROM transcripts WHERE seq = ? AND {name} IS NOT NULL)"
        for name in MEASURED
    ),
    *(
        f"DELETE FROM measured WHERE what = '{name}' AND (model, value, seq) = (SELECT model, {name}, seq FROM transcripts WHERE seq = ?)"  # noqa: S608
        for name in MEASURED
    ),
)
_COUNTED = (
    "SELECT coalesce((SELECT sum(n) FROM counted WHERE what = 'outcome'), 0)"
    " = (SELECT count(*) FROM transcripts) - (SELECT count(*) FROM transcripts WHERE outcome = 'running')"
)
_LARGEST = (1 << 63) - 1
_ENTERED = (
    "SELECT seq FROM transcripts WHERE id = ? AND outcome != 'running'"
    " AND NOT EXISTS (SELECT 1 FROM behind WHERE transcripts.seq BETWEEN first AND last)"
)


def enter(connection: sa.Connection, first: int, last: int | None = None) -> None:
    """Makes the settled transcripts of these places searched and counted, unless that is for later; PostgreSQL does so by itself."""
    if connection.dialect.name == "sqlite" and not any(start <= first <= end for start, end in spans(connection)):
        _enter(connection, first, first if last is None else last)


def leave(connection: sa.Connection, id: str) -> None:
    """The opposite of :func:`enter`, for a row that is still there as it was entered."""
    if connection.dialect.name == "sqlite":
        seq = connection.exec_driver_sql(_ENTERED, (id,)).scalar()
        if seq is not None:
            for statement in _LEAVE:
                connection.exec_driver_sql(statement, (seq,))
            connection.exec_driver_sql("DELETE FROM counted WHERE n <= 0")


def postpone(connection: sa.Connection, first: int, last: int) -> None:
    """Notes that the transcripts of these places are to be entered later."""
    before = connection.exec_driver_sql("UPDATE behind SET last = ? WHERE last = ?", (last, first - 1))
    if not before.rowcount:
        connection.exec_driver_sql("INSERT INTO behind VALUES (?, ?)", (first, last))


def spans(connection: sa.Connection) -> list[tuple[int, int]]:
    """The places of transcripts that are not entered yet: the first and the last of each span."""
    return [(row[0], row[1]) for row in connection.exec_driver_sql("SELECT first, last FROM behind ORDER BY first")]


def is_behind(database: Database) -> bool:
    """Whether there is anything to be entered."""
    return bool(database.fetch("SELECT 1 FROM behind LIMIT 1", ()))


def has_figures(database: Database) -> bool:
    """Whether the figures by model are beside the table: not in an older database that can only be read."""
    return bool(database.fetch("SELECT 1 FROM sqlite_master WHERE name = 'counted'", ()))


def left(database: Database) -> list[tuple[int, int]]:
    """Enters what is not entered yet; the spans for which that cannot be done now."""
    try:
        if database.read_only is None:
            catch_up(database)
            return []
    except (sa.exc.SQLAlchemyError, StoreError, OSError):  # a full disk, a lock held for long: reading goes on
        pass
    if not has_figures(database):
        return []
    with database.reading() as connection:
        return spans(connection)


def catch_up(database: Database, slices: int | None = None) -> bool:
    """Enters what is not entered yet, at most so many slices; whether all of it is now. Raises StoreError and what SQLAlchemy raises."""
    if not is_behind(database):
        return True
    with database.roomy() as connection:
        while slices is None or slices > 0:
            started = perf_counter()
            with connection.begin():
                later = spans(connection)
                if not later:
                    return True
                first, last = later[0]
                end = min(last, first + SLICE - 1)
                connection.exec_driver_sql(_HOLD, (_MUCH,))
                _enter(connection, first, end)
                connection.exec_driver_sql(_HOLD, (_USUAL,))  # for whoever writes next; what is held is written by the commit
                connection.exec_driver_sql("DELETE FROM behind WHERE first = ?", (first,))
                if end < last:
                    connection.exec_driver_sql("INSERT INTO behind VALUES (?, ?)", (end + 1, last))
            sleep((perf_counter() - started) * BREATH)
            slices = None if slices is None else slices - 1
    return not is_behind(database)


def is_counted(connection: sa.Connection) -> bool:
    """Whether the counts are of all that has settled. A kernel that still runs an older version writes rows and counts nothing."""
    return bool(connection.exec_driver_sql(_COUNTED).scalar_one())


def count_again(database: Database) -> None:
    """Makes the counts anew where they are not of all that has settled. Raises StoreError and what SQLAlchemy raises."""
    catch_up(database)
    with database.writing() as connection:
        if not is_counted(connection) and not spans(connection):
            connection.exec_driver_sql("DELETE FROM counted")
            connection.exec_driver_sql("DELETE FROM measured")
            for statement in _COUNT:
                connection.exec_driver_sql(statement, (0, _LARGEST))


def _enter(connection: sa.Connection, first: int, last: int) -> None:
    for statement in (_SEARCH, *_COUNT):
        connection.exec_driver_sql(statement, (first, last))
