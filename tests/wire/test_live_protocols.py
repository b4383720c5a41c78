"""Everything a protocol can carry, live over sockets: tool calls, reasoning, several choices, logprobs, citations, refusals, usage."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import tokenstream_magic as ts
from tokenstream_magic.local import server as local
from tokenstream_magic.mock import Citation, MockServer, Script, Tool, words
from tokenstream_magic.mock.script import cut
from tokenstream_magic.wire.protocols import PROTOCOLS

NAMES = list(PROTOCOLS)
SEVERAL = ("openai-chat", "gemini")
LIKELY = ("openai-chat", "openai-responses", "gemini", "ollama")
ARGUMENTS = ('{"city": "Z\u00fcrich \U0001f642", "days": 2}', '{"zone": "Europe/Zurich"}')
CALLING = Script(
    words("Let me look."), tools=(Tool("weather", cut(ARGUMENTS[0], 3), "id-a"), Tool("clock", cut(ARGUMENTS[1]), "id-b"), Tool("now"))
)


def ask(mock: MockServer, protocol: str, script: Script, **flags: object) -> ts.Transcript:
    mock.scripts["m"] = script
    url = mock.base_url.replace("/v1", {"ollama": "/api", "gemini": "/v1beta"}.get(protocol, "/v1"))
    return ts.stream("Hi", "m", base_url=url, protocol=protocol, **flags)


@pytest.mark.parametrize("split", [None, 1], ids=["whole frames", "byte by byte"])
@pytest.mark.parametrize("unstreamed", [False, True], ids=["streamed", "at once"])
@pytest.mark.parametrize("protocol", NAMES)
def test_tool_calls_in_pieces_and_side_by_side(mock: MockServer, protocol: str, unstreamed: bool, split: int | None) -> None:
    seen = ask(mock, protocol, replace(CALLING, unstreamed=unstreamed, split=split))
    assert (seen.outcome, seen.text) == ("complete", "Let me look."), seen.error
    assert [(call["id"], call["name"]) for call in seen.tool_calls] == [("id-a", "weather"), ("id-b", "clock"), ("call_3", "now")]
    assert [json.loads(call["arguments"]) for call in seen.tool_calls] == [*map(json.loads, ARGUMENTS), {}]
    finishes = {"openai-chat": "tool_calls", "anthropic": "tool_use", "gemini": "STOP"}
    assert seen.finish_reason == finishes.get(protocol, "stop")
    if not unstreamed and protocol in ("openai-chat", "openai-responses", "anthropic"):
        assert seen.timing.chunks >= 3 + len(CALLING.tools[0].arguments) + len(CALLING.tools[1].arguments)


@pytest.mark.parametrize("unstreamed", [False, True], ids=["streamed", "at once"])
@pytest.mark.parametrize("protocol", SEVERAL)
def test_two_choices_told_in_turn_are_kept_apart(mock: MockServer, protocol: str, unstreamed: bool) -> None:
    script = Script(words("The first answer is this one."), choices=(words("A second."),), reasoning=("hm",), unstreamed=unstreamed)
    seen = ask(mock, protocol, script, option={"n": 2} if protocol == "openai-chat" else {"generationConfig": {"candidateCount": 2}})
    assert [(c.index, c.text, c.finish_reason.lower()) for c in seen.choices] == [
        (0, "The first answer is this one.", "stop"),
        (1, "A second.", "stop"),
    ]
    assert (seen.outcome, seen.reasoning, seen.usage.output_tokens) == ("complete", "hm", 9)
    body = mock.exchanges[-1].body
    assert (body["n"] if protocol == "openai-chat" else body["generationConfig"]["candidateCount"]) == 2


@pytest.mark.parametrize("protocol", SEVERAL)
def test_a_choice_that_was_not_ended_leaves_the_answer_truncated(mock: MockServer, protocol: str) -> None:
    script = Script(("a",), choices=(("b",),), finish="stop")
    whole = ask(mock, protocol, script)
    assert whole.outcome == "complete"
    from tokenstream_magic.mock import gemini, openai_chat

    speech = {"openai-chat": openai_chat, "gemini": gemini}[protocol]
    first_end = len(speech.ending(script, "m").split(b"data: ")[1]) + len(b"data: ")
    cut_there = replace(script, cut_at=len(b"".join(speech.frames(script, "m"))) + first_end, cut_by="end")
    seen = ask(mock, protocol, cut_there)
    assert seen.outcome == "truncated"
    assert [c.text for c in seen.choices] == ["a", "b"]
    assert seen.choices[1].finish_reason is None


@pytest.mark.parametrize("unstreamed", [False, True], ids=["streamed", "at once"])
@pytest.mark.parametrize("protocol", LIKELY)
def test_logprobs_are_asked_for_in_the_protocols_own_way_and_kept(mock: MockServer, protocol: str, unstreamed: bool) -> None:
    script = Script((" Caf\u00e9", " is", " open"), logprobs=(-0.25, -1.5), top_logprobs=2, unstreamed=unstreamed)
    seen = ask(mock, protocol, script, logprobs=2)
    assert [(token["token"], token["logprob"]) for token in seen.choices[0].logprobs] == [
        (" Caf\u00e9", -0.25),
        (" is", -1.5),
        (" open", -0.25),
    ]
    assert [alternative[0] for alternative in seen.choices[0].logprobs[0]["alternatives"]] == [" Caf\u00e9", " is"]
    assert (seen.outcome, seen.text, seen.usage.output_tokens) == ("complete", " Caf\u00e9 is open", 3)
    body = mock.exchanges[-1].body
    asked = {
        "openai-chat": lambda: body["logprobs"] is True and body["top_logprobs"] == 2,
        "openai-responses": lambda: body["include"] == ["message.output_text.logprobs"] and body["top_logprobs"] == 2,
        "gemini": lambda: body["generationConfig"] == {"responseLogprobs": True, "logprobs": 2},
        "ollama": lambda: body["logprobs"] is True and body["top_logprobs"] == 2,
    }
    assert asked[protocol]()


@pytest.mark.parametrize("unstreamed", [False, True], ids=["streamed", "at once"])
@pytest.mark.parametrize("protocol", ["openai-chat", "openai-responses", "anthropic", "gemini"])
def test_citations_name_their_page_and_their_place(mock: MockServer, protocol: str, unstreamed: bool) -> None:
    cited = Citation("https://example.org/lisbon", "Lisbon", 0, 6)
    seen = ask(mock, protocol, Script(words("Lisbon is old."), annotations=(cited,), unstreamed=unstreamed))
    assert (seen.outcome, seen.text) == ("complete", "Lisbon is old.")
    (found,) = seen.choices[0].annotations
    assert (found["url"], found["title"]) == (cited.url, cited.title)
    place = (found["start"], found["end"])
    assert (found["quote"] == "Lisbon") if protocol == "anthropic" else place == (0, 6)


@pytest.mark.parametrize("unstreamed", [False, True], ids=["streamed", "at once"])
@pytest.mark.parametrize("protocol", NAMES)
def test_a_refusal_is_no_answer(mock: MockServer, protocol: str, unstreamed: bool) -> None:
    seen = ask(mock, protocol, Script((), refusal=words("I can't help with that."), unstreamed=unstreamed))
    assert seen.outcome == "complete", seen.error
    if protocol == "gemini":
        assert (seen.text, seen.finish_reason) == ("", "SAFETY")
    elif protocol == "ollama":  # has no field for it
        assert seen.text == "I can't help with that."
    else:
        assert (seen.text, seen.refusal) == ("", "I can't help with that.")


@pytest.mark.parametrize("unstreamed", [False, True], ids=["streamed", "at once"])
@pytest.mark.parametrize("protocol", NAMES)
def test_usage_is_what_the_server_counted_and_not_what_arrived(mock: MockServer, protocol: str, unstreamed: bool) -> None:
    script = Script(words("Five pieces of an answer."), reasoning=("hm", " so"), input_tokens=40, cached_tokens=16, output_tokens=90)
    usage = ask(mock, protocol, replace(script, unstreamed=unstreamed)).usage
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (40, 90, "reported")
    assert usage.cached_input_tokens == (None if protocol == "ollama" else 16)
    assert usage.reasoning_tokens == (None if protocol in ("anthropic", "ollama") else 2)
    silent = ask(mock, protocol, replace(script, usage=False, unstreamed=unstreamed))
    assert (silent.outcome, silent.usage.output_tokens) == ("complete", 1 if protocol == "anthropic" and not unstreamed else None)


def test_the_real_llama_server_says_how_likely_its_tokens_were() -> None:
    try:
        seen = ts.stream("Why is the sky blue?", "local", temperature=0, max_tokens=8, logprobs=3)
    finally:
        local.close()
    assert seen.outcome == "complete", seen.error
    tokens = seen.choices[0].logprobs
    assert "".join(token["token"] for token in tokens).strip() == seen.text.strip()
    assert len(tokens) == seen.usage.output_tokens == 8
    assert all(token["logprob"] <= 0 and len(token["alternatives"]) == 3 for token in tokens)
