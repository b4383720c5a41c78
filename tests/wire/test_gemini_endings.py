import json

import pytest
from hypothesis import given, settings, strategies as st

from tokenstream_magic.wire.events import Event, Failure, Finish, Text, Usage
from tokenstream_magic.wire.framing import Comment, EventStreamFraming, Frame, Stray
from tokenstream_magic.wire.gemini import Decoder
from tokenstream_magic.wire.lines import LinesFraming

EVENT = Event.__args__


def chunk(*parts, finish=None, index=None, **more):
    parts = [{"text": part} if isinstance(part, str) else part for part in parts]
    candidate = {"content": {"role": "model", "parts": parts}} if parts else {}
    candidate |= ({"finishReason": finish} if finish else {}) | ({} if index is None else {"index": index})
    return {"candidates": [candidate], **more}


def run(*pieces):
    """Events and verdict of a stream; a dict stands for its frame, a string for a frame as it is."""
    decoder = Decoder()
    events = []
    for piece in pieces:
        data = json.dumps(piece) if isinstance(piece, dict) else piece
        events += decoder.decode(Frame(data) if isinstance(data, str) else data)
    return events, decoder.verdict()


def framed(body, framing=None):
    framing = framing or EventStreamFraming()
    return run(*framing.feed(body), *framing.end())


def text_of(events):
    return "".join(e.text for e in events if isinstance(e, Text))


HI, STOP = chunk("hi"), chunk(finish="STOP")
USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 5, "thoughtsTokenCount": 20, "cachedContentTokenCount": 4}


def test_a_finish_that_comes_early_or_again_is_not_the_end():
    early = [chunk("a", finish="STOP"), chunk("b", finish="STOP"), chunk("c", finish="MAX_TOKENS")]
    events, verdict = run(*early)
    assert text_of(events) == "abc"
    assert [e.reason for e in events if isinstance(e, Finish)] == ["STOP", "STOP", "MAX_TOKENS"]
    assert verdict.outcome == "complete"


def test_an_end_without_a_finish_is_truncated_and_says_how_much_came():
    for stream in ([HI], [HI, chunk(finish="FINISH_REASON_UNSPECIFIED")], [HI, "[DONE]"]):
        verdict = run(*stream)[1]
        assert (verdict.outcome, verdict.note) == ("truncated", "ended without a finishReason after 2 characters")
    assert "without any text" in run(STOP)[1].note


ERROR = {"error": {"code": 499, "message": "cancelled", "status": "CANCELLED"}}


@pytest.mark.parametrize(
    "error",
    [ERROR, Stray(json.dumps(ERROR, indent=2)), Stray(json.dumps([ERROR])), json.dumps([ERROR]), json.dumps(HI) + json.dumps(ERROR)],
)
@pytest.mark.parametrize("before", [[], [HI], [HI, STOP]])
def test_an_error_with_or_without_its_prefix_makes_it_failed(before, error):
    events, verdict = run(*before, error, STOP)
    assert Failure("cancelled", "CANCELLED", 499, 499) in events
    assert (verdict.outcome, verdict.note) == ("failed", "cancelled")


def test_other_shapes_of_errors():
    assert run(Stray('{"detail": "no"}'))[0] == [Failure("no")]
    assert Decoder().decode(Frame("overloaded", "error")) == [Failure("overloaded", "server_error")]
    assert Decoder().decode(Frame("{}", "error"))[-1] == Failure("{}", "server_error")


def test_a_blocked_prompt_has_failed_and_names_the_reason():
    events, verdict = run(
        {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "no"}, "usageMetadata": {"promptTokenCount": 3}}
    )
    assert events[0] == Usage(3)
    assert (verdict.outcome, verdict.failure) == (
        "failed",
        Failure("the server blocked the prompt: SAFETY (no)", "blocked", None, "SAFETY"),
    )
    assert run({**HI, "promptFeedback": {"blockReason": "OTHER"}}, STOP)[1].outcome == "complete"


@pytest.mark.parametrize("pieces", [[], [Comment("ping")], [Stray("<html>")], ["{"]])
def test_a_stream_without_any_answer_has_failed(pieces):
    verdict = run(*pieces)[1]
    assert (verdict.outcome, verdict.failure.type) == ("failed", "undecodable" if pieces == ["{"] else "empty_stream")


STREAM = (chunk("hi "), chunk("é😀"), chunk(finish="STOP", usageMetadata=USAGE))


def sse(messages):
    return "".join(f"data: {json.dumps(m, ensure_ascii=False)}\r\n\r\n" for m in messages).encode()


