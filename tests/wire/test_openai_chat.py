import json

import pytest

from tokenstream_magic.wire.events import (
    Failure,
    Finish,
    KeepAlive,
    Progress,
    Reasoning,
    Refusal,
    Served,
    ServerTiming,
    Terminator,
    Text,
    ToolCall,
    Unknown,
    Usage,
)
from tokenstream_magic.wire.framing import Comment, Frame, Stray
from tokenstream_magic.wire.openai_chat import Decoder, authorization, request


def chunk(delta=None, finish=None, index=0, **more):
    return {"object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **more}


def decoded(*messages):
    decoder = Decoder()
    return [event for message in messages for event in decoder.decode(Frame(json.dumps(message)))]


def calls_of(*lists):
    """Tool calls folded the way a transcript keeps them: (id, name, arguments) each."""
    calls = {}
    for event in decoded(*[chunk({"tool_calls": calls_}) for calls_ in lists]):
        if isinstance(event, ToolCall):
            id, name, arguments = calls.get(event.call, (None, None, ""))
            calls[event.call] = (id or event.id, name or event.name, arguments + event.arguments)
    return [calls[position] for position in sorted(calls)]


def call(arguments="", id=None, name=None, **more):
    function = {"arguments": arguments} | ({"name": name} if name is not None else {})
    return more | ({"id": id} if id is not None else {}) | {"function": function}


# request


def test_the_request_asks_for_a_stream_with_usage():
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    made = request("m", messages, {"temperature": 0, "max_tokens": 5, "seed": 7, "stop": ["x"], "reasoning_effort": "low", "own": {"a": 1}})
    assert made.path == "/chat/completions"
    assert made.body == {
        "model": "m",
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": 5,
        "seed": 7,
        "stop": ["x"],
        "reasoning_effort": "low",
        "own": {"a": 1},
    }
    assert made.headers["Accept"].startswith("text/event-stream")


def test_a_number_of_logprobs_becomes_two_fields():
    assert request("m", [], {"logprobs": 3}).body.items() >= {"logprobs": True, "top_logprobs": 3}.items()
    assert "top_logprobs" not in request("m", [], {"logprobs": True}).body


def test_an_option_replaces_a_field_of_the_body():
    assert request("m", [], {"stream_options": {"include_usage": False}}).body["stream_options"] == {"include_usage": False}


def test_the_key_is_a_bearer_token_and_no_part_of_the_request():
    assert authorization("k") == {"Authorization": "Bearer k"}
    assert "Authorization" not in request("m", [], {}).headers


# decode


def test_a_role_chunk_says_nothing():
    assert decoded(chunk({"role": "assistant", "content": "", "refusal": None})) == [KeepAlive()]
    assert decoded(chunk({"role": "assistant", "content": None})) == [KeepAlive()]


def test_text_arrives_on_its_choice():
    assert decoded(chunk({"content": "Hel"}), chunk({"content": "Bon"}, index=1)) == [Text("Hel"), Text("Bon", 1)]


@pytest.mark.parametrize(
    "delta",
    [{"reasoning_content": "hm"}, {"reasoning": "hm"}, {"reasoning": {"content": "hm"}}, {"reasoning_content": "hm", "content": None}],
)
def test_every_spelling_of_reasoning_is_read(delta):
    assert decoded(chunk(delta)) == [Reasoning("hm")]


def test_reasoning_sent_under_two_names_is_read_once():
    details = [{"type": "reasoning.text", "text": "hm"}]
    assert decoded(chunk({"reasoning_content": "hm", "reasoning": "hm", "reasoning_details": details})) == [Reasoning("hm")]


def test_reasoning_comes_before_the_text_of_the_same_chunk():
    assert decoded(chunk({"content": "so", "reasoning": "hm"})) == [Reasoning("hm"), Text("so")]


def test_a_refusal_is_no_text():
    assert decoded(chunk({"refusal": "No."})) == [Refusal("No.")]


def test_mistral_thinks_in_a_list_of_parts():
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}, {"type": "text", "text": ""}]}
    assert decoded(chunk({"content": [thinking, {"type": "text", "text": "so"}, None, {"type": "image"}]})) == [Reasoning("hm"), Text("so")]


def test_the_server_is_named_once_and_again_when_it_changes():
    one, two = chunk(id="c1", model="m", system_fingerprint="fp"), chunk(id="c2", model="n")
    assert decoded(chunk(model=""), one, one, two) == [
        KeepAlive(),
        Served("m", "fp", "c1"),
        KeepAlive(),
        Served("n", "fp", "c1"),
    ]


def test_usage_arrives_with_empty_choices():
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 12},
    }
    assert decoded({"choices": [], "usage": usage}) == [Usage(9, 20, 12, 4)]


def test_usage_that_says_little_leaves_the_rest_unknown():
    assert decoded({"choices": [], "usage": {"completion_tokens": 0, "prompt_tokens": -1, "completion_tokens_details": None}}) == [
        Usage(None, 0, None, None)
    ]


def test_usage_on_a_chunk_with_text_comes_after_the_text():
    assert decoded(chunk({"content": "a"}, "stop", usage={"completion_tokens": 1})) == [
        Text("a"),
        Finish("stop"),
        Usage(None, 1, None, None),
    ]


