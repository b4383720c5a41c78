"""The one daemon thread with an event loop on which all streams live.

Streams run here and not on the kernel's loop so that a busy cell delays no stamp and Stop can end a read that has
nothing to read (ARCHITECTURE decision 2).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_owner = 0


def get_loop() -> asyncio.AbstractEventLoop:
    """The loop of the stream thread; starts the thread on first use, and again in a forked child."""
    global _loop, _owner
    with _lock:
        if _loop is None or _owner != os.getpid():
            _loop, _owner = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=_serve, args=(_loop,), name="tokenstream", daemon=True).start()
        return _loop


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Runs a coroutine on the stream thread; the future is safe to wait for from any other thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, get_loop())


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
