"""Frames: when the live views of a kernel send what they have gathered.

The first piece of a stream goes out at once, everything after it once a frame. What several streams have for one
frame goes out as one message, so a kernel sends at most 30 frames and 30 urgent messages a second, however many
streams it has and however fast they are: jupyter_server drops what is above 1000, and no eye sees more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

FRAME_SECONDS = 1 / 30
URGENT_PER_SECOND = 30

Message = dict[str, Any]


class Outbox(Protocol):
    """A live view with something to send."""

    @property
    def address(self) -> str:
        """The id its page knows it by; empty when there is no page to send to any more."""

    def gather(self) -> list[Message]:
        """What has come up since the last frame, in order."""

    def send(self, message: Message) -> None:
        """Sends one message over the comm of this view."""


class Pump:
    """Used on the stream thread only. ``later(seconds, call)`` and ``clock`` are the loop's unless a test brings its own."""

    def __init__(self, later: Callable[[float, Callable[[], None]], object] | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._later = later or (lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call))
        self._clock = clock
        self._waiting: dict[Outbox, None] = {}
        self._armed = False
        self._urgent: deque[float] = deque()

    def schedule(self, view: Outbox, urgent: bool = False) -> None:
        """Sends what ``view`` has with the next frame; an urgent one at once, as long as there are not too many of them."""
        if urgent and self._has_room():
            self._waiting.pop(view, None)
            messages = view.gather()
            if messages:
                now = self._clock()
                for message in _few(view, messages):
                    self._urgent.append(now)
                    view.send(message)
            return
        self._waiting[view] = None
        if not self._armed:
            self._armed = True
            self._later(FRAME_SECONDS, self._frame)

    def _has_room(self) -> bool:
        """Whether another urgent view may send now: it sends two messages at most."""
        horizon = self._clock() - 1
        while self._urgent and self._urgent[0] <= horizon:
            self._urgent.popleft()
        return len(self._urgent) <= URGENT_PER_SECOND - 2

    def _frame(self) -> None:
        views, self._waiting, self._armed = list(self._waiting), {}, False
        gathered = [(view, messages) for view in views if view.address and (messages := view.gather())]
        if not gathered:
            return
        carrier, messages = gathered[0]
        if len(gathered) == 1 and len(messages) == 1:
            carrier.send(messages[0])
        else:
            carrier.send({"op": "frame", "streams": {view.address: messages for view, messages in gathered}})


def _few(view: Outbox, messages: list[Message]) -> list[Message]:
    return messages if len(messages) <= 2 else [{"op": "frame", "streams": {view.address: messages}}]
