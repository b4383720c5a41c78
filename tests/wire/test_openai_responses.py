import json

import pytest

from tokenstream_magic.wire.events import (
    Event,
    Finish,
    KeepAlive,
    Reasoning,
    Refusal,
    Served,
    Terminator,
    Text,
    ToolCall,
    Unknown,
    Usage,
)
from tokenstream_magic.wire.framing import Comment, Frame
from tokenstream_magic.wire.openai_responses import Decoder, authorization, request

EVENT = Event.__args__


def ev(name, **more):
    return {"type": f"response.{name}", **more}


def delta(text, kind="output_text", index=0, id="m", **more):
    return ev(f"{kind}.delta", delta=text, output_index=index, item_id=id, **more)


def done(text, kind="output_text", field="text", index=0, id="m", **more):
    return ev(f"{kind}.done", output_index=index, item_id=id, **{field: text}, **more)


def item(step, index=0, **fields):
    return ev(f"output_item.{step}", **({} if index is None else {"output_index": index}), item=fields)


def run(*pieces):
    """Events and verdict of a stream; a dict stands for its frame, a string for a frame as it is."""
    decoder = Decoder()
    events = []
    for piece in pieces:
        data = json.dumps(piece) if isinstance(piece, dict) else piece
        events += decoder.decode(Frame(data) if isinstance(data, str) else data)
    return events, decoder.verdict()


def content(*pieces):
    return [e for e in run(*pieces)[0] if isinstance(e, (Text, Reasoning, Refusal))]


def calls_of(*pieces):
    calls = {}
    for event in run(*pieces)[0]:
        if isinstance(event, ToolCall):
            id, name, arguments = calls.get(event.call, (None, None, ""))
            assert (id is None or event.id is None) and (name is None or event.name is None)
            calls[event.call] = (id or event.id, name or event.name, arguments + event.arguments)
    return [calls[position] for position in sorted(calls)]


MESSAGE = {"id": "m", "type": "message", "content": [{"type": "output_text", "text": "hi é😀", "annotations": []}]}
USAGE = {
    "input_tokens": 8,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 3},
}
CREATED = ev("created", response={"id": "r1", "model": "m-1", "status": "in_progress", "output": [], "usage": None})
COMPLETED = ev("completed", response={"id": "r1", "model": "m-1", "status": "completed", "output": [MESSAGE], "usage": USAGE})
HI = delta("hi")

# request


def test_the_request_has_instructions_and_the_fields_of_this_protocol():
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    options = {"temperature": 0, "max_tokens": 5, "seed": 7, "stop": ["x"], "reasoning_effort": "low", "logprobs": 2, "own": 1}
    made = request("m", messages, options)
    assert made.path == "/responses"
    assert made.body == {
        "model": "m",
        "instructions": "be brief",
        "input": [{"role": "user", "content": "hi"}],
        "stream": True,
        "temperature": 0,
        "max_output_tokens": 5,
        "reasoning": {"effort": "low"},
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "own": 1,
    }
    assert authorization("k") == {"Authorization": "Bearer k"}


def test_own_fields_are_added_to_and_not_replaced():
    body = request("m", [], {"include": ["a"], "logprobs": True, "reasoning": {"summary": "auto"}, "reasoning_effort": "low"}).body
    assert body["include"] == ["a", "message.output_text.logprobs"]
    assert body["reasoning"] == {"summary": "auto", "effort": "low"}
    assert "top_logprobs" not in body and "instructions" not in body
    assert "include" not in request("m", [], {"logprobs": False}).body


# content


def test_a_whole_stream():
    stream = [CREATED, ev("in_progress"), item("added", **{**MESSAGE, "content": []}), ev("content_part.added"), delta("hi "), delta("é😀")]
    events, verdict = run(*stream, done("hi é😀"), ev("content_part.done"), item("done", **MESSAGE), COMPLETED)
    assert [e for e in events if e != KeepAlive()] == [
        Served("m-1", None, "r1"),
        Text("hi "),
        Text("é😀"),
        Usage(8, 5, 3, 4),
        Finish("stop"),
        Terminator(),
    ]
    assert (verdict.outcome, verdict.note) == ("complete", "")


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("output_text", Text("x")),
        ("reasoning_text", Reasoning("x")),
        ("reasoning_summary_text", Reasoning("x")),
        ("refusal", Refusal("x")),
    ],
)
def test_every_kind_of_text_is_read_once(kind, made):
    field = "refusal" if kind == "refusal" else "text"
    assert content(delta("x", kind)) == content(delta("x", kind), done("x", kind, field)) == content(done("x", kind, field)) == [made]


