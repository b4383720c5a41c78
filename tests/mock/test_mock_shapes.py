"""The official clients read what the mock server says: its shapes are those of the protocols and not only ours."""

from __future__ import annotations

import json

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from tokenstream_magic.mock import Citation, MockServer, Script, Tool, words
from tokenstream_magic.mock.script import cut

SCRIPT = Script(
    words("Lisbon is old."),
    reasoning=words("Let me think."),
    annotations=(Citation("https://example.org/lisbon", "Lisbon", 0, 6),),
    tools=(Tool("weather", cut('{"city": "Lisbon"}', 4), "id-a"), Tool("now")),
    logprobs=(-0.25,),
    top_logprobs=2,
    output_tokens=30,
    cached_tokens=2,
)
ASKED = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def served(mock: MockServer) -> MockServer:
    mock.scripts["m"] = SCRIPT
    mock.scripts["two"] = Script(("a", "b"), choices=(("c",),))
    mock.scripts["no"] = Script((), refusal=words("I can't."))
    return mock


def test_openai_chat(served: MockServer) -> None:
    client = openai.OpenAI(api_key="k", base_url=served.base_url)
    with client.chat.completions.stream(model="m", messages=ASKED) as stream:
        streamed = stream.get_final_completion()
    for seen in (streamed, client.chat.completions.create(model="m", messages=ASKED, stream=False)):
        (choice,) = seen.choices
        assert (choice.message.content, choice.message.reasoning_content) == ("Lisbon is old.", "Let me think.")
        assert [(c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls] == [
            ("id-a", "weather", '{"city": "Lisbon"}'),
            ("call_2", "now", "{}"),
        ]
        assert [(t.token, t.logprob, len(t.top_logprobs)) for t in choice.logprobs.content] == [(p, -0.25, 2) for p in SCRIPT.pieces]
        assert (choice.finish_reason, seen.usage.completion_tokens, seen.usage.prompt_tokens_details.cached_tokens) == ("tool_calls", 30, 2)
    assert streamed.choices[0].message.annotations[0].url_citation.end_index == 6
    with client.chat.completions.stream(model="two", messages=ASKED, n=2) as stream:
        assert [c.message.content for c in stream.get_final_completion().choices] == ["ab", "c"]
    with client.chat.completions.stream(model="no", messages=ASKED) as stream:
        assert stream.get_final_completion().choices[0].message.refusal == "I can't."
    assert {model.id for model in client.models.list()} == set(served.scripts)
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="x", messages=ASKED)


def test_openai_responses(served: MockServer) -> None:
    client = openai.OpenAI(api_key="k", base_url=served.base_url)
    with client.responses.stream(model="m", input="Hi") as stream:
        kinds = {event.type for event in stream}
        streamed = stream.get_final_response()
    assert {"response.output_text.annotation.added", "response.function_call_arguments.done", "response.reasoning_text.delta"} <= kinds
    for seen in (streamed, client.responses.create(model="m", input="Hi", stream=False)):
        assert (seen.output_text, seen.status) == ("Lisbon is old.", "completed")
        assert [item.type for item in seen.output] == ["reasoning", "message", "function_call", "function_call"]
        assert seen.output[1].content[0].annotations[0].url == "https://example.org/lisbon"
        assert [(c.call_id, c.name, c.arguments) for c in seen.output[2:]] == [
            ("id-a", "weather", '{"city": "Lisbon"}'),
            ("call_2", "now", "{}"),
        ]
        assert (seen.usage.output_tokens, seen.usage.input_tokens_details.cached_tokens) == (30, 2)
    with client.responses.stream(model="no", input="Hi") as stream:
        stream.until_done()
        assert stream.get_final_response().output[0].content[0].refusal == "I can't."


def test_anthropic(served: MockServer) -> None:
    client = anthropic.Anthropic(api_key="k", base_url=served.base_url.removesuffix("/v1"))
    with client.messages.stream(model="m", max_tokens=9, messages=ASKED) as stream:
        streamed = stream.get_final_message()
    for seen in (streamed, client.messages.create(model="m", max_tokens=9, messages=ASKED, stream=False)):
        thinking, text, weather, now = seen.content
        assert (thinking.thinking, text.text) == ("Let me think.", "Lisbon is old.")
        assert (text.citations[0].url, text.citations[0].cited_text) == ("https://example.org/lisbon", "Lisbon")
        assert (weather.id, weather.name, weather.input, now.input) == ("id-a", "weather", {"city": "Lisbon"}, {})
        assert (seen.stop_reason, seen.usage.output_tokens, seen.usage.cache_read_input_tokens) == ("tool_use", 30, 2)
    with client.messages.stream(model="no", max_tokens=9, messages=ASKED) as stream:
        assert stream.get_final_message().stop_reason == "refusal"
    assert {model.id for model in client.models.list()} == set(served.scripts)


def test_gemini(served: MockServer) -> None:
    client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=served.base_url.removesuffix("/v1")))
    frames = list(client.models.generate_content_stream(model="m", contents="Hi"))
    parts = [part for frame in frames for part in frame.candidates[0].content.parts or ()]
    whole = client.models.generate_content(model="m", contents="Hi")
    for seen in (parts, whole.candidates[0].content.parts):
        assert "".join(p.text for p in seen if p.text and not p.thought) == "Lisbon is old."
        assert "".join(p.text for p in seen if p.thought) == "Let me think."
        assert [(p.function_call.name, p.function_call.args) for p in seen if p.function_call] == [
            ("weather", {"city": "Lisbon"}),
            ("now", {}),
        ]
    for last in (frames[-1], whole):
        assert (last.usage_metadata.candidates_token_count, last.usage_metadata.thoughts_token_count) == (27, 3)
        assert (last.usage_metadata.cached_content_token_count, last.candidates[0].finish_reason.name) == (2, "STOP")
    chosen = [t for f in frames for t in (f.candidates[0].logprobs_result.chosen_candidates if f.candidates[0].logprobs_result else ())]
    assert [(token.token, token.log_probability) for token in chosen] == [(piece, -0.25) for piece in SCRIPT.pieces]
    two = [frame.candidates[0] for frame in client.models.generate_content_stream(model="two", contents="Hi")]
    texts = ["".join(p.text for c in two if (c.index or 0) == i for p in c.content.parts or ()) for i in (0, 1)]
    assert texts == ["ab", "c"]
    assert {model.name for model in client.models.list()} == {f"models/{name}" for name in served.scripts}


def test_ollama_has_no_client_here_but_its_lines_are_objects_with_the_fields_of_its_api(served: MockServer) -> None:
    from tokenstream_magic.mock import ollama

    lines = [json.loads(line) for line in (b"".join(ollama.frames(SCRIPT, "m")) + ollama.ending(SCRIPT, "m")).splitlines()]
    assert all({"model", "created_at", "message", "done"} <= line.keys() for line in lines)
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    calls = [call["function"] for line in lines for call in line["message"].get("tool_calls", ())]
    assert calls == [{"index": 0, "name": "weather", "arguments": {"city": "Lisbon"}}, {"index": 1, "name": "now", "arguments": {}}]
    assert [line["logprobs"][0]["token"] for line in lines if "logprobs" in line] == list(SCRIPT.pieces)
