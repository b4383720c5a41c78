"""Removing a transcript so that nothing of it is left: neither in the tables, nor in the index of words, nor in the write-ahead log."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tokenstream_magic.errors import StoreError
from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.rows import remove
from tokenstream_magic.transcripts.schema import WORDS


def remove_from(databases: Sequence[Database], id: str) -> None:
    """Removes a transcript from each. Raises StoreError when its words are still in a file somewhere, and says in which."""
    left: list[str] = []
    for database in databases:
        generation = database.generation
        if not database.asked(partial(_remove, database, id), writing=True):
            left.append(f"{database.name}-wal")
        if database.generation != generation:
            raise StoreError(
                f"{id} is removed, but the database was damaged, and its words are still in {database.aside}.",
                "Delete that file yourself when you need nothing else from it.",
            )
    if left:
        raise StoreError(
            f"{id} is removed, but another program is reading the database, and its words are still in {' and '.join(left)}.",
            "They go when that program has ended and the next transcript is deleted, or the last kernel has closed the database.",
        )


def _remove(database: Database, id: str) -> bool:
    """Removes a transcript; whether nothing of it is left in the write-ahead log either."""
    with database.writing() as connection:
        remove(connection, id)
        if database.is_sqlite:  # deleted words stay in the index until its parts are merged
            connection.exec_driver_sql(f"INSERT INTO {WORDS} ({WORDS}) VALUES ('optimize')")  # noqa: S608 - our own name
    return truncated(database)


def truncated(database: Database) -> bool:
    """Empties the write-ahead log into the file; whether it could: a reader in the middle of something is waited for, but not for ever."""
    if database.is_sqlite:
        with database.reading() as connection:
            raw = connection.connection.driver_connection
            connection.rollback()
            if raw is not None:
                return not raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return True
