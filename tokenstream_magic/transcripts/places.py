"""The place of a database: a file of its own, which nobody else can read, where there are locks."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from pathlib import Path

from tokenstream_magic.errors import StoreError, one_line

log = logging.getLogger(__name__)

_HEADER = b"SQLite format 3\0"

ELSEWHERE = "Set TOKENSTREAM_DATABASE to another place."


def make_private(file: Path, ours: bool = False) -> None:
    """An empty file 0600, in a directory 0700 if it had to be made, before SQLite could make it readable for others."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ours:
            file.parent.chmod(0o700)
        if file.exists():
            found = file.stat()
            if not stat.S_ISREG(found.st_mode):
                raise StoreError(f"Transcripts cannot be kept in {file}: it is no file.", ELSEWHERE)
            if file.is_symlink() and hasattr(os, "geteuid") and found.st_uid != os.geteuid():
                raise StoreError(f"Transcripts cannot be kept in {file}: it leads to another user's file.", ELSEWHERE)
            if stat.S_IMODE(found.st_mode) & 0o077 and os.name == "posix" and (ours or _may_be_a_database(file)):
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


def _may_be_a_database(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_HEADER)) in (b"", _HEADER)


def _no_place(file: Path, error: Exception) -> StoreError:
    return StoreError(f"Transcripts cannot be kept in {file}: {getattr(error, 'strerror', None) or one_line(error)}.", ELSEWHERE)


def identity(file: Path | str) -> tuple[int, int] | None:
    """Which file this is, whatever it is called; None when there is none."""
    try:
        found = os.stat(file)  # noqa: PTH116 - before every transaction
    except OSError:
        return None
    return found.st_dev, found.st_ino


def free(path: Path) -> Path:
    """A path where nothing is: this one, or one with a number."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def check_locks(file: Path) -> None:
    """Raises StoreError where the file system has no locks: SQLite would wait for one for ever."""
    if os.name != "posix":
        return
    import fcntl

    probe = file.with_name(f".{file.name[:200]}.{os.getpid()}.lock")
    try:
        opened = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except OSError:  # what cannot be written needs none
        return
    try:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise StoreError(f"Transcripts cannot be kept in {file}: its file system has no locks.", ELSEWHERE) from None
    finally:
        os.close(opened)
        probe.unlink(missing_ok=True)
