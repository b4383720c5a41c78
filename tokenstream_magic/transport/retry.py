"""Whether to try again, and when: only what failed before anything arrived, and never longer than a reader would wait.

The statuses, the headers and the backoff are those of the openai client: 408, 409, 429 and 5xx, ``x-should-retry``
before all, ``retry-after-ms`` and ``retry-after`` (seconds or a date) up to two minutes, else half a second doubled
with each attempt, up to eight, a quarter of it left to chance so that many clients do not come back together.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

LONGEST = 120.0
_STATUSES = (408, 409, 429)
_FIRST, _LAST = 0.5, 8.0
# errors a server reports inside a 200 response that pass by themselves
PASSING = ("overloaded_error", "rate_limit_error", "rate_limit_exceeded", "unavailable_error", "timeout_error")


def is_passing(status: int | None, kind: str | None, headers: Mapping[str, str]) -> bool:
    """Whether a failure may be gone with the next attempt."""
    told = headers.get("x-should-retry", "").strip().lower()
    if told in ("true", "false"):
        return told == "true"
    if status is not None and status != 200:
        return status in _STATUSES or 500 <= status < 600
    return kind in PASSING


def wait_before(attempt: int, headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait before attempt number ``attempt`` (from 1), or None when the server asks for too long a wait."""
    asked = _asked(headers, now or datetime.now(timezone.utc))
    if asked is not None and asked > 0:
        return asked if asked <= LONGEST else None
    backoff = min(_LAST, _FIRST * 2.0 ** (attempt - 1))
    return backoff * (1 - 0.25 * random.random())  # noqa: S311 - to spread clients, not to hide anything


def _asked(headers: Mapping[str, str], now: datetime) -> float | None:
    """What the server asks for, in seconds; None when it says nothing that can be understood."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            seconds = _until(value, now)
        if math.isfinite(seconds):
            return seconds
    return None


def _until(value: str, now: datetime) -> float:
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return (date - now).total_seconds()
