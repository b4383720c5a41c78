"""A million transcripts: everything that is looked for among them is found, and nothing else; no time is measured here."""

from __future__ import annotations

import copy
import os
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from tokenstream_magic.record import Choice, Transcript, now, ulid
from tokenstream_magic.timing.metrics import percentile
from tokenstream_magic.transcripts.statistics import groups
from tokenstream_magic.transcripts.store import Store

ROWS = 1_000_000
STEP = 20_000
MODELS = 8
RARE = 5000
KEY = "sk-" + "aB3" * 16


def made(n: int, kept: Transcript) -> Transcript:
    """The transcript number ``n``: what it says follows from its number."""
    t = copy.copy(kept)
    t.id = ulid(1_700_000_000_000 + n, n.to_bytes(10, "big"))
    t.created_at = kept.created_at + timedelta(milliseconds=n)
    t.model = f"openai/model-{n % MODELS}"
    t.outcome = "stopped" if n % 10 == 0 else "complete"
    t.prompt = f"question {n} with the key {KEY}" if n % 1000 == 0 else f"question {n}"
    t.choices = [Choice(0, f"answer {'of several words ' * 50} rare{n % RARE}", finish_reason="stop")]
    t.timing = copy.copy(kept.timing)
    t.timing.ttft_ms = float(n % 997)
    return t


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_million_transcripts_are_found_as_they_were_kept(tmp_path: Path) -> None:
    file = tmp_path / "million.db"
    store = Store(f"sqlite:///{file}")
    kept = Transcript(endpoint="openai", protocol="openai-chat", created_at=now())
    for start in range(0, ROWS, STEP):
        assert store.add_many(made(n, kept) for n in range(start, start + STEP)) == STEP
    assert store.add_many(made(n, kept) for n in range(STEP)) == 0  # they are there already
    store.close()

    store = Store(f"sqlite:///{file}")
    assert store.count() == ROWS
    for n in (1, 7, ROWS // 3, ROWS - 1):
        wanted = made(n, kept)
        found = store.get(wanted.id)
        assert (found.prompt, found.text, found.outcome, found.model) == (wanted.prompt, wanted.text, wanted.outcome, wanted.model)
        assert found == wanted
    of_model = [made(n, kept).id for n in range(ROWS - 1, ROWS - 50 * MODELS - 1, -1) if n % MODELS == 3]
    assert [t.id for t in store.recent(50, model="openai/model-3", brief=True)] == of_model[:50]
    stopped = [made(n, kept).id for n in range(ROWS - 10, ROWS - 210, -10)]
    assert [t.id for t in store.recent(20, status="stopped", brief=True)] == stopped
    rare = [made(n, kept).id for n in range(ROWS - RARE + 1234, 0, -RARE)]
    assert [t.id for t in store.recent(20, query="rare1234", brief=True)] == rare[:20]
    assert len(store.recent(20, query="several", brief=True)) == 20
    figures = {group.by[0]: group for group in groups(store)}
    for number in range(MODELS):
        group, values = figures[f"openai/model-{number}"], sorted(float(n % 997) for n in range(number, ROWS, MODELS))
        assert group.runs == len(values)
        assert group.ttft_ms == tuple(round(percentile(values, percent), 3) for percent in (50, 95))
    store.close()
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM transcripts WHERE prompt LIKE '%sk-%'").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.execute("INSERT INTO transcripts_words (transcripts_words, rank) VALUES ('integrity-check', 1)")
    for ending in ("", "-wal", "-shm"):  # four gigabytes are not left for the next test
        if os.path.exists(f"{file}{ending}"):
            os.unlink(f"{file}{ending}")
