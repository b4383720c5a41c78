"""The tables of the present version. How older ones become these is in ``migrations/versions``."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import fields

import sqlalchemy as sa

from tokenstream_magic.record import Usage
from tokenstream_magic.timing.metrics import Timing

VERSION = 5
REVISION = "0005"

metadata = sa.MetaData()

to_json = json.JSONEncoder(ensure_ascii=False).encode  # a tag is found by its own letters

TIMING = [f.name for f in fields(Timing) if f.name != "server"]
USAGE = [f.name for f in fields(Usage) if f.name != "source"]
_WHOLE = {"chunks", "stalls"}

schema_version = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, nullable=False))
alembic_version = sa.Table("alembic_version", metadata, sa.Column("version_num", sa.String(32), nullable=False, primary_key=True))

transcripts = sa.Table(
    "transcripts",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("created_at", sa.String(32), nullable=False),  # ISO 8601 in UTC: sorts as text, the same in every database
    sa.Column("updated_at", sa.Float, nullable=False),  # seconds since the epoch: the writer's sign of life
    sa.Column("owner", sa.JSON),  # host, process and its start: who is writing while the outcome is running
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("stop_cause", sa.String(32)),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("resolved_model", sa.Text),
    sa.Column("endpoint", sa.Text),
    sa.Column("protocol", sa.String(32)),
    sa.Column("prompt", sa.Text),
    sa.Column("system", sa.Text),
    sa.Column("messages", sa.JSON),
    sa.Column("options", sa.JSON),
    sa.Column("template", sa.Text),
    sa.Column("variables", sa.JSON),
    sa.Column("text", sa.Text),
    sa.Column("reasoning", sa.Text),
    sa.Column("refusal", sa.Text),
    sa.Column("choices", sa.JSON),  # tool calls and finish reasons, and the texts of the second choice on
    sa.Column("finish_reason", sa.Text),
    sa.Column("error", sa.JSON),
    *(sa.Column(name, sa.BigInteger) for name in USAGE),
    sa.Column("usage_source", sa.String(16)),
    *(sa.Column(name, sa.BigInteger if name in _WHOLE else sa.Float) for name in TIMING),
    sa.Column("server_timing", sa.JSON),
    sa.Column("timeline", sa.LargeBinary),
    sa.Column("moments", sa.JSON),  # of version 1, whose timelines have no stamps of their own
    sa.Column("diagnostics", sa.JSON),
    sa.Column("conversation_id", sa.Text),
    sa.Column("parent_id", sa.String(26)),
    sa.Column("notebook", sa.Text),
    sa.Column("cell_id", sa.Text),
    sa.Column("execution_count", sa.Integer),
    sa.Column("tags", sa.JSON),
    sa.Column("note", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("system_fingerprint", sa.Text),
    sa.Column("package_version", sa.String(32)),
    sa.Column("host", sa.Text),  # of a worker, and how much its wall clock was ahead of the one that asked
    sa.Column("clock_offset_ms", sa.Float),
    sa.Column("seq", sa.BigInteger),  # the order of arrival, which a clock that is set back does not change
    sa.Index("transcripts_by_seq", "seq", unique=True),
    sa.Index("transcripts_of_model", "model", "seq"),
    sa.Index("transcripts_of_endpoint", "endpoint", "seq"),
    sa.Index("transcripts_of_outcome", "outcome", "seq"),
    sa.Index("transcripts_of_conversation", "conversation_id", "seq", sqlite_where=sa.text("conversation_id IS NOT NULL")),
    sa.Index("transcripts_by_date", "created_at"),
    # what SQLite has tables of its own for, see CREATE_BESIDE
    sa.Index("transcripts_by_ending", "model", "outcome").ddl_if(dialect="postgresql"),
    sa.Index("transcripts_by_ttft", "model", "ttft_ms").ddl_if(dialect="postgresql"),
    sa.Index("transcripts_by_rate", "model", "decode_tokens_per_second").ddl_if(dialect="postgresql"),
)

# what arrived since the row was written; folded into the row and removed when the run settles
batches = sa.Table(
    "batches",
    metadata,
    sa.Column("transcript_id", sa.String(26), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("pieces", sa.JSON, nullable=False),  # [channel, choice, text] in the order of arrival
    sa.Column("timeline", sa.LargeBinary, nullable=False),
)

# the raw reads of runs that were asked to keep them, as wire/kept.py packs them; nothing but their own reader loads them
wires = sa.Table(
    "wires",
    metadata,
    sa.Column("transcript_id", sa.String(26), primary_key=True),
    sa.Column("packed", sa.LargeBinary, nullable=False),
)

# beside the table: SQLite's FTS5, and an index of PostgreSQL's own
WORDS = "transcripts_words"
SEARCHED = ("prompt", "text", "reasoning")
# PostgreSQL's words: without accents, as SQLite's; without punctuation, or its parser would take paths, addresses and numbers with
# a sign for words of their own. Of a text with more words than a vector takes, a megabyte of them, and of one of many million
# characters, those at the beginning are known.
FUNCTION = "transcripts_vector"
VECTOR = f"{FUNCTION}({', '.join(SEARCHED)})"
_MOST, _FEWER = 4_000_000, 60_000  # characters of each column
_CUT = ",\n        ".join(f"left({name}, least({_FEWER}, length({name}) / 2))" for name in ("asked", "said", "thought"))
_CREATE_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {FUNCTION}(asked text, said text, thought text) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN to_tsvector('simple', regexp_replace(normalize(regexp_replace(normalize(
        concat_ws(' ', left(asked, {_MOST}), left(said, {_MOST}), left(thought, {_MOST})),
        NFD), '[\\u0300-\\u036f]+', '', 'g'), NFC), '[^[:alnum:]]+', ' ', 'g'));
EXCEPTION WHEN program_limit_exceeded THEN
    RETURN {FUNCTION}(
        {_CUT});
END $$
"""

