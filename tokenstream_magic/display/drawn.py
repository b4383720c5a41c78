"""What a page tells of its drawing, read as something a stranger may have written."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

from tokenstream_magic.timing.shown import Frame, Report

MOST_FRAMES = 512
_LONGEST_MS = 1e9
_MOST_MESSAGES = 1 << 31
_LONGEST_NAME = 64


def report_of(message: dict[str, Any]) -> Report | None:
    """The report in a message ``{op: drawn, page, seq, clock, frames: [[messages, received, painted], ...], work}``.

    A ``hello`` that brings a clock is one without frames. None when it cannot be one.
    """
    page, upto, frames = message.get("page"), message.get("seq", 0), message.get("frames", [])
    if not isinstance(page, str) or not 0 < len(page) <= _LONGEST_NAME:
        return None
    if not _is_count(upto) or not isinstance(frames, list) or len(frames) > MOST_FRAMES:
        return None
    clock, work = message.get("clock"), message.get("work", 0)
    if not _is_time(clock) or not _is_time(work):
        return None
    read = []
    for frame in frames:
        if not isinstance(frame, list) or len(frame) != 3:
            return None
        messages, received, painted = frame
        if not _is_count(messages) or not all(each is None or _is_time(each) for each in (received, painted)):
            return None
        read.append(Frame(messages, received, painted))
    return Report(page, upto, clock, read, work)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_MESSAGES


def _is_time(value: Any) -> TypeGuard[float]:
    """Whether it is a number of ms that can be."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value < _LONGEST_MS
