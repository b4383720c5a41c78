"""From older versions of the database to the present one, with alembic. Imported only when there is something to do.

All steps of one migration are one transaction, in SQLite as in PostgreSQL: a process killed at any statement leaves
the database as it was. A SQLite file is copied before anything but its number changes.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from tokenstream_magic.transcripts.copying import copy_file
from tokenstream_magic.transcripts.schema import REVISION, VERSION, version_of

if TYPE_CHECKING:
    from tokenstream_magic.transcripts.database import Database

_LAST_OF_FILES = 4  # the last version that changed anything but its number in a file of SQLite: what is not changed is not copied
log = logging.getLogger(__name__)


def migrate(database: Database) -> None:
    """Brings a database to the present version. The copy is made under the lock, by a reader: it is of the old version."""
    with database.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(730731)"))
        version = version_of(connection)  # another process may have been faster
        if version is None or version >= VERSION:
            return
        if database.file is not None and version < _LAST_OF_FILES:
            copy = back_up(database.file, database.file.with_name(f"{database.file.name}.before-v{VERSION}"))
            log.info("transcripts are brought from version %s to %d; the database as it was is %s", version, VERSION, copy)
        _upgrade(connection, version)


def scripts() -> ScriptDirectory:
    """Our migration scripts."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def back_up(file: Path, copy: Path) -> Path:
    """A whole copy of a SQLite file, private, under its name only once it is whole. One that is there is kept."""
    if copy.exists():
        return copy
    growing = copy.with_name(copy.name + ".tmp")
    growing.unlink(missing_ok=True)
    copy_file(file, growing)
    growing.replace(copy)
    return copy


def _upgrade(connection: sa.Connection, version: int) -> None:
    directory = scripts()

    def steps(_current: Any, _context: Any) -> Any:
        return directory._upgrade_revs(REVISION, f"{version:04d}")  # noqa: SLF001 - alembic's own command does the same

    environment = EnvironmentContext(Config(), directory, fn=steps)
    environment.configure(connection=connection, transactional_ddl=True, transaction_per_migration=False)
    context = environment.get_context()
    if context.get_current_revision() is None:
        context.stamp(directory, f"{version:04d}")
    with environment:
        environment.run_migrations()
