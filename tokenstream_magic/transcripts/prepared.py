"""Queries that are asked again and again, put into SQL once.

SQLite answers "which row has this id" in twenty microseconds; building, keying and wrapping the query takes fifteen times
that. So the text is made once from the same tables as every other query, SQLite is given it without anything between,
and what it answers goes through the same column types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.readable import from_json
from tokenstream_magic.transcripts.schema import to_json

_Row = dict[str, Any]
_Process = Callable[[Any], Any]


class Prepared:
    """A query whose values are bound parameters with names."""

    def __init__(self, query: sa.Select[Any]) -> None:
        self.query = query

    def rows(self, database: Database, **values: Any) -> Sequence[Any]:
        """Its rows, by the names of their columns. Raises StoreError."""
        if not database.is_sqlite:
            return database.read(self.query.params(values))
        text, order, fixed, names, typed = self._compiled
        given = fixed | values
        found: list[_Row] = []
        for row in database.fetch(text, [given[name] for name in order]):
            made = dict(zip(names, row, strict=True))
            for name, process in typed:
                if made[name] is not None:
                    made[name] = process(made[name])
            found.append(made)
        return found

    @cached_property
    def _compiled(self) -> tuple[str, list[str], _Row, list[str], list[tuple[str, _Process]]]:
        """The text, its parameters in their order, those with a value of their own, the columns, and how to read some of them."""
        from sqlalchemy.dialects import sqlite  # not for a server's sake

        dialect = sqlite.dialect(json_serializer=to_json, json_deserializer=from_json)
        compiled = self.query.compile(dialect=dialect)
        columns = self.query.selected_columns
        read = ((column.name, _reader(column.type, dialect)) for column in columns)
        return (
            str(compiled),
            list(compiled.positiontup or ()),
            dict(compiled.params),
            [column.name for column in columns],
            [(name, process) for name, process in read if process is not None],
        )


def _reader(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> _Process | None:
    process = kind.dialect_impl(dialect).result_processor(dialect, None)
    if process is None or not isinstance(kind, sa.JSON):
        return process
    return lambda value: None if value == "null" else process(value)
