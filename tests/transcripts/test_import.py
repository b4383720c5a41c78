"""Bringing in: what was taken out comes back the same, and what is hostile does not come in at all."""

from __future__ import annotations

import gzip
import json
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tokenstream_magic as ts
from tokenstream_magic import exchange
from tokenstream_magic.cli import main
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.exchange import reading
from tokenstream_magic.exchange.portable import to_data
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.timing.timeline import Displayed

SCRIPTS = ["hello", "reasoning", "tools", "choices", "citations", "logprobs", "refusal", "cut", "unauthorized"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From here on the store is another, empty one."""
    return lambda: monkeypatch.setenv("TOKENSTREAM_DATABASE", str(tmp_path / "other" / "transcripts.db"))


def made() -> dict[str, Any]:
    one = Transcript(model="m", prompt="p", outcome="complete", choices=[Choice(text="twelve chars")])
    one.timeline.requested = 0
    one.timeline.add(1_000_000, 0, 6, 0)
    one.timeline.add(5_000_000, 0, 6, 1)
    for at in (700_000_000, 700_000_001, 1_400_000_000):
        one.timeline.alive(at)
    one.timeline.displayed, one.timeline.server_idle = Displayed(2, 1, 2, 3, 3, 1, 0), 9_000_000
    return to_data(one)


@pytest.mark.parametrize("form", ["jsonl", "tokenstream.json"])
def test_what_was_exported_comes_back_the_same_and_once(
    mock: MockServer, tmp_path: Path, elsewhere: Callable[[], None], form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for script in SCRIPTS:
        ts.stream("hi {x}", script, base_url=mock.base_url, temperature=0.5, tag="t", note="n")
    before = {t.id: t for t in ts.transcripts.recent(100)}
    file = ts.transcripts.export(tmp_path / f"all.{form}")
    elsewhere()
    assert ts.transcripts.import_file(file) == (len(SCRIPTS), 0)
    after = {t.id: t for t in ts.transcripts.recent(100)}
    assert after == before
    assert all(after[id].timing == before[id].timing and after[id].timeline == before[id].timeline for id in before)
    assert ts.transcripts.search("hi")[0].id in before  # and can be found
    capsys.readouterr()
    assert main(["transcripts", "import", str(file)]) == 0
    assert capsys.readouterr()[0] == f"0 transcripts are new; {len(SCRIPTS)} were there already.\n"


@pytest.mark.parametrize("form", ["jsonl", "tokenstream.json"])
def test_an_answer_with_a_nul_and_very_many_logprobs_comes_back(tmp_path: Path, elsewhere: Callable[[], None], form: str) -> None:
    likely = [{"token": "a", "logprob": -0.5, "alternatives": [["b", -1.0]]}] * 12_000
    one = Transcript(model="m", outcome="complete", choices=[Choice(text="a\0" * 10, logprobs=likely)])
    file = exchange.export([one], tmp_path / f"one.{form}")
    elsewhere()
    assert ts.transcripts.import_file(file) == (1, 0)
    back = ts.transcripts.get(one.id)
    assert back.text == "a\ufffd" * 10
    assert back.choices[0].logprobs == likely


def test_a_document_saved_from_an_output_comes_in_too(mock: MockServer, tmp_path: Path, elsewhere: Callable[[], None]) -> None:
    from tokenstream_magic.display.bundle import MIME, settled

    originals = {script: ts.stream("hi", script, base_url=mock.base_url) for script in ("tools", "choices", "cut")}
    elsewhere()
    for script, original in originals.items():
        data, metadata = settled(original)
        (tmp_path / f"{script}.tokenstream.json").write_text(json.dumps({**data[MIME], "tokenstream": metadata["tokenstream"]}))
        assert ts.transcripts.import_file(tmp_path / f"{script}.tokenstream.json") == (1, 0)
        assert settled(ts.transcripts.get(original.id))[0] == data


def test_captured_bodies_come_in_through_decode(tmp_path: Path) -> None:
    sse = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\ndata: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    ndjson = b'{"model":"llama3","message":{"role":"assistant","content":"Yo"},"done":false}\n{"model":"llama3","done":true,"done_reason":"stop"}\n'
    for name, body, text in (("a.sse", sse, "Hi"), ("b.ndjson", ndjson, "Yo")):
        (tmp_path / name).write_bytes(body)
        assert ts.transcripts.import_file(tmp_path / name) == (1, 0)
        assert ts.transcripts.import_file(tmp_path / name) == (0, 1)
        found = ts.transcripts.last()
        assert (found.text, found.outcome, found.timing.ttft_ms) == (text, "complete", None)
        assert found.replay(speed="instant").text == text


LLM = """
CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, prompt_json TEXT, options_json TEXT, response TEXT,
 response_json TEXT, conversation_id TEXT, duration_ms INTEGER, datetime_utc TEXT, input_tokens INTEGER, output_tokens INTEGER);
