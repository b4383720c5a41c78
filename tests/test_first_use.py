"""What a stranger tried first: every surprise they met, mended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tokenstream_magic as ts
from tokenstream_magic import api
from tokenstream_magic.display.bundle import settled
from tokenstream_magic.flags import parse_stream
from tokenstream_magic.mock.server import MockServer


def tokenstream(*words: str, given: str = "Hi") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tokenstream_magic.cli", *words]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)


def test_a_dry_run_in_a_terminal_sends_nothing(mock: MockServer) -> None:
    ran = tokenstream("stream", "hello", "--base-url", mock.base_url, "--dry-run", "--tag", "x")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"POST {mock.base_url}/chat/completions")
    assert mock.exchanges == []


@pytest.mark.parametrize("flag", ["--out", "--bg", "--raw"])
def test_flags_of_cells_are_refused_in_a_terminal(flag: str) -> None:
    assert flag not in tokenstream("stream", "--help").stdout
    ran = tokenstream("stream", "mock/hello", flag, *(["x"] if flag == "--out" else []))
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)


def test_the_command_lists_transcripts_with_the_words_of_the_magic() -> None:
    ts.stream("about a lighthouse", "mock/hello")
    assert "about a lighthouse" in tokenstream("transcripts", "-q", "lighthouse", "-n", "3").stdout
    assert tokenstream("transcripts", "-q", "nothing like it").stdout == "No transcript matches.\n"
    assert "invalid choice: 'stoped'" in tokenstream("transcripts", "--status", "stoped").stderr


def test_a_run_that_is_still_running_is_not_called_complete(mock: MockServer) -> None:
    run = api.start("Hi", "endless", base_url=mock.base_url)
    mock.wait_for(1)
    while not run.transcript.text:
        assert not run.future.done()
    data, _ = settled(run.transcript)
    assert "still answering" in data["text/plain"]
    assert run.transcript.text.startswith("The")
    run.stop()
    run.wait()
    assert run.transcript.text.startswith("The lighthouse"[:3])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"out": "x"}, "The call returns the transcript"),
        ({"n": True}, "Its name is no_log"),
        ({"option": [("top_k", 1)]}, "option is a dictionary"),
        ({"wrong": 1}, "option="),
    ],
)
def test_wrong_keywords_say_what_is_right(flags: dict, said: str) -> None:
    with pytest.raises(ts.TokenstreamError) as caught:
        ts.stream("Hi", "mock/hello", **flags)
    assert said in str(caught.value)


def test_messages_are_a_prompt_too(mock: MockServer) -> None:
    asked = [{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"}, {"role": "user", "content": "Three"}]
    transcript = ts.stream(asked, "hello", base_url=mock.base_url, system="Be brief")
    assert [m["content"] for m in mock.exchanges[0].body["messages"]] == ["Be brief", "One", "Two", "Three"]
    assert (transcript.prompt, transcript.system) == ("Three", "Be brief")
    for wrong in ([], [{"role": "user"}], 5, None):
        with pytest.raises(ts.TokenstreamError, match="The prompt is text"):
            ts.stream(wrong, "hello", base_url=mock.base_url)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--temperture 1", "Did you mean --temperature?"),
        ("--max_tokens 5", "Did you mean --max-tokens?"),
        ('-o response_format {"type":"json_object"}', "single quotes"),
        ("-o messages 3", "would replace what the cell says"),
    ],
)
def test_a_slip_in_a_flag_gets_a_hint(line: str, said: str) -> None:
    with pytest.raises(ts.TokenstreamError) as caught:
        parse_stream(line)
    assert said in str(caught.value)


def test_json_between_single_quotes_is_json() -> None:
    _, keywords = parse_stream('-o response_format \'{"type": "json_object"}\'')
    assert keywords["option"] == {"response_format": {"type": "json_object"}}


def test_models_lists_aliases_and_says_where_they_are_configured() -> None:
    config = Path(os.environ["TOKENSTREAM_CONFIG"])
    assert f"{config} (not there yet)" in tokenstream("models").stdout
    config.write_text('[aliases]\nfast = "groq/llama"\nloop = "loop"')
    assert "fast" in tokenstream("models").stdout
    assert "→ groq/llama" in tokenstream("models").stdout
    assert "The alias 'loop'" in tokenstream("stream", "loop").stderr
    config.write_text('[alias]\nfast = "groq/llama"')
    assert "there is no table [alias]" in tokenstream("models").stderr


@pytest.mark.parametrize(
    ("model", "said"), [("local/Other", "local has one model, SmolLM2-135M-Instruct"), ("http://localhost:1/v1", "That is an address")]
)
def test_a_model_that_cannot_be_is_refused(model: str, said: str) -> None:
    with pytest.raises(ts.TokenstreamError, match=said.replace("(", "\\(")):
        ts.stream("Hi", model)
