"""The spool: transcripts kept in SQLite while a database server is away, and brought to it once, when it is back.

A row is removed here only after the server has committed it, and is known there by its id: however often this is
interrupted, it arrives once.
"""

from __future__ import annotations

import hashlib
import time

import sqlalchemy as sa

from tokenstream_magic.transcripts.database import Database
from tokenstream_magic.transcripts.rows import from_row, put, put_wire, remove, to_row
from tokenstream_magic.transcripts.schema import batches, transcripts, wires

AT_ONCE = 200
_ONE_AT_A_TIME = 730732  # a lock of the server's, known by this number


class Spool:
    """The local file that stands in for one server."""

    def __init__(self, server: sa.URL) -> None:
        from platformdirs import user_data_path

        address = server.set(password=None).render_as_string(hide_password=False)
        name = f"spool-{hashlib.sha256(address.encode()).hexdigest()[:12]}.db"
        file = user_data_path("tokenstream-magic", appauthor=False) / name
        self.has_any = file.exists()
        self.database = Database(sa.URL.create("sqlite", database=str(file)), ours=True)

    def forward(self, server: Database) -> int:
        """Brings the settled transcripts to the server; how many. Raises what the server raises."""
        settled = sa.select(transcripts).where(transcripts.c.outcome != "running").order_by(transcripts.c.seq).limit(AT_ONCE)
        brought = 0
        server.read(sa.select(sa.literal(1)))  # raises while it is away
        while rows := self.database.read(settled):
            with server.writing() as connection:
                if connection.dialect.name == "postgresql":  # kernels share a spool: two would both find a row missing, and both insert it
                    connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})"))
                for row in rows:
                    put(connection, to_row(from_row(row)), None, time.time())
                    connection.execute(batches.delete().where(batches.c.transcript_id == row["id"]))
                    for kept in self.database.read(sa.select(wires).where(wires.c.transcript_id == row["id"])):
                        put_wire(connection, row["id"], kept["packed"])
            with self.database.writing() as connection:
                for row in rows:
                    remove(connection, row["id"])
            brought += len(rows)
        self.has_any = bool(self.database.read(sa.select(transcripts.c.id).limit(1)))
        return brought
