"""Structured answers and conversations against the real llama.cpp server, in the protocols it speaks."""

import json

import pytest

import tokenstream_magic as ts
from tokenstream_magic import conversations
from tokenstream_magic.local import server

SPOKEN = ("openai-chat", "openai-responses", "anthropic")


@pytest.fixture(scope="module", autouse=True)
def ended():
    yield
    server.close()


def test_the_server_enforces_a_schema():
    shape = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    answer = ts.stream("Tell me a long story.", "local", schema=shape, temperature=0, max_tokens=40)
    assert (answer.outcome, answer.diagnostics) == ("complete", [])
    value = json.loads(answer.text)
    assert value["colour"] in ("red", "blue")
    assert 1 <= value["count"] <= 9


def test_json_that_is_cut_at_max_tokens_is_noted():
    answer = ts.stream("A JSON object about a city.", "local", json=True, temperature=0, max_tokens=6)
    assert (answer.outcome, answer.finish_reason) == ("complete", "length")
    assert answer.diagnostics[0].startswith("the answer is no JSON")


@pytest.mark.parametrize("protocol", SPOKEN)
def test_a_conversation_with_tool_calls_is_taken(protocol):
    conversations._here.clear()
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    said = [
        {"role": "user", "content": "1+2?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "3"},
        {"role": "assistant", "content": "3."},
        {"role": "user", "content": "Again."},
    ]
    tool = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    first = ts.stream(said, "local", protocol=protocol, tool=tool, temperature=0, max_tokens=4)
    second = ts.stream("And?", continue_=True, protocol=protocol, temperature=0, max_tokens=4)
    assert (first.error, second.error) == (None, None)
    assert (first.outcome, second.outcome, second.conversation_id) == ("complete", "complete", first.id)
