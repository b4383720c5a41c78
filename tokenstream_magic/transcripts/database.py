"""An open database: SQLite (WAL, ``synchronous=FULL``, 0600 in 0700) or another of SQLAlchemy's.

It is made or migrated when first used, opened anew when its file was replaced or deleted, and set aside, never
deleted, when it is damaged. A database that cannot be written, or that a newer version wrote, is read only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from tokenstream_magic.errors import StoreError
from tokenstream_magic.transcripts import owners
from tokenstream_magic.transcripts.behind import enter
from tokenstream_magic.transcripts.engines import BUSY_SECONDS, reading_engine, writing_engine
from tokenstream_magic.transcripts.places import ELSEWHERE, check_locks, free, identity, make_private
from tokenstream_magic.transcripts.readable import lenient
from tokenstream_magic.transcripts.rows import put_wire
from tokenstream_magic.transcripts.schema import VERSION, WORDS, batches, create, transcripts, version_of
from tokenstream_magic.transcripts.trouble import UNREADABLE, has_no_shared_memory, in_its_words, is_damaged, is_read_only, reason
from tokenstream_magic.transcripts.unfinished import finished

log = logging.getLogger(__name__)

OPENINGS = 5
PAGES_KIB = 64 * 1024  # of a file held in memory while very much is written, in many places of it
_USUAL_KIB = 2000
LOG_PAGES = 250  # of the write-ahead log while something streams: then it begins anew
_LOG_BYTES = LOG_PAGES * (4096 + 24)
_TABLES = {"transcripts", "batches", "wires", WORDS, "behind", "counted", "measured"}
_Result = TypeVar("_Result")


class Database:
    """One database. ``generation`` counts how often it became another file under the same name."""

    def __init__(self, url: sa.URL, *, ours: bool = False) -> None:
        self.url = url
        self.ours = ours  # at the place we chose ourselves: a file there that is no database may be moved
        self.generation = 0
        self.aside: Path | None = None  # where the file was moved when it was damaged
        self.read_only: str | None = None
        self._place: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None  # the place of its write-ahead log
        self._prepared = False
        self._lock = threading.RLock()
        self._direct: Any = None
        self._direct_is_old = False  # of a file that was replaced meanwhile: who is in it closes it
        self._direct_lock = threading.Lock()  # taken last
        self.file = Path(url.database) if url.drivername.startswith("sqlite") and url.database not in (None, "", ":memory:") else None
        self._has_log = True
        self.engine = writing_engine(url)

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
                check_locks(self.file)
                self._place = identity(self.file)
            try:
                self._open_again()
            except (sa.exc.SQLAlchemyError, UnicodeDecodeError) as error:
                if is_damaged(error, self) and self.file is not None:
                    self.set_aside(error)
                elif is_read_only(error):
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

    @contextlib.contextmanager
    def roomy(self) -> Iterator[sa.Connection]:
        """A connection for many transactions that write, which holds more of the database in memory until then. Raises StoreError."""
        self.prepare()
        if self.read_only is not None:
            raise StoreError(self.read_only)
        with self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection if self.is_sqlite else None
            if driver is not None:  # asked without SQLAlchemy, which would begin a transaction
                driver.execute(f"PRAGMA cache_size=-{PAGES_KIB}")
            try:
                yield connection
            finally:
                if driver is not None and not connection.invalidated:
                    driver.execute(f"PRAGMA cache_size=-{_USUAL_KIB}")
                    driver.execute("PRAGMA shrink_memory")

    @contextlib.contextmanager
    def directly(self) -> Iterator[Any]:
        """A transaction that writes to SQLite, with nothing between: its own connection, kept until :meth:`let_go`.

        Raises what :meth:`writing` raises.
        """
        self.prepare()
        if self.read_only is not None:
            raise StoreError(self.read_only)
        with self._direct_lock, in_its_words():
            try:
                if self._direct is None or self._direct_is_old:
                    self._close_direct()
                    pooled = self.engine.raw_connection()
                    self._direct = pooled.driver_connection
                    pooled.detach()
                    self._make_room()
                connection: Any = self._direct
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except Exception:
                self._close_direct()
                raise
            finally:
                if self._direct_is_old:
                    self._close_direct()

    def _make_room(self) -> None:
        """Makes the log as long as it will get: a commit that makes a file longer waits for the file system's own journal as well.

        A row that is too large for the memory it is given is put into the log, and is taken back.
        """
        import sqlite3

        connection: Any = self._direct
        if not self._has_log or self.file is None:
            return
        with contextlib.suppress(sqlite3.Error):  # a full disk: the log gets longer as it is needed
            connection.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
            log = Path(f"{self.file}-wal")
            if log.exists() and log.stat().st_size >= _LOG_BYTES:
                return
            connection.execute("PRAGMA cache_size=10")
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO wires VALUES ('', zeroblob(?))", (_LOG_BYTES * 3 // 2,))  # not all of it leaves the memory
            finally:
                connection.rollback()
                connection.execute(f"PRAGMA cache_size=-{_USUAL_KIB}")

    def read(self, query: sa.Executable) -> Sequence[Any]:
        """The rows of a query. Raises StoreError."""

        def read() -> Sequence[Any]:
            with self.reading() as connection:
                return connection.execute(query).mappings().all()

        return self.asked(read)

    def fetch(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of one statement exactly as SQLite gives them, with nothing between. Raises StoreError."""

        def read() -> list[tuple[Any, ...]]:
            pooled = self.engine.raw_connection()
            try:
                connection: Any = pooled.driver_connection
                rows: list[tuple[Any, ...]] = connection.execute(statement, values).fetchall()
                return rows
            finally:
                pooled.close()

        return self.asked(read)

    def asked(self, work: Callable[[], _Result], *, writing: bool = False) -> _Result:
        """What is read or written; once more where a text is damaged, which is then read as far as it goes, and where the file is.

        A damaged file is set aside first. Raises StoreError.
        """

        def once() -> _Result:
            with in_its_words():
                return work() if writing else self._read_leniently(work)

        try:
            with self._lock:  # not between a file that is set aside and the tables of the next
                self.prepare()
                generation = self.generation
            try:
                return once()
            except sa.exc.DatabaseError as error:
                if self.read_only is None and is_damaged(error, self, reading=not writing):
                    self.mend(error, generation)
                with self._lock:
                    is_another = self.generation != generation
                if not is_another:
                    raise
                return once()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise self.error(error, writing=writing) from None

    def _read_leniently(self, read: Callable[[], _Result]) -> _Result:
        try:
            return read()
        except Exception as error:
            if UNREADABLE not in str(error):
                raise
            sa.event.listen(self.engine, "connect", lambda connection, _: setattr(connection, "text_factory", lenient))
            self.engine.dispose()
            return read()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that only reads; a writer does not wait for it."""
        with self.engine.connect().execution_options(writes=False) as connection:
            yield connection

    def error(self, error: Exception, *, writing: bool = False) -> StoreError:
        """What went wrong in words, in reading or ``writing``."""
        if isinstance(error, StoreError):
            return error
        return StoreError(f"Transcripts in {self.name} cannot be {'written' if writing else 'read'}: {reason(error, self.url)}.", ELSEWHERE)

    def dispose(self) -> None:
        """Lets go of every connection."""
        self.let_go()
        self.engine.dispose()

    def let_go(self) -> None:
        """Closes the connection of :meth:`directly`, if there is one."""
        with self._direct_lock:
            self._close_direct()

    def _close_direct(self) -> None:
        connection, self._direct, self._direct_is_old = self._direct, None, False
        if connection is not None:
            connection.close()

    def mend(self, error: Exception, generation: int) -> None:
        """Sets a file aside in which damage was met while it was of this generation; another thread may have done so meanwhile."""
        with self._lock:
            if self.generation == generation:
                self.set_aside(error)

    def set_aside(self, error: Exception) -> Path:
        """Moves a damaged file to ``NAME.corrupt-TIME`` and begins a new one with what can still be read of it."""
        from tokenstream_magic.transcripts.salvage import salvage

        assert self.file is not None
        with self._lock:
            self.dispose()
            aside = free(self.file.with_name(f"{self.file.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}"))
            for ending in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self.file}{ending}").rename(f"{aside}{ending}")
            self.aside = aside
            make_private(self.file, self.ours)
            self._place = identity(self.file)
            self.generation += 1
            self._prepared = False
            self.engine = writing_engine(self.url, log=self._has_log)
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
        if identity(self.file) == self._place:
            self._log = identity(f"{self.file}-wal")
            return
        log.warning("%s was moved or replaced; transcripts go on in the file of that name.", self.file)
        self._direct_is_old = True
        if self._direct_lock.acquire(blocking=False):  # nobody waits here for who waits for a lock of the old file
            try:
                self._close_direct()
            finally:
                self._direct_lock.release()
        self.engine.dispose()
        if identity(f"{self.file}-wal") == self._log:  # the log of the old file would be taken for the new one's
            for ending in ("-wal", "-shm"):
                Path(f"{self.file}{ending}").unlink(missing_ok=True)
        self.engine = writing_engine(self.url, log=self._has_log)
        self.generation += 1
        self._prepared = False

    def _open_again(self) -> None:
        """Opens it; once more where SQLite calls it read only although it is not: others were just changing its journal."""
        for _ in range(OPENINGS):
            try:
                return self._open()
            except sa.exc.OperationalError as error:
                if self.file is not None and self._has_log and has_no_shared_memory(error):
                    self._give_up_log()
                elif not self.is_passing_read_only(error):
                    raise
            self.engine.dispose()
        return self._open()

    def _give_up_log(self) -> None:
        """Goes on with a rollback journal, where SQLite cannot share the memory that a write-ahead log needs: some network mounts."""
        import sqlite3

        log.warning(
            "%s is on a file system without shared memory: it gets a journal instead of a write-ahead log, and who writes waits for"
            " who reads. TOKENSTREAM_DATABASE names another place.",
            self.name,
        )
        self._has_log = False
        self.dispose()
        with contextlib.closing(sqlite3.connect(str(self.file), timeout=BUSY_SECONDS, isolation_level=None)) as alone:
            alone.execute("PRAGMA locking_mode=EXCLUSIVE")  # a log needs no shared memory as long as nobody shares it
            alone.execute("PRAGMA journal_mode=DELETE")
        self.engine = writing_engine(self.url, log=False)

    def is_passing_read_only(self, error: Exception) -> bool:
        """Whether SQLite says "read only" of a file that can be written: a new connection will do."""
        return self.file is not None and is_read_only(error) and os.access(self.file, os.W_OK) and os.access(self.file.parent, os.W_OK)

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
        else:
            self._check_tables()
        self._recover()

    def _check_tables(self) -> None:
        """Raises what is taken for damage when a table of ours is not there, although the version is ours."""
        import sqlite3

        if self.is_sqlite:
            with self.reading() as connection:
                there = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
            for name in sorted(_TABLES - there):
                raise sa.exc.DatabaseError("", None, sqlite3.DatabaseError(f"malformed: the table {name} is missing"))

    def _only_read(self, message: str, hint: str) -> None:
        self.read_only = f"{message} {hint}"
        if self.file is None:
            return
        self.dispose()
        for how in ("mode=ro", "mode=ro&immutable=1"):  # the second where not even the files beside it can be made
            self.engine = reading_engine(self.file, how)
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
                changes, wire = finished(dict(row), [dict(batch) for batch in saved])
                connection.execute(transcripts.update().where(transcripts.c.id == id).values(**changes))
                connection.execute(batches.delete().where(of_run))
                if wire is not None:
                    put_wire(connection, id, wire)
                enter(connection, row["seq"])


def _alone(connection: sa.Connection) -> None:
    """Nobody else makes or migrates the tables meanwhile; for SQLite BEGIN IMMEDIATE sees to that."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(730731)"))
