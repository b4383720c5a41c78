"""``--wire``: the raw reads and the headers are kept, keys masked, and decode to the same transcript again."""

from __future__ import annotations

import os
import random
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tokenstream_magic as ts
from tokenstream_magic import api
from tokenstream_magic.display.bundle import about
from tokenstream_magic.display.wiretab import BUDGET, wire_tab
from tokenstream_magic.mock.script import Script, words
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.wire import kept, masking
from tokenstream_magic.wire.kept import Exchange, Request, Tap, Wire, unpack

KEY = "sk-" + "canaryKEY42" * 4
VALUE = "canary-value-of-the-lab"
SAME = "outcome text reasoning refusal tool_calls finish_reason usage resolved_model".split()
PROTOCOLS = ["openai-chat", "openai-responses", "anthropic", "gemini", "ollama"]
ADDRESS = {"openai-chat": "/v1", "openai-responses": "/v1", "anthropic": "/v1", "gemini": "/v1beta", "ollama": ""}
SCRIPTS = [
    *("hello reasoning tools choices refusal citations length chunky blocks buffered bytes twice again giant no-usage".split()),
    *("cut cut-early reset no-terminator no-finish error unauthorized page wrong-type gzip unstreamed redirect".split()),
]


def asked(mock: MockServer, script: str, protocol: str = "openai-chat", **flags: Any) -> ts.Transcript:
    base = f"http://127.0.0.1:{mock.port}{ADDRESS[protocol]}"
    return ts.stream("Hi", script, base_url=base, protocol=protocol, wire=True, max_retries=0, **flags)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_kept_decodes_to_the_same_transcript_faults_included(mock: MockServer, protocol: str) -> None:
    for script in SCRIPTS:
        if protocol == "ollama" and script == "wrong-type":
            continue  # refused for what the headers say, which a body alone does not tell
        mock.scripts[script] = replace(mock.scripts[script], first=0, gap=0, delay=0)
        live = asked(mock, script, protocol)
        wire = live.wire
        assert wire is not None
        again = ts.decode(wire.body(), protocol)
        assert [(n, getattr(again, n)) for n in SAME] == [(n, getattr(live, n)) for n in SAME], script
        by_read = ts.decode((read.data for read in wire.reads), protocol)
        assert (by_read.text, by_read.outcome) == (live.text, live.outcome), script
        assert unpack(wire.pack()) == wire, script


def test_the_reads_are_those_of_the_timeline(mock: MockServer) -> None:
    mock.scripts["slow"] = Script(words("One two three four."), gap=0.02)
    live = asked(mock, "slow")
    assert live.wire is not None
    reads = {read.number: read for read in live.wire.reads}
    assert len(reads) == len(live.wire.reads)
    assert b"".join(read.data for read in live.wire.reads) == live.wire.body()
    came = [frame for frame in live.wire.frames() if any(name == "text" for name, _ in frame.became)]
    assert "".join(said for frame in came for _, said in frame.became) == live.text
    assert [frame.at_ns for frame in came] == [stamp.offset_ns for stamp in live.timeline]
    assert all(reads[frame.read].offset_ns == frame.at_ns for frame in came)


def test_nothing_is_kept_unless_it_was_asked_for(mock: MockServer) -> None:
    plain = ts.stream("Hi", "hello", base_url=mock.base_url)
    assert plain.wire is None
    assert ts.transcripts.wire(plain.id) is None
    assert ts.transcripts.get(plain.id).wire is None
    assert "wire" not in about(plain)


def test_it_is_in_a_table_of_its_own_and_loaded_only_when_asked_for(mock: MockServer) -> None:
    sent = asked(mock, "buffered")
    found = ts.transcripts.get(sent.id)
    assert found.kept_wire is None
    assert found.wire == sent.wire
    assert ts.transcripts.wire(sent.id[:20]) == sent.wire
    with sqlite3.connect(os.environ["TOKENSTREAM_DATABASE"]) as connection:
        ((size,),) = connection.execute("SELECT length(packed) FROM wires").fetchall()
    assert sent.wire is not None
    assert size < sent.wire.size / 3
    marker = bytes(unpacked_part(sent))
    assert marker in on_disk()
    ts.transcripts.delete(sent.id)
    assert marker not in on_disk()
    assert found.wire == sent.wire  # who has loaded it keeps it


def unpacked_part(transcript: ts.Transcript) -> bytes:
    """A part of the wire as it lies in the database's file: a page's overflow, not its first bytes, which a page may share."""
    assert transcript.wire is not None
    return transcript.wire.pack()[:60]


