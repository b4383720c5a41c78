"""Which process writes a running transcript, and whether it still lives.

On the same host a process is known by its id and start time, so a reused id is not taken for it; on another host
(a shared home) only the sign of life in the row can tell.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

SILENCE = 60.0
HEARTBEAT = 10.0


def this_process() -> dict[str, Any]:
    """The owner of the runs of this process."""
    return _owner(os.getpid())


def is_alive(owner: Mapping[str, Any] | None, updated_at: float) -> bool:
    """Whether the process that owns a running transcript can still be writing it."""
    if not owner:
        return False
    if owner.get("host") != socket.gethostname():
        return time.time() - updated_at < SILENCE
    import psutil

    try:
        return bool(abs(psutil.Process(owner["pid"]).create_time() - owner["started"]) < 1.0)
    except (psutil.Error, KeyError, TypeError):
        return False


@lru_cache(maxsize=1)
def _owner(pid: int) -> dict[str, Any]:
    import psutil

    return {"host": socket.gethostname(), "pid": pid, "started": psutil.Process(pid).create_time()}
