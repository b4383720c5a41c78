import json

import pytest
from hypothesis import given, settings, strategies as st

from tokenstream_magic.wire.events import (
    Event,
    Failure,
    Finish,
    KeepAlive,
    Reasoning,
    Served,
    ServerTiming,
    Terminator,
    Text,
    ToolCall,
    Unknown,
    Usage,
)
from tokenstream_magic.wire.framing import Comment, Frame, Stray
from tokenstream_magic.wire.lines import LinesFraming
from tokenstream_magic.wire.ollama import Decoder, authorization, request

EVENT = Event.__args__
DURATIONS = {"total_duration": 5000000, "load_duration": 1000, "prompt_eval_duration": 900000, "eval_duration": 800000}


def line(content="", done=False, **message):
    return {
        "model": "m",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": content, **message},
        "done": done,
    }


def last(reason="stop", **more):
    return line(done=True) | {"done_reason": reason, "prompt_eval_count": 3, "eval_count": 2} | DURATIONS | more


HI, DONE = line("hi"), last()


def run(*messages):
    """A decoder and the events of a stream; a dict stands for its line, a string for a line as it is."""
    decoder, events = Decoder(), []
    for message in messages:
        data = json.dumps(message) if isinstance(message, dict) else message
        events += decoder.decode(Frame(data) if isinstance(data, str) else data)
    return decoder, events


def decoded(*messages):
    return [event for event in run(*messages)[1] if not isinstance(event, (KeepAlive, Served))]


def ended(*messages):
    return run(*messages)[0].verdict()


# request


def test_sampling_goes_into_options_and_the_rest_stands_at_the_top():
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    given = {"temperature": 0, "top_p": 0.9, "seed": 7, "stop": ["x"], "max_tokens": 5, "keep_alive": "5m", "options": {"num_ctx": 512}}
    made = request("m", messages, given)
    assert made.path == "/chat"
    assert made.body == {
        "model": "m",
        "messages": messages,
        "stream": True,
        "keep_alive": "5m",
        "options": {"temperature": 0, "top_p": 0.9, "seed": 7, "stop": ["x"], "num_predict": 5, "num_ctx": 512},
    }
    assert made.headers["Accept"].startswith("application/x-ndjson")


def test_a_request_without_options_has_none():
    assert request("m", [], {}).body == {"model": "m", "messages": [], "stream": True}


@pytest.mark.parametrize(
    ("option", "sent"),
    [
        ({"stop": "x"}, {"options": {"stop": ["x"]}}),
        ({"logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"logprobs": True}, {"logprobs": True}),
        ({"reasoning_effort": "low"}, {"think": "low"}),
        ({"reasoning_effort": "none"}, {"think": False}),
        ({"think": False}, {"think": False}),
    ],
)
def test_an_option_is_sent_the_way_ollama_takes_it(option, sent):
    assert request("m", [], option).body == {"model": "m", "messages": [], "stream": True} | sent


def test_the_key_is_a_bearer_token():
    assert authorization("k") == {"Authorization": "Bearer k"}


# decode


def test_a_chat_gives_all_of_it_in_order():
    decoder, events = run(line(thinking="hm"), line("so", thinking=""), DONE)
    assert events == [
        *(Served("m"), Reasoning("hm"), Text("so"), Finish("stop"), Usage(3, 2), ServerTiming(DURATIONS), Terminator()),
    ]
    assert (decoder.verdict().outcome, decoder.verdict().note, decoder.characters) == ("complete", "", 4)


def test_a_generate_body_is_read_too():
    body = [{"response": "", "thinking": "hm", "done": False}, {"response": "so", "done": False}]
    final = {"response": "", "done": True, "done_reason": "length", "context": [1, 2], "eval_count": 2}
    assert decoded(*body, final) == [Reasoning("hm"), Text("so"), Finish("length"), Usage(None, 2), Terminator()]
    assert ended(*body, final).outcome == "complete"


def test_the_last_line_may_carry_text_and_miss_all_else():
    assert decoded(line("hi", done=True)) == [Text("hi"), Terminator()]


def test_a_server_that_says_nothing_is_alive_and_is_named_once():
    assert run(line(), line(), Comment("x"))[1] == [Served("m"), KeepAlive(), KeepAlive()]


def test_tool_calls_come_whole_and_each_is_its_own():
    first = {"function": {"index": 0, "name": "f", "arguments": {"x": 1}}}
    second = {"id": "b", "function": {"index": 0, "name": "g", "arguments": '{"y": 2}'}}
    third = {"function": {"name": "h"}}
    assert decoded(line(tool_calls=[first, second, None]), line(tool_calls=[third])) == [
        *(ToolCall(0, None, "f", '{"x": 1}'), ToolCall(1, "b", "g", '{"y": 2}'), ToolCall(2, None, "h", "")),
    ]
    assert ended(line(tool_calls=[first]), DONE).note == ""


def test_calls_beyond_any_reason_are_only_counted():
    assert decoded(line(tool_calls=[{}] * 1025))[-1] == Unknown("tool call")


@pytest.mark.parametrize(
    ("message", "name"), [({"status": "pulling"}, "line"), ({}, "line"), ("5", "int"), ("null", "NoneType"), (Stray("<br>"), "stray line")]
)
def test_what_is_unknown_is_kept_by_name_and_ends_nothing(message, name):
    assert decoded(message, HI, line(done=True)) == [Unknown(name), Text("hi"), Terminator()]
    assert ended(message, HI, DONE).outcome == "complete"


@pytest.mark.parametrize("wrong", [None, True, 5, 1.5, "x", [], [None], {}, {"a": 1}])
@pytest.mark.parametrize(
    "field", ["model", "thinking", "tool_calls", "done_reason", "eval_count", "prompt_eval_count", "logprobs", "context"]
)
def test_a_field_of_the_wrong_type_takes_nothing_from_the_rest(field, wrong):
    events = decoded(HI | {"done": True, field: wrong})
    assert Text("hi") in events
    assert events[-1] == Terminator()
    assert not any(isinstance(event, Failure) for event in events)


# endings

ERROR = {"error": "out of memory"}


@pytest.mark.parametrize(
    "error", [ERROR, {"error": {"message": "out of memory"}}, HI | ERROR, DONE | ERROR, json.dumps([ERROR]), Stray(json.dumps(ERROR))]
)
def test_every_shape_of_error_makes_it_failed_whatever_follows(error):
    for messages in ([error], [HI, error], [error, HI, DONE]):
        verdict = ended(*messages)
        assert (verdict.outcome, verdict.note) == ("failed", "out of memory")


def test_an_unfinished_line_with_an_error_behind_it_gives_both():
    assert decoded(json.dumps(HI) + json.dumps(ERROR)) == [Text("hi"), Failure("out of memory")]


@pytest.mark.parametrize(
    ("messages", "outcome", "said"),
    [
        ([HI, line(" you")], "truncated", "ended without done after 6 characters"),
        ([line()], "truncated", "after 0 characters"),
        ([HI | {"done": "true"}], "truncated", "after 2 characters"),
        ([], "failed", "empty stream"),
        (["{"], "failed", "1 line of the stream could not be read"),
        ([HI, "<html>", "{", DONE], "truncated", "2 lines"),
        ([last("load")], "complete", "without any text"),
        ([HI, Frame('{"model": "m', terminated=False)], "truncated", "after 2 characters"),
    ],
)
def test_only_a_done_line_makes_it_complete(messages, outcome, said):
    verdict = ended(*messages)
    assert verdict.outcome == outcome
    assert said in verdict.note


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        (DONE | {"message": {"content": "hi"}}, "complete"),
        ({"response": "hi"}, "complete"),
        (HI, "truncated"),  # the first line of a stream that was mislabelled and broke off
    ],
)
def test_an_answer_sent_in_one_object_is_read(message, outcome):
    decoder = Decoder()
    events = decoder.whole(message)
    assert Text("hi") in events
    assert Terminator() not in events
    assert decoder.verdict().outcome == outcome


