import json

import pytest
from hypothesis import given, settings, strategies as st

from tokenstream_magic.wire.anthropic import Decoder, authorization, request
from tokenstream_magic.wire.events import (
    Event,
    Failure,
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
from tokenstream_magic.wire.framing import Comment, EventStreamFraming, Frame, Stray

EVENT = Event.__args__


def start(id="msg_1", **usage):
    usage = {"input_tokens": 9, "output_tokens": 1} | usage
    return {"type": "message_start", "message": {"id": id, "type": "message", "model": "m", "content": [], "usage": usage}}


def opened(type, index=0, **more):
    return {"type": "content_block_start", "index": index, "content_block": {"type": type, **more}}


def delta(type, index=0, **more):
    return {"type": "content_block_delta", "index": index, "delta": {"type": type, **more}}


def closed(index=0):
    return {"type": "content_block_stop", "index": index}


def final(reason="end_turn", usage=None, **more):
    return {"type": "message_delta", "delta": {"stop_reason": reason, **more}, "usage": usage or {"output_tokens": 15}}


HI, STOP, PING = delta("text_delta", text="hi"), {"type": "message_stop"}, {"type": "ping"}


def run(*messages):
    """A decoder and the events of a stream; a dict stands for its JSON frame, a string for a frame as it is."""
    decoder, events = Decoder(), []
    for message in messages:
        data = json.dumps(message) if isinstance(message, dict) else message
        events += decoder.decode(Frame(data) if isinstance(data, str) else data)
    return decoder, events


def decoded(*messages):
    return [event for event in run(*messages)[1] if event != KeepAlive()]


def ended(*messages):
    return run(*messages)[0].verdict()


# request


def test_system_messages_stand_apart_and_the_rest_keeps_its_order():
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "hi"}, {"role": "system", "content": "b"}]
    made = request("m", messages, {"temperature": 0, "max_tokens": 5, "stop": ["x"], "thinking": {"type": "enabled"}})
    assert made.path == "/messages"
    assert made.body == {
        "model": "m",
        "max_tokens": 5,
        "system": "a\n\nb",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "temperature": 0,
        "stop_sequences": ["x"],
        "thinking": {"type": "enabled"},
    }
    assert made.headers["anthropic-version"] == "2023-06-01"
    assert made.headers["Accept"].startswith("text/event-stream")


def test_what_the_api_refuses_is_left_out_and_what_it_requires_is_there():
    assert request("m", [], {"seed": 1, "logprobs": 3}).body == {"model": "m", "max_tokens": 1024, "messages": [], "stream": True}


def test_the_effort_stands_beside_what_else_is_said_of_the_output():
    body = request("m", [], {"output_config": {"own": 1}, "reasoning_effort": "low", "schema": {"type": "object"}}).body
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    assert body["output_config"] == {"own": 1, "effort": "low", "format": wanted}
    assert "reasoning_effort" not in body


def test_one_stop_text_is_a_list_and_system_blocks_stay_blocks():
    block = {"type": "text", "text": "b"}
    body = request("m", [{"role": "system", "content": "a"}, {"role": "system", "content": [block]}], {"stop": "x"}).body
    assert body["stop_sequences"] == ["x"]
    assert body["system"] == [{"type": "text", "text": "a"}, block]


def test_the_key_has_its_own_header():
    assert authorization("k") == {"x-api-key": "k"}
    assert "x-api-key" not in request("m", [], {}).headers


# decode


def test_a_stream_with_thinking_gives_all_of_it_in_order():
    thinking = [opened("thinking", thinking="", signature=""), PING, delta("thinking_delta", thinking="hm")]
    text = [delta("signature_delta", signature="s"), closed(), opened("text", 1, text=""), delta("text_delta", 1, text="so"), closed(1)]
    decoder, events = run(start(), *thinking, *text, final(), STOP)
    assert [event for event in events if event != KeepAlive()] == [
        *(Served("m", None, "msg_1"), Usage(9, 1), Reasoning("hm"), Text("so"), Finish("end_turn"), Usage(9, 15), Terminator())
    ]
    assert (decoder.verdict().outcome, decoder.verdict().note, decoder.characters) == ("complete", "", 4)


@pytest.mark.parametrize("piece", [Comment("x"), Frame(": keepalive"), Frame('{"type": "ping"}', "ping"), Frame(json.dumps(closed()))])
def test_a_server_that_says_nothing_is_alive(piece):
    assert Decoder().decode(piece) == [KeepAlive()]


@pytest.mark.parametrize("name", ["message", "content_block_delta", "ping", "other"])
def test_the_event_name_decides_nothing(name):
    assert Decoder().decode(Frame(json.dumps(HI), name)) == [Text("hi")]


