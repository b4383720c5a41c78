"""Sources and likelihoods beside the answer, in every protocol's shape, up to the Transcript."""

import json

import pytest

from tokenstream_magic import decode


def sse(*messages, event=False):
    return "".join((f"event: {m['type']}\n" if event else "") + f"data: {json.dumps(m)}\n\n" for m in messages)


def chat(**fields):
    delta = fields.pop("delta", {"content": "Hi"})
    choice = {"index": 0, "delta": delta, "finish_reason": "stop", "logprobs": fields.pop("logprobs", None)}
    return sse({"choices": [choice], **fields}) + "data: [DONE]\n\n"


URL = {"kind": "url_citation", "url": "https://a.example/x", "title": "A", "quote": None, "start": 3, "end": 9}
OPENAI = {"type": "url_citation", "url_citation": {"url": URL["url"], "title": "A", "start_index": 3, "end_index": 9}}
FLAT = {"type": "url_citation", "url": URL["url"], "title": "A", "start_index": 3, "end_index": 9}
BARE = {**URL, "title": None, "start": None, "end": None}
PART = {"type": "output_text", "text": "Hi", "annotations": [FLAT]}
ITEM = {"type": "message", "id": "m1", "role": "assistant", "content": [PART]}
PASSAGE = {"type": "char_location", "cited_text": "so it was", "document_title": "D", "start_char_index": 1, "end_char_index": 5}
CITED = {
    "chat": ("openai-chat", chat(delta={"content": "Hi", "annotations": [OPENAI, OPENAI]}), URL),
    "addresses": ("openai-chat", chat(citations=[URL["url"]]), BARE),
    "responses": (
        "openai-responses",
        sse(
            {"type": "response.created", "response": {"id": "r", "model": "m"}},
            {"type": "response.output_text.delta", "item_id": "m1", "output_index": 0, "content_index": 0, "delta": "Hi"},
            {"type": "response.output_text.annotation.added", "item_id": "m1", "annotation": FLAT},
            {"type": "response.output_item.done", "output_index": 0, "item": ITEM},
            {"type": "response.completed", "response": {"id": "r", "output": [ITEM], "status": "completed"}},
            event=True,
        ),
        URL,
    ),
    "anthropic": (
        "anthropic",
        sse(
            {"type": "message_start", "message": {"id": "m", "model": "c"}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": PASSAGE}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            {"type": "message_stop"},
            event=True,
        ),
        {"kind": "char_location", "url": None, "title": "D", "quote": "so it was", "start": 1, "end": 5},
    ),
    "gemini": (
        "gemini",
        sse(
            {
                "candidates": [
                    {
                        "content": {"parts": [{"text": "Hi"}]},
                        "finishReason": "STOP",
                        "citationMetadata": {"citations": [{"uri": URL["url"], "startIndex": 3, "endIndex": 9, "title": "A"}]},
                        "groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://b.example", "title": "B"}}]},
                    }
                ]
            }
        ),
        {**URL, "kind": "citation"},
    ),
}


@pytest.mark.parametrize("name", CITED)
def test_a_source_is_kept_once_with_its_place(name):
    protocol, body, expected = CITED[name]
    transcript = decode(body, protocol=protocol)
    assert (transcript.outcome, transcript.text) == ("complete", "Hi")
    assert transcript.choices[0].annotations[0] == expected
    assert len(transcript.choices[0].annotations) == (2 if name == "gemini" else 1)
    assert not transcript.diagnostics


TOKEN = {
    "token": "Hi",
    "logprob": -0.5,
    "bytes": [72, 105],
    "top_logprobs": [{"token": "Hi", "logprob": -0.5}, {"token": "Yo", "logprob": -2}],
}
LIKELY = {
    "chat": ("openai-chat", chat(logprobs={"content": [TOKEN], "refusal": None})),
    "responses": (
        "openai-responses",
        sse(
            {
                "type": "response.output_text.delta",
                "item_id": "m1",
                "output_index": 0,
                "content_index": 0,
                "delta": "Hi",
                "logprobs": [TOKEN],
            },
            {"type": "response.completed", "response": {"id": "r", "status": "completed"}},
            event=True,
        ),
    ),
    "gemini": (
        "gemini",
        sse(
            {
                "candidates": [
                    {
                        "content": {"parts": [{"text": "Hi"}]},
                        "finishReason": "STOP",
                        "logprobsResult": {
                            "chosenCandidates": [{"token": "Hi", "logProbability": -0.5}],
                            "topCandidates": [
                                {"candidates": [{"token": "Hi", "logProbability": -0.5}, {"token": "Yo", "logProbability": -2}]}
                            ],
                        },
                    }
                ]
            }
        ),
    ),
    "ollama": ("ollama", json.dumps({"model": "m", "message": {"content": "Hi"}, "logprobs": [TOKEN], "done": True}) + "\n"),
}


@pytest.mark.parametrize("name", LIKELY)
def test_how_likely_a_token_was_is_kept_with_what_might_have_come(name):
    protocol, body = LIKELY[name]
    transcript = decode(body, protocol=protocol)
    assert transcript.outcome == "complete"
    assert transcript.choices[0].logprobs == [{"token": "Hi", "logprob": -0.5, "alternatives": [["Hi", -0.5], ["Yo", -2.0]]}]


@pytest.mark.parametrize("told", [5, [5], [{}], [{"token": 5, "logprob": "x"}], [{"token": "a", "logprob": float("nan")}], {"content": 5}])
def test_nonsense_beside_the_answer_changes_nothing(told):
    body = chat(logprobs=told, delta={"content": "Hi", "annotations": told}, citations=told)
    transcript = decode(body, protocol="openai-chat")
    assert (transcript.outcome, transcript.text, transcript.choices[0].logprobs) == ("complete", "Hi", [])


def test_a_token_of_half_a_character_is_kept_as_the_server_writes_it():
    half = {"token": "\\xe2\\x9c", "logprob": -1, "bytes": [226, 156]}
    assert decode(chat(logprobs={"content": [half]}), protocol="openai-chat").choices[0].logprobs[0]["token"] == "\\xe2\\x9c"


def test_a_model_that_changes_on_the_way_is_told():
    one = {"id": "c", "model": "big", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    transcript = decode(sse(one, {**one, "model": "small"}) + "data: [DONE]\n\n", protocol="openai-chat")
    assert (transcript.resolved_model, transcript.text) == ("small", "HiHi")
    assert transcript.diagnostics == ["the model changed from big to small"]
