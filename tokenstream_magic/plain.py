"""Values from elsewhere made into plain data: what can be written as JSON and as UTF-8, whatever a server sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

DEPTH = 32
ITEMS = 10_000


def plain_text(text: str) -> str:
    """``text`` without lone surrogates and NUL, which neither UTF-8 nor a database takes; they become U+FFFD."""
    return whole_text(text.replace("\0", "\ufffd") if "\0" in text else text)


def whole_text(text: str) -> str:
    """``text`` with surrogate pairs joined and lone surrogates as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def plain(value: Any, depth: int = DEPTH) -> Any:
    """``value`` as JSON data of bounded depth: numbers that JSON lacks become None, anything else unknown its text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth <= 0:
        return "…"
    if isinstance(value, Mapping):
        items = list(value.items())[:ITEMS]
        return {plain_text(str(key)): plain(item, depth - 1) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth - 1) for item in value[:ITEMS]]
    return plain_text(str(value))
