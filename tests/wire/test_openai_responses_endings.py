import json

import pytest
from hypothesis import given, settings, strategies as st

from tokenstream_magic.wire.events import (
    Event,
    Failure,
    Finish,
    KeepAlive,
    Terminator,
    Text,
    ToolCall,
    Usage,
)
from tokenstream_magic.wire.framing import Comment, EventStreamFraming, Frame, Stray
from tokenstream_magic.wire.openai_responses import Decoder

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
CALL = {"id": "fc_1", "type": "function_call", "call_id": "c1", "name": "f", "arguments": ""}
ARGS = "function_call_arguments"


FLAT = {"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": None}
NESTED = {"type": "error", "error": {"type": "too_many", "code": "rate_limit_exceeded", "message": "slow down"}}
FAILED = ev("failed", response={"id": "r1", "status": "failed", "error": {"code": "rate_limit_exceeded", "message": "slow down"}})


@pytest.mark.parametrize(
    "error", [FLAT, NESTED, FAILED, {"error": {"message": "slow down"}}, {"error": "slow down"}, Stray(json.dumps(NESTED))]
)
@pytest.mark.parametrize("before", [[], [CREATED, HI]])
@pytest.mark.parametrize("after", [[], [FAILED], [COMPLETED, "[DONE]"]])
def test_an_error_makes_it_failed_whatever_follows(before, error, after):
    events, verdict = run(*before, error, *after)
    assert (verdict.outcome, verdict.note) == ("failed", "slow down")
    assert any(isinstance(e, Failure) and e.message == "slow down" for e in events)


def test_an_error_names_its_code():
    for error, type in ((FLAT, "rate_limit_exceeded"), (NESTED, "too_many"), (FAILED, "rate_limit_exceeded")):
        failure = run(error)[1].failure
        assert (failure.type, failure.code) == (type, "rate_limit_exceeded")
    assert run(ev("failed"))[1].failure.type == "server_error"
    assert Decoder().decode(Frame("overloaded", "error")) == [Failure("overloaded", "server_error")]


def test_an_incomplete_response_is_an_end_with_its_reason():
    response = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": {"output_tokens": 5}}
    events, verdict = run(HI, ev("incomplete", response=response))
    assert events[1:] == [Usage(None, 5, None, None), Finish("max_output_tokens"), Terminator()]
    assert verdict.outcome == "complete"


def test_a_done_marker_ends_nothing_and_is_ignored_after_the_end():
    assert run(CREATED, HI, "[DONE]")[1].outcome == "truncated"
    assert run(CREATED, HI, COMPLETED, "[DONE]")[0][-2:] == [Terminator(), KeepAlive()]


def test_an_end_without_the_last_event_is_truncated_and_says_how_much_came():
    verdict = run(CREATED, HI, delta("hmm", "reasoning_text", 1), done("hi"))[1]
    assert (verdict.outcome, verdict.note) == ("truncated", "ended without response.completed after 5 characters")
    assert run(CREATED)[1].outcome == run(item("added", **CALL))[1].outcome == "truncated"
    assert "without any text" in run(ev("completed"))[1].note


@pytest.mark.parametrize("pieces", [[], [Comment("ping")], [Stray("<html>")], ["{"]])
def test_a_stream_without_any_answer_has_failed(pieces):
    verdict = run(*pieces)[1]
    assert (verdict.outcome, verdict.failure.type) == ("failed", "undecodable" if pieces == ["{"] else "empty_stream")


def test_a_frame_that_cannot_be_read_is_a_loss_unless_it_was_cut_off():
    assert run(HI, "{", COMPLETED)[1].outcome == "truncated"
    assert Decoder().decode(Frame('{"type": "resp', terminated=False)) == []
    assert run(json.dumps(HI) + "\n" + json.dumps(NESTED))[0][0] == Text("hi")


@pytest.mark.parametrize(
    ("status", "outcome"), [("completed", "complete"), ("incomplete", "complete"), ("failed", "failed"), ("queued", "truncated")]
)
def test_an_answer_in_one_object_ends_as_its_status_says(status, outcome):
    decoder = Decoder()
    events = decoder.whole({"id": "r", "model": "m", "status": status, "error": None, "output": [MESSAGE, {**CALL, "arguments": "{}"}]})
    assert [e for e in events if isinstance(e, (Text, ToolCall))] == [Text("hi é😀"), ToolCall(0, "c1", "f", "{}")]
    assert decoder.verdict().outcome == outcome


@pytest.mark.parametrize("message", [None, [], "hi", {}, {"output": None}, {"error": {"message": "no"}}])
def test_what_is_no_answer_gives_nothing(message):
    assert Decoder().whole(message) == []


STREAM = [
    CREATED,
    item("added", **{**MESSAGE, "content": []}),
    delta("hi "),
    delta("é😀"),
    done("hi é😀"),
    item("done", **MESSAGE),
    COMPLETED,
]
BODY = "".join(f"event: {m['type']}\ndata: {json.dumps(m, ensure_ascii=False)}\n\n" for m in STREAM).encode()


def test_a_body_cut_at_any_byte_is_never_complete_before_its_end_and_keeps_a_prefix():
    for cut in range(len(BODY) + 1):
        framing, decoder = EventStreamFraming(), Decoder()
        pieces = framing.feed(BODY[:cut]) + framing.end()
        text = "".join(e.text for piece in pieces for e in decoder.decode(piece) if isinstance(e, Text))
        assert "hi é😀".startswith(text), cut
        assert (decoder.verdict().outcome == "complete") == (cut >= len(BODY) - 2), cut
    assert text == "hi é😀"


def test_one_byte_at_a_time_gives_the_same_events():
    def events(*reads):
        framing, decoder = EventStreamFraming(), Decoder()
        return [e for read in reads for piece in framing.feed(read) for e in decoder.decode(piece)]

    assert events(*[BODY[at : at + 1] for at in range(len(BODY))]) == events(BODY)


NAMES = st.sampled_from(
    "type response item delta text refusal arguments input output content summary part output_index content_index summary_index item_id id"
    " call_id name status usage model error message code incomplete_details reason output_tokens output_tokens_details".split()
)
TYPES = [m["type"] for m in (*STREAM, FAILED, FLAT)] + [
    f"response.{ARGS}.delta",
    f"response.{ARGS}.done",
    "function_call",
    "output_text",
    "message",
]
LEAF = st.one_of(st.none(), st.booleans(), st.integers(-1, 3), st.floats(), st.text(max_size=3), st.sampled_from([*TYPES, 2**70, "\ud83d"]))
JSON = st.recursive(LEAF, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)), max_leaves=25)
EVENTS = st.builds(lambda fields, kind: {**fields, "type": kind}, st.dictionaries(NAMES, JSON, max_size=5), st.sampled_from(TYPES))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(JSON, EVENTS), max_size=5), st.sampled_from(["message", "error", "response.completed"]), st.text(max_size=9))
def test_nothing_a_server_sends_raises(messages, event, text):
    decoder = Decoder()
    for message in messages:
        events = decoder.decode(Frame(json.dumps(message), event))
        assert events and all(isinstance(e, EVENT) for e in events)
        assert all(isinstance(e, EVENT) for e in decoder.whole(message))
    for piece in (Frame(text), Frame(text, "error"), Stray(text), Comment(text), Frame("[" * 100_000)):
        assert all(isinstance(e, EVENT) for e in decoder.decode(piece))
    assert decoder.verdict().outcome in ("complete", "truncated", "failed")
