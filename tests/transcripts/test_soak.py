"""The long loops of the store: many kills at random instants."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from time import monotonic_ns

import pytest

from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.transcripts.store import Store

KILLS = 200
LOST_NS = 250_000_000


@pytest.mark.soak
def test_two_hundred_kills_lose_at_most_a_quarter_of_a_second_and_corrupt_nothing(mock: MockServer) -> None:
    mock.scripts["long"] = Script(tuple(f"{n} " for n in range(20_000)), gap=0.003)
    program = textwrap.dedent(f"""
        import tokenstream_magic as ts
        for piece in ts.events("Hi", "long", base_url={mock.base_url!r}):
            pass
    """)
    chance = random.Random(1)
    for kill in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", program])
        exchange = mock.wait_for(kill + 1)
        threading.Event().wait(chance.uniform(0.0, 1.0))  # the instant is what is varied
        killed = monotonic_ns()
        process.send_signal(signal.SIGKILL)
        process.wait()
        exchange.closed.wait(10)
        store = Store(f"sqlite:///{os.environ['TOKENSTREAM_DATABASE']}")
        found = store.get("last")
        assert store.count() == kill + 1
        store.close()
        assert (found.outcome, found.stop_cause) == ("truncated", "crash")
        numbers = [int(word) for word in found.text.split()]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= len([at for at in exchange.sent if at < killed - LOST_NS])
    with sqlite3.connect(os.environ["TOKENSTREAM_DATABASE"]) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
