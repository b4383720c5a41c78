"""Tables for search and figures that can be filled a little after the rows, in the place of three indexes of every row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_MEASURED = ("ttft_ms", "decode_tokens_per_second")


def upgrade() -> None:
    """From version 3, in SQLite; a server stays as it is. Words are entered already: what is new are the figures."""
    if op.get_bind().dialect.name == "sqlite":
        for name in ("transcripts_by_ending", "transcripts_by_ttft", "transcripts_by_rate", "transcripts_of_conversation"):
            op.drop_index(name, "transcripts")
        there = sa.text("conversation_id IS NOT NULL")
        op.create_index("transcripts_of_conversation", "transcripts", ["conversation_id", "seq"], sqlite_where=there)
        op.execute("CREATE TABLE behind (first INTEGER NOT NULL PRIMARY KEY, last INTEGER NOT NULL)")
        op.execute(
            "CREATE TABLE counted (what TEXT, model TEXT, range, n INTEGER NOT NULL, PRIMARY KEY (what, model, range)) WITHOUT ROWID"
        )
        op.execute(
            "CREATE TABLE measured (what TEXT, model TEXT, value REAL, seq INTEGER, PRIMARY KEY (what, model, value, seq)) WITHOUT ROWID"
        )
        settled = "FROM transcripts WHERE outcome != 'running'"
        op.execute(f"INSERT INTO counted SELECT 'outcome', model, outcome, count(*) {settled} GROUP BY model, outcome")
        for name in _MEASURED:
            known = f"{settled} AND {name} IS NOT NULL"
            op.execute(f"INSERT INTO counted SELECT '{name}', model, {_range(name)} AS part, count(*) {known} GROUP BY model, part")
            op.execute(f"INSERT INTO measured SELECT '{name}', model, {name}, seq {known} ORDER BY model, {name}, seq")
    op.execute("UPDATE schema_version SET version = 4")


def _range(column: str) -> str:
    cases = [f"WHEN {column} < 0 THEN -1", f"WHEN {column} < 1 THEN CAST({column} * 128 AS INTEGER)"]
    cases += [
        f"WHEN {column} < {4**power}.0 THEN {power * 1000} + CAST({column} * {128 / 4 ** (power - 1)!r} AS INTEGER)"
        for power in range(1, 17)
    ]
    return f"CASE {' '.join(cases)} ELSE 17000 END"
