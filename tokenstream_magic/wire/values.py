"""Reading values out of messages that may hold anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

_NOTHING: dict[str, Any] = {}


def integer(value: Any) -> int | None:
    """A count: a whole number from 0 up that JSON can carry exactly, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def string(value: Any) -> str | None:
    """A text that is not empty, or None."""
    return value if isinstance(value, str) and value else None


def mapping(value: Any) -> Mapping[str, Any]:
    """An object, or an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else _NOTHING


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The objects in a list; nothing for anything else."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def loads(data: bytes) -> Any:
    """The JSON value in ``data``. Raises ValueError or RecursionError when there is none.

    What the fast parser refuses gets a second look by the tolerant one: NaN, halves of surrogate pairs, bytes that are
    no UTF-8, all of which servers send.
    """
    try:
        return orjson.loads(data)
    except ValueError:
        return json.loads(data.decode("utf-8", "replace"))


def json_text(value: Any) -> str:
    """``value`` as JSON text; empty when it cannot be written."""
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):
        return ""