"""


def logs(file: Path, *rows: tuple[Any, ...], schema: str = LLM) -> Path:
    with sqlite3.connect(file) as connection:
        connection.executescript(schema)
        connection.executemany(f"INSERT INTO responses VALUES ({','.join('?' * 13)})", rows)
    connection.close()
    return file


ROW = (
    "01jabcdefghjkmnpqrstvwxyz0",
    "gpt-4o",
    "hi",
    "be brief",
    "{}",
    '{"temperature": 0.5}',
    "hello",
    "{}",
    "conv1",
    1234,
    "2025-02-03T04:05:06.789",
    5,
    7,
)


def test_the_logs_of_llm_come_in(tmp_path: Path) -> None:
    file = logs(
        tmp_path / "logs.db",
        ROW,
        ("x1", "gpt-4o", "again", None, None, None, "yes", None, "conv1", None, "2025-02-03T04:05:07", None, None),
    )
    assert ts.transcripts.import_file(file) == (2, 0)
    assert ts.transcripts.import_file(file) == (0, 2)
    first = ts.transcripts.get(ROW[0])
    assert (first.model, first.prompt, first.system, first.text, first.conversation_id) == ("gpt-4o", "hi", "be brief", "hello", "conv1")
    assert (first.options, first.timing.e2e_ms, first.usage.output_tokens) == ({"temperature": 0.5}, 1234, 7)
    assert first.created_at.isoformat() == "2025-02-03T04:05:06.789000+00:00"
    assert [m["role"] for m in first.messages] == ["system", "user"]
    assert ts.transcripts.last().text == "yes"


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ("CREATE VIEW responses AS SELECT load_extension('x') AS id, 1 AS prompt, 2 AS response;", "no logs.db"),
        ("CREATE TABLE other (id);", "no logs.db"),
        ("CREATE TABLE responses (id, prompt);", "form that is not known"),
    ],
)
def test_a_hostile_database_is_refused_and_not_run(tmp_path: Path, schema: str, problem: str) -> None:
    file = tmp_path / "logs.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(schema)
    connection.close()
    before = file.read_bytes()
    refused(file, problem)
    assert file.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["logs.db"]


@pytest.mark.parametrize(
    "changed",
    [{6: b"\xff\xfe"}, {9: -1}, {9: "long"}, {10: "soon"}, {10: None}, {5: "[1]"}, {5: "{" * 5000}],
)
def test_a_hostile_row_refuses_the_whole_log(tmp_path: Path, changed: dict[int, Any]) -> None:
    row = tuple(changed.get(n, value) for n, value in enumerate(("x2", *ROW[1:])))
    refused(logs(tmp_path / "logs.db", ROW, row), "response 2")


def refused(file: Path, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem) as told:
        ts.transcripts.import_file(file)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 500
    assert ts.transcripts.open_store().count() == 0


def deep() -> Any:
    data: Any = "x"
    for _ in range(60):
        data = [data]
    return data


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("a future schema", {"schema": "tokenstream.transcript/2"}, "newer version"),
    ("no schema", {"schema": "other"}, "nothing that can be imported|has no schema|no JSON|recognised"),
    ("a foreign field", {"lc": 1, "__class__": "os.system"}, "a field that no transcript has"),
    ("a path for an id", {"id": "../../../../etc/passwd"}, "no transcript id"),
    ("a short id", {"id": "01"}, "no transcript id"),
    ("a number for text", {"prompt": 5}, "no text"),
    ("a text for a list", {"tags": "x"}, "no list"),
    ("a running one", {"outcome": "running"}, "none of complete"),
    ("a cause that is none", {"stop_cause": "me"}, "none of button"),
    ("a date without a zone", {"created_at": "2026-01-01T00:00:00"}, "time zone"),
    ("a date that is none", {"created_at": "soon"}, "no date"),
    ("depth", {"options": {"a": deep()}}, "nested deeper"),
    ("usage below 0", {"usage": {"input_tokens": -1}}, "whole number"),
    ("a figure that is none", {"timing": {"ttft_ms": "fast"}}, "no number"),
    ("two choices of one index", {"choices": [{"index": 0}, {"index": 0}], "timeline": None, "text": ""}, "two choices"),
    ("a choice with a method", {"choices": [{"index": 0, "__init__": 1}]}, "a choice that is none"),
    ("another text than its choice", {"text": "another"}, "not that of its first choice"),
    ("a message without a role", {"messages": [{"content": "x"}]}, "without a role"),
    ("an error with more in it", {"error": {"type": "x", "trace": "y"}}, "no error has"),
    ("a huge model name", {"model": "m" * 5000}, "more than 4096"),
    ("a parent that is no id", {"parent_id": "last"}, "no transcript id"),
]
TIMELINES: list[tuple[str, dict[str, Any], str]] = [
    ("more text than there is", {"characters": [6, 600]}, "does not match its text"),
    ("columns of several lengths", {"characters": [6]}, "different lengths"),
    ("a channel that is none", {"flag_runs": [7, 2]}, "cannot be"),
    ("runs without a length", {"flag_runs": [128, 1, 128]}, "flag runs that cannot be"),
    ("runs that take something away", {"flag_runs": [128, 3, 128, -1]}, "flag runs that cannot be"),
    ("runs of a length that fills the memory", {"flag_runs": [128, 1 << 40]}, "flag runs that cannot be"),
    ("a step that is no number", {"delta_ns": ["x", 1]}, "no whole number"),
    ("a hundred years", {"delta_ns": [1, 3 * 10**18]}, "cannot be"),
    ("true for a number", {"characters": [True, 6]}, "whole number"),
    ("another version", {"version": 9}, "not known"),
    ("a moment that is not known", {"moments_ns": {"born": 1}}, "moments that are not known"),
    ("a size that lies", {"reads": -4}, "whole number"),
]


@pytest.mark.parametrize(("change", "problem"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_a_hostile_line_refuses_the_whole_file(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    file = tmp_path / "all.jsonl"
    file.write_text(f"{json.dumps(made())}\n{json.dumps({**made(), **change})}\n")
    refused(file, f"line 2.*({problem})")


@pytest.mark.parametrize(("change", "problem"), [case[1:] for case in TIMELINES], ids=[case[0] for case in TIMELINES])
def test_a_hostile_timeline_refuses_the_whole_file(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    good, bad = made(), made()
    bad["timeline"] = {**bad["timeline"], **change}
    file = tmp_path / "all.jsonl"
    file.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    refused(file, f"line 2.*{problem}")


def test_hostile_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps(made())
    cases = {
        "nan.jsonl": (line + "\n" + line.replace('"options": {}', '"options": {"a": NaN}'), "NaN"),
        "infinity.jsonl": (line + "\n" + line.replace('"options": {}', '"options": {"a": -Infinity}'), "Infinity"),
        "digits.jsonl": (line + "\n" + line.replace('"options": {}', '"options": {"a": ' + "9" * 9000 + "}"), "no JSON"),
        "deep.jsonl": (line + '\n{"schema": ' + "[" * 100_000 + "\n", "line 2"),
        "cut.jsonl": (line + "\n" + line[:100], "line 2 is no JSON"),
        "latin.jsonl": (line.encode() + b"\n\xff\xfe\xfa\n", "line 2 is no JSON"),
        "empty": ("", "is empty"),
        "array.json": (f"[{line}]", "nothing that can be imported"),
        "page.html": ("<!doctype html><html></html>", "nothing that can be imported"),
        "script.py": ("import os\nos.system('true')\n", "nothing that can be imported"),
        "x.gz": (gzip.compress(line.encode()), "packed with gzip"),
        "pickle": (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "nothing that can be imported"),
        "live.tokenstream.json": ('{"version": 1, "status": "live", "model": "m"}', "no settled transcript"),
        "newer.tokenstream.json": ('{"version": 99, "status": "settled"}', "no settled transcript"),
        "bare.tokenstream.json": ('{"version": 1, "status": "settled", "text": "x"}', "does not say when"),
        "lies.tokenstream.json": (
            json.dumps({"version": 1, "status": "settled", "text": "another", "tokenstream": made()}),
            "another text",
        ),
    }
    for name, (content, problem) in cases.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        refused(tmp_path / name, problem)
    with zipfile.ZipFile(tmp_path / "slip.zip", "w") as packed:
        packed.writestr("../../slipped.txt", "x")
    refused(tmp_path / "slip.zip", "zip archive")
    refused(tmp_path, "no file")
    refused(tmp_path / "nowhere", "cannot be read")
    refused(Path("/dev/zero"), "no file")
    monkeypatch.setattr(reading, "LINE_LIMIT", 1000)
    (tmp_path / "long.jsonl").write_text(line + "\n")
    refused(tmp_path / "long.jsonl", "a line of more|more than")
    monkeypatch.setattr(reading, "FILE_LIMIT", 100)
    refused(tmp_path / "long.jsonl", "Import it in parts")


def test_figures_are_those_of_the_timeline_and_keys_are_masked(tmp_path: Path) -> None:
    key = "sk-" + "Q7" * 20
    lies = {**made(), "timing": {"ttft_ms": 0.001, "chunks": 99}, "note": f"my key {key}"}
    (tmp_path / "a.jsonl").write_text(json.dumps(lies) + "\n" + json.dumps(lies) + "\n")
    assert ts.transcripts.import_file(tmp_path / "a.jsonl") == (1, 1)
    found = ts.transcripts.last()
    assert (found.timing.ttft_ms, found.timing.chunks) == (1.0, 2)
    assert key not in (found.note or "")