def on_disk() -> bytes:
    folder = Path(os.environ["TOKENSTREAM_DATABASE"]).parent
    ts.transcripts.open_store().writer.flush()
    return b"".join(file.read_bytes() for file in folder.iterdir())


def test_with_no_log_it_is_in_memory_only(mock: MockServer) -> None:
    ts.transcripts.open_store()
    sent = asked(mock, "hello", no_log=True)
    assert sent.wire is not None
    assert b"Hello" in sent.wire.body()
    with sqlite3.connect(os.environ["TOKENSTREAM_DATABASE"]) as connection:
        assert connection.execute("SELECT count(*) FROM wires").fetchone() == (0,)


def test_every_attempt_is_kept_and_the_last_one_is_the_answer(mock: MockServer) -> None:
    mock.scripts["busy"] = Script(status=503, headers={"Retry-After": "0"}, fails_first=1)
    sent = ts.stream("Hi", "busy", base_url=mock.base_url, wire=True)
    assert sent.wire is not None
    assert [(e.attempt, e.response.status, e.whole) for e in sent.wire.exchanges if e.response] == [(0, 503, True), (1, 200, False)]
    assert ts.decode(sent.wire.body()).text == sent.text == "Hello there."
    frames = sent.wire.frames()
    assert [(f.attempt, f.kind) for f in frames[:2]] == [(0, "body"), (1, "frame")]
    assert frames[0].at_ns < 0 < frames[1].at_ns


def test_a_request_that_found_nobody_is_kept_too() -> None:
    sent = ts.stream("Hi", "m", base_url="http://127.0.0.1:9/v1", protocol="openai-chat", wire=True, max_retries=0)
    assert sent.wire is not None
    (only,) = sent.wire.exchanges
    assert (only.response, only.body, sent.outcome) == (None, b"", "failed")
    assert sent.wire.frames() == []
    assert about(sent)["wire"]["exchanges"][0]["status"] is None


