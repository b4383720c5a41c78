"""What keeping costs and how fast it is found again, beside what peers do, on the same rows in the same run.

Peers: one JSON column in a plain SQLite table without indexes, a table as llm's log_to_db makes it (indexed by nothing
but its id, searched with its own FTS5), and a JSON file a run; for the import also SQLite alone, given the same finished rows
for the same tables and indexes and nothing else to do: no import into these tables can be faster. ``--rows 1000000`` for the
large one, about ten minutes. What ends on the disk is shown beside a bare fsync of the same disk in the same moments, and the
load of the machine at the start and the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import perf_counter

os.environ["TOKENSTREAM_DATABASE"] = str(Path(tempfile.mkdtemp(prefix="ts-bench-")) / "transcripts.db")

from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.timing.metrics import measure
from tokenstream_magic.timing.packing import encode
from tokenstream_magic.timing.timeline import Timeline
from tokenstream_magic.transcripts import bulk, columns, writer
from tokenstream_magic.transcripts.addresses import default_url
from tokenstream_magic.transcripts.database import PAGES_KIB
from tokenstream_magic.transcripts.rows import put, redacted, to_row
from tokenstream_magic.transcripts.store import Store

VOCABULARY = [
    f"{a}{b}{c}" for a in ("ka", "lo", "mi", "ner", "tas", "vo") for b in ("ra", "sen", "tu", "wi", "ze") for c in ("d", "m", "l", "")
]
MODELS = [f"openai/model-{n}" for n in range(8)]
FILES = 2000
RUNS = 1000
LIVE_TOKENS = 20_000


def generated(count: int, seed: int = 1) -> Iterator[Transcript]:
    chance = random.Random(seed)
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    for n in range(count):
        t = Transcript(model=chance.choice(MODELS), endpoint="openai", protocol="openai-chat", created_at=start + timedelta(seconds=n))
        words = [*chance.choices(VOCABULARY, k=110), f"rare{n % 5000}"]
        t.prompt = " ".join(words[:25])
        t.choices = [Choice(0, " ".join(words[25:]), finish_reason="stop")]
        t.messages = [{"role": "user", "content": t.prompt}]
        t.timeline = trace(chance, 12)
        t.usage.output_tokens = 12
        t.timing = measure(t.timeline, 12)
        t.outcome = "complete" if n % 10 else "stopped"
        yield t


def trace(chance: random.Random, events: int) -> Timeline:
    """As measured: gaps of 12 ms with some spread, one to seven characters, now and then two chunks in one read."""
    made, at, read = Timeline(requested=0, connected=1_000_000, headers=180_000_000, first_byte=200_000_000), 200_000_000, 0
    for _ in range(events):
        if chance.random() > 0.1:
            at, read = at + max(200_000, int(chance.gauss(12e6, 4e6))), read + 1
        made.add(at, 0, chance.choice((1, 2, 3, 4, 4, 5, 6, 7)), read)
    made.reads, made.closed, made.ended, made.finished = read, at + 900_000, at + 300_000, at
    return made


def timed(what: Callable[[], object], times: int = 7) -> float:
    """Milliseconds, the least of several: what else the machine does is no part of it."""
    took = []
    for _ in range(times):
        started = perf_counter()
        what()
        took.append((perf_counter() - started) * 1e3)
    return min(took)


def row(name: str, ours: float | str, *peers: float | str) -> None:
    cells = [cell if isinstance(cell, str) else f"{cell:,.3f}" for cell in (ours, *peers)]
    print(f"{name:<44}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def bar(what: str, got: float, most: float, *, least: bool = False) -> None:
    """Says whether a figure is what was asked for."""
    met = got >= most if least else got <= most
    print(f"bar: {what} {'at least' if least else 'at most'} {most:,g}: {'met' if met else 'MISSED'} ({got:,.3f})", flush=True)


class Alone:
    """SQLite with our tables and rows made beforehand."""

    def __init__(self, folder: Path) -> None:
        Store(f"sqlite:///{folder / 'alone.db'}").close()
        self.database = sqlite3.connect(folder / "alone.db", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", f"cache_size=-{PAGES_KIB}"):
            self.database.execute(f"PRAGMA {pragma}")
        self.seq, self.took, self.worked = 0, 0.0, 0.0
        self.masks, self.inserting = columns.Masks(), columns.Inserting()

    def add(self, part: list[Transcript]) -> None:
        blocks = (part[n : n + columns.TOGETHER] for n in range(0, len(part), columns.TOGETHER))
        ready = [self.inserting.ready(columns.columns(block, self.masks)) for block in blocks]
        started, before = perf_counter(), time.thread_time()
        for n in range(0, len(ready), bulk.BATCH // columns.TOGETHER):
            self.database.execute("BEGIN IMMEDIATE")
            for block in ready[n : n + bulk.BATCH // columns.TOGETHER]:
                self.seq += self.inserting.insert(self.database, block, (), 0.0, self.seq + 1)
            self.database.execute("COMMIT")
        self.took, self.worked = self.took + perf_counter() - started, self.worked + time.thread_time() - before


class Peers:
    """The same rows as others keep them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "files"
        self.folder.mkdir()
        self.plain = sqlite3.connect(folder / "plain.db")
        self.plain.execute("CREATE TABLE log (id TEXT, json TEXT)")
        self.llm = sqlite3.connect(folder / "llm.db")
        self.llm.executescript(
            "CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, response TEXT, response_json TEXT, datetime_utc TEXT);"
            "CREATE VIRTUAL TABLE responses_fts USING fts5(prompt, response, content='responses');"
            "CREATE TRIGGER ai AFTER INSERT ON responses BEGIN"
            " INSERT INTO responses_fts (rowid, prompt, response) VALUES (new.rowid, new.prompt, new.response); END;"
        )
        self.files = 0

    def add(self, part: list[Transcript]) -> tuple[float, float, float]:
        documents = [(t.id, json.dumps(as_json(t))) for t in part]
        took = []
        started = perf_counter()
        with self.plain:
            self.plain.executemany("INSERT INTO log VALUES (?, ?)", documents)
        took.append(perf_counter() - started)
        started = perf_counter()
        with self.llm:
            self.llm.executemany(
                "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?)",
                [(t.id, t.model, t.prompt, t.text, d, str(t.created_at)) for t, (_, d) in zip(part, documents, strict=True)],
            )
        took.append(perf_counter() - started)
        started = perf_counter()
        if self.files < FILES:
            for id, document in documents:
                (self.folder / f"{id}.json").write_text(document)
            self.files += len(documents)
        took.append(perf_counter() - started)
        return took[0], took[1], took[2]


