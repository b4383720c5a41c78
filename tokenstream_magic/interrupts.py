"""An interrupt while a blocking call holds the main thread: it asks for a stop, and raises nothing wherever it happens to strike.

A KeyboardInterrupt comes between any two steps of whatever the main thread does: a run that has just begun would go on
without anybody who waits for it, an output would stay unsettled, a lock would stay taken. So for as long as a call of
ours blocks, the signal is taken by a handler that only notes it and hands the stop to the stream thread.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from types import FrameType
from typing import Any

from tokenstream_magic.transport import loop

BOUNCE_SECONDS = 0.3
"""An interrupt this close behind the first is the same one: a key that bounced, a page and its reader at once."""

_current: Interrupts | None = None


class Interrupts:
    """The interrupts that came since the call began to block. ``count`` is how many of them."""

    def __init__(self) -> None:
        self.count = 0
        self._first = 0.0
        self._stop: Callable[[], object] | None = None
        self._behind: Any = None
        self._loop = loop.get_loop()

    def stops(self, stop: Callable[[], object]) -> None:
        """From here on an interrupt, also one that came before, calls ``stop`` on the stream thread."""
        self._stop = stop
        if self.count:
            self._loop.call_soon_threadsafe(stop)

    def take(self) -> bool:
        """Installs the handler. False where there is nothing to take: on another thread, and beside a handler that is somebody's own."""
        if threading.current_thread() is not threading.main_thread():
            return False
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:
            # the kernel's own, around an async cell: it cancels the cell, which a call that blocks would never hear of
            if not getattr(before, "__module__", "").startswith("ipykernel."):
                return False
            self._behind = before
        signal.signal(signal.SIGINT, self._struck)
        return True

    def give_back(self) -> None:
        """Installs what was there before, unless somebody else has installed something since."""
        if signal.getsignal(signal.SIGINT) == self._struck:
            signal.signal(signal.SIGINT, self._behind or signal.default_int_handler)

    def is_unheard(self) -> bool:
        """Whether one came that stopped nothing and that nobody else was told of."""
        return self.count > 0 and self._stop is None and self._behind is None

    def _struck(self, number: int, frame: FrameType | None) -> None:
        """Between any two steps of the main thread: takes no lock, and raises only for one who asks again and is still held."""
        now = monotonic()
        self.count += 1
        if self.count == 1:
            self._first = now
        elif self._behind is None and now - self._first > BOUNCE_SECONDS:
            raise KeyboardInterrupt
        if self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop)
        if self._behind is not None:
            self._behind(number, frame)


@contextlib.contextmanager
def taken() -> Iterator[Interrupts]:
    """While this is entered, an interrupt stops what was named to :meth:`Interrupts.stops` and does not raise.

    A second one raises KeyboardInterrupt, unless it comes with the first: nobody is ever held against their will. One
    that came before there was anything to stop is raised on leaving. Entered again inside, it is the same. Where
    KeyboardInterrupt is not how an interrupt arrives on this thread, nothing is changed.
    """
    global _current
    if _current is not None and threading.current_thread() is threading.main_thread():
        yield _current
        return
    mine = Interrupts()
    if not mine.take():
        yield mine
        return
    _current = mine
    try:
        yield mine
    finally:
        _current = None
        mine.give_back()
    if mine.is_unheard():
        raise KeyboardInterrupt


def waited(future_done: Callable[[], bool], wait: Callable[[], object], stop: Callable[[], object]) -> None:
    """Waits, on this thread, until ``future_done``; an interrupt calls ``stop``, on the stream thread where it can be taken.

    Where it arrives as KeyboardInterrupt nevertheless, by a handler that is not ours, the first one stops and the next is raised.
    """
    with taken() as interrupts:
        interrupts.stops(stop)
        while not future_done():
            try:
                wait()
            except KeyboardInterrupt:
                interrupts.count += 1
                if interrupts.count > 1:
                    raise
                stop()