def test_usage_replaces_field_by_field_and_counts_the_cached_prompt():
    more = {"input_tokens": 61, "output_tokens": 30, "output_tokens_details": {"thinking_tokens": 12}}
    usages = [
        e for e in decoded(start(cache_read_input_tokens=100, cache_creation_input_tokens=5), final(usage=more)) if isinstance(e, Usage)
    ]
    assert usages == [Usage(114, 1, None, 100), Usage(166, 30, 12, 100)]


def test_usage_that_says_little_leaves_the_rest_unknown():
    assert decoded(final(None, {"input_tokens": None, "output_tokens": 0, "output_tokens_details": 5})) == [Usage(None, 0)]


def test_tool_calls_grow_in_their_blocks():
    messages = [
        *(opened("tool_use", 1, id="a", name="f", input={}), delta("input_json_delta", 1, partial_json="")),
        *(delta("input_json_delta", 1, partial_json='{"x"'), delta("input_json_delta", 1, partial_json=": 1}"), closed(1)),
        *(opened("server_tool_use", 2, id="b", name="g", input={}), closed(2)),
        *(opened("tool_use", 3, id="c", name="h", input={"y": 2}), final("tool_use")),
    ]
    calls = [event for event in decoded(*messages) if isinstance(event, ToolCall)]
    assert calls == [
        *(ToolCall(0, "a", "f"), ToolCall(0, arguments='{"x"'), ToolCall(0, arguments=": 1}")),
        *(ToolCall(1, "b", "g"), ToolCall(1, arguments="{}"), ToolCall(2, "c", "h"), ToolCall(2, arguments='{"y": 2}')),
    ]
    assert ended(*messages, STOP).note == ""


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (opened("web_search_tool_result", content=[{"url": "u"}]), "web_search_tool_result"),
        (opened("redacted_thinking", data="x"), "redacted_thinking"),
        (opened("fallback"), "fallback"),
        (delta("input_json_delta", partial_json="{"), "input_json_delta outside a tool call"),
        ({"type": "session.new"}, "session.new"),
        ({"type": 5}, "message"),
        ("[DONE]", "[DONE]"),
        ("5", "int"),
        (Stray("<br>"), "stray line"),
    ],
)
def test_what_is_unknown_is_kept_by_name_and_ends_nothing(message, name):
    assert decoded(message, HI, STOP) == [Unknown(name), Text("hi"), Terminator()]
    assert ended(start(), message, HI, STOP).outcome == "complete"


def test_another_model_that_goes_on_is_named():
    fallback = opened("fallback", **{"from": {"model": "m"}, "to": {"model": "n"}, "trigger": "overloaded"})
    assert decoded(start(), HI, fallback)[-1] == Served("n", None, "msg_1")


def test_a_refusal_says_why_when_the_server_does():
    assert decoded(final("refusal", stop_details={"explanation": "No."}))[:2] == [Refusal("No."), Finish("refusal")]
    assert decoded(final("refusal", stop_details=None))[0] == Finish("refusal")


# endings

ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "r"}
NESTED = {"type": "error", "error": {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}}
FLAT = {"type": "error", "message": "Overloaded", "code": "overloaded_error"}
BARE = {"error": {"type": "overloaded_error", "message": "Overloaded"}}


@pytest.mark.parametrize("error", [ERROR, NESTED, FLAT, BARE, Frame(json.dumps(ERROR), "error"), Stray(json.dumps(ERROR))])
def test_every_shape_of_error_makes_it_failed_whatever_follows(error):
    for messages in ([error], [start(), HI, error], [error, start(), HI, final(), STOP]):
        verdict = ended(*messages)
        assert (verdict.outcome, verdict.note, verdict.failure.type) == ("failed", "Overloaded", "overloaded_error")


@pytest.mark.parametrize("data", ["overloaded", '{"reason": "overloaded"}', "null"])
def test_an_error_event_is_an_error_whatever_it_carries(data):
    assert run(Frame(data, "error"))[1][-1] == Failure(data, "server_error")


def test_an_unfinished_event_with_an_error_behind_it_gives_both():
    assert decoded(json.dumps(HI) + "\n" + json.dumps(ERROR)) == [Text("hi"), Failure("Overloaded", "overloaded_error")]


def test_a_second_answer_in_the_stream_is_spliced_and_not_mixed_in():
    decoder, events = run(start(), HI, start("msg_2"), delta("text_delta", text="other"), STOP)
    assert [event.text for event in events if isinstance(event, Text)] == ["hi"]
    assert events[-1] == Terminator()
    assert (decoder.verdict().outcome, decoder.verdict().failure.type) == ("failed", "spliced")


def test_a_start_that_is_repeated_or_comes_before_any_content_is_no_splice():
    assert run(start(), HI, start(), HI, STOP)[0].verdict().outcome == "complete"
    assert Served("m", None, "msg_2") in decoded(start(), start("msg_2"), HI)
    assert ended(start(), start("msg_2"), HI, STOP).outcome == "complete"


