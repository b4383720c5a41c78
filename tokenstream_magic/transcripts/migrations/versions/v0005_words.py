"""On a server words are found without their accents, and also far behind the beginning of a long text."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

_FUNCTION = r"""
CREATE OR REPLACE FUNCTION transcripts_vector(asked text, said text, thought text) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN to_tsvector('simple', regexp_replace(normalize(regexp_replace(normalize(
        concat_ws(' ', left(asked, 4000000), left(said, 4000000), left(thought, 4000000)),
        NFD), '[\u0300-\u036f]+', '', 'g'), NFC), '[^[:alnum:]]+', ' ', 'g'));
EXCEPTION WHEN program_limit_exceeded THEN
    RETURN transcripts_vector(
        left(asked, least(60000, length(asked) / 2)),
        left(said, least(60000, length(said) / 2)),
        left(thought, least(60000, length(thought) / 2)));
END $$
"""


def upgrade() -> None:
    """From version 4, on a server; a file of SQLite only gets the number."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_FUNCTION)
        op.execute("DROP INDEX transcripts_words")
        op.execute("CREATE INDEX transcripts_words ON transcripts USING gin (transcripts_vector(prompt, text, reasoning))")
    op.execute("UPDATE schema_version SET version = 5")
