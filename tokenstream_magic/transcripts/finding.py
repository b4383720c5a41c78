"""Which transcripts: filters, and words looked for by the database's own full-text index.

What a reader types is never taken for a query language: every word is quoted, and a word with more in it than letters
and digits must also be there literally. Words are looked for by their beginnings, whatever their case, all of them
in one transcript; text between double quotes is one word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any

import sqlalchemy as sa

from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.transcripts.prepared import Prepared
from tokenstream_magic.transcripts.schema import SEARCHED, TIMING, USAGE, VECTOR, WORDS, to_json, transcripts

HEAD = 200  # characters of a text that a list shows

_WORD = re.compile(r'"([^"]+)"|(\S+)')
_ACCENTS = re.compile("[\u0300-\u036f]+")
_PUNCTUATION = re.compile(r"[\x00-/:-@\[-`{-\x7f]+")
_AGO = re.compile(r"(\d{1,6})\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONG_AGO = timedelta(days=36_500)
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")

_BRIEF_TEXTS = ("prompt", "text", "reasoning", "refusal")
_BRIEF = {
    *("id created_at outcome stop_cause model resolved_model endpoint protocol error finish_reason usage_source tags note".split()),
    *("conversation_id parent_id notebook cell_id execution_count".split()),
    *TIMING,
    *USAGE,
}

_EQUAL = {"model": transcripts.c.model, "status": transcripts.c.outcome, "conversation": transcripts.c.conversation_id}


@dataclass(frozen=True)
class Filters:
    """What a transcript has to be; None and empty ask for nothing."""

    model: str | None = None
    query: str | None = None
    status: str | None = None
    tag: str | None = None
    since: str | datetime | None = None
    notebook: str | None = None
    cell: str | None = None
    conversation: str | None = None
    before: int | None = None
    """A place in the order of arrival: only what came before it, for the next page of a list."""
    whole_model: str | None = None
    """The name of one model, where ``model`` may be an endpoint with all its models."""

    def __bool__(self) -> bool:
        return any(value for value in vars(self).values())


def columns(*, brief: bool) -> list[Any]:
    """All columns; ``brief`` for a list: texts cut, everything long left out."""
    if not brief:
        return list(transcripts.c)
    chosen: list[Any] = []
    for column in transcripts.c:
        if column.name in _BRIEF_TEXTS:
            chosen.append(sa.func.substr(column, 1, HEAD).label(column.name))
        elif column.name in _BRIEF or column.name == "seq":
            chosen.append(column)
        else:
            chosen.append(sa.literal(None).label(column.name))
    return chosen


def newest(filters: Filters, limit: int, dialect: str, *, chosen: list[Any]) -> list[sa.Select[Any]]:
    """Queries whose rows together, newest first and each once, are the transcripts asked for.

    One query for each way a model can be meant, so that each is answered from one index.
    """
    query = sa.select(*chosen).order_by(transcripts.c.seq.desc()).limit(max(0, limit))
    for condition in _conditions(filters):
        query = query.where(condition)
    if filters.query:
        query = _with_words(query, filters.query, dialect)
    return [query.where(meant) for meant in _models(filters.model)] if filters.model else [query]


def often(filters: Filters, *, brief: bool) -> Prepared | None:
    """The query of :func:`newest` for what is asked most, by values that are equal to a column's; None for anything else.

    Its parameters are ``limit`` and the filters that are set.
    """
    asked = {name for name, value in vars(filters).items() if value}
    if asked - _EQUAL.keys() or "/" not in (filters.model or "/"):
        return None
    return _often(tuple(sorted(asked)), brief)


@cache
def _often(asked: tuple[str, ...], brief: bool) -> Prepared:
    query = sa.select(*columns(brief=brief)).order_by(transcripts.c.seq.desc()).limit(sa.bindparam("limit", type_=sa.Integer))
    for name in asked:
        query = query.where(_EQUAL[name] == sa.bindparam(name))
    return Prepared(query)


def moment(text: str | datetime, now: datetime | None = None) -> str:
    """A date, a date and time, or a time ago (``90m``, ``2h``, ``3d``, ``1w``, ``today``, ``yesterday``), as the column has it.

    What has no time zone is meant in the reader's. Raises BadRequest.
    """
    now = now or datetime.now(timezone.utc).astimezone()
    if isinstance(text, datetime):
        at = text
    else:
        word = text.strip().lower()
        ago = _AGO.fullmatch(word)
        if ago:
            at = now - min(timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]]), _LONG_AGO)
        elif word in ("today", "yesterday"):
            at = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=word == "yesterday")
        else:
            try:
                at = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
            except ValueError:
                raise BadRequest(f"{one_line(text)!r} is no date.", "Examples: 2026-11-01, 2026-11-01T09:30, 2h, 3d, today.") from None
    try:
        return at.astimezone(timezone.utc).isoformat(timespec="microseconds")
    except (OverflowError, ValueError):
        raise BadRequest(f"{one_line(text)!r} is no date we can count from.", "Example: 2026-11-01.") from None


def _conditions(filters: Filters) -> Iterator[sa.ColumnElement[bool]]:
    of = transcripts.c
    if filters.whole_model:
        yield of.model == filters.whole_model
    if filters.status:
        yield of.outcome == filters.status
    if filters.tag:
        yield sa.cast(of.tags, sa.Text).contains(to_json(filters.tag), autoescape=True)
    if filters.since:
        yield of.created_at >= moment(filters.since)
    if filters.notebook:
        yield of.notebook.contains(filters.notebook, autoescape=True)
    if filters.cell:
        yield of.cell_id.startswith(filters.cell, autoescape=True)
    if filters.conversation:
        yield of.conversation_id == filters.conversation
    if filters.before is not None:
        yield of.seq < filters.before


def _models(name: str) -> list[sa.ColumnElement[bool]]:
    exact = transcripts.c.model == name
    return [exact] if "/" in name else [exact, (transcripts.c.endpoint == name) & (transcripts.c.model != name)]


def _plain(word: str) -> str:
    """Without accents, as the server's index has it."""
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", word)))


