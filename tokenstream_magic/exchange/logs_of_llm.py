"""The ``logs.db`` of Simon Willison's ``llm``, read only and without running anything that is in it.

Its schema grew over the years: columns that are not there are empty, and since version 0.35 what is new is in other tables
(:mod:`tokenstream_magic.exchange.turns_of_llm`), beside the old ones. Rows become transcripts with the prompt, the answer, the
figures it kept and its conversation; it keeps no arrival times.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.exchange.checks import TEXT_LIMIT, Unfit
from tokenstream_magic.exchange.turns_of_llm import TABLES, turns
from tokenstream_magic.plain import plain, plain_text
from tokenstream_magic.record import Choice, Transcript, Usage, ulid
from tokenstream_magic.timing.metrics import Timing

TAG = "llm"
_COLUMNS = (
    "id model resolved_model prompt system options_json response reasoning conversation_id duration_ms datetime_utc input_tokens"
    " output_tokens token_details"
).split()
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_MOST_STEPS = 200_000_000  # of SQLite's machine, so that no query goes on for ever
_STEPS = 1_000_000


def transcripts(file: Path) -> Iterator[Transcript]:
    """The responses in a ``logs.db``, oldest first. Raises BadRequest."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise BadRequest(f"{file.name} cannot be opened: {one_line(error)}.", "Copy it here first.") from None
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA query_only = ON")
        left = [_MOST_STEPS // _STEPS]

        def ticked() -> int:
            left[0] -= 1
            return int(left[0] < 0)

        connection.set_progress_handler(ticked, _STEPS)
        connection.row_factory = sqlite3.Row
        older, newer = _kinds(connection, file)
        for number, row in enumerate(connection.execute(_query(connection, file)) if older else (), 1):
            yield _transcript(dict(row), f"{file.name}, response {number}")
        for number, turn in enumerate(turns(connection, file.name) if newer else (), 1):
            yield _transcript(turn, f"{file.name}, turn {number}")
    except sqlite3.Error as error:
        raise BadRequest(f"{file.name} cannot be read: {one_line(error)}.", "Nothing was imported.") from None
    finally:
        connection.close()


def _kinds(connection: sqlite3.Connection, file: Path) -> tuple[bool, bool]:
    """Whether the older and the newer tables are there; a view of such a name would run whatever it says and is refused."""
    names = ("responses", "transcripts", "fragments", "attachments", *TABLES)
    asked = f"SELECT name, type FROM sqlite_master WHERE name IN ({', '.join('?' * len(names))})"  # noqa: S608 - question marks
    kinds = {row["name"]: row["type"] for row in connection.execute(asked, names)}
    older = kinds.get("responses") == "table"
    newer = all(kinds.get(name) == "table" for name in (*TABLES, "fragments", "attachments"))
    if kinds.get("transcripts") == "table" and "responses" not in kinds:
        raise BadRequest(f"{file.name} is a database of ours.", "Name it in TOKENSTREAM_DATABASE, or export from it.")
    if not (older or newer) or any(kinds.get(name, "table") != "table" for name in ("responses", *TABLES)):
        raise BadRequest(f"{file.name} is a database, but no logs.db of llm.", "llm logs path tells where that is.")
    return older, newer


def _query(connection: sqlite3.Connection, file: Path) -> str:
    """What is read of the older tables."""
    there = {row[1] for row in connection.execute("PRAGMA table_info(responses)")}  # generated columns are not among them
    if not {"id", "prompt", "response"} <= there:
        raise BadRequest(f"{file.name} is a logs.db of a form that is not known.", "Nothing was imported.")
    columns = ", ".join(name if name in there else f"NULL AS {name}" for name in _COLUMNS)
    return f"SELECT {columns} FROM responses ORDER BY rowid"  # noqa: S608 - our own names


def _transcript(row: Mapping[str, Any], where: str) -> Transcript:
    def text(name: str) -> str:
        value = row[name]
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > TEXT_LIMIT:
            raise Unfit(f"{where} has a {name} that is no text of a size we know.", "Nothing was imported.")
        return plain_text(value)

    def count(name: str) -> int | None:
        value = row[name]
        if value is None:
            return None
        if not isinstance(value, int) or not 0 <= value < 1 << 53:
            raise Unfit(f"{where} has {name} that are no number.", "Nothing was imported.")
        return value

    created, duration = _moment(text("datetime_utc"), where), count("duration_ms")
    usage = Usage(count("input_tokens"), count("output_tokens"))
    usage.source = "reported" if usage.input_tokens is not None or usage.output_tokens is not None else None
    identifier, system, prompt, answer = str(row["id"]), text("system"), text("prompt"), text("response")
    messages = [{"role": role, "content": words} for role, words in (("system", system), ("user", prompt)) if words]
    own = identifier.upper()
    transcript = Transcript(
        id=own if _ULID.fullmatch(own) else ulid(int(created.timestamp() * 1000), hashlib.sha256(identifier.encode()).digest()[:10]),
        created_at=created,
        model=text("model")[:4096],
        resolved_model=text("resolved_model")[:4096] or None,
        prompt=prompt,
        system=system or None,
        messages=row.get("messages", messages),
        options=_options(text("options_json"), where),
        outcome="complete",
        conversation_id=text("conversation_id")[:4096] or None,
        choices=[Choice(text=answer, reasoning=text("reasoning"), tool_calls=row.get("tool_calls", []))],
        usage=usage,
        tags=[TAG],
    )
    transcript.timing = Timing(e2e_ms=None if duration is None else float(duration))
    return transcript


def _options(text: str, where: str) -> dict[str, Any]:
    try:
        options = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        raise Unfit(f"{where} has options that are no JSON.", "Nothing was imported.") from None
    if not isinstance(options, dict):
        raise Unfit(f"{where} has options that are no object.", "Nothing was imported.")
    found: dict[str, Any] = plain(options)
    return {name: value for name, value in found.items() if value is not None}


def _moment(text: str, where: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
        at = at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)
        if not 1990 <= at.year <= 2200:
            raise ValueError
    except (ValueError, OverflowError):
        raise Unfit(f"{where} has no date.", "Nothing was imported.") from None
    return at
