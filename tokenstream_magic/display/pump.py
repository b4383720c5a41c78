"""Frames: when the live views of a kernel send what they have gathered.

The first piece of a stream goes out at once, everything after it once a frame. A frame is 1/30 s for up to two
streams and longer for more, so that a kernel never sends more than 60 messages a second: jupyter_server drops what
is above 1000, and no eye sees more.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

FRAME_SECONDS = 1 / 30
MESSAGES_PER_SECOND = 60


class Flushable(Protocol):
    """A live view with something to send."""

    def flush(self) -> None:
        """Sends it."""


class Pump:
    """Used on the stream thread only."""

    def __init__(self) -> None:
        self._waiting: dict[Flushable, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def schedule(self, view: Flushable, now: bool) -> None:
        """Flushes ``view`` with the next frame, or now."""
        if now:
            view.flush()
            return
        self._waiting[view] = None
        if self._timer is None:
            wait = max(FRAME_SECONDS, len(self._waiting) / MESSAGES_PER_SECOND)
            self._timer = asyncio.get_running_loop().call_later(wait, self._frame)

    def drop(self, view: Flushable) -> None:
        """``view`` flushes by itself from here on."""
        self._waiting.pop(view, None)

    def _frame(self) -> None:
        views, self._waiting, self._timer = list(self._waiting), {}, None
        for view in views:
            view.flush()
        if views and self._timer is None and len(views) > MESSAGES_PER_SECOND * FRAME_SECONDS:
            # many streams: the next frame is later, so that the rate of messages stays the same
            wait = len(views) / MESSAGES_PER_SECOND
            self._timer = asyncio.get_running_loop().call_later(wait, self._frame)
