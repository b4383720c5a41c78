import json

import pytest
from hypothesis import given, settings, strategies as st

from tokenstream_magic.wire.events import Content, Event, Failure, Text
from tokenstream_magic.wire.framing import Comment, EventStreamFraming, Frame, Stray
from tokenstream_magic.wire.openai_chat import Decoder

EVENT = Event.__args__


def chunk(delta=None, finish=None, index=0, **more):
    return {"object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **more}


def ended(*pieces):
    """The verdict on a stream of pieces; a dict stands for its JSON frame, a string for a frame as it is."""
    decoder = Decoder()
    for piece in pieces:
        data = json.dumps(piece) if isinstance(piece, dict) else piece
        decoder.decode(Frame(data) if isinstance(data, str) else data)
    return decoder.verdict()


ROLE, HI, STOP, USAGE = (
    chunk({"role": "assistant"}),
    chunk({"content": "hi"}),
    chunk({}, "stop"),
    {"choices": [], "usage": {"prompt_tokens": 1}},
)


@pytest.mark.parametrize("pieces", [[ROLE, HI, STOP, USAGE, "[DONE]"], [HI, "[DONE]"], [HI, STOP, Comment("ping"), "[DONE]"]])
def test_a_terminator_makes_it_complete(pieces):
    verdict = ended(*pieces)
    assert (verdict.outcome, verdict.note, verdict.failure) == ("complete", "", None)


def test_a_finish_reason_without_a_terminator_is_complete_with_a_note():
    verdict = ended(ROLE, HI, STOP, USAGE)
    assert verdict.outcome == "complete"
    assert "[DONE]" in verdict.note


def test_every_choice_must_have_finished_when_there_is_no_terminator():
    other = chunk({"content": "salut"}, index=1)
    assert ended(HI, other, STOP).outcome == "truncated"
    assert ended(HI, other, STOP, chunk({}, "stop", 1)).outcome == "complete"


def test_an_end_with_neither_is_truncated_and_says_how_much_came():
    verdict = ended(ROLE, HI, chunk({"reasoning": "hmm"}))
    assert verdict.outcome == "truncated"
    assert verdict.note == "ended without finish_reason or [DONE] after 5 characters"


@pytest.mark.parametrize("pieces", [[ROLE], [chunk({"tool_calls": [{"id": "a", "function": {"name": "f"}}]})]])
def test_a_stream_that_only_began_is_truncated(pieces):
    assert ended(*pieces).outcome == "truncated"


@pytest.mark.parametrize("pieces", [[], [Comment("ping")], [": keepalive"], [Stray("<html>")], ["{"]])
def test_a_stream_without_any_answer_has_failed(pieces):
    verdict = ended(*pieces)
    assert (verdict.outcome, verdict.failure.type) == ("failed", "undecodable" if pieces == ["{"] else "empty_stream")


def test_an_answer_without_a_word_is_complete_and_says_so():
    assert ended(ROLE, STOP, "[DONE]").note == "the server ended the answer without any text"
    assert ended(chunk({"tool_calls": [{"id": "a", "function": {"name": "f"}}]}, "tool_calls"), "[DONE]").note == ""


ERROR = {"error": {"message": "out of memory", "type": "server_error"}}


@pytest.mark.parametrize(
    "pieces", [[ERROR], [HI, ERROR], [HI, ERROR, "[DONE]"], [ERROR, HI, STOP, "[DONE]"], [HI, Stray(json.dumps(ERROR))]]
)
def test_an_error_makes_it_failed_whatever_follows(pieces):
    verdict = ended(*pieces)
    assert (verdict.outcome, verdict.note, verdict.failure) == ("failed", "out of memory", Failure("out of memory", "server_error"))


def test_the_first_of_two_errors_is_the_one_that_is_kept():
    assert ended(ERROR, {"error": "then the proxy died"}).failure.message == "out of memory"


def test_a_finish_reason_of_error_is_an_error():
    assert ended(HI, chunk({}, "error")).outcome == "failed"


def test_a_frame_that_was_cut_off_is_no_unknown_shape():
    assert Decoder().decode(Frame('{"choices": [{"del', terminated=False)) == []


# an answer that was not streamed


def test_an_answer_sent_in_one_object_is_read_and_complete():
    decoder = Decoder()
    message = {"role": "assistant", "content": "hi", "reasoning_content": "hm"}
    events = decoder.whole(
        {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 2}}
    )
    assert [(type(e).__name__, e.text) for e in events if isinstance(e, Content)] == [("Reasoning", "hm"), ("Text", "hi")]
    assert decoder.verdict().outcome == "complete"


