"""Lines in the usual form are read in a shorter way, which lets nothing in that the careful one would not, and nothing else out of it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import tokenstream_magic as ts
from tokenstream_magic.exchange import checks, reading, usual
from tokenstream_magic.exchange.checks import Unfit
from tokenstream_magic.exchange.portable import from_data, to_data
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.record import Choice, Transcript, Usage
from tokenstream_magic.timing.metrics import measure
from tokenstream_magic.timing.timeline import Displayed

ID, OTHER = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01BX5ZZKBKACTAV9WEVGEMMVRZ"
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone.utc)
SCRIPTS = ["hello", "reasoning", "tools", "choices", "citations", "logprobs", "refusal", "cut", "unauthorized", "keepalive"]


def common() -> Transcript:
    one = Transcript(id=ID, created_at=WHEN, model="m", endpoint="e", protocol="openai-chat", prompt="p", outcome="complete")
    one.messages, one.choices = [{"role": "user", "content": "p"}], [Choice(text="twelve chars", finish_reason="stop")]
    one.timeline.requested, one.timeline.first_byte, one.timeline.reads = 0, 900_000, 2
    for read, at in enumerate((1_000_000, 5_000_000, 5_000_000, 9_000_000)):
        one.timeline.add(at, 0, 3, read // 2)
    one.usage = Usage(3, 4, source="reported")
    one.timing = measure(one.timeline, 4, None, {"prompt_ms": 1.5, "slots": [1, 2]})
    return one


def rich() -> Transcript:
    """Every field has something in it."""
    one = common()
    one.resolved_model, one.system, one.template, one.note, one.format = "m-2", "brief \\ é", "t {x}", "n", "markdown"
    one.outcome, one.stop_cause = "stopped", "limit:time"
    one.error = {"type": "x", "status": 500, "code": "c", "message": "told"}
    parts = [{"type": "text", "text": "see"}, {"type": "attachment", "name": "a", "size": 3, "sha256": "0"}]
    one.messages = [{"role": "system", "content": "brief"}, {"role": "user", "content": parts}, {"role": "assistant", "content": None}]
    one.options = {"temperature": 0.5, "stop": ["a", None], "deep": {"er": [True, {"n": -3}]}}
    one.variables, one.tags, one.diagnostics = {"x": "1"}, ["a", "b"], ["it ended"]
    one.conversation_id, one.parent_id, one.notebook, one.cell_id, one.execution_count = "c", OTHER, "n.ipynb", "cell", 7
    one.request_id, one.system_fingerprint, one.package_version, one.host, one.clock_offset_ms = "r", "f", "1.0", "h", -1.5
    call = {"id": None, "name": "f", "arguments": '{"a": 1}'}
    source = {"kind": "url", "url": "https://example.org", "title": "t", "quote": None, "start": 0, "end": 3}
    token = {"token": "tw", "logprob": -0.5, "alternatives": [["tw", -0.5], ["x", -3.0]]}
    one.choices = [
        Choice(0, "twelve chars", "thought", "", [call], "stop", [source], [token]),
        Choice(3, "other", "", "no", [], None, [], []),
    ]
    for read, (at, channel, size, choice) in enumerate([(9_500_000, 1, 7, 0), (9_600_000, 3, 8, 0), (9_700_000, 0, 5, 3)], 2):
        one.timeline.add(at, channel, size, read, choice)
    for at in (700_000_000, 1_400_000_000):
        one.timeline.alive(at)
    one.timeline.displayed, one.timeline.server_idle = Displayed(2, 1, 2, 3, 3, 1, 0), 12_000_000
    one.usage = Usage(3, 9, 2, 1, "counted")
    one.timing = measure(one.timeline, 9, 2, {"prompt_ms": 1.5})
    return one


def without_events() -> Transcript:
    one = Transcript(id=ID, created_at=WHEN, model="m", outcome="failed", choices=[Choice(text="all at once")])
    one.timing.e2e_ms, one.timing.chunks = 1234.0, 0
    return one


def unanswered() -> Transcript:
    return Transcript(id=ID, created_at=WHEN, model="m", outcome="failed", error={"type": "x", "status": None, "code": 7, "message": "m"})


def several() -> Transcript:
    return Transcript(id=ID, created_at=WHEN, model="m", outcome="complete", choices=[Choice(0, "one"), Choice(1, "two")])


def unasked() -> Transcript:
    """Of a captured body, say: nobody knows when it was asked for."""
    one = common()
    one.timeline.requested = None
    return one


GOOD = [common, rich, without_events, unanswered, several, unasked]


def line_of(data: Any) -> bytes:
    return json.dumps(data).encode()


def in_full(transcript: Transcript) -> str:
    """Everything of it, with the type of every number."""
    return repr(vars(transcript))


def carefully(line: bytes) -> Transcript | str:
    try:
        return from_data(reading.parsed(line, "here"), "here")
    except Unfit as error:
        return str(error)


def same(line: bytes) -> bool:
    """Whether the short way took it. What it takes, the careful way takes, as the same transcript."""
    found = usual.transcript(line)
    if found is not None:
        slowly = carefully(line)
        assert isinstance(slowly, Transcript), (slowly, line[:2000])
        assert in_full(found) == in_full(slowly), line[:2000]
    return found is not None


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


EDGES = [1 << 31, 1 << 32, 1 << 53, 1 << 63, 1 << 64, checks.MOST_INDEX, checks.LONGEST_NS, 10**15]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 4, 7, 8, 100, 127, 128, 132, 255, 256),
    *(edge + offset for edge in EDGES for offset in (-1, 0, 1)),
    *(-(1 << 63), -(1 << 63) - 1, -(10**16), -checks.LONGEST_NS - 1, 10**30, 10**400, -(10**30)),
    *(0.0, 0.5, -0.5, 1e15, -1.1e15, 1e19, 1e300, 12.0, 128.0),
    *("", "x", "other", "stop", "user", "reported", "complete", "button", "text", "\0", "\ud800", "\ud83d\ude00", "\\u0000", "é"),
    *("x" * 32, "x" * 33, "x" * 4096, "x" * 4097, "complete ", "tokenstream.transcript/2", "tokenstream.transcript/1"),
    *(OTHER, OTHER.lower(), OTHER + "\n", "8" + OTHER[1:], "soon", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00Z"),
    *("1989-12-31T23:59:59+00:00", "2201-01-01T00:00:00+00:00", "1990-01-01T00:00:00+02:00", "2026-01-01T00:00:00+00:00" + " " * 20),
    "2026-01-01T00:00:00." + "0" * 30 + "+00:00",
    *([], {}, [1], [128, 4], [128, 7], [0, 1 << 40], [-1, 4], [300, 4], [128, 5, 0, -1], [128, 4, 0], ["x"], [None], [[]], [{}], ["x", 1]),
    *({"a": 1}, {"a": "x"}, {"a": None}, {"role": "x"}, {"role": 1}, {"role": "x", "content": 1}, {"index": 0}, {"\0": "x"}, {"\ud800": 1}),
    *(
        [{"role": "x", "content": "y"}],
        [{"role": "x", "y": 1e30}],
        [{"id": "x", "name": "y", "arguments": None}],
        [{"index": 0}, {"index": 0}],
    ),
    *(nested(14), nested(15), nested(16), nested(17), nested(27), nested(33), {"a": nested(40)}, {"a": {"b": 1 << 63}}, [1e19], [[10**20]]),
]
LONG: list[Any] = [["x"] * 10_001, [{"role": "x", "content": "y"}] * 10_001, {str(n): "x" for n in range(10_001)}, [1] * 10_001]


def places(data: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in plain data."""
    for name in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield (*before, name)
        yield from places(data[name], (*before, name))