def test_a_part_of_which_no_delta_came_is_read_from_its_end():
    assert content(delta("a", content_index=0), done("a", content_index=0), done("b", content_index=1)) == [Text("a"), Text("b")]
    assert content(delta("a"), done("a", content_index=0)) == [Text("a")]


@pytest.mark.parametrize("end", [item("done", **MESSAGE), item("done", None, **MESSAGE), COMPLETED])
@pytest.mark.parametrize("before", [[], [delta("hi é😀")], [delta("hi é😀", id="z")], [delta("hi é😀", index=None, id="z")]])
def test_a_text_that_only_the_end_carries_is_used_and_no_text_is_read_twice(before, end):
    assert content(CREATED, *before, end, COMPLETED) == [Text("hi é😀")]


def test_an_event_may_lack_its_name_in_the_data_or_on_the_line():
    assert Decoder().decode(Frame(json.dumps({"delta": "a"}), "response.output_text.delta")) == [Text("a")]
    assert Decoder().decode(Frame(json.dumps(ev("output_text.delta", delta="a")), "message")) == [Text("a")]


@pytest.mark.parametrize("name", ["web_search_call.searching", "new.thing"])
def test_what_is_not_known_is_counted_and_ends_nothing(name):
    events, verdict = run(CREATED, ev(name), HI, COMPLETED)
    assert Unknown(f"response.{name}") in events
    assert (content(ev(name), HI), verdict.outcome) == ([Text("hi")], "complete")


def test_an_unknown_part_of_a_whole_item_is_counted():
    assert run(item("done", id="m", type="message", content=[{"type": "hologram"}]))[0] == [Unknown("hologram")]


@pytest.mark.parametrize("piece", [Comment("ping"), ": ping", delta(""), delta(None), ev("queued")])
def test_a_server_that_says_nothing_is_alive(piece):
    assert run(piece)[0] == [KeepAlive()]


# tool calls

CALL = {"id": "fc_1", "type": "function_call", "call_id": "c1", "name": "f", "arguments": ""}
ARGS = "function_call_arguments"


def test_a_tool_call_grows_and_its_end_adds_nothing():
    whole = {**CALL, "arguments": "{}"}
    stream = [item("added", **CALL), delta("{", ARGS, id="fc_1"), delta("}", ARGS, id="fc_1"), done("{}", ARGS, "arguments", id="fc_1")]
    assert calls_of(*stream, item("done", **whole), ev("completed", response={"output": [whole]})) == [("c1", "f", "{}")]


def test_ids_that_change_with_every_event_are_one_call():
    second = {**CALL, "id": "q", "call_id": "c2", "name": "g"}
    stream = [
        item("added", **CALL),
        item("added", 1, **second),
        delta("{", ARGS, 0, "x"),
        delta("[", ARGS, 1, "y"),
        delta("}", ARGS, 0, "z"),
    ]
    ends = [item("done", 0, **{**CALL, "id": "w", "call_id": "v", "arguments": "{}"}), done("[", ARGS, "arguments", 1, "u")]
    assert calls_of(*stream, *ends) == [("c1", "f", "{}"), ("c2", "g", "[")]


def test_calls_without_an_index_are_told_apart_by_their_ids():
    stream = [item("added", None, **CALL), item("added", None, **{**CALL, "id": "fc_2", "call_id": "c2"})]
    assert calls_of(*stream, delta("{}", ARGS, None, "fc_1"), delta("[]", ARGS, None, "fc_2")) == [("c1", "f", "{}"), ("c2", "f", "[]")]


def test_one_id_for_every_item_is_told_apart_by_the_index():
    stream = [item("added", 0, **CALL), item("added", 1, **{**CALL, "call_id": "c2"}), delta("{}", ARGS, 1, "fc_1")]
    assert calls_of(*stream) == [("c1", "f", ""), ("c2", "f", "{}")]


@pytest.mark.parametrize(
    "whole", [item("done", **{**CALL, "arguments": "{}"}), ev("completed", response={"output": [{**CALL, "arguments": "{}"}]})]
)
@pytest.mark.parametrize("before", [[], [item("added", **CALL)]])
def test_a_call_sent_whole_is_read_at_its_end(before, whole):
    assert calls_of(*before, whole) == [("c1", "f", "{}")]


def test_a_custom_tool_has_an_input():
    custom = {"id": "t", "type": "custom_tool_call", "call_id": "c", "name": "sh", "input": ""}
    kind = "custom_tool_call_input"
    assert calls_of(item("added", **custom), delta("ls", kind), done("ls", kind, "input")) == [("c", "sh", "ls")]
    assert calls_of(item("done", **{**custom, "input": "ls"})) == [("c", "sh", "ls")]
