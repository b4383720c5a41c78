"""Transcripts taken out to files and brought in from them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenstream_magic import catalog, transcripts
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.record import Transcript


def export(found: Iterable[Transcript], path: str | os.PathLike[str], *, form: str | None = None, force: bool = False) -> Path:
    """Writes transcripts to a new file, in the form its ending names or ``form`` says; ``force`` replaces one that is there.

    Forms: ``jsonl`` (read back exactly), ``json`` (a document for JupyterLab), ``csv``, ``md``, ``html``, ``parquet``, ``sse`` (the
    body as it came). The file is 0600 and there only when it is whole. Raises BadRequest and StoreError.
    """
    from tokenstream_magic.exchange.files import target, written
    from tokenstream_magic.exchange.forms import FORMS

    ending = Path(os.fspath(path)).suffix.lower().removeprefix(".")
    chosen = form or {"markdown": "md", "htm": "html", "ndjson": "jsonl"}.get(ending, ending)
    if chosen not in FORMS:
        raise BadRequest(f"{chosen or 'A file without an ending'} is no form of export.", f"There are: {', '.join(FORMS)}.")
    file = target(path, force=force)
    with written(file, force=force) as out:
        running: list[str] = []
        count = FORMS[chosen](_settled(found, running), out, catalog.redactor())
        if not count and running:
            raise BadRequest(f"{running[0]} is still streaming.", "Export it when it has ended.")
        if not count:
            raise BadRequest("There is nothing to export.", "%transcripts lists what was kept.")
    return file


def chosen(ids: Sequence[str] = (), **filters: Any) -> Iterable[Transcript]:
    """The transcripts to take out: those named, those the filters find, or all of them, oldest first."""
    if ids and any(filters.values()):
        raise BadRequest("Transcripts are named and looked for at once.", "Leave out the ids, or the filters.")
    if ids:
        return [transcripts.get(id) for id in ids]
    if any(filters.values()):
        return reversed(transcripts.open_store().recent(transcripts.EVERY, **filters))
    return transcripts.open_store().each()


def bring_in(path: str | os.PathLike[str], protocol: str = "auto") -> tuple[int, int]:
    """Imports a file, all of it or nothing: jsonl and ``.tokenstream.json``, a response body, the ``logs.db`` of llm.

    How many transcripts are new, and how many were there already or twice in the file. Raises BadRequest.
    """
    from tokenstream_magic.exchange import reading

    store = transcripts.open_store()
    if store.database.read_only is not None:
        raise BadRequest(store.database.read_only)
    seen = 0

    def each() -> Iterator[Transcript]:
        nonlocal seen
        for transcript in reading.transcripts(path, protocol):
            seen += 1
            yield transcript

    new = store.add_many(each())  # which writes nothing before it has seen the last of them
    if not seen:
        raise BadRequest(f"There is no transcript in {Path(os.fspath(path)).name}.")
    store.catch_up()
    return new, seen - new


def _settled(found: Iterable[Transcript], running: list[str]) -> Iterator[Transcript]:
    """Those that have ended; the ids of the others go to ``running``."""
    for transcript in found:
        if transcript.outcome == "running":
            running.append(transcript.id)
        else:
            yield transcript
