"""A database as version 1 made it, with rows in it: complete ones, and one whose process was killed."""

from __future__ import annotations

import sqlalchemy as sa

from tokenstream_magic.timing.packing import pack
from tokenstream_magic.timing.timeline import Timeline

metadata = sa.MetaData()

TEXT = "resolved_model endpoint prompt system template text reasoning refusal finish_reason"
JSON = "messages options variables choices error server_timing moments diagnostics tags owner"
FLOAT = (
    "ttfb_ms ttft_ms ttfa_ms e2e_ms tpot_ms icl_p50_ms icl_p95_ms icl_max_ms output_tokens_per_second decode_tokens_per_second"
    " chunks_per_second stall_ratio stop_latency_ms"
)
INTEGER = "input_tokens output_tokens reasoning_tokens cached_input_tokens chunks stalls execution_count"
LATER_TEXT = "conversation_id notebook cell_id note request_id system_fingerprint"

schema_version = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, nullable=False))
transcripts = sa.Table(
    "transcripts",
    metadata,
    sa.Column("id", sa.String(26), primary_key=True),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("stop_cause", sa.String(32)),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("protocol", sa.String(32)),
    *(sa.Column(name, sa.Text) for name in (TEXT + " " + LATER_TEXT).split()),
    *(sa.Column(name, sa.JSON) for name in JSON.split()),
    *(sa.Column(name, sa.Integer) for name in INTEGER.split()),
    *(sa.Column(name, sa.Float) for name in FLOAT.split()),
    sa.Column("usage_source", sa.String(16)),
    sa.Column("timeline", sa.LargeBinary),
    sa.Column("parent_id", sa.String(26)),
    sa.Column("package_version", sa.String(32)),
    sa.Index("transcripts_by_model", "model", "id"),
    sa.Index("transcripts_by_outcome", "outcome", "id"),
)
batches = sa.Table(
    "batches",
    metadata,
    sa.Column("transcript_id", sa.String(26), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("pieces", sa.JSON, nullable=False),
    sa.Column("timeline", sa.LargeBinary, nullable=False),
)

ROWS = 5
IDS = [f"01ARZ3NDEKTSV4RRFFQ69G5FA{n}" for n in range(ROWS + 1)]


def make(engine: sa.Engine) -> None:
    timeline = Timeline(requested=0)
    for n in range(4):
        timeline.add(1_000_000 * (n + 1), 0, 6, n)
    packed = pack(timeline)
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(schema_version.insert().values(version=1))
        for n, id in enumerate(IDS[:ROWS]):
            connection.execute(
                transcripts.insert().values(
                    id=id,
                    created_at=f"2026-01-0{n + 1}T00:00:00.123+00:00",
                    updated_at=0.0,
                    outcome="complete",
                    model="local",
                    endpoint="local",
                    prompt=f"question {n}",
                    text=f"answer number {n} zebra",
                    choices=[{"index": 0, "tool_calls": [], "finish_reason": "stop"}],
                    timeline=packed,
                    moments={"first_byte": 0.5, "closed": 9.25, "reads": 4, "keep_alives": 1},
                    diagnostics=[],
                    tags=["old"],
                    ttft_ms=1.0,
                    chunks=4,
                )
            )
        dead = {"host": "elsewhere", "pid": 1, "started": 0.0}
        connection.execute(
            transcripts.insert().values(
                id=IDS[ROWS],
                created_at="2026-01-09T00:00:00.000+00:00",
                updated_at=0.0,
                outcome="running",
                model="local",
                prompt="cut",
                owner=dead,
            )
        )
        connection.execute(
            batches.insert().values(
                transcript_id=IDS[ROWS], number=0, pieces=[["text", 0, "half an"], ["text", 0, " answer"]], timeline=packed
            )
        )