def as_json(t: Transcript) -> dict[str, object]:
    plain = {name: getattr(t, name) for name in ("id", "model", "endpoint", "prompt", "text", "outcome", "options", "messages")}
    return plain | {"created_at": t.created_at.isoformat(), "timing": asdict(t.timing), "timeline": t.timeline.as_dict()}


def columns_of_timelines() -> None:
    """An event costs what the column of so many has beyond that of none; what stands beside the events is some forty bytes."""
    chance = random.Random(7)
    most = 0.0
    for events in (12, 50, 500, 5000):
        made = [trace(chance, events) for _ in range(20)]
        whole, beside = (sum(len(encode(t, stop)) for t in made) / (20 * events) for stop in (events, 0))
        documents = sum(len(json.dumps(t.as_dict())) for t in made) / (20 * events)
        row(f"timeline of {events} events, bytes an event", whole - beside, documents, "not kept")
        row("  with all that stands beside them", whole, documents, "not kept")
        most = max(most, whole - beside)
    bar("bytes an event", most, 6)


def fsync(descriptor: int) -> float:
    """Milliseconds that a page takes to the disk with nothing of ours around it."""
    started = perf_counter()
    os.pwrite(descriptor, os.urandom(4096), 0)
    os.fsync(descriptor)
    return (perf_counter() - started) * 1e3


def p95(ordered: list[float]) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]


