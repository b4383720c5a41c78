"""A disk that the tests own: SQLite's files behind a shim of its VFS, which notes what was written and what was synced.

The shim stands in front of the real file system, in the library that Python's own sqlite3 module uses, so that what is tested
runs unchanged. ``Disk.after`` is what a power cut leaves: everything that was synced, and of what was written since any part.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SECTOR = 512
_pointer, _int, _int64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_OPEN = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _pointer, _int, ctypes.POINTER(_int))
_DELETE = ctypes.CFUNCTYPE(_int, _pointer, ctypes.c_char_p, _int)
_WRITE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int, _int64)
_TRUNCATE = ctypes.CFUNCTYPE(_int, _pointer, _int64)
_SYNC = ctypes.CFUNCTYPE(_int, _pointer, _int)
_FCNTL = ctypes.CFUNCTYPE(_int, _int, _int, _pointer, use_errno=True)
_MMAP = ctypes.CFUNCTYPE(_pointer, _pointer, ctypes.c_size_t, _int, _int, _int, _int64, use_errno=True)


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("iVersion", _int),
        ("szOsFile", _int),
        ("mxPathname", _int),
        ("pNext", _pointer),
        ("zName", ctypes.c_char_p),
        ("pAppData", _pointer),
        ("xOpen", _pointer),
        ("xDelete", _pointer),
        *((name, _pointer) for name in "xAccess xFullPathname xDlOpen xDlError xDlSym xDlClose xRandomness xSleep xCurrentTime".split()),
        ("xGetLastError", _pointer),
        ("xCurrentTimeInt64", _pointer),
        ("xSetSystemCall", _pointer),
        ("xGetSystemCall", _pointer),
        ("xNextSystemCall", _pointer),
    ]


class _Methods(ctypes.Structure):
    _fields_ = [
        ("iVersion", _int),
        *((name, _pointer) for name in "xClose xRead xWrite xTruncate xSync xFileSize xLock xUnlock xCheckReservedLock".split()),
        *((name, _pointer) for name in "xFileControl xSectorSize xDeviceCharacteristics xShmMap xShmLock xShmBarrier xShmUnmap".split()),
        *((name, _pointer) for name in "xFetch xUnfetch".split()),
    ]


def library() -> ctypes.CDLL | None:
    """The SQLite that Python uses; None when it is not a library of its own."""
    name = ctypes.util.find_library("sqlite3") if sqlite3.sqlite_version_info else None  # its own library is loaded by now
    try:
        found = ctypes.CDLL(name) if name else None
    except OSError:
        return None
    if found is None or not hasattr(found, "sqlite3_vfs_find"):
        return None
    mapped = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else ""
    if mapped and mapped.count("libsqlite3") and not _same_library(mapped):
        return None
    found.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    found.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
    found.sqlite3_vfs_register.argtypes = [ctypes.POINTER(_Vfs), _int]
    found.sqlite3_vfs_unregister.argtypes = [ctypes.POINTER(_Vfs)]
    return found


def _same_library(mapped: str) -> bool:
    return len({line.split()[-1] for line in mapped.splitlines() if "libsqlite3" in line}) == 1


class Disk:
    """Every write, truncation, sync and deletion below a folder, in order; and what the tests put between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.log: list[tuple[Any, ...]] = []
        self._paths: dict[int, str] = {}
        self._kept: list[Any] = []  # what C holds pointers to

    def mark(self, what: Any) -> None:
        """Something that is true from here on."""
        self.log.append(("mark", what))

    def marks(self, upto: int) -> list[Any]:
        """What had been marked by then."""
        return [about[0] for what, *about in self.log[:upto] if what == "mark"]

    def after(self, upto: int, chance: random.Random) -> dict[str, bytes]:
        """The files a power cut leaves after so many operations: what was not synced is there, or not, or in part."""
        synced: dict[str, bytearray] = {}
        pending: dict[str, list[tuple[Any, ...]]] = {}
        for what, *about in self.log[:upto]:
            if what == "mark":
                continue
            path = about[0]
            if what == "delete":
                synced.pop(path, None)
                pending.pop(path, None)
            elif what == "sync":
                for each in pending.pop(path, []):
                    _apply(synced.setdefault(path, bytearray()), each)
            else:
                pending.setdefault(path, []).append((what, *about[1:]))
        for path, waiting in pending.items():
            content = synced.setdefault(path, bytearray())
            how = chance.choice(["none", "all", "some", "first"])
            some = waiting[: chance.randrange(len(waiting) + 1)] if how == "first" else waiting
            for each in some if how != "none" else []:
                if how == "some" and chance.random() < 0.5:
                    continue
                if each[0] == "write" and how == "some" and chance.random() < 0.3:
                    each = ("write", each[1], each[2][: chance.randrange(len(each[2]) // _SECTOR + 1) * _SECTOR])  # noqa: PLW2901
                _apply(content, each)
        return {path: bytes(content) for path, content in synced.items()}

    @contextmanager
    def inserted(self) -> Iterator[Disk]:
        """In front of the file system of every database that is opened meanwhile."""
        found = library()
        assert found is not None
        real = found.sqlite3_vfs_find(None)
        shim = _Vfs.from_buffer_copy(real.contents)
        shim.zName, shim.pNext = b"a-disk-of-the-tests", None
        tables: dict[int, _Methods] = {}
        open_ = _OPEN(real.contents.xOpen)
        delete = _DELETE(real.contents.xDelete)

        def opened(vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
            result = open_(vfs, name, file, flags, out)
            path = ctypes.string_at(name).decode() if name else ""
            if result == 0 and path.startswith(self.folder):
                self._paths[file] = path
                place = ctypes.cast(file, ctypes.POINTER(_pointer))
                if place[0] not in tables:
                    tables[place[0]] = self._noting(_Methods.from_address(place[0]))
                place[0] = ctypes.addressof(tables[place[0]])
            return int(result)

        def deleted(vfs: int, name: bytes, sync: int) -> int:
            self.log.append(("delete", name.decode()))
            return int(delete(vfs, name, sync))

        callbacks = _OPEN(opened), _DELETE(deleted)
        shim.xOpen, shim.xDelete = (ctypes.cast(each, _pointer).value for each in callbacks)
        self._kept += [shim, tables, *callbacks]
        found.sqlite3_vfs_register(ctypes.byref(shim), 1)
        try:
            yield self
        finally:
            found.sqlite3_vfs_register(real, 1)
            found.sqlite3_vfs_unregister(ctypes.byref(shim))

    def _noting(self, real: _Methods) -> _Methods:
        made = _Methods.from_buffer_copy(real)
        write, truncate, sync = _WRITE(real.xWrite), _TRUNCATE(real.xTruncate), _SYNC(real.xSync)

        def written(file: int, data: int, size: int, at: int) -> int:
            self.log.append(("write", self._paths[file], at, ctypes.string_at(data, size)))
            return int(write(file, data, size, at))

        def truncated(file: int, size: int) -> int:
            self.log.append(("truncate", self._paths[file], size))
            return int(truncate(file, size))

        def synced(file: int, flags: int) -> int:
            result = sync(file, flags)
            self.log.append(("sync", self._paths[file]))
            return int(result)

        callbacks = _WRITE(written), _TRUNCATE(truncated), _SYNC(synced)
        self._kept += callbacks
        made.xWrite, made.xTruncate, made.xSync = (ctypes.cast(each, _pointer).value for each in callbacks)
        return made


@contextmanager
def without(call: str, refuses: Callable[..., int | None]) -> Iterator[None]:
    """SQLite's own system call ``fcntl`` or ``mmap`` fails with the error that ``refuses`` gives for its arguments, if it gives one."""
    found = library()
    assert found is not None
    vfs = found.sqlite3_vfs_find(None)
    kind, failed = {"fcntl": (_FCNTL, -1), "mmap": (_MMAP, ctypes.c_void_p(-1).value)}[call]
    get = ctypes.CFUNCTYPE(_pointer, _pointer, ctypes.c_char_p)(vfs.contents.xGetSystemCall)
    set_ = ctypes.CFUNCTYPE(_int, _pointer, ctypes.c_char_p, _pointer)(vfs.contents.xSetSystemCall)
    own = kind(get(ctypes.cast(vfs, _pointer), call.encode()))

    def asked(*arguments: Any) -> Any:
        error = refuses(*arguments)
        if error is None:
            return own(*arguments)
        ctypes.set_errno(error)
        return failed

    callback = kind(asked)
    set_(ctypes.cast(vfs, _pointer), call.encode(), ctypes.cast(callback, _pointer))
    try:
        yield
    finally:
        set_(ctypes.cast(vfs, _pointer), call.encode(), None)


def _apply(content: bytearray, operation: tuple[Any, ...]) -> None:
    what, at, *data = operation
    if what == "truncate":
        del content[at:]
        content += b"\0" * (at - len(content))
        return
    if len(content) < at:
        content += b"\0" * (at - len(content))
    content[at : at + len(data[0])] = data[0]
