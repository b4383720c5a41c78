"""What alembic runs when it is called by hand; the store itself uses :func:`~tokenstream_magic.transcripts.migrations.migrate`."""

from __future__ import annotations

from alembic import context

from tokenstream_magic.transcripts.addresses import default_url
from tokenstream_magic.transcripts.schema import metadata

if not context.is_offline_mode():
    import sqlalchemy as sa

    engine = sa.create_engine(default_url())
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
        with context.begin_transaction():
            context.run_migrations()
