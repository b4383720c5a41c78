"""All five protocols end to end against the mock server, and three against the real llama.cpp."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tokenstream_magic as ts
from tokenstream_magic import catalog
from tokenstream_magic.local import server as local
from tokenstream_magic.mock.script import SCRIPTS, Script, words
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.wire.protocols import PROTOCOLS

NAMES = list(PROTOCOLS)


def base_url(mock: MockServer, protocol: str) -> str:
    return mock.base_url.replace("/v1", {"ollama": "/api", "gemini": "/v1beta"}.get(protocol, "/v1"))


def test_the_catalog_and_the_wire_know_the_same_protocols() -> None:
    assert list(catalog.PROTOCOLS) == NAMES
    assert {endpoint.protocol for endpoint in catalog.BUILT_IN.values()} == set(NAMES)


@pytest.mark.parametrize("protocol", NAMES)
def test_an_answer_with_reasoning_is_whole_timed_and_counted(mock: MockServer, protocol: str) -> None:
    mock.scripts["m"] = Script(words("One two \u00fcber \U0001f642 three."), reasoning=("Let me", " think."), gap=0.01)
    transcript = ts.stream(
        "Hi", "m", base_url=base_url(mock, protocol), protocol=protocol, system="Be brief", temperature=0.5, max_tokens=99
    )
    assert transcript.outcome == "complete", transcript.error
    assert transcript.text == "One two \u00fcber \U0001f642 three."
    assert transcript.reasoning == "Let me think."
    assert (transcript.usage.output_tokens, transcript.usage.source) == (7, "reported")
    assert transcript.resolved_model == "m"
    assert transcript.timing.ttfa_ms > transcript.timing.ttft_ms > 0
    assert transcript.timing.chunks == 7
    assert transcript.protocol == protocol
    sent = str(mock.exchanges[-1].body)
    assert "Be brief" in sent
    assert "Hi" in sent
    assert "0.5" in sent
    assert "99" in sent


@pytest.mark.parametrize("protocol", NAMES)
@pytest.mark.parametrize(
    ("script", "outcome"), [("no-finish", "truncated"), ("cut", "truncated"), ("error", "failed"), ("unauthorized", "failed")]
)
def test_an_end_that_is_no_end_is_never_complete(mock: MockServer, protocol: str, script: str, outcome: str) -> None:
    transcript = ts.stream("Hi", script, base_url=base_url(mock, protocol), protocol=protocol)
    assert transcript.outcome == outcome
    if script != "unauthorized":
        assert "".join(SCRIPTS[script].pieces).startswith(transcript.text) is True
        assert transcript.text.startswith("The lighthouse")
    if outcome == "failed":
        assert SCRIPTS[script].error in transcript.error["message"]


@pytest.mark.parametrize("protocol", NAMES)
def test_a_captured_body_is_recognised_and_judged_as_it_was_live(mock: MockServer, protocol: str) -> None:
    from tokenstream_magic.mock import anthropic, gemini, ollama, openai_chat, openai_responses

    speech = {"openai-chat": openai_chat, "openai-responses": openai_responses, "anthropic": anthropic, "gemini": gemini, "ollama": ollama}
    script = Script(words("One two three."), reasoning=("Hm.",))
    body = b"".join(speech[protocol].frames(script, "m")) + speech[protocol].ending(script, "m")
    whole = ts.decode(body)
    assert (whole.protocol, whole.outcome, whole.text, whole.reasoning) == (protocol, "complete", "One two three.", "Hm.")
    end = len(speech[protocol].ending(replace(script, ending="done"), "m"))
    for cut in range(len(body) - end + 1):
        part = ts.decode(body[:cut], protocol)
        assert part.outcome != "complete", cut
        assert "One two three.".startswith(part.text)
    assert ts.decode((bytes([b]) for b in body), protocol).text == whole.text


@pytest.mark.parametrize("protocol", NAMES)
def test_the_key_goes_into_the_protocols_own_header(mock: MockServer, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-canary-0123456789")
    ts.stream("Hi", "hello", base_url=base_url(mock, protocol), protocol=protocol, api_key_env="SOME_KEY")
    headers = mock.exchanges[-1].headers
    carrying = {name for name, value in headers.items() if "sk-canary" in value}
    assert carrying == {{"anthropic": "x-api-key", "gemini": "x-goog-api-key"}.get(protocol, "authorization")}
    assert "sk-canary" not in mock.exchanges[-1].path


@pytest.mark.parametrize("protocol", ["openai-chat", "openai-responses", "anthropic"])
def test_the_real_llama_server_is_understood_in_three_protocols(protocol: str) -> None:
    try:
        transcript = ts.stream("Why is the sky blue? Answer in three sentences.", "local", protocol=protocol, temperature=0, max_tokens=24)
    finally:
        local.close()
    assert transcript.outcome == "complete", transcript.error
    assert transcript.text.startswith("The sky")
    assert transcript.usage.output_tokens == 24
    assert transcript.timing.ttft_ms > 0