def test_a_body_cut_at_any_byte_is_never_complete_before_its_finish_and_keeps_a_prefix():
    body = sse(STREAM)
    for cut in range(len(body) + 1):
        events, verdict = framed(body[:cut])
        assert "hi é😀".startswith(text_of(events)), cut
        assert (verdict.outcome == "complete") == (cut >= len(body) - 4), cut
    assert text_of(events) == "hi é😀"


def test_a_body_that_finishes_on_every_frame_is_whole_only_between_two_frames():
    messages = [chunk(text, finish="STOP") for text in ("hi ", "é😀")]
    body, first = sse(messages), len(sse(messages[:1]))
    whole = {cut for cut in range(len(body) + 1) if framed(body[:cut])[1].outcome == "complete"}
    assert whole == {*range(first - 4, first + 1), *range(len(body) - 4, len(body) + 1)}


@pytest.mark.parametrize("between", ["\n,", ",\r\n", "\n\n,\n\n"])
@pytest.mark.parametrize(("framing", "indent"), [(EventStreamFraming, None), (EventStreamFraming, 2), (LinesFraming, None)])
def test_the_array_that_comes_without_alt_sse_is_read_and_must_be_closed(framing, indent, between):
    body = ("[" + between.join(json.dumps(m, ensure_ascii=False, indent=indent) for m in STREAM) + "\n]\n").encode()
    for cut in range(len(body) + 1):
        events, verdict = framed(body[:cut], framing())
        assert "hi é😀".startswith(text_of(events)), cut
        assert (verdict.outcome == "complete") == (cut >= len(body) - 1), cut
    assert text_of(events) == "hi é😀"


def test_one_byte_at_a_time_gives_the_same_events():
    body = sse(STREAM) + json.dumps(ERROR, indent=2).encode()
    framing = EventStreamFraming()
    pieces = [piece for at in range(len(body)) for piece in framing.feed(body[at : at + 1])]
    assert run(*pieces, *framing.end()) == framed(body)


@pytest.mark.parametrize("message", [list(STREAM), chunk("hi é😀", finish="STOP")])
def test_an_answer_sent_at_once_is_read_and_complete(message):
    decoder = Decoder()
    assert text_of(decoder.whole(message)) == "hi é😀"
    assert decoder.verdict().outcome == "complete"


def test_an_answer_sent_at_once_may_break_off_or_fail():
    for message, outcome in (([HI], "truncated"), ([HI, ERROR], "failed"), ({"promptFeedback": {"blockReason": "X"}}, "failed")):
        decoder = Decoder()
        assert decoder.whole(message)
        assert decoder.verdict().outcome == outcome


@pytest.mark.parametrize("message", [None, [], "hi", {}, [None], {"candidates": None}, ERROR, [ERROR]])
def test_what_is_no_answer_gives_nothing(message):
    assert Decoder().whole(message) == []


NAMES = (
    "candidates content parts text thought functionCall name args partialArgs jsonPath stringValue willContinue finishReason index error"
    " message code usageMetadata promptTokenCount candidatesTokenCount thoughtsTokenCount promptFeedback blockReason modelVersion responseId"
)
LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 3), st.floats(), st.text(max_size=3), st.sampled_from(["$.a[1].b", "STOP", 2**70, "\ud83d"])
)
JSON = st.recursive(
    LEAF,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=5)),
    max_leaves=25,
)
PARTS = st.lists(st.dictionaries(st.sampled_from(["text", "functionCall", "thought"]), JSON, max_size=3), max_size=3)
CHUNKS = st.builds(
    lambda parts, more: {"candidates": [{"content": {"parts": parts}, **more}]}, PARTS, st.dictionaries(st.just("index"), JSON)
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(JSON, CHUNKS), max_size=5), st.sampled_from(["message", "error"]), st.text(max_size=9))
def test_nothing_a_server_sends_raises(messages, event, text):
    decoder = Decoder()
    for message in messages:
        events = decoder.decode(Frame(json.dumps(message), event))
        assert events and all(isinstance(e, EVENT) for e in events)
        assert all(isinstance(e, EVENT) for e in decoder.whole(message))
    for piece in (Frame(text), Frame(text, "error"), Stray(text), Stray("[" + text), Comment(text), Frame('{"a":' * 100_000)):
        assert all(isinstance(e, EVENT) for e in decoder.decode(piece))
    assert decoder.verdict().outcome in ("complete", "truncated", "failed")
