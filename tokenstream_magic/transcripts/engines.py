"""Engines of SQLAlchemy's: one that writes, with what keeps a SQLite file whole, and one that only reads."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from tokenstream_magic.transcripts.readable import from_json
from tokenstream_magic.transcripts.schema import to_json

BUSY_SECONDS = 10
_PRAGMAS = ("synchronous=FULL", "secure_delete=ON", "foreign_keys=ON", "trusted_schema=OFF")


def writing_engine(url: sa.URL, *, log: bool = True) -> sa.Engine:
    """An engine whose transactions begin by taking the lock of writers; ``log``: with a write-ahead log, where SQLite can have one."""
    if not url.drivername.startswith("sqlite"):
        waits: dict[str, Any] = {}
        if url.drivername.startswith("postgresql"):
            waits = {
                "connect_timeout": 5,
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 10_000,
            }
            url = url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
        return sa.create_engine(url, pool_pre_ping=True, pool_size=2, connect_args=waits, json_serializer=to_json)
    # the driver's own transactions off: ours begin where SQLAlchemy says, so that BEGIN IMMEDIATE is possible
    waits = {"timeout": BUSY_SECONDS, "isolation_level": None}
    engine = sa.create_engine(url, connect_args=waits, json_serializer=to_json, json_deserializer=from_json)
    sa.event.listen(engine, "connect", _pragmas if log else _pragmas_without_log)
    sa.event.listen(engine, "begin", _begin)
    return engine


def reading_engine(file: Path, how: str) -> sa.Engine:
    """An engine for a SQLite file that is only read; ``how`` are the parameters of its URI."""
    import sqlite3

    address = f"file:{quote(str(file.absolute()))}?{how}"
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False),
        poolclass=sa.pool.NullPool,
        json_serializer=to_json,
        json_deserializer=from_json,
    )
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA trusted_schema=OFF"))
    return engine


def _pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    try:
        _to_wal(cursor)
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
    finally:
        cursor.close()


def _pragmas_without_log(connection: Any, _record: Any) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _to_wal(cursor: Any) -> None:
    """The journal of write-ahead. Several processes at a new file at once: SQLite does not wait for the lock this takes."""
    import sqlite3

    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes", True) else "BEGIN")
