import json

import pytest

from tokenstream_magic.wire.events import Event, Finish, KeepAlive, Reasoning, Served, Text, ToolCall, Unknown, Usage
from tokenstream_magic.wire.framing import Comment, Frame
from tokenstream_magic.wire.gemini import Decoder, authorization, request

EVENT = Event.__args__


def chunk(*parts, finish=None, index=None, **more):
    parts = [{"text": part} if isinstance(part, str) else part for part in parts]
    candidate = {"content": {"role": "model", "parts": parts}} if parts else {}
    candidate |= ({"finishReason": finish} if finish else {}) | ({} if index is None else {"index": index})
    return {"candidates": [candidate], **more}


def call(**fields):
    return {"functionCall": fields}


def run(*pieces):
    """Events and verdict of a stream; a dict stands for its frame, a string for a frame as it is."""
    decoder = Decoder()
    events = []
    for piece in pieces:
        data = json.dumps(piece) if isinstance(piece, dict) else piece
        events += decoder.decode(Frame(data) if isinstance(data, str) else data)
    return events, decoder.verdict()


def text_of(events):
    return "".join(e.text for e in events if isinstance(e, Text))


HI, STOP = chunk("hi"), chunk(finish="STOP")

# request


@pytest.mark.parametrize(
    ("effort", "sent"),
    [
        ("low", {"thinkingLevel": "LOW"}),
        ("512", {"thinkingBudget": 512}),
        (512, {"thinkingBudget": 512}),
        ("none", {"thinkingBudget": 0}),
        ("auto", {"thinkingBudget": -1}),
    ],
)
def test_the_effort_is_a_level_or_a_budget_of_thoughts(effort, sent):
    made = request("m", [], {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}, "reasoning_effort": effort})
    assert made.body["generationConfig"] == {"thinkingConfig": {"includeThoughts": True, **sent}}
    assert "reasoning_effort" not in made.body


def test_the_request_has_contents_and_a_configuration():
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    options = {"temperature": 0, "top_p": 1, "max_tokens": 5, "seed": 7, "stop": "x", "logprobs": 2, "safetySettings": []}
    made = request("gemini-x", messages, options)
    assert made.path == "/models/gemini-x:streamGenerateContent?alt=sse"
    assert made.body == {
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": [{"text": "ho"}]}],
        "generationConfig": {
            "temperature": 0,
            "topP": 1,
            "maxOutputTokens": 5,
            "seed": 7,
            "stopSequences": ["x"],
            "responseLogprobs": True,
            "logprobs": 2,
        },
        "safetySettings": [],
    }
    assert authorization("k") == {"x-goog-api-key": "k"}


def test_little_is_asked_for_when_little_is_said():
    assert request("m", [{"role": "user", "content": "hi"}], {"logprobs": False}).body == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}]
    }
    assert request("m", [], {"logprobs": True, "generationConfig": {"candidateCount": 2}}).body["generationConfig"] == {
        "responseLogprobs": True,
        "candidateCount": 2,
    }


@pytest.mark.parametrize(("model", "path"), [("a?b#c", "models/a%3Fb%23c"), ("models/m", "models/m"), ("tunedModels/t", "tunedModels/t")])
def test_the_name_of_a_model_stays_a_name(model, path):
    assert request(model, [], {}).path == f"/{path}:streamGenerateContent?alt=sse"


# content

USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 5, "thoughtsTokenCount": 20, "cachedContentTokenCount": 4}


def test_a_whole_stream():
    thinking = chunk(
        {"text": "hm", "thought": True}, index=0, modelVersion="g-1", responseId="r1", usageMetadata={"thoughtsTokenCount": 20}
    )
    last = chunk({"text": "", "thoughtSignature": "s"}, finish="MAX_TOKENS", usageMetadata=USAGE, modelVersion="g-1", responseId="r1")
    events, verdict = run(thinking, chunk("Hi", " there"), last)
    assert events == [
        Served("g-1", None, "r1"),
        Reasoning("hm"),
        Usage(None, 20, 20, None),
        Text("Hi"),
        Text(" there"),
        Finish("MAX_TOKENS"),
        Usage(9, 25, 20, 4),
    ]
    assert (verdict.outcome, verdict.note) == ("complete", "")


