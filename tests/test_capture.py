"""``decode``: captured bytes give the transcript a live run would have left, in Python and on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tokenstream_magic as ts
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.mock import openai_chat
from tokenstream_magic.mock.script import SCRIPTS, Script, words
from tokenstream_magic.mock.server import MockServer


def body_of(script: Script) -> bytes:
    return b"".join(openai_chat.frames(script, "m")) + openai_chat.ending(script, "m")


BODY = body_of(SCRIPTS["hello"])


def run(*arguments: str, body: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "tokenstream_magic.cli", "decode", *arguments], input=body, capture_output=True, timeout=60
    )


def test_a_captured_body_gives_the_transcript_of_the_live_run(mock: MockServer) -> None:
    script = Script(words("An answer with \U0001f642 words."), reasoning=("hm", "m"))
    mock.scripts["m"] = script
    live = ts.stream("Hi", "m", base_url=mock.base_url)
    decoded = ts.decode(body_of(script))
    same = "protocol outcome finish_reason text reasoning refusal tool_calls choices usage error diagnostics resolved_model"
    for name in same.split():
        assert getattr(decoded, name) == getattr(live, name), name
    assert decoded.timing.chunks == live.timing.chunks


def test_nothing_that_needs_a_clock_is_made_up() -> None:
    timing = ts.decode(BODY).timing.as_dict()
    assert {name for name, value in timing.items() if value is not None} == {"chunks", "server"}


@pytest.mark.parametrize("cut", range(0, len(BODY), 7))
def test_a_body_cut_anywhere_is_a_prefix_and_not_complete_before_its_end(cut: int) -> None:
    transcript = ts.decode(BODY[:cut], "openai-chat")
    assert "Hello there.".startswith(transcript.text)
    if b'"finish_reason":"stop"' not in BODY[:cut]:
        assert transcript.outcome in ("truncated", "failed")


def test_reads_of_one_byte_give_the_same_transcript() -> None:
    whole, bytewise = ts.decode(BODY), ts.decode((bytes([byte]) for byte in BODY), "openai-chat")
    assert (bytewise.text, bytewise.outcome, bytewise.usage) == (whole.text, whole.outcome, whole.usage)


@pytest.mark.parametrize(
    ("body", "outcome", "kind"),
    [
        (b"<!doctype html><title>Sign in</title>", "failed", "not_a_stream"),
        (b'{"error": {"message": "no", "type": "nope"}}', "failed", "nope"),
        (b'{"choices": [{"message": {"content": "All"}, "finish_reason": "stop"}]}', "complete", None),
        (b"", "failed", "empty_stream"),
        (b": ping\n\n", "failed", "empty_stream"),
    ],
)
def test_what_is_no_stream_is_judged(body: bytes, outcome: str, kind: str | None) -> None:
    transcript = ts.decode(body, "openai-chat")
    assert transcript.outcome == outcome
    assert (transcript.error or {}).get("type") == kind


def test_what_nothing_recognises_is_refused_in_one_line() -> None:
    with pytest.raises(ts.TokenstreamError, match="Name it: openai-chat"):
        ts.decode(b"hello")
    with pytest.raises(ts.TokenstreamError, match="There is no protocol 'nosuch'"):
        ts.decode(BODY, "nosuch")


@pytest.mark.parametrize(("script", "code"), [("hello", 0), ("no-finish", 3), ("error", 4)])
def test_the_exit_code_of_the_command_is_the_verdict(tmp_path: Path, script: str, code: int) -> None:
    chosen = SCRIPTS[script]
    body = b"".join(openai_chat.frames(chosen, "m")) + (
        openai_chat.error_frame(chosen) if script == "error" else openai_chat.ending(chosen, "m")
    )
    (tmp_path / "body.sse").write_bytes(body)
    for arguments, given in (([str(tmp_path / "body.sse")], b""), (["-", "--protocol", "openai-chat"], body)):
        ran = run(*arguments, body=given)
        assert ran.returncode == code, ran.stderr
        assert ran.stdout.decode().strip() == "".join(chosen.pieces).strip()


def test_the_json_of_the_command_is_one_object_with_the_promised_names() -> None:
    ran = run("-", "--json", body=BODY)
    said = json.loads(ran.stdout)
    names = "protocol outcome finish_reason model text reasoning refusal tool_calls choices usage error diagnostics chunks"
    assert set(said) == set(names.split())
    assert (said["text"], said["outcome"], said["usage"]["output_tokens"], said["chunks"]) == ("Hello there.", "complete", 3, 3)
    assert run("/nonexistent/body.sse").returncode == 2


def test_an_empty_body_is_called_one() -> None:
    with pytest.raises(BadRequest, match="The body is empty"):
        ts.decode(b" \n")
    assert ts.decode(b"", "openai-chat").outcome != "complete"
