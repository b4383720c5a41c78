"""Whether transcripts are kept at all: a file beside the database says that they are not."""

from __future__ import annotations

from pathlib import Path

from tokenstream_magic.errors import StoreError
from tokenstream_magic.transcripts.database import Database


def is_on(database: Database) -> bool:
    """Whether runs are kept."""
    return not _mark(database).exists()


def turn(database: Database, *, on: bool) -> None:
    """Keeps runs from now on, in every kernel, or no longer. Raises StoreError."""
    mark = _mark(database)
    try:
        if on:
            mark.unlink(missing_ok=True)
        else:
            mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mark.touch(mode=0o600)
    except OSError as error:
        raise StoreError(f"{mark} cannot be changed: {error.strerror}.", "Use --no-log, or set TOKENSTREAM_DATABASE.") from None


def _mark(database: Database) -> Path:
    if database.file is not None:
        return database.file.with_name("transcripts-off")
    from platformdirs import user_data_path

    return user_data_path("tokenstream-magic", appauthor=False) / "transcripts-off"