# What SQLite is told of a transcript once it is settled: its words, and for figures by model how often each outcome came
# (``counted``), how many values are in each narrow range (``counted`` too), and the values in their order (``measured``).
# Places in ``behind`` are of transcripts that were written many at once and are not entered yet: transcripts/behind.py does it.
MEASURED = ("ttft_ms", "decode_tokens_per_second")
ENTERED_SINCE = 4  # the version of the database that has them

CREATE_BESIDE = {
    "sqlite": (
        (
            f"CREATE VIRTUAL TABLE {WORDS} USING fts5({', '.join(SEARCHED)}, content='transcripts', content_rowid='seq',"
            " tokenize='unicode61 remove_diacritics 2')"
        ),
        "CREATE TABLE behind (first INTEGER NOT NULL PRIMARY KEY, last INTEGER NOT NULL)",
        "CREATE TABLE counted (what TEXT, model TEXT, range, n INTEGER NOT NULL, PRIMARY KEY (what, model, range)) WITHOUT ROWID",
        "CREATE TABLE measured (what TEXT, model TEXT, value REAL, seq INTEGER, PRIMARY KEY (what, model, value, seq)) WITHOUT ROWID",
    ),
    "postgresql": (
        "CREATE SEQUENCE transcripts_seq",
        _CREATE_FUNCTION,
        f"CREATE INDEX {WORDS} ON transcripts USING gin ({VECTOR})",
    ),
}


def create(connection: sa.Connection) -> None:
    """All of it in an empty database."""
    metadata.create_all(connection)
    for statement in CREATE_BESIDE.get(connection.dialect.name, ()):
        connection.exec_driver_sql(statement)
    connection.execute(schema_version.insert().values(version=VERSION))
    connection.execute(alembic_version.insert().values(version_num=REVISION))


def version_of(connection: sa.Connection) -> int | None:
    """The version of a database; None when it is empty. Raises what is taken for damage when it is no number."""
    if not sa.inspect(connection).has_table("schema_version"):
        return None
    version = connection.execute(sa.select(sa.func.max(schema_version.c.version))).scalar()
    if version is not None and not isinstance(version, int):  # as one wrong byte makes it
        raise sa.exc.DatabaseError("", None, sqlite3.DatabaseError("malformed: the version of the tables is no number"))
    return version
