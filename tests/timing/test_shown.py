"""How far a page is behind, from its own reports and with a clock of its own."""

from __future__ import annotations

import math

from hypothesis import given, strategies as st

from tokenstream_magic.display.drawn import report_of
from tokenstream_magic.timing.shown import KEPT_SENT, MOST_PAGES, Frame, Pages, Report

MS = 1_000_000


class Browser:
    """A page whose clock is ``lead`` ms ahead, ``down`` and ``up`` ms away, and which draws ``lag`` ms after a message is in."""

    def __init__(self, pages: Pages, lead: float, name: str = "one", down: float = 2.0, up: float = 3.0) -> None:
        self.pages, self.lead, self.name, self.down, self.up = pages, lead, name, down, up
        self.upto = 0
        self.frames: list[tuple[int, float, float | None]] = []

    def draw(self, sent_ms: float, lag: float, messages: int = 1, seen: bool = True) -> None:
        received = sent_ms + self.lead + self.down
        self.upto += messages
        self.frames.append((messages, received, received + lag if seen else None))

    def tell(self, at_ms: float, up: float | None = None) -> bool:
        clock = at_ms + self.lead
        frames = [Frame(n, clock - received, None if painted is None else clock - painted) for n, received, painted in self.frames]
        self.frames = []
        return self.pages.report(Report(self.name, self.upto, clock, frames, len(frames) * 1.5), round((at_ms + (up or self.up)) * MS))


def streamed(pages: Pages, count: int, every: float = 16.0, before: float = 4.0) -> list[float]:
    """So many messages, each sent ``before`` ms after its oldest piece came; returns when they were sent, in ms."""
    sent = [10_000 + every * number for number in range(count)]
    for at in sent:
        pages.sent(round((at - before) * MS), round(at * MS))
    return sent


def test_the_lag_is_from_arrival_to_paint_whatever_the_page_s_clock_says() -> None:
    for lead in (-9_000.0, 0.0, 1e7):
        pages = Pages()
        page = Browser(pages, lead)
        for at in streamed(pages, 50):
            page.draw(at, 10)
        assert page.tell(11_000)
        shown = pages.displayed()
        assert shown is not None
        # 4 ms until it was sent, 2 ms on the way, 10 ms until it was painted; half of the round trip stays unknown
        for figure in (shown.p50, shown.p99, shown.most, shown.last):
            assert abs(figure - 16_000) <= shown.error
        assert (shown.messages, shown.error, shown.work) == (50, 2_500, 1_500)


def test_a_report_that_waits_for_a_busy_kernel_says_no_display_is_slow() -> None:
    pages = Pages()
    page = Browser(pages, 5e5)
    page.tell(9_000)  # the hello, on an idle kernel
    for at in streamed(pages, 50):
        page.draw(at, 10)
    page.tell(11_000, up=3_000)
    shown = pages.displayed()
    assert shown is not None
    assert shown.p99 + shown.error < 25_000


def test_a_page_that_takes_messages_in_late_is_as_far_behind_as_it_is() -> None:
    pages = Pages()
    page = Browser(pages, 0)
    sent = streamed(pages, 40)
    for at in sent[:20]:
        page.draw(at, 10)
    page.tell(10_400)
    blocked = sent[20] + 700  # the thread that would take them in and draw them does something else
    page.frames.append((20, blocked, blocked + 5))
    page.upto += 20
    page.tell(blocked + 10)
    shown = pages.displayed()
    assert shown is not None
    assert abs(shown.most - 709_000) <= shown.error
    assert shown.p99 - shown.error > 600_000


def test_what_nobody_could_see_does_not_count_and_the_slowest_page_does() -> None:
    pages = Pages()
    sent = streamed(pages, 30)
    quick, slow, hidden = Browser(pages, 100), Browser(pages, -4e6, "two"), Browser(pages, 0, "three")
    for at in sent:
        quick.draw(at, 5)
        slow.draw(at, 300)
        hidden.draw(at, 60_000, seen=False)
    assert not hidden.tell(90_000)
    assert pages.displayed() is None
    assert quick.tell(20_000)
    assert slow.tell(20_000)
    shown = pages.displayed()
    assert shown is not None
    assert abs(shown.p99 - 306_000) <= shown.error


def test_a_clock_that_stood_still_starts_anew() -> None:
    pages = Pages()
    page = Browser(pages, 0)
    sent = streamed(pages, 60)
    for at in sent[:30]:
        page.draw(at, 10)
    page.tell(10_490)
    page.lead = -60_000  # the machine with the page slept for a minute
    for at in sent[30:]:
        page.draw(at, 10)
    page.tell(11_000)
    shown = pages.displayed()
    assert shown is not None
    assert shown.messages == 30
    assert abs(shown.p99 - 16_000) <= shown.error < 5_000


def test_a_long_stream_and_many_pages_take_no_more_room() -> None:
    pages = Pages()
    page = Browser(pages, 0)
    for at in streamed(pages, 3 * KEPT_SENT):
        page.draw(at, 10)
    assert len(pages._sent) <= 2 * KEPT_SENT
    page.tell(200_000)
    shown = pages.displayed()
    assert shown is not None
    assert KEPT_SENT <= shown.messages <= 2 * KEPT_SENT
    assert abs(shown.most - 16_000) <= shown.error
    told = [Browser(pages, 0, f"page {number}").tell(1.0) for number in range(100)]
    assert not any(told)
    assert len(pages._pages) == MOST_PAGES


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3), lambda each: st.lists(each, max_size=4)))
def test_no_report_breaks_it(strange) -> None:
    pages, good = Pages(), {"page": "p", "seq": 2, "clock": 5.0, "frames": [[2, 1.0, 0.5]], "work": 0.1}
    streamed(pages, 3)
    for name in good:
        read = report_of({**good, name: strange})
        if read is not None:
            pages.report(read, 5)
            pages.displayed()
    for frame in ([strange, 1, 1], [1, strange, 1], [1, 1, strange]):
        read = report_of({**good, "frames": [frame]})
        if read is not None:
            pages.report(read, 5)
            shown = pages.displayed()
            assert shown is None or all(figure >= 0 and math.isfinite(figure) for figure in shown)


def test_messages_that_were_never_sent_count_for_nothing() -> None:
    pages = Pages()
    streamed(pages, 3)
    assert not pages.report(Report("p", 2**31 - 1, 5.0, [Frame(2**31 - 1, 1.0, 1.0)], 0), 5)
    assert pages.displayed() is None