def changed(data: dict[str, Any], values: list[Any], *only: str) -> Iterator[bytes]:
    """All that differ from it in one place, or in one in these fields."""
    written = [line_of(value) for value in values]
    long = [line_of(value) for value in LONG]
    for *way, last in [place for place in places(data) if not only or place[0] in only]:
        one = copy.deepcopy(data)
        inside: Any = one
        for name in way:
            inside = inside[name]
        if isinstance(inside, dict):
            inside["more"] = 1
            yield line_of(one)
            del inside["more"]
        inside[last] = "HERE"
        before, after = line_of(one).split(b'"HERE"')
        for value in written if way else [*written, *long]:
            yield before + value + after
        del inside[last]
        yield line_of(one)


@pytest.mark.parametrize("make", GOOD)
def test_the_usual_lines_go_the_short_way(make: Any) -> None:
    one = make()
    found = usual.transcript(line_of(to_data(one)))
    assert found == one
    assert json.dumps(to_data(found)) == json.dumps(to_data(one))
    assert usual.transcript(json.dumps(to_data(one), ensure_ascii=False, separators=(",", ":")).encode() + b"\n") == one


def test_what_is_exported_goes_the_short_way(mock: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for script in SCRIPTS:
        ts.stream("hi \n\\é😀", script, base_url=mock.base_url, temperature=0.5, tag="t", note="n")
    before = {t.id: t for t in ts.transcripts.recent(100)}
    file = ts.transcripts.export(tmp_path / "all.jsonl")
    monkeypatch.setattr(reading, "from_data", None)
    monkeypatch.setenv("TOKENSTREAM_DATABASE", str(tmp_path / "other" / "transcripts.db"))
    assert ts.transcripts.import_file(file) == (len(SCRIPTS), 0)
    assert {t.id: t for t in ts.transcripts.recent(100)} == before


@pytest.mark.parametrize(
    ("make", "only"),
    [
        (rich, ()),
        (common, ("timeline", "choices")),
        (without_events, ("timeline", "timing", "choices", "text")),
        (several, ("choices",)),
        (unanswered, ("text", "reasoning", "refusal", "finish_reason")),
    ],
)
def test_the_short_way_takes_nothing_that_the_careful_one_refuses(make: Any, only: tuple[str, ...]) -> None:
    taken = [same(line) for line in changed(to_data(make()), VALUES, *only)]
    assert 0 < sum(taken) < len(taken)


@pytest.mark.parametrize("value", [None, "x", 1, [], {}])
def test_what_is_wrong_in_one_way_all_over_is_wrong(value: Any) -> None:
    data = to_data(several())
    for names in (("text", "reasoning", "refusal"), ("tool_calls", "annotations", "logprobs")):
        first = {**data["choices"][0], **dict.fromkeys(names, value)}
        same(line_of({**data, **dict.fromkeys(("text", "reasoning", "refusal")), "choices": [first]}))
    timeline = to_data(common())["timeline"]
    for names in (("delta_ns", "characters", "flag_runs"), ("moments_ns", "moments_ms"), ("reads", "keep_alives")):
        same(line_of({**data, "timeline": {**timeline, **dict.fromkeys(names, value)}}))
    assert not same(line_of(value))


@pytest.mark.parametrize("name", ["tool_calls", "annotations"])
def test_a_list_that_is_too_long_goes_the_careful_way(name: str) -> None:
    data = to_data(rich())
    data["choices"][0][name] = data["choices"][0][name] * (checks.MOST_LISTED + 1)
    assert not same(line_of(data))


def test_two_wrong_things_at_once_are_no_better_than_one() -> None:
    chance, taken = random.Random(5), 0
    for _ in range(3000):
        data = to_data(chance.choice(GOOD)())
        for _ in range(chance.randrange(1, 4)):
            *way, last = chance.choice([*places(data)])
            inside: Any = data
            for name in way:
                inside = inside[name]
            inside[last] = copy.deepcopy(chance.choice(VALUES))
        taken += same(line_of(data))
    assert taken


PIECES = [
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"-0.0", b"01", b"1.", b"9" * 5000, b"9" * 300, b"18446744073709551616", b"1E5", b"1.0"),
    *(
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xef\xbb\xbf",
        b"\x00",
        b"\x0c",
        b"\x1f",
        b"\xc2\xa0",
        b"\\ud800",
        b"\\u0000",
        b"\\x",
        b"\\/",
    ),
    *(b",", b"}", b"{", b"[", b"]", b'"', b":", b" ", b"\t\n\r", b"//", b"null", b"true", b"{}", b"[" * 2000),
]


