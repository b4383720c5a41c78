"""Frames: when the live views of a kernel send what they have gathered.

The first piece of a stream goes out at once, and so does what comes after a pause; else there is a message a frame.
What several streams have for one frame goes out as one message, so a kernel sends at most 65 messages a second,
however many streams it has and however fast they are: jupyter_server drops what is above 1000, and no eye sees more.
That is 60 frames, or 44 and 8 urgent messages. A frame that brings more than anybody reads in it may take longer: what a message costs on the wire
and in the page is mostly its envelope.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

FRAME_SECONDS = 1 / 60
SHARED_FRAME_SECONDS = 1 / 44  # in a second that has urgent messages too
FULL_FRAME_SECONDS = 1 / 25
FULL = 100  # characters
URGENT_PER_SECOND = 8

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
        self._next = 0.0  # when the next frame may be sent
        self._urgent: deque[float] = deque()  # when they were sent, in the last second
        self._frames: deque[float] = deque()

    def schedule(self, view: Outbox, urgent: bool = False) -> None:
        """Sends what ``view`` has with the next frame; an urgent one at once, as long as there are not too many of them."""
        if urgent and self._has_room():
            self._waiting.pop(view, None)
            messages = view.gather()
            if messages:
                now = self._clock()
                self._next = max(self._next, now + SHARED_FRAME_SECONDS)
                for message in _few(view, messages):
                    self._urgent.append(now)
                    view.send(message)
            return
        self._waiting[view] = None
        if not self._armed:
            self._armed = True
            self._later(max(0.0, self._next - self._clock()), self._frame)

    def _has_room(self) -> bool:
        """Whether another urgent view may send now: it sends two messages at most. Else it waits for the next frame."""
        self._forget()
        return len(self._urgent) <= URGENT_PER_SECOND - 2 and len(self._frames) * SHARED_FRAME_SECONDS <= 1

    def _forget(self) -> None:
        horizon = self._clock() - 1
        for sent in (self._urgent, self._frames):
            while sent and sent[0] <= horizon:
                sent.popleft()

    def _frame(self) -> None:
        views, self._waiting, self._armed = list(self._waiting), {}, False
        gathered = [(view, messages) for view in views if view.address and (messages := view.gather())]
        if not gathered:
            return
        said = sum(len(message.get("text", "")) for _, messages in gathered for message in messages)
        self._forget()
        now = self._clock()
        self._frames.append(now)
        self._next = now + (FULL_FRAME_SECONDS if said > FULL else SHARED_FRAME_SECONDS if self._urgent else FRAME_SECONDS)
        carrier, messages = gathered[0]
        if len(gathered) == 1 and len(messages) == 1:
            carrier.send(messages[0])
        else:
            carrier.send({"op": "frame", "streams": {view.address: messages for view, messages in gathered}})


def _few(view: Outbox, messages: list[Message]) -> list[Message]:
    return messages if len(messages) <= 2 else [{"op": "frame", "streams": {view.address: messages}}]