@pytest.mark.parametrize(
    ("messages", "outcome", "said"),
    [
        ([start(), HI, final(), "[DONE]"], "truncated", "ended without message_stop after 2 characters"),
        ([start()], "truncated", "after 0 characters"),
        ([], "failed", "empty stream"),
        ([PING, Comment("x")], "failed", "empty stream"),
        (["{"], "failed", "1 frame of the stream could not be read"),
        ([start(), HI, "{", "{", STOP], "truncated", "2 frames"),
        ([start(), final(), STOP], "complete", "without any text"),
        ([HI, Frame('{"type": "mess', terminated=False)], "truncated", "after 2 characters"),
    ],
)
def test_only_a_message_stop_makes_it_complete(messages, outcome, said):
    verdict = ended(*messages)
    assert verdict.outcome == outcome
    assert said in verdict.note


def test_an_answer_sent_in_one_object_is_read_and_complete():
    content = [
        *({"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}, None),
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]
    decoder, more = Decoder(), {"stop_reason": "tool_use", "usage": {"input_tokens": 1}}
    events = decoder.whole({"id": "i", "model": "m", "content": content, **more})
    said = [Reasoning("hm"), Text("so"), ToolCall(0, "a", "f"), ToolCall(0, arguments="{}")]
    assert events == [Served("m", None, "i"), Usage(1), *said, Finish("tool_use"), Usage(1)]
    assert decoder.verdict().outcome == "complete"
    assert [Decoder().whole(message) for message in (None, [], "hi", {}, {"content": "x"}, {"content": []})] == [[]] * 6


# a body cut anywhere

MESSAGES = (start(), opened("text", text=""), PING, HI, delta("text_delta", text=" é😀"), closed(), final(), STOP)
BODY = "".join(f"event: {m['type']}\ndata: {json.dumps(m, ensure_ascii=False)}\n\n" for m in MESSAGES).encode()


def read(*reads):
    framing, decoder = EventStreamFraming(), Decoder()
    pieces = [piece for data in reads for piece in framing.feed(data)] + framing.end()
    return [event for piece in pieces for event in decoder.decode(piece)], decoder.verdict()


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_a_body_cut_at_any_byte_is_never_complete_before_its_end_and_keeps_a_prefix(ending):
    body = BODY.replace(b"\n", ending)
    for cut in range(len(body) + 1):
        events, verdict = read(body[:cut])
        assert "hi é😀".startswith("".join(e.text for e in events if isinstance(e, Text))), cut
        assert (verdict.outcome == "complete") == (cut >= len(body) - 2 * len(ending)), cut
        assert verdict.outcome != "failed" or cut < body.index(ending + b"event: content_block_start"), cut


def test_reads_of_one_byte_equal_one_read():
    assert read(*(BODY[i : i + 1] for i in range(len(BODY)))) == read(BODY)


# nothing a server sends raises

TYPES = [m["type"] for m in MESSAGES] + "error text thinking tool_use fallback text_delta thinking_delta input_json_delta".split()
FIELDS = "type index delta content_block message id model usage text thinking partial_json input name to error stop_reason content"
LEAF = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.sampled_from([*TYPES, 2**70, "\ud83d"]))
JSON = st.recursive(
    LEAF,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS.split()), inner, max_size=4)),
    max_leaves=25,
)
TYPED = st.builds(lambda kind, rest: {**rest, "type": kind}, st.sampled_from(TYPES), st.dictionaries(st.sampled_from(FIELDS.split()), JSON))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(JSON, TYPED), max_size=5), st.sampled_from(["message", "error", "odd"]))
def test_no_json_message_raises(messages, event):
    decoder = Decoder()
    for message in messages:
        events = decoder.decode(Frame(json.dumps(message), event))
        assert events
        assert all(isinstance(e, EVENT) for e in events + decoder.whole(message))
    assert decoder.verdict().outcome in ("complete", "truncated", "failed")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30), st.booleans())
def test_no_text_raises(text, terminated):
    decoder = Decoder()
    for piece in (Frame(text, terminated=terminated), Frame(text, "error"), Frame('{"a": 1}' + text), Stray(text), Comment(text)):
        assert all(isinstance(e, EVENT) for e in decoder.decode(piece))


@pytest.mark.parametrize("depth", [10, 900, 990, 100_000])
def test_no_depth_of_nesting_raises(depth):
    nested = '{"a":' * depth + "1" + "}" * depth
    block = '{"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "input": NESTED}}'.replace("NESTED", nested)
    decoder = run(block, closed(), '{"type": "error", "error": {"message": NESTED}}'.replace("NESTED", nested), nested)[0]
    assert decoder.verdict().outcome == "failed"
