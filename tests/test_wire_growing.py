"""A wire that grows is written as it comes, masked: a killed run keeps it up to its last batch."""

from __future__ import annotations

import copy
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from test_wire_kept import ADDRESS, KEY, PROTOCOLS, SCRIPTS, VALUE

import tokenstream_magic as ts
from tokenstream_magic import api, run
from tokenstream_magic.mock.script import Script, words
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.transcripts.store import Store
from tokenstream_magic.wire import masking
from tokenstream_magic.wire.kept import Tap, Wire
from tokenstream_magic.wire.parts_kept import Parts, assembled

LEAK = Script((*(f"{n} " for n in range(30)), *KEY, *(f" {n}" for n in range(5000))), gap=0.004)


def database() -> Path:
    return Path(os.environ["TOKENSTREAM_DATABASE"])


def grown(raw: Wire, dice: random.Random, reads: int) -> Wire:
    """The wire that comes of parts, each body cut into so many reads, and a part made now and then."""
    tap = Tap(raw.protocol)
    tap.follow(lambda: None)
    parts, made = Parts(tap, raw.protocol, lambda: [VALUE]), []
    for exchange in raw.exchanges:
        tap.begin(exchange.attempt, "POST", exchange.request.url, dict(exchange.request.headers), renewed=exchange.renewed)
        if exchange.response is not None:
            tap.answered(exchange.response.status, exchange.response.headers)
        if exchange.whole:
            tap.whole()
        cuts = sorted(dice.randint(0, len(exchange.body)) for _ in range(reads))
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(exchange.body)], strict=True)):
            tap.take(exchange.body[start:end], number, number)
            if dice.random() < 0.5:
                made.append(parts.take(0))
    tap.begin(99, "POST", "", {})  # the next attempt: nothing is waited for any more
    while tap.news:
        made.append(parts.take(0))
    wire = assembled(part for part in made if part is not None)
    assert wire.exchanges.pop().attempt == 99
    return wire


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_parts_make_the_same_as_the_whole_however_it_comes(mock: MockServer, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    gathered: list[Wire] = []

    def spy(wire: Wire, secrets: list[str]) -> int:
        gathered.append(copy.deepcopy(wire))
        return masking.mask(wire, secrets)

    monkeypatch.setattr(run, "mask", spy)
    mock.scripts["drip"] = Script(("It is ", *KEY, '."'), reasoning=(*f"The key {KEY}?",), logprobs=(-0.1,), top_logprobs=2)
    mock.scripts["leak"] = Script(("Keys: sk-can", "aryKEY42", "canary" * 5, ", ", VALUE, " canary-va", "lue-of-the-lab", "!"))
    dice = random.Random(7)
    for script in ("drip", "leak", *SCRIPTS):
        mock.scripts[script] = replace(mock.scripts[script], first=0, gap=0, delay=0)
        ts.stream(
            "Hi",
            script,
            base_url=f"http://127.0.0.1:{mock.port}{ADDRESS[protocol]}",
            protocol=protocol,
            wire=True,
            max_retries=0,
            no_log=True,
        )
        raw = gathered.pop()
        whole = copy.deepcopy(raw)
        masking.mask(whole, [VALUE])
        for reads in (0, 5, 300):
            made = grown(raw, dice, reads)
            assert [e.body for e in made.exchanges] == [e.body for e in whole.exchanges], (script, reads)
            assert [(e.attempt, e.response, e.whole, e.renewed) for e in made.exchanges] == [
                (e.attempt, e.response, e.whole, e.renewed) for e in whole.exchanges
            ]


def killed(mock: MockServer, after: str) -> str:
    """Runs an answer with its wire in a process of its own, and kills that once a piece came and was written; what it had asked."""
    program = f"""
        import tokenstream_magic as ts
        for piece in ts.events("Hi", "leak", base_url={mock.base_url!r}, wire=True):
            if piece.text == {after!r}:
                ts.transcripts.open_store().writer.flush()
                print("there", flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    process.kill()
    process.communicate()
    return after


def test_a_killed_run_keeps_its_wire_up_to_the_last_batch(mock: MockServer) -> None:
    mock.scripts["leak"] = LEAK
    killed(mock, " 20")
    before = b"".join(file.read_bytes() for file in database().parent.iterdir())
    found = ts.transcripts.last()
    assert (found.outcome, found.stop_cause) == ("truncated", "crash")
    wire = found.wire
    assert wire is not None
    assert wire.request is not None
    assert wire.response is not None
    assert (wire.response.status, wire.request.method, wire.left_out) == (200, "POST", 0)
    again = ts.decode(wire.body())
    assert again.text.startswith(found.text)
    assert " 18 19" in found.text
    assert "*" * len(KEY) in again.text
    assert b"canary" not in before + wire.body()
    stamps = [stamp.offset_ns for stamp in found.timeline]
    came = [frame.at_ns for frame in wire.frames() if any(name == "text" for name, _ in frame.became)]
    assert came[: len(stamps)] == stamps
    with sqlite3.connect(database()) as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchone() == (0,)


def test_the_wire_of_a_killed_run_is_kept_of_a_damaged_database_too(mock: MockServer) -> None:
    mock.scripts["leak"] = LEAK
    killed(mock, " 20")
    with sqlite3.connect(database()) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'schema_version'")
    connection.close()
    with database().open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    found = ts.transcripts.last()
    assert (found.outcome, found.stop_cause) == ("truncated", "crash")
    assert found.text.endswith(" 20") or " 20 " in found.text
    assert found.wire is not None
    assert ts.decode(found.wire.body()).text.startswith(found.text)
    assert [file for file in database().parent.iterdir() if ".corrupt-" in file.name]


def test_keep_alives_in_a_stall_are_written_too(mock: MockServer) -> None:
    mock.scripts["quiet"] = Script(words("one two three"), stall_after=1, keep_alive=0.02)
    store = ts.transcripts.open_store()
    started = api.start("Hi", "quiet", base_url=mock.base_url, wire=True)
    comments = 0
    while comments < 3:
        store.writer.flush()
        with sqlite3.connect(database()) as connection:
            rows = connection.execute("SELECT timeline FROM batches WHERE number < 0 ORDER BY number DESC").fetchall()
        comments = sum(frame.kind == "comment" for frame in assembled(row[0] for row in rows).frames())
    started.stop()
    stopped = started.wait()
    store.writer.flush()
    with sqlite3.connect(database()) as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchone() == (0,)
    assert stopped.wire is not None
    assert ts.transcripts.get(stopped.id).wire == stopped.wire


def test_a_file_that_is_replaced_gets_all_of_the_wire_again(mock: MockServer) -> None:
    mock.scripts["leak"] = LEAK
    store = ts.transcripts.open_store()
    started = api.start("Hi", "leak", base_url=mock.base_url, wire=True)
    while len(started.transcript.timeline) < 20:
        store.writer.flush()
    for ending in ("", "-wal", "-shm"):
        Path(f"{database()}{ending}").unlink(missing_ok=True)
    while len(started.transcript.timeline) < 40:
        store.writer.flush()
    copied = database().with_name("copy.db")
    with sqlite3.connect(database()) as source, sqlite3.connect(copied) as target:
        source.backup(target)
        target.execute("UPDATE transcripts SET owner = NULL")
    started.stop()
    started.wait()
    other = Store(f"sqlite:///{copied}")
    found = other.get("last")
    assert found.wire is not None
    assert ts.decode(found.wire.body()).text.startswith("0 1 2 3 ")
    other.close()


@pytest.mark.parametrize("damage", [b"", b"nonsense", "half"])
def test_a_damaged_part_is_the_end_of_what_is_kept(damage: bytes | str) -> None:
    tap = Tap("openai-chat")
    tap.follow(lambda: None)
    parts = Parts(tap, "openai-chat", list)
    tap.begin(0, "POST", "http://host", {})
    made = []
    for number in range(3):
        tap.take(b": %d\n\n" % number, number, number)
        made.append(parts.take(0) or b"")
    made[1] = made[1][: len(made[1]) // 2] if damage == "half" else bytes(damage)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"damaged|cut off"):
        assembled(made)
    assert assembled(made, to_the_first_damaged=True).body() == b": 0\n\n"
