"""Transcripts at rest: kept from the moment a run starts, found again by id, words and filters.

The functions here are the public face (``tokenstream_magic.transcripts.last()`` and so on); the database is opened
on first use. They raise :class:`~tokenstream_magic.errors.StoreError` when it cannot be read, and
:class:`~tokenstream_magic.errors.BadRequest` when there is no such transcript.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from tokenstream_magic.record import Transcript
    from tokenstream_magic.transcripts.preferences import Standings
    from tokenstream_magic.transcripts.statistics import Group
    from tokenstream_magic.transcripts.store import Store
    from tokenstream_magic.wire.kept import Wire

__all__ = [
    "backup",
    "delete",
    "export",
    "get",
    "import_file",
    "last",
    "off",
    "on",
    "open_store",
    "recent",
    "search",
    "stats",
    "status",
    "to_pandas",
    "votes",
    "wire",
]

EVERY = 1 << 31


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
    """The newest transcripts, newest first; filters: ``model query status tag since notebook cell conversation``."""
    return open_store().recent(limit, **filters)


def search(text: str, limit: int = 20, **filters: Any) -> Sequence[Transcript]:
    """The newest transcripts with every word of ``text`` in prompt, answer or reasoning; ``"two words"`` between quotes are one."""
    return open_store().recent(limit, query=text, **filters)


def to_pandas(kind: str = "transcripts", *, limit: int | None = None, **filters: Any) -> pd.DataFrame:
    """The transcripts as a DataFrame, newest first; ``kind`` ``"chunks"`` gives one row a chunk. Filters as for :func:`recent`."""
    from tokenstream_magic.errors import BadRequest
    from tokenstream_magic.transcripts import frames

    if kind not in ("transcripts", "chunks"):
        raise BadRequest(f"There is no frame {kind!r}.", "There are: transcripts, chunks.")
    found = open_store().recent(EVERY if limit is None else limit, **filters)
    return frames.chunks(found) if kind == "chunks" else frames.transcripts(found)


def stats(by: Sequence[str] = ("model",)) -> list[Group]:
    """How many, how they ended, p50 and p95 of TTFT and rate, by columns such as ``model`` and options such as ``temperature``."""
    from tokenstream_magic.transcripts.statistics import groups

    return groups(open_store(), by)


def votes(**filters: Any) -> Standings:
    """How often each model was preferred in comparisons: win rates with intervals, and strengths. Filters as for :func:`recent`."""
    from tokenstream_magic.transcripts.preferences import VOTED, standings

    return standings(found for found in open_store().recent(EVERY, tag=VOTED, brief=True, **filters) if VOTED in found.tags)


def status() -> dict[str, Any]:
    """Path, size, count, schema version, whether runs are kept, and what is not written yet."""
    return open_store().status()


def wire(id: str) -> Wire | None:
    """The raw reads and headers of a run that kept them (``--wire``); None for any other."""
    return open_store().wire(id)


def delete(id: str) -> Transcript:
    """Removes a transcript for good and returns it."""
    return open_store().delete(id)


def backup(file: str | Path) -> Path:
    """A whole copy in a new SQLite file."""
    return open_store().backup(file)


def export(path: str | Path, ids: Sequence[str] = (), *, form: str | None = None, force: bool = False, **filters: Any) -> Path:
    """Writes transcripts to a new file, all of them unless ``ids`` or filters say which; its ending names the form.

    ``jsonl json csv md html parquet sse``. ``force`` replaces a file that is there. Raises BadRequest.
    """
    exchange = import_module("tokenstream_magic.exchange")  # by name: it stands above the store, and is needed by who exports only
    written: Path = exchange.export(exchange.chosen(ids, **filters), path, form=form, force=force)
    return written


def import_file(path: str | Path, protocol: str = "auto") -> tuple[int, int]:
    """Brings transcripts in from a file, all of it or nothing: how many are new, and how many were there already. Raises BadRequest.

    Files: ``.jsonl`` and ``.tokenstream.json`` of ours, a captured response body in one of the wire's protocols, the ``logs.db`` of llm.
    """
    brought: tuple[int, int] = import_module("tokenstream_magic.exchange").bring_in(path, protocol)
    return brought


def on() -> None:
    """Runs are kept from now on."""
    open_store().turn(on=True)


def off() -> None:
    """Runs are kept no longer, in any kernel."""
    open_store().turn(on=False)
