"""The store: every run is a row from the moment it starts.

SQLite in the user's data directory (WAL, ``synchronous=FULL``, file 0600 in a directory 0700), or any SQLAlchemy URL
in ``TOKENSTREAM_DATABASE``. Writing happens on a thread of its own: what streams is committed in batches every
tenth of a second, so a killed kernel loses at most 250 ms of text, and a slow disk never delays a stream. While a
server is away, a spool beside it takes its place.
"""

from __future__ import annotations

import atexit
import os
import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic, time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tokenstream_magic import catalog
from tokenstream_magic.errors import BadRequest, StoreError, TokenstreamError, one_line
from tokenstream_magic.plain import plain_text
from tokenstream_magic.record import Transcript
from tokenstream_magic.transcripts import behind, bulk, owners, switch
from tokenstream_magic.transcripts.addresses import default_url
from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.finding import Filters, columns, newest, often
from tokenstream_magic.transcripts.places import make_private
from tokenstream_magic.transcripts.prepared import Prepared
from tokenstream_magic.transcripts.readable import readable
from tokenstream_magic.transcripts.removal import remove_from, truncated
from tokenstream_magic.transcripts.rows import TEXTS, put_many, put_wire, recovered, to_row
from tokenstream_magic.transcripts.schema import VERSION, batches, transcripts, version_of, wires
from tokenstream_magic.transcripts.spool import Spool
from tokenstream_magic.transcripts.trouble import is_damaged, reason
from tokenstream_magic.transcripts.writer import Writer
from tokenstream_magic.wire.kept import Wire, unpack

RETRY_SECONDS = 30.0
AT_ONCE = 500
WIRES_SINCE = 3  # the version of the database that has them

_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{1,26}")
_LAST = re.compile(r"(?:last|latest)(?:~(\d{1,9}))?")
_LENGTH = 26
_MOST = 1 << 31  # more than a database can say it has
_BY_ID = Prepared(sa.select(transcripts).where(transcripts.c.id.between(sa.bindparam("first"), sa.bindparam("last"))).limit(2))


