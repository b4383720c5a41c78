"""Where the transcripts of this process are."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tokenstream_magic.errors import StoreError, one_line
from tokenstream_magic.plain import plain_text


def default_url() -> str | sa.URL:
    """``TOKENSTREAM_DATABASE``, or SQLite in the user's data directory. Raises StoreError where that is no place."""
    named = os.environ.get("TOKENSTREAM_DATABASE")
    if named:
        return _from_here(named)
    from platformdirs import user_data_path

    return _of_file(user_data_path("tokenstream-magic", appauthor=False) / "transcripts.db")


def directory() -> str:
    """Where the file of the transcripts is; nothing where they are not in a file, or what was named is no address."""
    try:
        url = make_url(default_url())
    except (StoreError, sa.exc.ArgumentError, ValueError):
        return ""
    return str(Path(url.database or "").parent) if url.drivername.startswith("sqlite") else ""


@cache
def _from_here(named: str) -> str | sa.URL:
    """The address that a name means where it is first used: a change of directory makes it no other. Raises StoreError."""
    try:
        if "://" not in named:
            return _of_file(Path(named).expanduser().absolute())
        url = make_url(named)
    except RuntimeError:
        raise StoreError(f"There is no home directory for {one_line(named)}.", "Write TOKENSTREAM_DATABASE out.") from None
    except (sa.exc.ArgumentError, ValueError):
        return named  # which the store refuses
    file = url.database or ":memory:"
    if not url.drivername.startswith("sqlite") or file == ":memory:" or file.startswith("file:") or Path(file).is_absolute():
        return named
    return url.set(database=str(Path(file).absolute()))


def _of_file(file: Path) -> str | sa.URL:
    """The address of a file, whatever characters are in its name: not every one can be written as a text. Raises StoreError."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise StoreError(f"Transcripts cannot be kept in {plain_text(str(file))}: its name is no UTF-8.", "Name another place.") from None
    address, url = f"sqlite:///{file}", sa.URL.create("sqlite", database=str(file))
    return address if make_url(address) == url else url
