"""A whole copy of a SQLite file, made while others write to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path


def copy_file(file: Path, copy: Path) -> None:
    """Copies ``file`` to ``copy``, which must not be there; the copy is private and on the disk when this returns."""
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
    with copy.open("rb") as written:
        os.fsync(written.fileno())