def test_no_key_is_in_the_headers_or_the_body(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", VALUE)
    Path(os.environ["TOKENSTREAM_CONFIG"]).write_text(
        f'[endpoints.lab]\nprotocol = "openai-chat"\nbase_url = "{mock.base_url}"\napi_key_env = "LAB_KEY"\n'
    )
    mock.scripts["leak"] = Script(
        ("Keys: sk-can", "aryKEY42", *"canaryKEY42canaryKEY42canaryKEY42", ", ", VALUE, " and ", "canary-va", "lue-of-the-lab", "!"),
        headers={"Set-Cookie": "session=canary", "X-Echo": f"Bearer {VALUE}", "x-amz-security-token": "canary", "x-request-id": "r-1"},
    )
    sent = ts.stream("Hi", "lab/leak", wire=True)
    assert sent.text == f"Keys: {KEY}, {VALUE} and {VALUE}!"
    assert sent.wire is not None
    assert sent.wire.request is not None
    assert sent.wire.response is not None
    assert dict(sent.wire.request.headers)["authorization"] == "***"
    answered = dict(sent.wire.response.headers)
    assert (answered["set-cookie"], answered["x-amz-security-token"], answered["x-request-id"]) == ("***", "***", "r-1")
    again = ts.decode(sent.wire.body())
    assert again.text == f"Keys: {'*' * len(KEY)}, {'*' * len(VALUE)} and {'*' * len(VALUE)}!"
    assert (again.outcome, again.usage) == (sent.outcome, sent.usage)
    assert b"canary" not in repr(sent.wire).encode() + sent.wire.body() + b"".join(read.data for read in sent.wire.reads)
    assert "canary" not in str(about(sent)["wire"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_key_told_a_character_at_a_time_can_not_be_put_together_again(mock: MockServer, protocol: str) -> None:
    mock.scripts["drip"] = Script(("It is ", *KEY, '."'), reasoning=(*f"The key {KEY}?",), logprobs=(-0.1,), top_logprobs=2)
    sent = asked(mock, "drip", protocol)
    assert KEY in sent.text
    assert KEY in sent.reasoning
    assert sent.wire is not None
    again = ts.decode(sent.wire.body(), protocol)
    assert KEY not in again.text + again.reasoning
    assert "canary" not in again.text + again.reasoning
    assert b"canary" not in sent.wire.body()
    assert again.outcome == "complete"


def test_masking_keeps_every_byte_in_its_place_and_leaves_json_whole() -> None:
    body = b'data: {"at":"https://example.org","mail":"a@b.c","u":"http://me:pass@host/"}\n\n' + f"data: {VALUE}\n\n".encode()
    exchange = Exchange(0, Request("POST", f"https://host/v1?key=short&x=1&token={VALUE}", [("Api-Key", "x"), ("X-RateLimit-Tokens", "5")]))
    exchange.body = body
    exchange.ends.extend([10, len(body) - 12, len(body)])  # the key comes in two reads
    exchange.stamps.extend([1, 2, 3])
    exchange.numbers.extend([1, 2, 3])
    wire = Wire("openai-chat", [exchange])
    assert masking.mask(wire, [VALUE]) == 2
    assert wire.body() == body.replace(b"me:pass", b"*" * 7).replace(VALUE.encode(), b"*" * len(VALUE))
    assert exchange.request.url == "https://host/v1?key=***&x=1&token=***"
    assert exchange.request.headers == [("Api-Key", "***"), ("X-RateLimit-Tokens", "5")]
    assert [len(read.data) for read in wire.reads] == [10, len(body) - 22, 12]


def test_what_a_proxy_did_is_listed() -> None:
    tap = Tap("openai-chat")
    tap.begin(0, "POST", "http://host/v1", {})
    tap.answered(200, [])
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
    reads = [
        b": hello\n\n" + chunk % b"a" + chunk % b"b",
        (chunk % b"c")[:20],
        (chunk % b"c")[20:],
        b"retry: 5\n\nupstream \xff is tired\n\n",
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":3}}\n: within\n\n',
        b"data: [DONE]\n\ndata: more\n\ndata: half",
    ]
    for number, read in enumerate(reads, 1):
        tap.take(read, 1_000_000 * number + (3_000_000_000 if number > 3 else 0), number)
    frames = tap.gathered(0).frames()
    assert [(f.kind, f.read, f.reads, f.together if f.kind == "frame" else 0, f.marks) for f in frames] == [
        ("comment", 1, 1, 0, ("keep-alive",)),
        ("frame", 1, 1, 2, ("coalesced",)),
        ("frame", 1, 1, 2, ("coalesced",)),
        ("frame", 3, 2, 1, ("split",)),
        ("nothing", 4, 1, 0, ("gap",)),
        ("stray", 4, 1, 0, ("not-utf8",)),
        ("comment", 5, 1, 0, ("keep-alive",)),
        ("frame", 5, 1, 1, ()),
        ("frame", 6, 1, 3, ("coalesced",)),
        ("frame", 6, 1, 3, ("coalesced", "undecodable", "after-end")),
        ("frame", 6, 1, 3, ("coalesced", "unterminated", "after-end")),
    ]
    assert [f.became for f in frames if f.became][:4] == [
        (("keep-alive", ""),),
        (("text", "a"),),
        (("text", "b"),),
        (("text", "c"),),
    ]
    assert frames[5].text == "upstream \\xff is tired\n\n"
    assert frames[7].became == (("usage", "in 1 out 3"),)
    assert sum(f.size for f in frames) == len(b"".join(reads)) + len(b": within\n")  # which is a piece and within another


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_any_split_into_reads_lists_the_same_frames(mock: MockServer, protocol: str) -> None:
    sent = asked(mock, "tools", protocol)
    assert sent.wire is not None
    body, dice = sent.wire.body(), random.Random(5)
    frames = [(f.kind, f.raw, f.became) for f in sent.wire.frames()]
    assert b"".join(raw for _, raw, _ in frames) == body
    for _ in range(20):
        tap = Tap(protocol)
        tap.begin(0, "POST", "http://host", {})
        cuts = sorted(dice.sample(range(1, len(body)), 30))
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(body)], strict=True)):
            tap.take(body[start:end], number, number)
        listed = tap.gathered(0).frames()
        assert [(f.kind, f.raw, f.became) for f in listed] == frames


def test_a_resumed_answer_has_its_broken_frame_once() -> None:
    tap = Tap("openai-responses")
    delta = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"%s","sequence_number":%d}\n\n'
    for renewed, bodies in ((False, [delta % (b"one ", 1), (delta % (b"two", 2))[:50]]), (True, [delta % (b"two", 2)])):
        tap.begin(0, "GET" if renewed else "POST", "http://host", {}, renewed=renewed)
        for body in bodies:
            tap.take(body, 1, 1)
    wire = tap.gathered(0)
    assert wire.body() == delta % (b"one ", 1) + delta % (b"two", 2)
    assert [f.kind for f in wire.frames()] == ["frame", "lost", "frame"]
    assert ts.decode(wire.body(), "openai-responses").text == "one two"


