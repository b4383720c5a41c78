"""How far a display is behind the network: what to tell it while it shows, what it says afterwards.

A page has a clock of its own. Every message from the kernel that it stamps says that its clock is ahead of ours by no more
than its stamp minus the moment we sent it; every report of its own, that it is ahead by no less than the report's stamp minus
the moment we received it. The narrowest of these bounds hold for the whole run (Cristian 1989: half of the least round
trip), so no clocks are compared unseen, no message is sent for it, and how far off the result may be is known.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from tokenstream_magic.timing.timeline import Displayed

KEPT = 4096
KEPT_SENT = 2048  # messages that a page may yet report: half a minute of frames
MOST_PAGES = 8
LEAP_NS = 5_000_000  # bounds that contradict each other by so much: a clock was set, or stood still while its machine slept
_LONGEST_NS = 1 << 62


class Shown:
    """The lag between the arrival of pieces and their showing. Keeps at most :data:`KEPT` of them, evenly spread.

    ``pieces`` is how many were shown, ``last_ms`` and ``max_ms`` the lag of the last and the worst.
    """

    def __init__(self) -> None:
        self.pieces = 0
        self.last_ms = 0.0
        self.max_ms = 0.0
        self._lags = array("d")
        self._every = 1

    def add(self, arrived: int, shown: int) -> None:
        """A piece that arrived at ``arrived`` was shown at ``shown``, both in ns of one clock."""
        self.take(max(0, shown - arrived) / 1e6)

    def take(self, lag: float) -> None:
        """A piece was shown so long after it had arrived: ms, or whatever all of them are in."""
        self.last_ms = lag
        self.max_ms = max(self.max_ms, lag) if self.pieces else lag
        if self.pieces % self._every == 0:
            self._lags.append(lag)
            if len(self._lags) == KEPT:
                self._lags = self._lags[::2]
                self._every *= 2
        self.pieces += 1

    def percentile_ms(self, percent: float) -> float | None:
        """The lag that ``percent`` of the pieces do not exceed (nearest rank); None when nothing was shown."""
        ordered = sorted(self._lags)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else None

    def displayed(self) -> Displayed | None:
        """The figures of a display that has the clock of who it shows; None when nothing was shown."""
        if not self.pieces:
            return None
        p50, p99 = (self.percentile_ms(percent) or 0.0 for percent in (50, 99))
        p50, p99, most, last = (round(1000 * ms) for ms in (p50, p99, self.max_ms, self.last_ms))
        return Displayed(self.pieces, p50, p99, most, last, 0, 0)


class Frame(NamedTuple):
    """A frame of a page: how many messages it was the first to show, when the last of them had been received and when it was painted.

    In ms before the report; ``received`` is None when that is not known, ``painted`` when it does not count, as out of view.
    """

    messages: int
    received: float | None
    painted: float | None


class Report(NamedTuple):
    """What a page says it drew: up to message number ``upto``, in these frames.

    ``clock`` is its own when it sent the report, ``work`` what the frames took of its main thread in all, both in ms.
    """

    page: str
    upto: int
    clock: float
    frames: Sequence[Frame]
    work: float


class Pages:
    """What the pages in view say of one stream's messages, which are numbered from 1. For the display; any thread, one at a time."""

    def __init__(self) -> None:
        self._first = 1  # the number of the first message in the two columns
        self._arrived = array("q")
        self._sent = array("q")
        self._pages: dict[str, _Page] = {}

    def sent(self, arrived: int, at: int) -> None:
        """The next message was sent at ``at``; the oldest piece in it had arrived at ``arrived`` (monotonic ns)."""
        self._arrived.append(arrived)
        self._sent.append(at)
        if len(self._sent) > 2 * KEPT_SENT:
            self._arrived, self._sent = self._arrived[-KEPT_SENT:], self._sent[-KEPT_SENT:]
            self._first += KEPT_SENT + 1

    def report(self, report: Report, at: int) -> bool:
        """A page's report, received at ``at`` (monotonic ns): whether it told anything new."""
        page = self._pages.get(report.page)
        if page is None:
            if len(self._pages) == MOST_PAGES:
                return False
            page = self._pages[report.page] = _Page()
        now = round(report.clock * 1e6)
        page.not_less(now - at)
        number = report.upto - sum(frame.messages for frame in report.frames)
        told = False
        for frame in report.frames:
            known = range(max(number + 1, self._first), number + frame.messages + 1)
            number += frame.messages
            if not known or number >= self._first + len(self._sent):
                continue
            if frame.received is not None:
                page.not_more(now - round(frame.received * 1e6) - self._sent[number - self._first])
            if frame.painted is not None:
                drawn, told = now - round(frame.painted * 1e6), True
                page.frames += 1
                for each in known:
                    page.shown.take(drawn - self._arrived[each - self._first])
        page.worked += report.work
        return told

    def displayed(self) -> Displayed | None:
        """The figures of the slowest page; None when none in view has shown anything yet."""
        figures = [page.displayed() for page in self._pages.values() if page.shown.pieces]
        return max(figures, key=lambda one: one.p99, default=None)


class _Page:
    """One page: its lags in ns with its clock's lead still in them, and the bounds of that lead."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self.shown = Shown()
        self.frames, self.worked = 0, 0.0
        self._least = self._recent = -_LONGEST_NS
        self._most = _LONGEST_NS

    def not_less(self, lead: int) -> None:
        """The page's clock is ahead by this or more."""
        if lead > self._most + LEAP_NS:
            self._restart()
        self._least, self._recent = max(self._least, lead), lead

    def not_more(self, lead: int) -> None:
        """The page's clock is ahead by this or less."""
        if lead < self._least - LEAP_NS:
            recent = min(self._recent, lead)
            self._restart()
            self._least = self._recent = recent
        self._most = min(self._most, lead)

    def displayed(self) -> Displayed:
        """Its figures."""
        lead = (self._least + self._most) // 2
        # drift may have crossed the bounds by a little
        error = max(0, self._most - self._least) / 2

        def micros(lag: float) -> int:
            return max(0, round((lag - lead) / 1000))

        shown = self.shown
        p50, p99 = (shown.percentile_ms(percent) or 0.0 for percent in (50, 99))
        work = round(1000 * self.worked / self.frames) if self.frames else 0
        return Displayed(shown.pieces, micros(p50), micros(p99), micros(shown.max_ms), micros(shown.last_ms), math.ceil(error / 1000), work)
