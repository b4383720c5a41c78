"""The one daemon thread with an event loop on which all streams live.

Streams run here and not on the kernel's loop so that a busy cell delays no stamp and Stop can end a read that has
nothing to read (ARCHITECTURE decision 2).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

SWITCH_SECONDS = 0.0001
CROWD, RARELY = 100, 5

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_owner = 0
_hurried = 0
_patience = 0.0
_collected: tuple[int, int, int] | None = None
_spawned: set[asyncio.Task[object]] = set()  # asyncio itself holds its tasks only weakly


def get_loop() -> asyncio.AbstractEventLoop:
    """The loop of the stream thread; starts the thread on first use, and again in a forked child."""
    global _loop, _owner
    with _lock:
        if _loop is None or _owner != os.getpid():
            _loop, _owner = asyncio.new_event_loop(), os.getpid()
            _loop.getaddrinfo = _look_up  # type: ignore[method-assign]
            threading.Thread(target=_serve, args=(_loop,), name="tokenstream", daemon=True).start()
        return _loop


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Runs a coroutine on the stream thread; the future is safe to wait for from any other thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, get_loop())


def spawn(coroutine: Coroutine[Any, Any, object]) -> None:
    """Runs a coroutine on the stream thread that nobody waits for and that tells its end itself."""
    loop = get_loop()

    def begin() -> None:
        task = loop.create_task(coroutine)
        _spawned.add(task)
        task.add_done_callback(_spawned.discard)

    loop.call_soon_threadsafe(begin)


@contextlib.contextmanager
def hurry() -> Iterator[None]:
    """While any stream runs, or an import has two threads at work, a thread that computes gives the interpreter away sooner.

    An arrival is stamped, and a Stop carried out, by threads that hand it on to each other; beside a cell that
    computes each of them waits this long. While very many streams run, the garbage collector looks more rarely through
    all objects of the process, which takes a tenth of a second in which nothing arrives. What the interpreter was set
    to before is set again after them.
    """
    global _hurried, _patience
    with _lock:
        if not _hurried:
            _patience = sys.getswitchinterval()
            sys.setswitchinterval(min(_patience, SWITCH_SECONDS))
        _hurried += 1
        if _hurried == CROWD:
            _crowded()
    try:
        yield
    finally:
        with _lock:
            if _hurried == CROWD:
                _scattered()
            _hurried -= 1
            if not _hurried and sys.getswitchinterval() <= SWITCH_SECONDS:  # else somebody set it meanwhile
                sys.setswitchinterval(_patience)


def _crowded() -> None:
    global _collected
    _collected = gc.get_threshold()
    gc.set_threshold(*_collected[:2], RARELY * _collected[2])


def _scattered() -> None:
    global _collected
    if _collected is not None and gc.get_threshold() == (*_collected[:2], RARELY * _collected[2]):  # else somebody set it meanwhile
        gc.set_threshold(*_collected)
    _collected = None


async def _look_up(host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
    """``getaddrinfo`` on a thread of its own.

    asyncio has a handful of threads for it: a name that is looked up in vain would hold up the others, and the end of
    the process, for as long as the resolver tries.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Any] = loop.create_future()

    def tell(found: Any, error: Exception | None) -> None:
        if answered.cancelled():
            return
        if error is None:
            answered.set_result(found)
        else:
            answered.set_exception(error)

    def ask() -> None:
        try:
            found, error = socket.getaddrinfo(host, port, family, type, proto, flags), None
        except Exception as failed:  # whatever it is belongs to the one who asked
            found, error = [], failed
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(tell, found, error)

    threading.Thread(target=ask, name="tokenstream-lookup", daemon=True).start()
    return await answered


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
