"""What the addresses answer, read from the store. Runs on threads; imported with the first request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenstream_magic.display.bundle import document as whole
from tokenstream_magic.display.listing import entry
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.flags import OUTCOMES
from tokenstream_magic.labserver.cell import cell_of
from tokenstream_magic.plain import plain
from tokenstream_magic.record import Transcript
from tokenstream_magic.transcripts import open_store
from tokenstream_magic.transcripts.addresses import directory
from tokenstream_magic.transcripts.finding import Filters
from tokenstream_magic.transcripts.rows import from_row

MOST = 200
USUAL = 50
MODELS = 200


def page(asked: Mapping[str, str]) -> dict[str, Any]:
    """A page of the list, newest first. Raises BadRequest and StoreError."""
    filters = dict(asked)
    limit = _whole("limit", filters.pop("limit", str(USUAL)))
    cursor = filters.pop("cursor", None)
    status = filters.pop("outcome", None)
    if status is not None and status not in OUTCOMES:
        raise BadRequest("There is no such outcome.", f"There are: {', '.join(OUTCOMES)}.")
    if not 1 <= limit <= MOST:
        raise BadRequest(f"limit is a whole number from 1 to {MOST}.")
    wanted = Filters(**filters, status=status, before=None if cursor is None else _whole("cursor", cursor))
    rows = open_store().rows(limit + 1, wanted, brief=True)
    shown = rows[:limit]
    return {
        "transcripts": [plain(_row(from_row(row))) for row in shown],
        "cursor": str(shown[-1]["seq"]) if len(rows) > limit else None,
    }


def document(id: str) -> dict[str, Any] | None:
    """A transcript as the content of a ``.tokenstream.json`` file; None when there is none."""
    found = _get(id)
    return None if found is None else dict(plain(whole(found)))


def cell(id: str) -> dict[str, Any] | None:
    """The cell that asks the same again, and what of the request is not in it; None when there is no such transcript."""
    found = _get(id)
    if found is None:
        return None
    source, missing = cell_of(found)
    return {"source": source, "missing": missing}


def delete(id: str) -> dict[str, Any] | None:
    """Removes a transcript for good; None when there is none. Raises BadRequest while it streams."""
    if _get(id) is None:
        return None
    return {"deleted": open_store().delete(id).id}


def models() -> dict[str, Any]:
    """The models there are transcripts of, by name."""
    return {"models": [plain(name) for name in open_store().models() if name]}


def status() -> dict[str, Any]:
    """How it stands with the store; where it is stays with the server."""
    store = open_store()
    told = store.status()
    kept = ("size", "transcripts", "version", "on", "unsaved")
    return {
        "database": store.engine.dialect.name,
        **{name: told[name] for name in kept},
        "read_only": told["read_only"] is not None,
    }


def without_directories(text: str) -> str:
    """``text`` with the store called by its file's name: a page needs no directory of the server's."""
    place = directory()
    return text.replace(f"{place}/", "").replace(f"{place}\\", "") if len(place) > 1 else text


def _row(transcript: Transcript) -> dict[str, Any]:
    data, about = entry(transcript)
    return {**data, **about}


def _get(id: str) -> Transcript | None:
    store = open_store()
    try:
        return store.get(id)
    except BadRequest:  # of a whole id it can only mean this
        return None


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest(f"{name} is a whole number.")
    return int(text)
