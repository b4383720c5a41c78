"""What a run whose process died had saved: its row, the batches of its text, and the parts of its wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tokenstream_magic.transcripts.readable import DAMAGED, fitting
from tokenstream_magic.transcripts.rows import CRASHED, recovered, timeline_of
from tokenstream_magic.wire.parts_kept import assembled

_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)


def finished(row: Mapping[str, Any], saved: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], bytes | None]:
    """The columns that change, and the packed wire where there is one; ``saved`` are the batches, of which numbers below zero are wire.

    Of what is damaged the rest is kept.
    """
    batches = sorted((batch for batch in saved if isinstance(batch["number"], int)), key=lambda batch: int(batch["number"]))
    parts = [batch["timeline"] for batch in reversed(batches) if batch["number"] < 0]
    wire = assembled(parts, to_the_first_damaged=True) if parts else None
    return _columns(row, [batch for batch in batches if batch["number"] >= 0]), wire.pack() if wire is not None and wire.exchanges else None


def _columns(row: Mapping[str, Any], batches: list[Mapping[str, Any]]) -> dict[str, Any]:
    try:
        return recovered(row, batches)
    except _DAMAGE:
        pass
    whole = {name: fitting(name, value) for name, value in row.items()}
    whole["diagnostics"] = [*(whole.get("diagnostics") or []), DAMAGED]
    pieces = [[piece for piece in batch["pieces"] if _is_piece(piece)] for batch in batches if isinstance(batch["pieces"], list)]
    try:
        timeline_of(whole)
    except _DAMAGE:
        whole |= {"timeline": None, "moments": None}  # what the batches have counts from it
    try:
        return recovered(whole, [{"pieces": some, "timeline": b""} for some in pieces])
    except _DAMAGE:
        return {"outcome": "truncated", "stop_cause": "crash", "diagnostics": [*whole["diagnostics"], CRASHED], "owner": None}


def _is_piece(piece: Any) -> bool:
    return isinstance(piece, list) and [type(each) for each in piece] == [str, int, str]
