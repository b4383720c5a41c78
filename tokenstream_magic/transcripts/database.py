"""An open database: SQLite (WAL, ``synchronous=FULL``, 0600 in 0700) or another of SQLAlchemy's.

It is made or migrated when first used, opened anew when its file was replaced or deleted, and set aside, never
deleted, when it is damaged. A database that cannot be written, or that a newer version wrote, is read only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from tokenstream_magic.errors import StoreError, one_line
from tokenstream_magic.transcripts import owners
from tokenstream_magic.transcripts.rows import index, recovered
from tokenstream_magic.transcripts.schema import SEARCHED, VERSION, batches, create, to_json, transcripts, version_of

log = logging.getLogger(__name__)

BUSY_SECONDS = 10
OPENINGS = 5
PASSING = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.ResourceClosedError, OSError, StoreError)
"""What may be over at the next try: a lock, a full disk, a server that is away."""

_ELSEWHERE = "Set TOKENSTREAM_DATABASE to another place."
_PRAGMAS = ("synchronous=FULL", "secure_delete=ON", "foreign_keys=ON", "trusted_schema=OFF")


class Database:
    """One database. ``generation`` counts how often it became another file under the same name."""

    def __init__(self, url: sa.URL, *, ours: bool = False) -> None:
        self.url = url
        self.ours = ours  # at the place we chose ourselves: a file there that is no database may be moved
        self.generation = 0
        self.read_only: str | None = None
        self._place: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None  # the place of its write-ahead log
        self._prepared = False
        self._lock = threading.RLock()
        self.file = Path(url.database) if url.drivername.startswith("sqlite") and url.database not in (None, "", ":memory:") else None
        self.engine = _writing(url)

    @property
    def name(self) -> str:
        """Where it is, without a password."""
        if self.url.drivername.startswith("sqlite"):
            return self.url.database or ":memory:"
        return self.url.render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of SQLite's."""
        return self.url.drivername.startswith("sqlite")

    def prepare(self) -> None:
        """Makes sure that it is there, of our version, and holds no run of a process that died. Raises StoreError."""
        with self._lock:
            self._look_again()
            if self._prepared:
                return
            if self.file is not None:
                make_private(self.file, self.ours)
                self._place = _place(self.file)
            try:
                self._open_again()
            except sa.exc.SQLAlchemyError as error:
                if is_damaged(error, self) and self.file is not None:
                    self.set_aside(error)
                elif _is_read_only(error):
                    self._only_read(f"{self.name} cannot be written: {reason(error)}.", "Its transcripts can be read.")
                else:
                    raise
            self._prepared = True

    def writing(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """A transaction that writes. Raises StoreError when it is read only."""
        self.prepare()
        if self.read_only is not None:
            raise StoreError(self.read_only)
        return self.engine.begin()

    def read(self, query: sa.Executable) -> Sequence[Any]:
        """The rows of a query. Raises StoreError."""
        try:
            self.prepare()
            with self.reading() as connection:
                return connection.execute(query).mappings().all()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise self.error(error) from None

    def fetch(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of one statement exactly as SQLite gives them, with nothing between. Raises StoreError."""
        import sqlite3

        try:
            self.prepare()
            pooled = self.engine.raw_connection()
            try:
                connection: Any = pooled.driver_connection
                rows: list[tuple[Any, ...]] = connection.execute(statement, values).fetchall()
                return rows
            finally:
                pooled.close()
        except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self.error(error) from None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that only reads; a writer does not wait for it."""
        with self.engine.connect().execution_options(writes=False) as connection:
            yield connection

    def error(self, error: Exception) -> StoreError:
        """What went wrong in words."""
        if isinstance(error, StoreError):
            return error
        return StoreError(f"Transcripts in {self.name} cannot be read: {reason(error, self.url)}.", _ELSEWHERE)

    def dispose(self) -> None:
        """Lets go of every connection."""
        self.engine.dispose()

    def set_aside(self, error: Exception) -> Path:
        """Moves a damaged file to ``NAME.corrupt-TIME`` and begins a new one with what can still be read of it."""
        from tokenstream_magic.transcripts.salvage import salvage

        assert self.file is not None
        with self._lock:
            self.engine.dispose()
            aside = _free(self.file.with_name(f"{self.file.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}"))
            for ending in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self.file}{ending}").rename(f"{aside}{ending}")
            make_private(self.file, self.ours)
            self._place = _place(self.file)
            self.generation += 1
            self._prepared = False
            self.engine = _writing(self.url)
            self._open()
            self._prepared = True
            saved = salvage(aside, self)
            log.warning(
                "%s is damaged (%s) and was moved to %s; %d transcripts could be read from it. A new database takes its place.",
                self.file,
                reason(error),
                aside,
                saved,
            )
            return aside

    # with the lock held

    def _look_again(self) -> None:
        """Notices that the file was deleted, moved or replaced while it was open: nothing is written to one without a name."""
        if not self._prepared or self.file is None or self.read_only is not None:
            return
        if _place(self.file) == self._place:
            self._log = _place(Path(f"{self.file}-wal"))
            return
        log.warning("%s was moved or replaced; transcripts go on in the file of that name.", self.file)
        self.engine.dispose()
        if _place(Path(f"{self.file}-wal")) == self._log:  # the log of the old file would be taken for the new one's
            for ending in ("-wal", "-shm"):
                Path(f"{self.file}{ending}").unlink(missing_ok=True)
        self.engine = _writing(self.url)
        self.generation += 1
        self._prepared = False

    def _open_again(self) -> None:
        """Opens it; once more where SQLite calls it read only although it is not: others were just changing its journal."""
        for _ in range(OPENINGS):
            try:
                return self._open()
            except sa.exc.OperationalError as error:
                if not self.is_passing_read_only(error):
                    raise
            self.engine.dispose()
        return self._open()

    def is_passing_read_only(self, error: Exception) -> bool:
        """Whether SQLite says "read only" of a file that can be written: a new connection will do."""
        return self.file is not None and _is_read_only(error) and os.access(self.file, os.W_OK) and os.access(self.file.parent, os.W_OK)

    def _open(self) -> None:
        with self.reading() as connection:
            version = version_of(connection)
        if version is not None and version > VERSION:
            self._only_read(
                f"{self.name} was written by a newer version of tokenstream-magic; here it is only read.",
                "Upgrade: pip install -U tokenstream-magic.",
            )
            return
        if version is None:
            with self.engine.begin() as connection:
                _alone(connection)
                if version_of(connection) is None:  # or another process made it meanwhile
                    create(connection)
        elif version < VERSION:
            from tokenstream_magic.transcripts.migrations import migrate

            migrate(self)
        self._recover()

    def _only_read(self, message: str, hint: str) -> None:
        self.read_only = f"{message} {hint}"
        if self.file is None:
            return
        self.engine.dispose()
        for how in ("mode=ro", "mode=ro&immutable=1"):  # the second where not even the files beside it can be made
            self.engine = _reading(self.file, how)
            with contextlib.suppress(sa.exc.OperationalError), self.reading() as connection:
                version_of(connection)
                return

    def _recover(self) -> None:
        """Finds runs whose process died and writes down what they had saved."""
        running = sa.select(transcripts).where(transcripts.c.outcome == "running")
        brief = sa.select(transcripts.c.id, transcripts.c.owner, transcripts.c.updated_at).where(transcripts.c.outcome == "running")
        with self.reading() as connection:
            dead = [row.id for row in connection.execute(brief) if not owners.is_alive(row.owner, row.updated_at)]
        if not dead:
            return
        with self.engine.begin() as connection:
            for id in dead:
                row = connection.execute(running.where(transcripts.c.id == id).with_for_update()).mappings().first()
                if row is None or owners.is_alive(row["owner"], row["updated_at"]):
                    continue
                of_run = batches.c.transcript_id == id
                saved = connection.execute(sa.select(batches).where(of_run).order_by(batches.c.number)).mappings().all()
                changes = recovered(dict(row), [dict(batch) for batch in saved])
                connection.execute(transcripts.update().where(transcripts.c.id == id).values(**changes))
                connection.execute(batches.delete().where(of_run))
                index(connection, [{"seq": row["seq"], **{name: changes.get(name, row[name]) for name in SEARCHED}}])


def make_private(file: Path, ours: bool = False) -> None:
    """An empty file 0600, in a directory 0700 if it had to be made, before SQLite could make it readable for others."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ours:
            file.parent.chmod(0o700)
        if file.exists():
            found = file.stat()
            if not stat.S_ISREG(found.st_mode):
                raise StoreError(f"Transcripts cannot be kept in {file}: it is no file.", _ELSEWHERE)
            if file.is_symlink() and hasattr(os, "geteuid") and found.st_uid != os.geteuid():
                raise StoreError(f"Transcripts cannot be kept in {file}: it leads to another user's file.", _ELSEWHERE)
            if stat.S_IMODE(found.st_mode) & 0o077 and os.name == "posix":
                log.warning("%s could be read by other users and is made private.", file)
                for ending in ("", "-wal", "-shm"):
                    with contextlib.suppress(OSError):
                        Path(f"{file}{ending}").chmod(0o600)
            return
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    except PermissionError as error:
        if not file.exists():
            raise _no_place(file, error) from None
    except (OSError, ValueError) as error:
        raise _no_place(file, error) from None


def is_damaged(error: Exception, database: Database) -> bool:
    """Whether an error says that the file of a database is no longer one."""
    original = getattr(error, "orig", None)
    if not database.is_sqlite or original is None:
        return False
    text = str(original)
    if "malformed" in text or "malformed" in str(getattr(original, "sqlite_errorname", "")).lower():
        return True
    if "not a database" not in text or database.file is None:
        return False
    if database.ours:
        return True
    with contextlib.suppress(OSError), database.file.open("rb") as file:  # somebody else's file is left alone
        return file.read(16) == b"SQLite format 3\0"
    return False


def reason(error: Exception, url: sa.URL | None = None) -> str:
    """An error of a driver in one line, without the password."""
    text = one_line(getattr(error, "orig", None) or error).rstrip(".")
    if url is not None and url.password and len(str(url.password)) > 3:
        text = text.replace(str(url.password), "***")
    return text


def _is_read_only(error: Exception) -> bool:
    text = reason(error)
    return "readonly database" in text or "read-only transaction" in text or "read-only file system" in text.lower()


def _no_place(file: Path, error: Exception) -> StoreError:
    return StoreError(f"Transcripts cannot be kept in {file}: {getattr(error, 'strerror', None) or one_line(error)}.", _ELSEWHERE)


def _place(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _free(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _alone(connection: sa.Connection) -> None:
    """Nobody else makes or migrates the tables meanwhile; for SQLite BEGIN IMMEDIATE sees to that."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(730731)"))


def _writing(url: sa.URL) -> sa.Engine:
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
    engine = sa.create_engine(url, connect_args=waits, json_serializer=to_json)
    sa.event.listen(engine, "connect", _pragmas)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _reading(file: Path, how: str) -> sa.Engine:
    import sqlite3

    address = f"file:{quote(str(file.absolute()))}?{how}"
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False),
        poolclass=sa.pool.NullPool,
        json_serializer=to_json,
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
