"""The watchdogs of a run: no first token, no progress, too long altogether.

They watch progress and not bytes, so a server that only pings is found out. One timer serves all three limits and is
set to the earliest; progress only moves a stamp, so a token costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic_ns

FIRST_TOKEN_TIMEOUT = 120.0
IDLE_TIMEOUT = 60.0
MAX_RETRIES = 2

_SHORTEST = 0.05


@dataclass(frozen=True)
class Limits:
    """When a run ends by itself: seconds, and content events. None means never. ``retries``: how often it tries again."""

    first_token: float | None = FIRST_TOKEN_TIMEOUT
    idle: float | None = IDLE_TIMEOUT
    time: float | None = None
    tokens: int | None = None
    retries: int = MAX_RETRIES


class Watchdog:
    """Calls ``expired`` with ``first-token``, ``idle`` or ``time`` when a limit passes, again and again until ended.

    Used on the loop thread only.
    """

    def __init__(self, limits: Limits, expired: Callable[[str], None]) -> None:
        self._limits = limits
        self._expired = expired
        self._started_at = self._progress_at = monotonic_ns()
        self._began = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The clock of all limits begins."""
        self._started_at = self._progress_at = monotonic_ns()
        self._look()

    def progress(self, at: int | None = None) -> None:
        """Something moved at ``at`` (ns), or now: a model being fetched, a prompt being read."""
        self._progress_at = monotonic_ns() if at is None else at

    def content(self, at: int) -> None:
        """A piece of the answer arrived at ``at`` (ns): from here on it is the idle limit that counts."""
        self._began = True
        self._progress_at = at

    def allow(self, seconds: float) -> None:
        """A wait that was asked for is no silence."""
        self._progress_at = monotonic_ns() + int(seconds * 1e9)

    def end(self) -> None:
        """No limit counts any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        limits, now = self._limits, monotonic_ns()
        deadlines: list[tuple[int, str]] = []
        allowed = limits.idle if self._began else limits.first_token
        if allowed is not None:
            deadlines.append((self._progress_at + int(allowed * 1e9), "idle" if self._began else "first-token"))
        if limits.time is not None:
            deadlines.append((self._started_at + int(limits.time * 1e9), "time"))
        wait = limits.idle or 3600.0  # when the first token comes, the idle limit begins: look again in time for it
        if deadlines:
            due, name = min(deadlines)
            if now >= due:
                self._expired(name)
            wait = min(max((due - now) / 1e9, _SHORTEST), wait)
        self._timer = asyncio.get_running_loop().call_later(wait, self._look)