def test_usage_without_thoughts_or_answer_stays_unknown():
    assert run({"usageMetadata": {"promptTokenCount": 9}})[0] == [Usage(9, None, None, None)]
    assert run({"usageMetadata": {"candidatesTokenCount": 3}})[0] == [Usage(None, 3, None, None)]


def test_candidates_are_told_apart_by_index_and_each_must_finish():
    other = chunk("salut", index=1)
    assert run(HI, other)[0] == [Text("hi"), Text("salut", 1)]
    assert run(HI, other, STOP)[1].outcome == "truncated"
    assert run(HI, other, STOP, chunk(finish="STOP", index=1))[1].outcome == "complete"
    assert run(chunk("a", index=2**40))[0] == [Unknown("choice index")]


@pytest.mark.parametrize("part", ["inlineData", "executableCode", "codeExecutionResult", "hologram"])
def test_an_unknown_part_is_counted_and_ends_nothing(part):
    events, verdict = run(chunk({part: {}, "thought": True}, "hi"), STOP)
    assert (events, verdict.outcome) == ([Unknown(part), Text("hi"), Finish("STOP")], "complete")


@pytest.mark.parametrize(
    "piece", [Comment("ping"), ": ping", {"candidates": []}, chunk(), chunk({"thoughtSignature": "s"}), {"promptFeedback": {}}]
)
def test_a_server_that_says_nothing_is_alive(piece):
    assert run(piece)[0] == [KeepAlive()]


@pytest.mark.parametrize(
    ("data", "name"), [("{", "undecodable frame"), ("5", "int"), ("null", "NoneType"), ('{"new": 1}', "message"), ("[DONE]", "[DONE]")]
)
def test_unknown_shapes_are_counted_by_name_and_end_nothing(data, name):
    events, verdict = run(HI, data, STOP)
    assert events == [Text("hi"), Unknown(name), Finish("STOP")]
    assert verdict.outcome == ("truncated" if name == "undecodable frame" else "complete")


# tool calls


def test_whole_calls_are_numbered_as_they_come():
    events, verdict = run(chunk(call(name="f", args={"x": 1}), call(id="b", name="f")), STOP)
    assert events[:2] == [ToolCall(0, None, "f", '{"x": 1}'), ToolCall(1, "b", "f", "{}")]
    assert (verdict.outcome, verdict.note) == ("complete", "")


def test_a_streamed_call_is_put_together_from_its_values():
    pieces = [
        call(name="f", willContinue=True),
        call(partialArgs=[{"jsonPath": "$.city", "stringValue": "New ", "willContinue": True}], willContinue=True),
        call(
            partialArgs=[{"jsonPath": "$.city", "stringValue": "York"}, {"jsonPath": "$.to[1]['k']", "numberValue": 2}], willContinue=True
        ),
        call(partialArgs=[{"jsonPath": "$.ok", "boolValue": True}, {"jsonPath": "$.no", "nullValue": "NULL_VALUE"}], willContinue=True),
    ]
    whole = {"city": "New York", "to": [None, {"k": 2}], "ok": True, "no": None}
    for last in (chunk(call()), STOP):
        calls = [e for e in run(*map(chunk, pieces), last, STOP)[0] if isinstance(e, ToolCall)]
        assert [c.name for c in calls] == ["f", None, None, None, None]
        assert [c.arguments for c in calls[:-1]] == [""] * 4
        assert json.loads(calls[-1].arguments) == whole
        assert {c.call for c in calls} == {0}


@pytest.mark.parametrize("path", [None, 5, "", "$", "$[0]", "x", "$.a[0].b"])
def test_a_path_that_leads_nowhere_is_left_out(path):
    pieces = [{"jsonPath": "$.a", "stringValue": "x"}, {"jsonPath": path, "numberValue": 1}, {"jsonPath": "$.b", "numberValue": 2}]
    arguments = json.loads(run(chunk(call(name="f", partialArgs=pieces)))[0][0].arguments)
    assert arguments == {"a": "x" if path != "$.a[0].b" else [{"b": 1}], "b": 2}
