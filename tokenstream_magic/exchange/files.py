"""Files that are written whole or not at all: 0600, and never over another unless that was asked for."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tokenstream_magic.errors import BadRequest, StoreError, one_line

_NAME_LIMIT = 255
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:[.:].*)?", re.IGNORECASE)
"""What Windows takes for a device, whatever its ending: a file of that name could be carried nowhere."""


def target(path: str | os.PathLike[str], *, force: bool) -> Path:
    """The file that will be written. Raises BadRequest for what is no plain file in a directory that exists."""
    said = os.fspath(path)
    if not said.strip() or not said.isprintable():
        raise BadRequest(f"{one_line(said)[:80]!r} is no name for a file.", "Example: -o transcripts.jsonl.")
    try:
        file = Path(said).expanduser()
    except RuntimeError:
        raise BadRequest(f"There is no home directory for {said[:80]}.", "Write the path out.") from None
    if _DEVICE.fullmatch(file.name) or len(os.fsencode(file.name)) > _NAME_LIMIT:
        raise BadRequest(f"{file.name[:80]} cannot be the name of a file.", "Name another one.")
    if said.endswith(("/", os.sep)) or file.name in ("", "..") or file.is_dir():
        raise BadRequest(f"{said[:200]} is a directory.", "Name a file in it.")
    if not file.parent.is_dir():
        raise BadRequest(f"There is no directory {file.parent}.", "Make it first.")
    if file.is_symlink():
        raise BadRequest(f"{file} is a link to another place.", "Name the place itself.")
    if file.exists():
        if not force:
            raise BadRequest(f"{file} is there already.", "--force writes over it.")
        if not stat.S_ISREG(file.stat().st_mode):
            raise BadRequest(f"{file} is no plain file.", "Name another one.")
    return file


@contextlib.contextmanager
def written(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[IO[bytes]]:
    """A file to write to; it gets its name only when all of it is on disk. Raises BadRequest and StoreError."""
    file = target(path, force=force)
    growing = file.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(
            growing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0), 0o600
        )
        try:
            with os.fdopen(descriptor, "wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            _named(growing, file, force=force)
        finally:
            growing.unlink(missing_ok=True)
    except FileExistsError:
        raise BadRequest(f"{file} is there already.", "--force writes over it.") from None
    except OSError as error:
        raise StoreError(
            f"{file} cannot be written: {error.strerror or one_line(error)}.", "Name a file in a directory of yours."
        ) from None


def _named(growing: Path, file: Path, *, force: bool) -> None:
    if force:
        growing.replace(file)
        return
    try:
        os.link(growing, file)  # atomic, and never over a file that came there meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if file.exists():
            raise FileExistsError(str(file)) from None
        growing.rename(file)
