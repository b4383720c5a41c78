"""Which process writes a running transcript, and whether it still lives.

On the same host a process is known by its id and start time, so a reused id is not taken for it; on another host
(a shared home) only the sign of life in the row can tell.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

SILENCE = 60.0
HEARTBEAT = 10.0
CLOCK_STEP = 1.0


def this_process() -> dict[str, Any]:
    """The owner of the runs of this process."""
    return _owner(os.getpid())


def is_alive(owner: Mapping[str, Any] | None, updated_at: float) -> bool:
    """Whether the process that owns a running transcript can still be writing it."""
    if not owner:
        return False
    fresh = time.time() - updated_at < SILENCE
    if owner.get("host") != _host():
        return fresh
    import psutil

    try:
        same = abs(psutil.Process(owner["pid"]).create_time() - owner["started"]) < CLOCK_STEP
    except psutil.AccessDenied:
        return fresh
    except (psutil.Error, KeyError, TypeError):
        return False
    return same or fresh  # start times move when the clock is set: a sign of life counts more


@lru_cache(maxsize=1)
def _host() -> str:
    """This host, this boot of it, and its space of process ids: a container may share a name and a home with others."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


@lru_cache(maxsize=1)
def _owner(pid: int) -> dict[str, Any]:
    import psutil

    return {"host": _host(), "pid": pid, "started": psutil.Process(pid).create_time()}
