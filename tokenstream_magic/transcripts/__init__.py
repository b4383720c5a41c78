"""Transcripts at rest: kept from the moment a run starts, found again by id.

The functions here are the public face (``tokenstream_magic.transcripts.last()`` and so on); the database is opened
on first use. They raise :class:`~tokenstream_magic.errors.StoreError` when it cannot be read, and
:class:`~tokenstream_magic.errors.BadRequest` when there is no such transcript.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenstream_magic.record import Transcript
    from tokenstream_magic.transcripts.store import Store

__all__ = ["get", "last", "open_store", "recent", "search"]


def open_store() -> Store:
    """The open store of this process."""
    from tokenstream_magic.transcripts.store import current

    return current()


def get(id: str) -> Transcript:
    """The transcript with this id, a unique prefix of one, ``last``, or ``last~N`` (N before the last)."""
    return open_store().get(id)


def last() -> Transcript:
    """The newest transcript."""
    return open_store().get("last")


def recent(limit: int = 20, **filters: Any) -> Sequence[Transcript]:
    """The newest transcripts, newest first; filters: ``model``, ``status``, ``query``, ``tag``."""
    return open_store().recent(limit, **filters)


def search(text: str, limit: int = 20) -> Sequence[Transcript]:
    """The newest transcripts whose prompt or answer contains ``text``."""
    return open_store().recent(limit, query=text)
