"""Many settled transcripts as SQLite takes them fastest: a column at a time, and what all of them have in common once.

Of the columns of a transcript most are empty, or the same in every one that is brought in with it: they become a part of the
statement, and only the others are given to it row by row. Keys are masked as everywhere; what is different is how often somebody
looks: texts that together, of many rows, hold no beginning of a key have nothing to mask.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields
from datetime import datetime, timezone
from functools import lru_cache
from itertools import chain, count
from operator import attrgetter, itemgetter
from typing import Any

import orjson
import sqlalchemy as sa

from tokenstream_magic import catalog
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.redaction import Redactor
from tokenstream_magic.timing.packing import encode
from tokenstream_magic.transcripts.rows import SAME, choices_of, redacted, to_row
from tokenstream_magic.transcripts.schema import TIMING, USAGE, to_json, transcripts

Column = Any
"""The values of some rows in a tuple, or the one value that all of them have."""

Ready = tuple[int, tuple[str, ...], list[Any]]
"""Rows that can be written: see :meth:`Inserting.ready`."""

_JSON = [column.name for column in transcripts.c if isinstance(column.type, sa.JSON) and column.name in SAME]
_FREE = ["id", "outcome", "execution_count", "clock_offset_ms"]  # nothing a key could be in
_NAMED = ["model", "resolved_model", "endpoint", "protocol", "stop_cause", "notebook", "package_version", "host"]  # the same in many rows
_TEXT = [name for name in SAME if name not in (*_JSON, *_FREE, *_NAMED)]
_SAID = ["text", "reasoning", "refusal", "finish_reason"]
_PARTS = ["choices", "timing", "usage", "timeline", "created_at", "growing"]
_NAMES = [
    *_FREE,
    *_NAMED,
    *_TEXT,
    *_JSON,
    *_SAID,
    "choices",
    *TIMING,
    "server_timing",
    *USAGE,
    "usage_source",
    "timeline",
    "created_at",
]
_cells = attrgetter(*_FREE, *_NAMED, *_TEXT, *_JSON, *_PARTS)
_said = attrgetter(*_SAID)
_beside = attrgetter("index", *(f.name for f in fields(Choice) if f.name not in (*_SAID, "index")))
_figures, _counts = attrgetter(*TIMING, "server"), attrgetter(*USAGE, "source")
_in_order = itemgetter(*_NAMES)
_STRUCTURED = {*_JSON, "choices", "server_timing"}
_COUNT = _FREE.index("execution_count")
_AFTER_FREE, _AFTER_NAMED = len(_FREE), len(_FREE) + len(_NAMED)
_AFTER_TEXT = _AFTER_NAMED + len(_TEXT)
_AFTER_JSON = _AFTER_TEXT + len(_JSON)

_EXACT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_EMPTY: dict[type, str] = {type(None): "null", dict: "{}", list: "[]"}
_NOTHING = ("", "", "", None)
_ENDINGS = {str, type(None)}
_DATE, _SECOND = len("2026-01-02T03:04:05.678901+00:00"), len("2026-01-02T03:04:05")
_LARGEST = (1 << 63) - 1
_MANY = 1000
_WORTH = 8  # rows: for fewer no statement of their own is made
_SHORT = 200  # characters of a value that is a part of a statement
TOGETHER = 500  # rows in one statement, of at most so many columns that SQLite takes them: 32766 values
_MANY_VALUES = (3, 32)  # since this version of SQLite
_VARIES = object()


class Masks:
    """Says of which rows something may have to be masked."""

    def __init__(self) -> None:
        self.redactor = catalog.redactor()
        keys = self.redactor.values
        self.seen = 0  # characters
        every = [*keys, *(to_json(key)[1:-1] for key in keys)]
        self._look = Redactor(every, patterns=bool(self.redactor.kinds))  # as they are in text, and in JSON
        self._clean: set[str | None] = set()

    def unneeded(self, named: Iterable[Column], texts: Iterable[Column]) -> bool:
        """Whether there is no beginning of a key in all of these. Raises TypeError for what is no text, UnicodeEncodeError for half of one."""
        joined = "\0".join(filter(None, _every(texts)))
        self.seen += len(joined)  # first: whatever comes of it, so much waits
        if not joined.isascii():
            joined.encode()
        new = {*_every(named)} - self._clean
        if new:
            of_new = "\0".join(filter(None, new))
            of_new.encode()
            if self._look.may_find(of_new):
                return False
            if len(self._clean) < _MANY:
                self._clean |= new
        return not self._look.may_find(joined)


def _every(columns: Iterable[Column]) -> Iterator[Any]:
    return chain.from_iterable(column if type(column) is tuple else (column,) for column in columns)


def columns(part: list[Transcript], masks: Masks) -> list[Column]:
    """The columns of at least one transcript, every key in them masked."""
    made: list[Column] = []
    try:
        made, named, texts = _columns(part)
        if all(transcript.growing is None for transcript in part) and masks.unneeded(named, texts):
            return made
        dirty = [not _is_clean(transcript, n, named, texts, masks) for n, transcript in enumerate(part)]
    except (TypeError, UnicodeEncodeError):  # something that should be text is not
        dirty = [True] * len(part)
    if not any(dirty):
        return made
    masked = {n: _masked(transcript, masks) for n, transcript in enumerate(part) if dirty[n]}
    return [tuple(masked[n][place] if n in masked else _cell(made[place], n) for n in range(len(part))) for place in range(len(_NAMES))]


def _is_clean(transcript: Transcript, n: int, named: list[Column], texts: list[Column], masks: Masks) -> bool:
    own = ([_cell(column, n) for column in several] for several in (named, texts))
    return transcript.growing is None and masks.unneeded(*own)


def _cell(column: Column, n: int) -> Any:
    return column[n] if type(column) is tuple else column


def _masked(transcript: Transcript, masks: Masks) -> tuple[Any, ...]:
    row = redacted(to_row(transcript), masks.redactor)
    return tuple(_as_json(value) if name in _STRUCTURED else value for name, value in zip(_NAMES, _in_order(row), strict=True))


def _columns(part: list[Transcript]) -> tuple[list[Column], list[Column], list[Column]]:
    """Columns as they are; and of them those a key could be in: names that many rows share, and texts."""
    cells = [*zip(*map(_cells, part), strict=True)]
    choices, timing, usage, timelines, created, _ = cells[_AFTER_JSON:]
    data = [*map(_structured, cells[_AFTER_TEXT:_AFTER_JSON])]
    said, about, is_text = _answers(choices)
    *figures, server = zip(*map(_figures, timing), strict=True)
    *counts, sources = zip(*map(_counts, usage), strict=True)
    server, source = _structured(server), _folded(sources)
    cells[_COUNT] = _bounded(cells[_COUNT])
    plain = [_folded(column) for column in cells[:_AFTER_TEXT]]
    made = [
        *plain,
        *data,
        *said,
        about,
        *map(_folded, figures),
        server,
        *(_folded(_bounded(column)) for column in counts),
        source,
        tuple([bytearray(encode(timeline)) for timeline in timelines]),  # of bytes the driver asks first who could adapt them
        _dates(created),
    ]
    texts = [*plain[_AFTER_NAMED:], *data, *said, server, source]
    return made, plain[_AFTER_FREE:_AFTER_NAMED], [*texts, about] if is_text else texts


def _dates(created: tuple[datetime, ...]) -> tuple[str, ...]:
    """Moments in UTC as ISO 8601, to the microsecond."""
    if {*map(type, created)} == {datetime} and {at.tzinfo for at in created} == {timezone.utc}:
        texts = orjson.dumps(created).decode()[2:-2].split('","')
        return tuple([text if len(text) == _DATE else f"{text[:_SECOND]}.000000+00:00" for text in texts])  # it leaves zeros out
    return tuple([at.astimezone(timezone.utc).isoformat(timespec="microseconds") for at in created])


def _answers(several: tuple[list[Choice], ...]) -> tuple[list[Column], Column, bool]:
    """The texts of the first choices, what else there is of all of them, and whether a key could be in that."""
    if {*map(len, several)} == {1}:
        firsts = [choices[0] for choices in several]
        said = [*zip(*map(_said, firsts), strict=True)]
        index, *beside = zip(*map(_beside, firsts), strict=True)
        if not any(map(any, beside)) and {*map(type, said[-1])} <= _ENDINGS:
            columns = [*map(_folded, said)]
            index = _folded(index)
            if type(index) is tuple or type(columns[-1]) is tuple:
                return columns, _folded(tuple(map(_about, _spread(index, firsts), said[-1]))), False
            return columns, _about(index, columns[-1]), False
    said = [*zip(*(_said(choices[0]) if choices else _NOTHING for choices in several), strict=True)]
    return [*map(_folded, said)], _folded(tuple(_as_json(choices_of(choices)) for choices in several)), True


def _spread(column: Column, rows: Collection[Any]) -> tuple[Any, ...]:
    return column if type(column) is tuple else (column,) * len(rows)


def _folded(column: tuple[Any, ...]) -> Column:
    """The one value that all of these are, where it can be a part of a statement."""
    first = column[0]
    if len(column) < _WORTH or column.count(first) < len(column):
        return column
    if first is None or (type(first) is int and -_LARGEST <= first <= _LARGEST) or (type(first) is float and not first):
        return first
    return first if type(first) is str and len(first) <= _SHORT and first.isascii() and first.isprintable() else column


def _structured(column: tuple[Any, ...]) -> Column:
    """A column of JSON."""
    if not any(column):
        kinds = {*map(type, column)}
        kind = kinds.pop()
        if not kinds and kind in _EMPTY and len(column) >= _WORTH:
            return _EMPTY[kind]
    return _folded(tuple(map(_as_json, column)))


def _bounded(column: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Counts, without those that are too large."""
    if max(map(abs, filter(None, column)), default=0) <= _LARGEST:
        return column
    return tuple(count if count is None or -_LARGEST <= count <= _LARGEST else None for count in column)


