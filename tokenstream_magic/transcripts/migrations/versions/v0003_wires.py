"""A table for the raw reads of runs that were asked to keep them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """From version 2. What is there stays as it is: no run of that version kept its wire."""
    op.create_table(
        "wires",
        sa.Column("transcript_id", sa.String(26), primary_key=True),
        sa.Column("packed", sa.LargeBinary, nullable=False),
    )
    op.execute("UPDATE schema_version SET version = 3")