class Store:
    """An open database of transcripts. Reading raises StoreError; writing never disturbs a run."""

    def __init__(self, url: str | sa.URL) -> None:
        try:
            self.url = make_url(url)
            self.database = Database(self.url, ours=not os.environ.get("TOKENSTREAM_DATABASE"))
        except (sa.exc.SQLAlchemyError, ImportError, ValueError) as error:
            missing = isinstance(error, ImportError) and "postgresql" in str(url)
            hint = 'Install its driver: pip install "tokenstream-magic[postgres]".' if missing else "Check TOKENSTREAM_DATABASE."
            raise StoreError(f"The database address cannot be used: {one_line(error)}.", hint) from None
        if self.database.is_sqlite and self.database.file is None:
            raise StoreError("A database in memory keeps nothing.", "Name a file in TOKENSTREAM_DATABASE, or use --no-log.")
        self.spool = None if self.database.is_sqlite else Spool(self.url)
        if self.database.is_sqlite:
            try:
                self.database.prepare()
            except (sa.exc.SQLAlchemyError, OSError) as error:
                if not (isinstance(error, sa.exc.OperationalError) and "locked" in str(error)):
                    self.database.dispose()
                    raise self.database.error(error) from None
        # a database that is locked for long, and a server, are made ready on the writer's thread: no stream waits for them
        self._writer = Writer(self.database, self.spool)
        self._wires = _Wires(self)

    @property
    def writer(self) -> Writer:
        """The sink that keeps runs. Raises StoreError when none can be kept here, or none shall."""
        if self.database.read_only is not None:
            raise StoreError(self.database.read_only)
        if not switch.is_on(self.database):
            raise StoreError("Transcripts are switched off.", "%transcripts on keeps them again.")
        return self._writer

    @property
    def path(self) -> str:
        """Where the transcripts are, without a password."""
        return self.database.name

    @property
    def engine(self) -> sa.Engine:
        """The engine of the database as it is now."""
        return self.database.engine

    def get(self, id: str) -> Transcript:
        """The transcript with this id, unique prefix, ``last`` or ``last~N``. Raises BadRequest when there is none."""
        self._writer.flush()
        position = _LAST.fullmatch(id.strip())
        if position:
            query = sa.select(transcripts).order_by(transcripts.c.seq.desc()).limit(1).offset(int(position[1] or 0))
            rows = self._read(query)
            if not rows:
                raise BadRequest("There are not that many transcripts.", "%transcripts lists them.")
            return self._from_row(self._so_far(rows[0]))
        prefix = id.strip().upper()
        if not _ULID.fullmatch(prefix):
            raise BadRequest(f"{id!r} is no transcript id.", "%transcripts lists them; last is the newest.")
        rows = self._ask(_BY_ID, first=prefix, last=prefix.ljust(_LENGTH, "Z"))
        if len(rows) == 1:
            return self._from_row(self._so_far(rows[0]))
        problem = f"{id!r} is the start of several transcript ids" if rows else f"There is no transcript {id!r}"
        raise BadRequest(f"{problem}.", "%transcripts lists them.")

    def recent(self, limit: int = 20, *, brief: bool = False, **filters: Any) -> Sequence[Transcript]:
        """The newest transcripts first; ``filters`` are those of :class:`~tokenstream_magic.transcripts.finding.Filters`.

        ``brief`` is for a list: texts are cut, messages, options and the timeline left out.
        """
        return [self._from_row(row) for row in self.rows(limit, Filters(**filters), brief=brief)]

    def rows(self, limit: int, filters: Filters, *, brief: bool = False) -> Sequence[Mapping[str, Any]]:
        """The rows of :meth:`recent`."""
        self._writer.flush()
        limit = min(max(0, limit), _MOST)
        written: dict[str, Any] = {name: plain_text(value) for name, value in vars(filters).items() if isinstance(value, str)}
        filters = replace(filters, **written)
        prepared = often(filters, brief=brief)
        if prepared is not None:
            asked = {name: value for name, value in vars(filters).items() if value}
            found = self._ask(prepared, limit=limit, **asked)
        else:
            found = self._where_it_answers(lambda database: _newest(database, limit, filters, brief=brief))
        if not found and filters.model and (kept := _as_kept(filters.model)) != filters.model:
            return self.rows(limit, replace(filters, model=None, whole_model=kept), brief=brief)
        return found

    def each(self) -> Iterator[Transcript]:
        """Every transcript, oldest first, a few in memory at a time. Raises StoreError, also while a server is away: a spool has not all."""
        self._writer.flush()
        some = sa.select(transcripts).order_by(transcripts.c.seq).limit(AT_ONCE)
        rows = self.database.read(some)  # from a damaged row on that has no place
        while rows:
            yield from map(self._from_row, rows)
            rows = self.database.read(some.where(transcripts.c.seq > rows[-1]["seq"]))

    def add_many(self, found: Iterable[Transcript]) -> int:
        """Keeps transcripts that have ended; those whose ids are there already are left out. How many were new.

        Nothing is written before all of them were seen. Very many are written in several transactions: one that is interrupted
        can be repeated, each id is kept once.
        """
        if isinstance(found, Sequence):  # which can be asked for again
            with self._writer.others_wait():
                return self.database.asked(lambda: bulk.add(self.database, found), writing=True)
        generation = self.database.generation
        try:
            with self._writer.others_wait():
                return bulk.add(self.database, found)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            if self.database.read_only is not None or not is_damaged(error, self.database):
                raise self.database.error(error, writing=True) from None
            self.database.mend(error, generation)
            raise StoreError(
                f"Transcripts in {self.database.name} were damaged and are in {self.database.aside} now; not all were brought in.",
                "Bring them in once more: each is kept once.",
            ) from None

    def catch_up(self) -> Sequence[tuple[int, int]]:
        """Makes all that is kept searched and counted. The places where that cannot be done: in a database that is only read, say."""
        self._writer.flush()
        return behind.left(self.database) if self.database.is_sqlite else ()

    def retag(self, tags: Mapping[str, Sequence[str]]) -> None:
        """Gives transcripts that have ended other tags, by their ids, in one transaction. Raises StoreError."""
        self._writer.flush()
        redactor = catalog.redactor()

        def write() -> None:
            with self.database.writing() as connection:
                for id, new in tags.items():
                    connection.execute(transcripts.update().where(transcripts.c.id == id).values(tags=redactor.data(list(new))))

        self.database.asked(write, writing=True)

    def wire(self, id: str) -> Wire | None:
        """The wire of a transcript, which nothing else loads; None when it was not kept. Raises StoreError when it is damaged."""
        packed = self._packed(self.get(id).id if len(id) != _LENGTH else id)
        try:
            return unpack(packed) if packed is not None else None
        except ValueError as error:
            raise StoreError(f"The wire of {id} cannot be read: {one_line(error)}.", "The transcript itself is whole.") from None

    def query(self, query: sa.Executable) -> Sequence[Any]:
        """The rows of a query of our own, after everything so far is written."""
        self._writer.flush()
        return self._read(query)

    def models(self, limit: int = 200) -> list[str]:
        """The models there are transcripts of, by name: each step asks the index for the next, however many transcripts there are."""
        self._writer.flush()
        name = transcripts.c.model
        found: list[str] = []
        while len(found) < limit:
            query = sa.select(sa.func.min(name).label("next"))
            following = self._read(query.where(name > found[-1]) if found else query)[0]["next"]
            if following is None:
                break
            found.append(following)
        return found

    def count(self) -> int:
        """How many transcripts there are."""
        self._writer.flush()
        return int(self._read(sa.select(sa.func.count().label("n")).select_from(transcripts))[0]["n"])

    def delete(self, id: str) -> Transcript:
        """Removes a transcript for good: nothing of it stays in the database's files. Returns what was removed."""
        gone = self.get(id)
        if gone.outcome == "running":
            row = self._read(sa.select(transcripts.c.owner, transcripts.c.updated_at).where(transcripts.c.id == gone.id))[0]
            if owners.is_alive(row["owner"], row["updated_at"]):
                raise BadRequest(f"{gone.id} is still streaming.", f"Stop it first: %stream stop {gone.id}.")
        spool = self.spool.database if self.spool is not None and self.spool.has_any else None
        remove_from([database for database in (self.database, spool) if database is not None], gone.id)
        return gone

    def backup(self, file: str | Path) -> Path:
        """A whole copy in a new SQLite file, 0600. Raises BadRequest when there is something of that name."""
        target = Path(file).expanduser()
        if target.exists() or target.is_symlink():
            raise BadRequest(f"{target} is there already.", "Name another file.")
        if not target.parent.is_dir():
            raise BadRequest(f"There is no directory {target.parent}.")
        self._writer.flush()
        growing = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            if self.database.file is not None:
                from tokenstream_magic.transcripts.copying import copy_file

                copy_file(self.database.file, growing)
            else:
                self._copy_rows(growing)
            os.link(growing, target)  # atomic, and never over a file that came there meanwhile
        except FileExistsError:
            raise BadRequest(f"{target} is there already.", "Name another file.") from None
        except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError, ValueError) as error:
            raise StoreError(f"The backup could not be written: {reason(error)}.", "Name a file in a directory of yours.") from None
        finally:
            for ending in ("", "-wal", "-shm"):
                Path(f"{growing}{ending}").unlink(missing_ok=True)
        return target

    def status(self) -> dict[str, Any]:
        """Where, how large, how many, which version, whether new runs are kept and what is not written yet."""
        self._writer.flush()
        away: str | None = None
        size, count, version = None, self.count(), VERSION
        try:
            size, version = _size(self.database), _version(self.database)
        except StoreError as error:
            if self.spool is None or not self.spool.has_any:
                raise
            away = f"{error.message} What is new is in {self.spool.database.name} until it is back."
        return {
            "path": self.path,
            "size": size,
            "transcripts": count,
            "version": version,
            "on": switch.is_on(self.database),
            "read_only": self.database.read_only,
            "away": away,
            "unsaved": self._writer.unsaved,
            "problem": self._writer.problem,
        }

    def turn(self, *, on: bool) -> None:
        """Keeps runs from now on, or no longer."""
        switch.turn(self.database, on=on)

    def close(self) -> None:
        """Writes what is left and lets go of the database."""
        self._writer.close()
        self.database.dispose()
        if self.spool is not None:
            self.spool.database.dispose()

    def _from_row(self, row: Mapping[str, Any]) -> Transcript:
        transcript = readable(row)
        transcript.wire_source = self._wires
        return transcript

    def _so_far(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row, of a run that is streaming with what of it is saved."""
        if row["outcome"] != "running":
            return row
        parts = sa.select(batches).where(batches.c.transcript_id == row["id"], batches.c.number >= 0).order_by(batches.c.number)
        try:
            found = recovered(row, list(self._read(parts)))
        except (StoreError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError):  # nothing yet, or damaged
            return row
        return {**row, **{name: found[name] for name in (*TEXTS, "choices", "timeline", "moments", "chunks")}}

    def _packed(self, id: str) -> bytes | None:
        self._writer.flush()
        packed = sa.select(wires.c.packed).where(wires.c.transcript_id == id)
        known = sa.select(transcripts.c.id).where(transcripts.c.id == id)

        def read(database: Database) -> list[Sequence[Any]]:
            found = database.read(packed)
            return [found] if found or database is self.database or database.read(known) else []

        try:
            (rows,) = self._where_it_answers(read)
        except StoreError:
            if self.database.read_only is None or _version(self.database) >= WIRES_SINCE:
                raise
            return None  # of an older database that can only be read
        return bytes(rows[0]["packed"]) if rows else None

    def _read(self, query: sa.Executable) -> Sequence[Any]:
        """Rows; of the spool while the server is away."""
        return self._where_it_answers(lambda database: database.read(query))

    def _ask(self, prepared: Prepared, **values: Any) -> Sequence[Any]:
        """The rows of a prepared query; of the spool while the server is away."""
        return self._where_it_answers(lambda database: prepared.rows(database, **values))

    def _where_it_answers(self, ask: Callable[[Database], Sequence[Any]]) -> Sequence[Any]:
        """What the database says, or the spool while that is away; what is not in the spool may be where it cannot be asked for."""
        try:
            return ask(self.database)
        except StoreError:
            if self.spool is None or not self.spool.has_any:
                raise
            found = ask(self.spool.database)
            if not found:
                raise
            return found

    def _copy_rows(self, growing: Path) -> None:
        make_private(growing)
        copy = Database(sa.URL.create("sqlite", database=str(growing)))
        copy.prepare()
        part: list[dict[str, Any]] = []
        with copy.writing() as connection:
            for transcript in self.each():
                packed = self._packed(transcript.id)
                if packed is not None:
                    put_wire(connection, transcript.id, packed)
                part.append(to_row(transcript))
                if len(part) == AT_ONCE:
                    put_many(connection, part, time())
                    part = []
            if part:
                put_many(connection, part, time())
        truncated(copy)
        copy.dispose()


class _Wires:
    """Where a transcript finds its wire: its store, as long as that is there. Of a copy in another process it is that process's store."""

    def __init__(self, store: Store) -> None:
        self._store = weakref.ref(store)

    def __call__(self, id: str) -> Wire | None:
        return (self._store() or current()).wire(id)

    def __deepcopy__(self, _: object) -> _Wires:
        return self

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return _wires_here, ()


def _wires_here() -> Callable[[str], Wire | None]:
    return _wire_here


def _wire_here(id: str) -> Wire | None:
    return current().wire(id)


def _newest(database: Database, limit: int, filters: Filters, *, brief: bool) -> list[Mapping[str, Any]]:
    """The rows of :meth:`Store.rows` in one database."""
    chosen = columns(brief=brief)
    asked_for = newest(filters, limit, database.engine.dialect.name, chosen=chosen)
    unseen = behind.left(database) if filters.query and database.is_sqlite else ()
    for first, last in unseen:  # what the index cannot be told of is read through
        asked_for += [query.where(transcripts.c.seq.between(first, last)) for query in newest(filters, limit, "", chosen=chosen)]
    found: dict[int, Mapping[str, Any]] = {}
    for query in asked_for:
        found.update((row["seq"], row) for row in database.read(query))
    return sorted(found.values(), key=_place, reverse=True)[: max(0, limit)]


def _place(row: Mapping[str, Any]) -> int:
    """In the order of arrival; a damaged row may have none."""
    return row["seq"] if isinstance(row["seq"], int) else 0


def _as_kept(model: str) -> str:
    """The name runs of a model are kept by, for what a cell calls it: an alias, or an endpoint with its default model."""
    try:
        endpoint, name = catalog.resolve(model)
    except TokenstreamError:
        return model
    return endpoint.name_of(name)


def _size(database: Database) -> int | None:
    """In bytes, with the write-ahead log; None where that is not known. Raises StoreError."""
    if database.file is not None:
        files = [Path(f"{database.file}{ending}") for ending in ("", "-wal")]
        return sum(file.stat().st_size for file in files if file.exists())
    if database.engine.dialect.name != "postgresql":
        return None
    return int(database.read(sa.text("SELECT pg_database_size(current_database()) AS n"))[0]["n"])


def _version(database: Database) -> int:
    """Of the tables, as they are. Raises StoreError."""

    def read() -> int:
        with database.reading() as connection:
            return version_of(connection) or VERSION

    return database.asked(read)


_lock = threading.Lock()
_open: dict[str | sa.URL, Store] = {}
_failed: dict[str | sa.URL, tuple[StoreError, float]] = {}
_owner = 0


def current() -> Store:
    """The store of this process, opened on first use; another one when ``TOKENSTREAM_DATABASE`` changed."""
    global _owner
    with _lock:
        if _owner != os.getpid():  # a forked child must not share connections or the writer with its parent
            _open.clear()
            _owner = os.getpid()
        url = default_url()
        failed, when = _failed.get(url, (None, 0.0))
        if failed is not None and monotonic() - when < RETRY_SECONDS:
            raise failed
        if url not in _open:
            try:
                _open[url] = Store(url)
            except StoreError as error:  # not tried again with every cell: it may take a while to fail
                _failed[url] = (error, monotonic())
                raise
        return _open[url]


@atexit.register
def _close_all() -> None:
    if _owner == os.getpid():
        for store in _open.values():
            store.close()
