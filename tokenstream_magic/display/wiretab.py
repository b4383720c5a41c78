"""What the Wire tab of a settled output shows: headers and frames as plain data, in the output's metadata.

It is there only when the run was asked for it with ``--wire``, and bounded, because it is saved with the notebook: of a
long answer the first and the last frames. All of it is in the store. The page needs nothing else: the tab works in a
notebook that is opened again, without a kernel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenstream_magic.plain import plain_text
from tokenstream_magic.wire.kept import Exchange, Headers, Wire
from tokenstream_magic.wire.listed import Listed

BUDGET = 256 * 1024
"""Bytes of JSON, all together."""
MOST_TEXT = 2000  # characters of a frame
MOST_SAID = 80  # characters of what an event says
MOST_HEADERS = 100
MOST_VALUE = 1000
MOST_EXCHANGES = 20
_PART = 64 * 1024  # of the budget, at most, for what is not frames


def wire_tab(wire: Wire, budget: int = BUDGET) -> dict[str, Any]:
    """The wire as the page gets it.

    ``exchanges``: ``{attempt, method, url, request, status, response, sent, reads, size, whole, renewed}`` each, ``request`` and
    ``response`` lists of name and value. ``frames``: ``{at, gap, size, read, reads, together, kind, text, cut, became, marks, attempt}``
    each, times in ms, without what is usual. ``left_out`` says where frames are missing and how many: ``{after, frames, size}``.
    """
    exchanges = [_exchange(exchange) for exchange in wire.exchanges[-MOST_EXCHANGES:]]
    while len(exchanges) > 1 and _size(exchanges) > _PART:
        exchanges.pop(0)
    frames = wire.frames()
    room = budget - _size(exchanges) - 500
    head, used = _fitting(frames, room // 2)
    tail, _ = _fitting(reversed(frames[len(head) :]), room - used)
    missing = frames[len(head) : len(frames) - len(tail)]
    tab: dict[str, Any] = {
        "protocol": wire.protocol,
        "size": wire.size,
        "reads": sum(len(exchange.ends) for exchange in wire.exchanges),
        "exchanges": exchanges,
        "frames": [*head, *reversed(tail)],
    }
    if missing:
        tab["left_out"] = {"after": len(head), "frames": len(missing), "size": sum(frame.size for frame in missing)}
    if wire.left_out:
        tab["not_kept"] = wire.left_out
    return tab


def _fitting(frames: Iterable[Listed], room: int) -> tuple[list[dict[str, Any]], int]:
    """The first frames that fit into so many bytes, and how many bytes that are."""
    fitting, used = [], 0
    for frame in frames:
        row = _row(frame)
        size = _size(row) + 2
        if used + size > room:
            break
        fitting.append(row)
        used += size
    return fitting, used


def _row(frame: Listed) -> dict[str, Any]:
    raw = frame.raw[: MOST_TEXT * 4]  # no character is longer than four bytes
    text = raw.decode("utf-8", "backslashreplace")
    usual: Mapping[str, Any] = {
        "gap": 0.0,
        "reads": 1,
        "together": 1,
        "kind": "frame",
        "became": [],
        "marks": [],
        "attempt": 0,
        "cut": False,
    }
    row = {
        "at": round(frame.at_ns / 1e6, 3),
        "gap": round(frame.gap_ns / 1e6, 3),
        "size": frame.size,
        "read": frame.read,
        "reads": frame.reads,
        "together": max(1, frame.together),
        "kind": frame.kind,
        "text": text[:MOST_TEXT],
        "cut": len(text) > MOST_TEXT or len(raw) < frame.size,
        "became": [[name, plain_text(said)[:MOST_SAID]] for name, said in frame.became[:20]],
        "marks": list(frame.marks),
        "attempt": frame.attempt,
    }
    return {name: value for name, value in row.items() if name not in usual or usual[name] != value}


def _exchange(exchange: Exchange) -> dict[str, Any]:
    response = exchange.response
    return {
        "attempt": exchange.attempt,
        "method": exchange.request.method,
        "url": plain_text(exchange.request.url)[:MOST_VALUE],
        "request": _headers(exchange.request.headers),
        "status": response.status if response is not None else None,
        "response": _headers(response.headers) if response is not None else [],
        "sent": round(exchange.sent_ns / 1e6, 3) if exchange.sent_ns is not None else None,
        "reads": len(exchange.ends),
        "size": len(exchange.body),
        "whole": exchange.whole,
        "renewed": exchange.renewed,
    }


def _headers(headers: Headers) -> list[list[str]]:
    return [[plain_text(name)[:MOST_VALUE], plain_text(value)[:MOST_VALUE]] for name, value in headers[:MOST_HEADERS]]


def _size(value: Sequence[Any] | Mapping[str, Any]) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