@pytest.mark.parametrize("message", [None, [], "hi", {}, {"choices": None}, {"choices": {"0": {}}}])
def test_what_is_no_answer_gives_nothing(message):
    assert Decoder().whole(message) == []


# a body cut anywhere

MESSAGES = (ROLE, HI, chunk({"content": " é😀"}), STOP, USAGE)
BODY = "".join(f"data: {json.dumps(m, ensure_ascii=False)}\n\n" for m in MESSAGES).encode() + b"data: [DONE]\n\n"


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_a_body_cut_at_any_byte_is_never_complete_before_its_finish_and_keeps_a_prefix(ending):
    body = BODY.replace(b"\n", ending)
    finish = json.dumps(STOP).encode()
    finished = body.index(finish) + len(finish)
    outcomes = set()
    for cut in range(len(body) + 1):
        framing, decoder = EventStreamFraming(), Decoder()
        pieces = framing.feed(body[:cut]) + framing.end()
        text = "".join(e.text for piece in pieces for e in decoder.decode(piece) if isinstance(e, Text))
        assert "hi é😀".startswith(text), cut
        outcome = decoder.verdict().outcome
        assert (outcome == "complete") == (cut >= finished), cut
        outcomes.add(outcome)
    assert text == "hi é😀"
    assert decoder.verdict().note == ""
    assert outcomes == {"failed", "truncated", "complete"}


# nothing a server sends raises

FIELDS = (
    "choices delta content reasoning_content reasoning refusal tool_calls function arguments name id index finish_reason usage"
    " error message code status type detail object error_type error_message x_groq timings prompt_progress"
    " processed total model text thinking prompt_tokens completion_tokens completion_tokens_details prompt_tokens_details"
)
NAMES = st.sampled_from(FIELDS.split())
LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["error", "thinking", "stop", 0, 1, 2**70, "\ud83d"]),
)
JSON = st.recursive(LEAF, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)), max_leaves=25)
CHUNKS = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries({"delta": st.dictionaries(NAMES, JSON, max_size=4)}, optional={"index": LEAF, "error": JSON})
        )
    }
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.one_of(JSON, CHUNKS), max_size=4), st.sampled_from(["message", "error", "odd"]))
def test_no_json_message_raises(messages, event):
    decoder = Decoder()
    for message in messages:
        events = decoder.decode(Frame(json.dumps(message), event))
        assert all(isinstance(e, EVENT) for e in events)
        assert events
        assert all(isinstance(e.text, str) and e.text for e in decoder.whole(message) if isinstance(e, Text))
    assert decoder.verdict().outcome in ("complete", "truncated", "failed")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.booleans())
def test_no_text_raises(text, terminated):
    decoder = Decoder()
    for piece in (Frame(text, terminated=terminated), Frame(text, "error"), Frame('{"a": 1}' + text), Stray(text), Comment(text)):
        assert all(isinstance(e, EVENT) for e in decoder.decode(piece))


@pytest.mark.parametrize(
    "message",
    ['{"error": {"message": %s}}', '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": %s}}]}}]}', '{"detail": %s}', "%s"],
    ids=["error", "arguments", "detail", "bare"],
)
def test_no_depth_of_nesting_raises(message):
    for depth in (10, *range(850, 1000), 100_000):
        decoder, text = Decoder(), message % ("[" * depth + "]" * depth)
        assert all(isinstance(e, EVENT) for piece in (Frame(text), Stray(text)) for e in decoder.decode(piece))


@pytest.mark.parametrize("wrong", [None, True, 5, 1.5, "x", [], [None], {}, {"a": 1}])
@pytest.mark.parametrize(
    "field", ["model", "id", "system_fingerprint", "choices", "usage", "timings", "x_groq", "prompt_progress", "object"]
)
def test_a_field_of_the_wrong_type_takes_nothing_from_the_rest(field, wrong):
    message = chunk({"content": "hi"}) | {field: wrong}
    events = Decoder().decode(Frame(json.dumps(message)))
    assert Text("hi") in events or field == "choices"
    assert not any(isinstance(e, Failure) for e in events)


@pytest.mark.parametrize("wrong", [None, True, 5, 1.5, [], [None], {}, {"a": 1}])
@pytest.mark.parametrize("field", ["role", "reasoning", "reasoning_content", "refusal", "tool_calls", "content"])
def test_a_delta_of_the_wrong_type_is_no_content(field, wrong):
    events = Decoder().decode(Frame(json.dumps(chunk({field: wrong}, "stop"))))
    assert [type(e).__name__ for e in events] == ["Finish"]
