"""At the end of the process: answers that would go on at their server without a reader are stopped there."""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from concurrent.futures import Future
from typing import Any, Protocol

PATIENCE = 2.5


class Leaving(Protocol):
    """A run that has something to end at a server."""

    future: Future[Any]

    def stop(self, cause: str = "api") -> bool:
        """Ends it."""


_lasting: weakref.WeakSet[Leaving] = weakref.WeakSet()
_owner = os.getpid()


def remember(run: Leaving) -> None:
    """``run`` reads an answer that outlives its connection."""
    global _lasting, _owner
    if _owner != os.getpid():  # a forked child has none of its parent's
        _lasting, _owner = weakref.WeakSet(), os.getpid()
    _lasting.add(run)


@atexit.register
def _leave() -> None:
    if _owner != os.getpid():
        return
    stopped = [run for run in _lasting if not run.future.done() and run.stop()]
    for run in stopped:
        with contextlib.suppress(Exception):  # whatever it was, the process ends
            run.future.result(PATIENCE)