def inserts(full: Store, folder: Path) -> list[tuple[float, float, float]]:
    """Single rows as a run that has ended writes them, searched and counted, by turns into an empty database and into this one.

    For each: medians of ms, ms of the processor, and a bare fsync.
    """
    fresh = Store(f"sqlite:///{folder / 'fresh.db'}")
    took: list[list[tuple[float, float, float]]] = [[], []]
    with tempfile.TemporaryFile(dir=folder) as beside:
        for t in generated(300, seed=8):
            finished = redacted(to_row(t), columns.Masks().redactor)
            for store, figures in zip((fresh, full), took, strict=True):
                started, worked = perf_counter(), time.thread_time()
                with store.database.writing() as connection:
                    put(connection, finished, None, 0.0)
                own, whole = time.thread_time() - worked, perf_counter() - started
                figures.append((whole * 1e3, own * 1e3, fsync(beside.fileno())))
    fresh.close()
    return [tuple(map(statistics.median, zip(*figures[100:], strict=True))) for figures in took]


_KEPT_RUNS = """
import sys
import tokenstream_magic as ts
from tokenstream_magic import api

def memory():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024

def run(count):
    for _ in range(count):
        api.start("Hi", "short", base_url=sys.argv[1]).wait()

run(int(sys.argv[2]))
for _ in range(2):
    before = memory()
    run(int(sys.argv[2]))
    print(memory() - before, before)
"""


def memory_of_runs() -> None:
    """A process of its own, so that nothing of this one is counted; the server is here."""
    from tokenstream_magic.mock.script import Script
    from tokenstream_magic.mock.server import MockServer

    if not Path("/proc/self/status").exists():
        return
    with MockServer() as mock, tempfile.TemporaryDirectory() as folder:
        mock.scripts["short"] = Script(tuple(f"{n} " for n in range(50)), gap=0.0)
        place = os.environ | {"TOKENSTREAM_DATABASE": str(Path(folder) / "t.db")}
        said = subprocess.run(
            [sys.executable, "-c", _KEPT_RUNS, mock.base_url, str(RUNS)], env=place, stdout=subprocess.PIPE, text=True, check=True
        )
    second, before, grown, _ = map(float, said.stdout.split())
    row(f"memory after {RUNS} more kept runs, MB more", second, f"of {before:,.0f}")  # the caches of the drivers find their size
    row(f"memory after {RUNS} more again, MB more", grown)
    bar(f"MB more after {RUNS} runs", grown, 2)


def live(store: Store) -> None:  # noqa: PLR0915 - a row of the table a statement
    from source import Source, token

    from tokenstream_magic import api

    pieces = [token(n) for n in range(LIVE_TOKENS)]
    took: list[float] = []
    own: list[float] = []
    bare: list[float] = []
    alone: list[float] = []
    turns = 0
    appends: list[float] = []
    whole: list[float] = []
    commit, directly, content = store._writer._commit, store.database.directly, store._writer.content
    beside = os.open(store.database.file.with_name("fsync"), os.O_CREAT | os.O_RDWR)
    one = sqlite3.connect(store.database.file.with_name("one.db"), isolation_level=None, check_same_thread=False)
    one.execute("PRAGMA journal_mode=WAL"), one.execute("PRAGMA synchronous=FULL")
    one.execute("CREATE TABLE log (piece TEXT)")

    @contextmanager
    def transaction():
        started, worked = perf_counter(), time.thread_time()
        with directly() as connection:
            yield connection
        if turns % 3 == 0:
            own.append((time.thread_time() - worked) * 1e3)
            took.append((perf_counter() - started) * 1e3)

    def single():
        started = perf_counter()
        one.execute("BEGIN IMMEDIATE"), one.execute("INSERT INTO log VALUES (?)", ("x" * 1200,)), one.execute("COMMIT")
        alone.append((perf_counter() - started) * 1e3)

    def measured(*arguments):
        nonlocal turns
        if turns % 3:  # by turns each is the first to wake the disk and the processor after a tenth of a second without work
            single() if turns % 3 == 1 else bare.append(fsync(beside))
        started = perf_counter()
        error = commit(*arguments)
        if turns % 3 == 0:
            whole.append((perf_counter() - started) * 1e3)
        turns += 1
        return error

    def appended(*arguments):
        started = perf_counter()
        content(*arguments)
        appends.append((perf_counter() - started) * 1e6)

    store._writer._commit, store.database.directly, store._writer.content = measured, transaction, appended
    source = Source()  # a process of its own: as with any other server, its work is none of this process
    run = api.start("Hi", f"n{len(pieces)}-r1000", base_url=source.base_url, sinks=[store._writer], no_log=True)
    assert run.wait().outcome == "complete"
    store._writer.flush()
    source.close()
    store._writer._commit, store.database.directly, store._writer.content = commit, directly, content
    os.close(beside)
    one.close()
    alone.sort()
    batches, whole = sorted(took), sorted(whole)[:-1]  # without the first row, which is written otherwise
    naive = []
    with tempfile.TemporaryDirectory() as folder:
        peer = sqlite3.connect(Path(folder) / "t.db")
        peer.execute("PRAGMA journal_mode=WAL"), peer.execute("PRAGMA synchronous=FULL")
        peer.execute("CREATE TABLE log (piece TEXT)")
        for piece in pieces[:500]:
            started = perf_counter()
            with peer:
                peer.execute("INSERT INTO log VALUES (?)", (piece,))
            naive.append((perf_counter() - started) * 1e6)
    row("token append on the stream thread, us, median", statistics.median(appends), f"{statistics.median(naive):,.1f} (1)")
    bare.sort()
    own.sort()
    row("live commit of a batch off it, ms, p95", p95(batches), f"{p95(bare):,.3f} (2)")
    row("live commit of a batch off it, ms, median", statistics.median(batches), f"{statistics.median(bare):,.3f} (2)")
    row("  SQLite alone, one row in one table, ms, p95", p95(alone), f"{statistics.median(alone):,.3f} (3)")
    row("  ours over that, p95 and median", p95(batches) / p95(alone), statistics.median(batches) / statistics.median(alone))
    row("  of it work of the processor, ms, p95", p95(own))
    row("  with making the batch ready before, ms, p95", p95(whole))
    bar("us of a token append", statistics.median(appends), 2)
    bar(f"ms of a live commit, p95, where a bare fsync takes {p95(bare):.3f}", p95(batches), 0.5)
    row("disk time a token, us", 3 * sum(whole) * 1e3 / len(pieces), f"{statistics.median(naive):,.1f} (1)")


