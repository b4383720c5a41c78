"""What drivers raise: whether it passes, whether it is damage, and what it is in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tokenstream_magic.errors import StoreError, one_line

if TYPE_CHECKING:
    from tokenstream_magic.transcripts.database import Database

PASSING = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.ResourceClosedError, OSError, StoreError)
"""What may be over at the next try: a lock, a full disk, a server that is away."""

UNREADABLE = "Could not decode to UTF-8"
_DAMAGE = (  # what SQLite says of a file of ours that something wrote into: also of its index of words
    "malformed",
    "vtable constructor failed",
    "invalid fts5 file format",
    "fts5: corruption",
    UNREADABLE,
)
_DAMAGE_TO_WRITERS = (  # the same of what only we ask: not of a search, in which a reader may name a column
    "already exists",
    "no such column",
    "has no column named",
    "UNIQUE constraint failed: counted",
    "UNIQUE constraint failed: measured",
    "UNIQUE constraint failed: behind",
    "UNIQUE constraint failed: transcripts.seq",
)
_NO_DATABASE = ("not a database", "unsupported file format")
_SCHEMA_WITHIN = 1024 * 1024  # bytes of a file of ours that name its tables


@contextlib.contextmanager
def in_its_words() -> Iterator[None]:
    """What the driver raises as SQLAlchemy would raise it."""
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        kind = sa.exc.OperationalError if isinstance(error, sqlite3.OperationalError) else sa.exc.DatabaseError
        raise kind(None, None, error) from error


def is_damaged(error: Exception, database: Database, *, reading: bool = False) -> bool:
    """Whether an error, of a writer or of ``reading``, says that the file of a database is no longer one."""
    original = getattr(error, "orig", None)
    if isinstance(error, UnicodeDecodeError):
        return database.is_sqlite
    if not database.is_sqlite or original is None:
        return False
    text = str(original)
    if any(words in text for words in (_DAMAGE if reading else _DAMAGE + _DAMAGE_TO_WRITERS)):
        return True
    if not any(words in text for words in _NO_DATABASE) or database.file is None:
        return False
    if database.ours:
        return True
    with contextlib.suppress(OSError), database.file.open("rb") as file:  # somebody else's file is left alone
        start = file.read(_SCHEMA_WITHIN)
        return start.startswith(b"SQLite format 3\0") or b"transcripts_by_seq" in start
    return False


def reason(error: Exception, url: sa.URL | None = None) -> str:
    """An error of a driver in one line, without the password."""
    text = one_line(getattr(error, "orig", None) or error).rstrip(".")
    if url is not None and url.password and len(str(url.password)) > 3:
        text = text.replace(str(url.password), "***")
    return text


def is_read_only(error: Exception) -> bool:
    """Whether it says that nothing can be written."""
    text = reason(error)
    return "readonly database" in text or "read-only transaction" in text or "read-only file system" in text.lower()


def has_no_shared_memory(error: sa.exc.OperationalError) -> bool:
    """Whether it says that SQLite cannot share the memory that a write-ahead log needs."""
    name = getattr(error.orig, "sqlite_errorname", "SQLITE_IOERR_SHM")  # named since Python 3.11
    return "disk I/O error" in str(error.orig) and str(name).startswith("SQLITE_IOERR_SHM")