@pytest.mark.parametrize("message", [None, [], "hi", {}, {"message": "hi"}, {"response": None}, ERROR])
def test_what_is_no_answer_gives_nothing(message):
    assert Decoder().whole(message) == []


# a body cut anywhere

BODY = "".join(json.dumps(m, ensure_ascii=False) + "\n" for m in (line(), HI, line(" é😀"), DONE)).encode()


def read(*reads):
    framing, decoder = LinesFraming(), Decoder()
    pieces = [piece for data in reads for piece in framing.feed(data)] + framing.end()
    return [event for piece in pieces for event in decoder.decode(piece)], decoder.verdict()


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_body_cut_at_any_byte_is_never_complete_before_its_end_and_keeps_a_prefix(ending):
    body = BODY.replace(b"\n", ending)
    for cut in range(len(body) + 1):
        events, verdict = read(body[:cut])
        assert "hi é😀".startswith("".join(e.text for e in events if isinstance(e, Text))), cut
        assert (verdict.outcome == "complete") == (cut >= len(body) - len(ending)), cut
        assert verdict.outcome != "failed" or cut < body.index(ending), cut


def test_reads_of_one_byte_equal_one_read():
    assert read(*(BODY[i : i + 1] for i in range(len(BODY)))) == read(BODY)


# nothing a server sends raises

FIELDS = "message response thinking content tool_calls function name arguments id done done_reason model error eval_count eval_duration"
LEAF = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.sampled_from([2**70, "\ud83d"]))
OBJECTS = st.sampled_from(FIELDS.split())
JSON = st.recursive(LEAF, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(OBJECTS, inner, max_size=4)), max_leaves=25)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(JSON, st.fixed_dictionaries({"message": st.dictionaries(OBJECTS, JSON)}, optional={"done": LEAF})), max_size=4))
def test_no_json_message_raises(messages):
    decoder = Decoder()
    for message in messages:
        events = decoder.decode(Frame(json.dumps(message)))
        assert events
        assert all(isinstance(e, EVENT) for e in events + decoder.whole(message))
    assert decoder.verdict().outcome in ("complete", "truncated", "failed")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30), st.booleans())
def test_no_text_raises(text, terminated):
    decoder = Decoder()
    for piece in (Frame(text, terminated=terminated), Frame('{"a": 1}' + text), Stray(text), Comment(text)):
        assert all(isinstance(e, EVENT) for e in decoder.decode(piece))


@pytest.mark.parametrize("depth", [10, 900, 990, 100_000])
def test_no_depth_of_nesting_raises(depth):
    nested = '{"a":' * depth + "1" + "}" * depth
    call = '{"message": {"tool_calls": [{"function": {"arguments": NESTED}}]}}'.replace("NESTED", nested)
    assert all(isinstance(e, EVENT) for e in run(call, '{"error": NESTED}'.replace("NESTED", nested), nested)[1])