def test_over_its_limit_the_wire_is_cut_and_says_so(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LIMIT", 5000)
    monkeypatch.setattr(Tap.__init__, "__defaults__", (5000,))
    sent = asked(mock, "story")
    assert sent.outcome == "complete"
    assert sent.wire is not None
    assert sent.wire.size == 5000
    assert sent.wire.left_out > 5000
    assert any("the wire is kept up to 4.88 KiB" in note and "left out" in note for note in sent.diagnostics)
    assert sent.text.startswith(ts.decode(sent.wire.body()).text)
    assert ts.transcripts.get(sent.id).wire == sent.wire


def test_a_stopped_run_keeps_what_had_come(mock: MockServer) -> None:
    run = api.start("Hi", "endless", base_url=mock.base_url, wire=True)
    while len(run.transcript.timeline) < 5:
        mock.exchanges[-1].closed.wait(0.01) if mock.exchanges else mock.wait_for(1)
    run.stop("button")
    stopped = run.wait()
    assert stopped.wire is not None
    again = ts.decode(stopped.wire.body())
    assert (stopped.outcome, again.outcome) == ("stopped", "truncated")
    assert again.text == stopped.text


def test_the_tab_is_bounded_and_says_what_it_leaves_out(mock: MockServer) -> None:
    import json

    mock.scripts["long"] = Script(tuple(f"word{n} " for n in range(4000)), together=50)
    sent = asked(mock, "long")
    assert sent.wire is not None
    tab = about(sent)["wire"]
    assert len(json.dumps(tab, ensure_ascii=False)) < BUDGET
    frames = sent.wire.frames()
    missing = tab["left_out"]
    assert len(tab["frames"]) + missing["frames"] == len(frames)
    shown = tab["frames"]
    assert [row["text"] for row in shown[: missing["after"]]] == [f.text for f in frames[: missing["after"]]]
    behind = len(shown) - missing["after"]
    assert behind > 100
    assert [row["text"] for row in shown[missing["after"] :]] == [f.text for f in frames[-behind:]]
    assert ts.transcripts.get(sent.id).outcome == "complete"
    assert about(ts.transcripts.get(sent.id))["wire"] == tab


def test_hostile_bytes_make_a_tab_of_plain_text(mock: MockServer) -> None:
    hostile = b"data: \xff\xfe\x00<script>\xed\xa0\x80\n\n" + b'data: {"choices":[{"delta":{"content":"\\ud800x"}}]}\n\n' + b"x" * 300_000
    mock.scripts["odd"] = Script(body=hostile, content_type="text/event-stream")
    sent = asked(mock, "odd")
    assert sent.wire is not None
    assert sent.wire.body() == hostile
    tab = wire_tab(sent.wire)
    str(tab).encode()  # nothing that is no Unicode
    assert tab["frames"][0]["text"].startswith("data: \\xff\\xfe\x00<script>")
    assert tab["frames"][-1]["cut"]
    assert len(tab["frames"][-1]["text"]) == 2000


@pytest.mark.parametrize("damage", [b"", b"TSW1", b"TSW1nonsense", b"other"])
def test_a_damaged_wire_is_said_and_the_transcript_stays(mock: MockServer, damage: bytes) -> None:
    sent = asked(mock, "hello")
    ts.transcripts.open_store().writer.flush()
    with sqlite3.connect(os.environ["TOKENSTREAM_DATABASE"]) as connection:
        connection.execute("UPDATE wires SET packed = ?", (damage,))
    found = ts.transcripts.get(sent.id)
    with pytest.raises(ts.TokenstreamError, match="The transcript itself is whole"):
        _ = found.wire
    assert "wire" not in about(found)
    whole = sent.wire.pack() if sent.wire is not None else b""
    for cut in range(0, len(whole) - 1, 17):
        with pytest.raises(ValueError, match=r"\w"):
            unpack(whole[:cut])


def test_a_copy_of_a_transcript_finds_its_wire_too(mock: MockServer) -> None:
    import copy
    import pickle

    sent = asked(mock, "hello")
    found = ts.transcripts.get(sent.id)
    assert copy.deepcopy(found).wire == sent.wire
    assert pickle.loads(pickle.dumps(ts.transcripts.get(sent.id))).wire == sent.wire