def _with_words(query: sa.Select[Any], text: str, dialect: str) -> sa.Select[Any]:
    words = [quoted or word for quoted, word in _WORD.findall(text)]
    indexed = [word for word in words if any(map(str.isalnum, word)) and not _UNSPACED.search(word)]
    for word in words:
        if word not in indexed or not word.isalnum():
            query = query.where(sa.or_(*(transcripts.c[name].icontains(word, autoescape=True) for name in SEARCHED)))
    if not indexed:
        return query
    if dialect == "sqlite":
        match = " ".join('"' + word.replace('"', '""') + '"*' for word in indexed)
        fts = sa.table(WORDS, sa.column("rowid"), sa.column(WORDS))
        found = query.select_from(fts.join(transcripts, transcripts.c.seq == fts.c.rowid)).where(fts.c[WORDS].op("MATCH")(match))
        return found.order_by(None).order_by(fts.c.rowid.desc())  # the index walks backwards by itself
    if dialect == "postgresql":
        # it does not agree with Python on every letter: what it may take for something else is only looked for literally
        parts = {word: [p for p in _PUNCTUATION.split(_plain(word)) if p.isalpha() or (p and p.isascii())] for word in indexed}
        terms = " & ".join(f"{part}:*" for several in parts.values() for part in several)
        if terms:
            query = query.where(sa.text(f"{VECTOR} @@ to_tsquery('simple', :words)").bindparams(words=terms))
        indexed = [word for word in indexed if not parts[word]]
    for word in indexed:
        query = query.where(sa.or_(*(transcripts.c[name].icontains(word, autoescape=True) for name in SEARCHED)))
    return query