def test_bytes_that_two_parsers_could_read_in_two_ways_are_read_as_by_the_careful_one() -> None:
    chance, taken = random.Random(6), 0
    whole = [line_of(to_data(make())) for make in GOOD]
    for _ in range(6000):
        line = bytearray(chance.choice(whole))
        for _ in range(chance.randrange(1, 3)):
            start = chance.randrange(len(line) + 1)
            if chance.random() < 0.5:  # a value in the place of another
                start = max(line.find(b": ", start) + 2, 2)
            end = start if chance.random() < 0.3 else min([n for c in b",}]" if (n := line.find(c, start)) >= 0] or [start])
            line[start:end] = chance.choice(PIECES)
        taken += same(bytes(line))
    assert taken


def test_a_name_that_is_there_twice_is_the_last_one_in_both_ways() -> None:
    line = line_of(to_data(rich()))
    data = json.loads(line)
    for name in data:
        for value in VALUES[::4]:
            said = f"{json.dumps(name)}: {json.dumps(value)}".encode()
            same(b"{" + said + b", " + line[1:])
            same(line[:-1] + b", " + said + b"}")


def test_what_is_too_much_goes_the_careful_way(monkeypatch: pytest.MonkeyPatch) -> None:
    line = line_of(to_data(rich()))
    counts = {"TEXT_LIMIT": len(line), "MOST_EVENTS": 7, "MOST_CHOICES": 2, "MOST_LISTED": 3, "ITEMS": 6}
    for name, enough in counts.items():
        for module in [usual, checks] if name == "MOST_EVENTS" else [usual]:
            monkeypatch.setattr(module, name, enough)
        assert usual.transcript(line), name
        monkeypatch.setattr(usual, name, enough - 1)
        assert usual.transcript(line) is None, name
        monkeypatch.undo()