@lru_cache(64)
def _about(index: int, finish_reason: str | None) -> str:
    """What is kept of a single choice with nothing beside its texts."""
    return _as_json(choices_of([Choice(index, finish_reason=finish_reason)]))


def _as_json(value: Any) -> str:
    """JSON that reads back as what the other writers write; without the spaces."""
    if not value and type(value) in _EMPTY:
        return _EMPTY[type(value)]
    try:
        text = orjson.dumps(value, option=_EXACT)
    except TypeError:  # numbers too large for it, names that are no text, halves of surrogate pairs
        return to_json(value)
    return to_json(value) if b"null" in text else text.decode()  # its null may have been no number


class Inserting:
    """Makes columns ready for SQLite, many rows for a statement, and writes them; only the second wants a connection.

    What SQLite does with so many rows is in nobody's way, and it is asked the same again and again.
    """

    def __init__(self) -> None:
        self._kinds: list[tuple[Any, ...]] = []  # the values that all rows had until then, one longer than the next

    def ready(self, columns: list[Column]) -> Ready:
        """What is written of at least one row: its kind, the ids, and row by row what is no part of the statement."""
        common = self._common([_VARIES if type(column) is tuple else column for column in columns])
        rows, ids = len(columns[0]), columns[0]
        varying = [
            column if type(column) is tuple else (column,) * rows
            for shared, column in zip(common, columns, strict=True)
            if shared is _VARIES
        ]
        return len(self._kinds) - 1, ids, [None, None, *chain.from_iterable(zip(*varying, strict=True))]

    @staticmethod
    def is_whole(ready: Ready) -> bool:
        """Whether these are as many as one statement takes: all of them are written, or none is."""
        return len(ready[1]) == TOGETHER and sqlite3.sqlite_version_info >= _MANY_VALUES

    def insert(self, connection: sqlite3.Connection, ready: Ready, known: Collection[str], now: float, first: int) -> int:
        """Writes those rows whose ids are not known, from this place on in the order of arrival; how many."""
        kind, ids, values = ready
        common = self._kinds[kind]
        if not known and self.is_whole(ready):
            values[:2] = now, first
            connection.execute(_statement(common, len(ids)), values)
            return len(ids)
        width, places = (len(values) - 2) // len(ids), count(first)
        new = (values[start : start + width] for id, start in zip(ids, count(2, width)) if id not in known)
        connection.executemany(_statement(common, 1), ([now, next(places), *row] for row in new))
        return next(places) - first

    def _common(self, values: list[Any]) -> tuple[Any, ...]:
        """Those of these values that all rows had until now."""
        before = self._kinds[-1] if self._kinds else tuple(values)
        common = tuple(old if _is_same(old, value) else _VARIES for old, value in zip(before, values, strict=True))
        if not self._kinds or common != before:
            self._kinds.append(common)
        return common


def _is_same(old: Any, value: Any) -> bool:
    return type(old) is type(value) and bool(old == value)


@lru_cache(64)
def _statement(common: tuple[Any, ...], rows: int) -> str:
    """Its values are the time of writing, the first place in the order of arrival, and then row by row what varies."""
    place = count(1)
    chosen = ", ".join(f"column{next(place)}" if value is _VARIES else _literal(value) for value in common)
    width = next(place) - 1
    values = ", ".join(f"({'?, ' * width}{n})" for n in range(rows))
    return (
        f"INSERT INTO transcripts ({', '.join(_NAMES)}, updated_at, seq)"  # noqa: S608 - ours
        f" SELECT {chosen}, ?, ? + column{width + 1} FROM (VALUES {values})"
    )


def _literal(value: str | float | None) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
