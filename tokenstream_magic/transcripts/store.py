"""The store: every run is a row from the moment it starts.

SQLite in the user's data directory (WAL, ``synchronous=FULL``, file 0600 in a directory 0700), or any SQLAlchemy URL
in ``TOKENSTREAM_DATABASE``. Writing happens on a thread of its own: what streams is committed in batches every
tenth of a second, so a killed kernel loses at most 250 ms of text, and a slow disk never delays a stream.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tokenstream_magic.errors import BadRequest, StoreError, one_line
from tokenstream_magic.record import Transcript
from tokenstream_magic.transcripts import owners
from tokenstream_magic.transcripts.schema import VERSION, batches, from_row, metadata, recovered, schema_version, transcripts
from tokenstream_magic.transcripts.writer import Writer

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0

_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{1,26}")
_LAST = re.compile(r"last(?:~(\d{1,9}))?")


def default_url() -> str:
    """``TOKENSTREAM_DATABASE``, or SQLite in the user's data directory."""
    named = os.environ.get("TOKENSTREAM_DATABASE")
    if named:
        return named if "://" in named else f"sqlite:///{named}"
    from platformdirs import user_data_path

    return f"sqlite:///{user_data_path('tokenstream-magic', appauthor=False) / 'transcripts.db'}"


class Store:
    """An open database of transcripts. Reading raises StoreError; writing never disturbs a run."""

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
            self._engine = _engine(self.url)
        except (sa.exc.SQLAlchemyError, ImportError, ValueError) as error:
            raise StoreError(f"The database address cannot be used: {one_line(error)}.", "Check TOKENSTREAM_DATABASE.") from None
        try:
            self._prepare()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            self._engine.dispose()
            raise _store_error(self.url, error) from None
        self.writer = Writer(self._engine)

    @property
    def path(self) -> str:
        """Where the transcripts are, without a password."""
        return self.url.database or "" if self.url.drivername.startswith("sqlite") else self.url.render_as_string(hide_password=True)

    def get(self, id: str) -> Transcript:
        """The transcript with this id, unique prefix, ``last`` or ``last~N``. Raises BadRequest when there is none."""
        self.writer.flush()
        position = _LAST.fullmatch(id.strip())
        if position:
            query = sa.select(transcripts).order_by(transcripts.c.id.desc()).limit(1).offset(int(position[1] or 0))
            rows = self._read(query)
            if not rows:
                raise BadRequest("There are not that many transcripts.", "%transcripts lists them.")
            return from_row(rows[0])
        prefix = id.strip().upper()
        if not _ULID.fullmatch(prefix):
            raise BadRequest(f"{id!r} is no transcript id.", "%transcripts lists them; last is the newest.")
        query = sa.select(transcripts).where(transcripts.c.id.startswith(prefix, autoescape=True)).limit(2)
        rows = self._read(query)
        if len(rows) == 1:
            return from_row(rows[0])
        problem = f"{id!r} is the start of several transcript ids" if rows else f"There is no transcript {id!r}"
        raise BadRequest(f"{problem}.", "%transcripts lists them.")

    def recent(
        self, limit: int = 20, *, model: str | None = None, status: str | None = None, query: str | None = None, tag: str | None = None
    ) -> Sequence[Transcript]:
        """The newest transcripts first. ``query`` is looked for in prompts and answers, whatever its case."""
        self.writer.flush()
        select = sa.select(transcripts).order_by(transcripts.c.id.desc()).limit(max(0, limit))
        if model:
            wanted = transcripts.c.model == model
            select = select.where(wanted | transcripts.c.model.startswith(model + "/", autoescape=True))
        if status:
            select = select.where(transcripts.c.outcome == status)
        if query:
            found = [c.icontains(query, autoescape=True) for c in (transcripts.c.text, transcripts.c.prompt, transcripts.c.reasoning)]
            select = select.where(sa.or_(*found))
        if tag:
            select = select.where(sa.cast(transcripts.c.tags, sa.Text).contains(f'"{tag}"', autoescape=True))
        return [from_row(row) for row in self._read(select)]

    def count(self) -> int:
        """How many transcripts there are."""
        self.writer.flush()
        return int(self._read(sa.select(sa.func.count().label("n")).select_from(transcripts))[0]["n"])

    def close(self) -> None:
        """Writes what is left and lets go of the database."""
        self.writer.close()
        self._engine.dispose()

    def _read(self, query: sa.Select[Any]) -> Sequence[Any]:
        try:
            with self._engine.connect().execution_options(writes=False) as connection:
                return connection.execute(query).mappings().all()
        except sa.exc.SQLAlchemyError as error:
            raise _store_error(self.url, error) from None

    def _prepare(self) -> None:
        with self._engine.begin() as connection:
            metadata.create_all(connection)
            version = connection.execute(sa.select(schema_version.c.version)).scalar()
            if version is None:
                connection.execute(schema_version.insert().values(version=VERSION))
            elif version > VERSION:
                raise StoreError(
                    f"{self.path} was written by a newer version of tokenstream-magic.",
                    "Upgrade: pip install -U tokenstream-magic.",
                )
            self._recover(connection)

    def _recover(self, connection: sa.Connection) -> None:
        """Finds runs whose process died and writes down what they had saved."""
        running = sa.select(transcripts).where(transcripts.c.outcome == "running").with_for_update()
        for row in connection.execute(running).mappings().all():
            if owners.is_alive(row["owner"], row["updated_at"]):
                continue
            of_run = batches.c.transcript_id == row["id"]
            saved = connection.execute(sa.select(batches).where(of_run).order_by(batches.c.number)).mappings().all()
            changes = recovered(dict(row), [dict(batch) for batch in saved])
            connection.execute(transcripts.update().where(transcripts.c.id == row["id"]).values(**changes))
            connection.execute(batches.delete().where(of_run))


_lock = threading.Lock()
_open: dict[str, Store] = {}
_failed: dict[str, tuple[StoreError, float]] = {}
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


def _engine(url: sa.URL) -> sa.Engine:
    if not url.drivername.startswith("sqlite"):
        return sa.create_engine(
            url, pool_pre_ping=True, connect_args={"connect_timeout": 5} if url.drivername.startswith("postgresql") else {}
        )
    if url.database and url.database != ":memory:":
        _make_private(Path(url.database))
    # the driver's own transactions off: ours begin where SQLAlchemy says, so that BEGIN IMMEDIATE is possible
    engine = sa.create_engine(url, connect_args={"timeout": 10, "isolation_level": None})
    sa.event.listen(engine, "connect", _pragmas)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON", "trusted_schema=OFF"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes", True) else "BEGIN")


def _make_private(path: Path) -> None:
    """An empty file 0600 in a directory 0700, made before SQLite could make it readable for others."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(f"Transcripts cannot be kept in {path}: {error.strerror}.", "Set TOKENSTREAM_DATABASE to another place.") from None


def _store_error(url: sa.URL, error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    reason = one_line(getattr(error, "orig", None) or error)
    place = url.database or url.render_as_string(hide_password=True)
    return StoreError(f"Transcripts in {place} cannot be read: {reason}.", "Set TOKENSTREAM_DATABASE to another place.")