def test_a_refusal_names_the_line_and_the_field_and_nothing_is_kept(tmp_path: Path) -> None:
    good, file = line_of(to_data(rich())), tmp_path / "all.jsonl"
    seen: dict[str, bytes] = {}
    for line in changed(to_data(rich()), VALUES[::7]):
        if isinstance(told := carefully(line), str):
            seen.setdefault(told, line)
    assert len(seen) > 60
    for told, line in seen.items():
        file.write_bytes(good + b"\n" + line + b"\n" + good + b"\n")
        with pytest.raises(Unfit) as refused:
            list(reading.transcripts(file))
        assert str(refused.value) == told.replace("here", "all.jsonl, line 2", 1)
    with pytest.raises(Unfit, match="line 2"):
        ts.transcripts.import_file(file)
    assert ts.transcripts.open_store().count() == 0


def test_figures_are_those_of_the_timeline_and_keys_are_masked_in_usual_lines_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-" + "Q7" * 20
    lies = {**to_data(rich()), "note": f"my key {key}", "options": {"key": [key]}}
    lies["timing"] = {**lies["timing"], "ttft_ms": 0.001, "chunks": 99}
    (tmp_path / "a.jsonl").write_bytes(line_of(lies) + b"\n" + line_of(lies))
    monkeypatch.setattr(reading, "from_data", None)
    assert ts.transcripts.import_file(tmp_path / "a.jsonl") == (1, 1)
    found = ts.transcripts.last()
    assert (found.timing.ttft_ms, found.timing.chunks) == (1.0, 7)
    assert key not in json.dumps(to_data(found))
