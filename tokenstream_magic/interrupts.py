"""An interrupt while a blocking call holds the main thread: it asks for a stop, and raises nothing wherever it happens to strike.

A KeyboardInterrupt comes between any two steps of whatever the main thread does: a run that has just begun would go on
without anybody who waits for it, an output would stay unsettled, a lock would stay taken. So for as long as a call of
ours blocks, the signal is taken by a handler that only notes it and hands the stop to the stream thread.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from time import monotonic, sleep
from types import FrameType
from typing import Any

BOUNCE_SECONDS = 0.3
"""An interrupt this close behind the first is the same one: a key that bounced, a page and its reader at once."""

_current: Interrupts | None = None


class Interrupts:
    """The interrupts that came since the call began to block. ``count`` is how many of them."""

    def __init__(self) -> None:
        from tokenstream_magic.transport import loop

        self.count = 0
        self._first = 0.0
        self._stop: Callable[[], object] | None = None
        self._before: Any = signal.default_int_handler
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
        self._before = before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler and not isinstance(getattr(before, "__self__", None), Command):
            # the kernel's own, around an async cell: it cancels the cell, which a call that blocks would never hear of
            if not getattr(before, "__module__", "").startswith("ipykernel."):
                return False
            self._behind = before
        signal.signal(signal.SIGINT, self._struck)
        return True

    def give_back(self) -> None:
        """Installs what was there before, unless somebody else has installed something since."""
        if signal.getsignal(signal.SIGINT) == self._struck:
            signal.signal(signal.SIGINT, self._before)

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
            self._before(number, frame)  # it raises
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


class Command:
    """The interrupts of a process that is one command: whenever one comes the command ends, and nobody sees a traceback.

    Until the command is ``over`` it raises KeyboardInterrupt; in the middle of an import, which would not survive that, it calls
    ``end``. What it strikes may make another error of it: ``count`` tells that it came. What swallows it, such as a ``__del__``,
    gets it once more. After the end one changes nothing, and the next ends the process without a word.
    """

    def __init__(self, end: Callable[..., None]) -> None:
        self.count = 0
        self.over = False
        self._end = end
        self._last = 0.0
        self._hook: Any = None

    def take(self) -> None:
        """Installs the handler, where an interrupt would raise KeyboardInterrupt on this thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGINT)
        if before is signal.default_int_handler or before is self._end:
            self._hook, sys.unraisablehook = sys.unraisablehook, self._swallowed
            signal.signal(signal.SIGINT, self._struck)

    def _struck(self, number: int, frame: FrameType | None) -> None:
        now, last = monotonic(), self._last
        self._last = now
        if self.over:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        elif not self.count or now - last > BOUNCE_SECONDS:
            self.count += 1
            if _imports(frame):
                self._end()
            raise KeyboardInterrupt

    def _swallowed(self, unraisable: Any) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            self._hook(unraisable)
            return
        self._last = 0.0
        _thread.start_new_thread(_again, ())


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _again() -> None:
    sleep(0.01)  # behind what swallowed the first: it would swallow this one, too
    _thread.interrupt_main()
