"""An answer is shown once: where it has just shown itself, the value of the cell that asked for it is not drawn again.

``_stream.replay()`` and ``ts.stream(...)`` show themselves as they grow and return their transcript. As the last line of a cell it
would be drawn a second time by IPython. In every later cell, and by ``display``, it is drawn as ever.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from tokenstream_magic.display.inert import for_terminal
from tokenstream_magic.display.views import front_end, shell
from tokenstream_magic.errors import one_line
from tokenstream_magic.record import Transcript

_last: list[tuple[weakref.ref[Transcript], Any]] = []


def shown(transcript: Transcript) -> None:
    """Remembers what the running cell has shown last."""
    if front_end() != "none":
        _last[:] = [(weakref.ref(transcript), _cell())]


def is_drawn(transcript: Transcript) -> bool:
    """Whether this is to be drawn as the value of the cell that has shown it last. A terminal says what the value is, in a line."""
    if not _last or _last[0][0]() is not transcript or _last[0][1] != _cell() or not _is_value():
        return False
    if front_end() == "terminal":
        print(f"<Transcript {one_line(for_terminal(f'{transcript.id} {transcript.model} {transcript.outcome}'))}>")
    return True


def _cell() -> Any:
    """What tells the running cell from every other."""
    running = shell()
    kernel = getattr(running, "kernel", None)
    request = (kernel.get_parent() or {}).get("header", {}).get("msg_id") if kernel is not None else None
    return running and (running.displayhook.prompt_count, request)


def _is_value() -> bool:
    """Whether it is the display hook that asks, and not a call of ``display``."""
    hook = getattr(type(shell().displayhook).__call__, "__code__", None)
    frame = sys._getframe(1)  # noqa: SLF001 - the hook tells nobody what it does
    while frame is not None and frame.f_code is not hook:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


Transcript.is_drawn = staticmethod(is_drawn)