def from_a_file(folder: Path, count: int) -> float:
    """Rows a second of a jsonl file that is read, checked to the last field, written, searched and counted."""
    from tokenstream_magic.exchange import bring_in
    from tokenstream_magic.exchange.portable import to_data
    from tokenstream_magic.transcripts.schema import to_json

    file, before = folder / "all.jsonl", os.environ["TOKENSTREAM_DATABASE"]
    file.write_text("\n".join(to_json(to_data(t)) for t in generated(count, seed=6)))
    os.environ["TOKENSTREAM_DATABASE"] = str(folder / "imported.db")
    try:
        started = perf_counter()
        assert bring_in(file) == (count, 0)
        return count / (perf_counter() - started)
    finally:
        os.environ["TOKENSTREAM_DATABASE"] = before


def filled(store: Store, peers: Peers, folder: Path, count: int) -> list[str]:
    """Many rows at once; their ids."""
    alone = Alone(folder)
    step, spent, first, worked = 25 * bulk.BATCH, [0.0, 0.0, 0.0, 0.0], 0.0, 0.0
    ids: list[str] = []
    source = generated(count)
    while part := [t for _, t in zip(range(step), source, strict=False)]:
        started, before = perf_counter(), time.thread_time()
        store.add_many(part)
        last = (perf_counter() - started) / len(part)
        worked += time.thread_time() - before
        first = first or last
        spent[0] += last * len(part)
        alone.add(part)
        for n, took in enumerate(peers.add(part), start=1):
            spent[n] += took
        ids += [t.id for t in part]
    started = perf_counter()
    store.catch_up()
    entered = perf_counter() - started
    filed = max(1, peers.files)
    row("bulk import, rows/s until they can be read", count / spent[0], count / spent[1], count / spent[2], filed / max(spent[3], 1e-9))
    row("  SQLite alone, the same rows, tables, indexes", count / alone.took)
    row("  rows/s of processor time", count / worked)
    row("  SQLite alone, rows/s of processor time", count / alone.worked)
    row("  rows/s until they are searched and counted", count / (spent[0] + entered), "-", count / spent[2])
    row("  last part over first, time of a row", last / first)
    row("import of a jsonl file, rows/s until searched", from_a_file(folder, min(count, 20_000)))
    bar("rows/s of a bulk import until they can be read", count / spent[0], 50_000, least=True)
    alone.database.close()
    return ids


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=60_000)
    count = parser.parse_args().rows
    writer.QUIET_SECONDS = 1e6  # while peers have their turn nothing is entered for us
    store = Store(default_url())
    folder = Path(default_url().removeprefix("sqlite:///")).parent
    peers = Peers(folder)
    print("load average", *os.getloadavg())
    row(f"{count:,} transcripts", "tokenstream", "plain JSON rows", "as llm logs", "a file each")
    columns_of_timelines()
    memory_of_runs()
    ids = filled(store, peers, folder, count)
    live(store)
    empty, full = inserts(store, folder)
    row("one insert into the empty database, ms", empty[0], f"{empty[2]:,.3f} (2)")
    row("one insert into the full database, ms", full[0], f"{full[2]:,.3f} (2)")
    row("full over empty, processor time of an insert", full[1] / empty[1])
    bar("processor time of an insert, full over empty", full[1] / empty[1], 1.2)
    size = [sum(f.stat().st_size for f in folder.glob(f"{name}*")) / count for name in ("transcripts.db", "plain.db", "llm.db")]
    row("bytes a row", *size)
    store.close()
    found(peers, ids)
    print("(1) one commit a token, on the thread that streams")
    print("(2) a bare fsync of one page on the same disk, in turn with these")
    print("(3) the median")
    print("load average", *os.getloadavg())
    print(f"memory of this process at its most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    shutil.rmtree(folder)


def found(peers: Peers, ids: list[str]) -> None:
    """Opening and finding."""
    opened = timed(lambda: Store(default_url()).close(), 5)
    row("open, ms", opened)
    bar("ms to open", opened, 500)
    store = Store(default_url())
    some = random.Random(3).sample(ids, 200)
    plain, llm = peers.plain, peers.llm
    one = timed(lambda: [store.get(id) for id in some]) / 200
    row("by id, ms", one, timed(lambda: plain.execute("SELECT json FROM log WHERE id = ?", (some[0],)).fetchall(), 3), timed(lambda: [llm.execute("SELECT * FROM responses WHERE id = ?", (id,)).fetchall() for id in some]) / 200)  # fmt: skip
    bar("ms by id", one, 0.2)
    last = timed(lambda: store.recent(50, model=MODELS[3], brief=True), 25)
    row("list of the last 50 of a model, ms", last, timed(lambda: plain.execute("SELECT json FROM log WHERE json_extract(json, '$.model') = ? ORDER BY id DESC LIMIT 50", (MODELS[3],)).fetchall(), 3), timed(lambda: llm.execute("SELECT * FROM responses WHERE model = ? ORDER BY id DESC LIMIT 50", (MODELS[3],)).fetchall(), 3))  # fmt: skip
    bar("ms of the last 50 of a model", last, 2)
    for kind, word in (("rare", "rare1234"), ("common", VOCABULARY[5])):
        page = timed(lambda word=word: store.recent(20, query=word, brief=True))
        row(f"first page of a {kind} word, ms", page, timed(lambda word=word: plain.execute("SELECT json FROM log WHERE json LIKE ? ORDER BY id DESC LIMIT 20", (f"%{word}%",)).fetchall(), 3), timed(lambda word=word: llm.execute("SELECT r.* FROM responses r JOIN responses_fts f ON f.rowid = r.rowid WHERE responses_fts MATCH ? ORDER BY r.id DESC LIMIT 20", (word,)).fetchall(), 1))  # fmt: skip
        bar(f"ms of the first page of a {kind} word", page, 100)
    from tokenstream_magic.transcripts.statistics import groups

    figures = timed(lambda: groups(store), 5)
    row("p50 and p95 of TTFT and rate by model, ms", figures, timed(lambda: plain.execute("SELECT json_extract(json, '$.model'), json_extract(json, '$.timing.ttft_ms') FROM log ORDER BY 1, 2").fetchall(), 1))  # fmt: skip
    bar("ms of p50 and p95 by model", figures, 50)
    store.close()


if __name__ == "__main__":
    main()