def test_the_servers_own_figures_are_kept_as_sent():
    timings = {"predicted_per_second": 40.5, "prompt_n": 3}
    assert decoded({"choices": [], "timings": timings}) == [ServerTiming(timings)]
    assert decoded({"choices": [], "x_groq": {"id": "r", "usage": {"queue_time": 0.1}}}) == [ServerTiming({"queue_time": 0.1})]


def test_prompt_progress_is_progress():
    progress = {"total": 100, "cache": 0, "processed": 40, "time_ms": 5}
    assert decoded(chunk(prompt_progress=progress)) == [Progress(40, 100)]
    assert decoded({"prompt_progress": {}}) == [Progress(0, 0)]


def test_a_finish_reason_that_is_repeated_finishes_once():
    assert decoded(chunk({"content": "a"}, "stop"), chunk({}, "stop"), chunk({}, "length")) == [
        Text("a"),
        Finish("stop"),
        KeepAlive(),
        KeepAlive(),
    ]


def test_an_empty_finish_reason_is_none():
    assert decoded(chunk({"content": "a"}, "")) == [Text("a")]


@pytest.mark.parametrize("piece", [Comment("OPENROUTER PROCESSING"), Frame(": keepalive"), Frame('{"choices": []}')])
def test_a_server_that_says_nothing_is_alive(piece):
    assert Decoder().decode(piece) == [KeepAlive()]


def test_the_terminator_is_one_even_with_something_behind_it():
    assert Decoder().decode(Frame("[DONE]")) == Decoder().decode(Frame("[DONE] bye")) == [Terminator()]


def test_an_unfinished_event_with_an_error_behind_it_gives_both():
    decoder = Decoder()
    data = json.dumps(chunk({"content": "a"})) + '\n{"error": {"message": "upstream died", "code": 502}}'
    assert decoder.decode(Frame(data)) == [Text("a"), Failure("upstream died", "502", 502, 502)]
    assert decoder.verdict().outcome == "failed"


@pytest.mark.parametrize(
    ("data", "name"),
    [("{", "undecodable frame"), ("hello", "undecodable frame"), ("5", "int"), ("null", "NoneType"), ('{"object": "new"}', "new")],
)
def test_unknown_shapes_are_counted_by_name_and_end_nothing(data, name):
    decoder = Decoder()
    assert decoder.decode(Frame(data)) == [Unknown(name)]
    assert decoder.decode(Frame(json.dumps(chunk({"content": "a"})))) == [Text("a")]
    assert decoder.decode(Frame("[DONE]")) == [Terminator()]
    # a frame that could not be read may have held a part of the answer
    assert decoder.verdict().outcome == ("truncated" if name == "undecodable frame" else "complete")


def test_a_stray_line_is_an_error_when_it_holds_one():
    decoder = Decoder()
    assert decoder.decode(Stray("<br>")) == [Unknown("stray line")]
    assert decoder.decode(Stray('{"error": {"code": 500, "message": "boom"}}')) == [Failure("boom", "500", 500, 500)]


@pytest.mark.parametrize("data", ["overloaded", '{"reason": "overloaded"}', "null"])
def test_an_error_event_is_an_error_whatever_it_carries(data):
    decoder = Decoder()
    assert decoder.decode(Frame(data, "error"))[-1] == Failure(data, "server_error")
    assert decoder.verdict().outcome == "failed"


# tool calls


def test_a_tool_call_grows_at_its_index():
    made = calls_of(
        [call("", "a", "f", index=0)], [call('{"x"', index=0)], [call("", "b", "g", index=1)], [call(": 1}", index=0), call("{}", index=1)]
    )
    assert made == [("a", "f", '{"x": 1}'), ("b", "g", "{}")]


def test_tool_calls_without_an_index_are_told_apart_by_their_ids():
    made = calls_of([call("{", "a", "f")], [call("}")], [call('{"y"', "b", "g"), call(": 2}")])
    assert made == [("a", "f", "{}"), ("b", "g", '{"y": 2}')]


def test_whole_tool_calls_that_all_say_index_0_are_told_apart_by_their_ids():
    assert calls_of([call("{}", "a", "f", index=0)], [call('{"y": 2}', "b", "g", index=0)]) == [("a", "f", "{}"), ("b", "g", '{"y": 2}')]


def test_arguments_go_on_with_the_last_call_when_every_piece_says_index_0():
    made = calls_of([call("", "a", "f", index=0)], [call("{}", index=0)], [call("", "b", "g", index=0)], [call('{"y": 2}', index=0)])
    assert made == [("a", "f", "{}"), ("b", "g", '{"y": 2}')]


def test_an_index_that_counts_from_one_makes_no_extra_call():
    assert calls_of([call("{", "a", "f", index=1)], [call("}", index=1)], [call("{}", "b", "g", index=2)]) == [
        ("a", "f", "{}"),
        ("b", "g", "{}"),
    ]


def test_an_id_repeated_on_every_piece_is_one_call():
    assert calls_of([call("{", "a", "f", index=0)], [call("}", "a", "", index=0)]) == [("a", "f", "{}")]


def test_arguments_sent_as_an_object_are_kept_as_json():
    assert calls_of([call({"x": 1}, "a", "f", index=0)]) == [("a", "f", '{"x": 1}')]
