"""The order of arrival as a column, full-text search, and indexes for every filter."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_USAGE = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_input_tokens", "chunks", "stalls")
_INDEXES = {
    "transcripts_of_model": ("model", "seq"),
    "transcripts_of_endpoint": ("endpoint", "seq"),
    "transcripts_of_outcome": ("outcome", "seq"),
    "transcripts_of_conversation": ("conversation_id", "seq"),
    "transcripts_by_date": ("created_at",),
    "transcripts_by_ending": ("model", "outcome"),
    "transcripts_by_ttft": ("model", "ttft_ms"),
    "transcripts_by_rate": ("model", "decode_tokens_per_second"),
}
_VECTOR = (
    "to_tsvector('simple', regexp_replace(coalesce(substr(prompt, 1, 60000), '') || ' ' || coalesce(substr(text, 1, 60000), '')"
    " || ' ' || coalesce(substr(reasoning, 1, 60000), ''), '[^[:alnum:]]+', ' ', 'g'))"
)


def upgrade() -> None:
    """From version 1. The order of arrival of old rows is that of their ids."""
    dialect = op.get_bind().dialect.name
    op.add_column("transcripts", sa.Column("seq", sa.BigInteger))
    op.add_column("transcripts", sa.Column("host", sa.Text))
    op.add_column("transcripts", sa.Column("clock_offset_ms", sa.Float))
    op.execute(
        "UPDATE transcripts SET seq = place.seq FROM (SELECT id, row_number() OVER (ORDER BY id) AS seq FROM transcripts) AS place"
        " WHERE place.id = transcripts.id"
    )
    op.create_index("transcripts_by_seq", "transcripts", ["seq"], unique=True)
    for name, columns in _INDEXES.items():
        op.create_index(name, "transcripts", list(columns))
    op.drop_index("transcripts_by_model", "transcripts")
    op.drop_index("transcripts_by_outcome", "transcripts")
    if dialect == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE transcripts_words USING fts5(prompt, text, reasoning, content='transcripts', content_rowid='seq',"
            " tokenize='unicode61 remove_diacritics 2')"
        )
        op.execute(
            "INSERT INTO transcripts_words (rowid, prompt, text, reasoning)"
            " SELECT seq, prompt, text, reasoning FROM transcripts WHERE outcome != 'running'"
        )
    elif dialect == "postgresql":
        for column in _USAGE:
            op.alter_column("transcripts", column, type_=sa.BigInteger)
        op.execute("CREATE SEQUENCE transcripts_seq")
        op.execute("SELECT setval('transcripts_seq', (SELECT coalesce(max(seq), 0) + 1 FROM transcripts))")
        op.execute(f"CREATE INDEX transcripts_words ON transcripts USING gin ({_VECTOR})")
    op.execute("UPDATE schema_version SET version = 2")
