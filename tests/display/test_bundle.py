import json
from datetime import datetime, timezone

import pytest

from tokenstream_magic.display.bundle import MIME, in_words, live, settled, settled_columns
from tokenstream_magic.record import Choice, Transcript, Usage
from tokenstream_magic.timing.metrics import Timing, measure
from tokenstream_magic.timing.timeline import Timeline


def timeline(step):
    made = Timeline(requested=1_000, first_byte=1_000 + step, reads=3)
    for number in range(3):
        made.add(1_000 + (number + 2) * step, 0, 5, number)
    return made


def transcript(text="The answer.", outcome="complete", finish_reason="stop", choices=None, **more):
    choices = [Choice(0, text, finish_reason=finish_reason)] if choices is None else choices
    return Transcript(model="local", endpoint="local", protocol="openai-chat", prompt="Ask.", choices=choices, outcome=outcome, **more)


def run(number, **more):
    """The same answer in another run: nothing of it but what was said is the same."""
    when = timeline(number * 1_234_567)
    return transcript(
        id=f"01J{number:023}",
        created_at=datetime(2020 + number, 1, number, tzinfo=timezone.utc),
        timeline=when,
        timing=measure(when, 3 + number),
        usage=Usage(5, 3 + number, source="reported"),
        request_id=f"req-{number}",
        system_fingerprint=f"fp-{number}",
        resolved_model=f"m-{number}",
        package_version=f"0.{number}",
        notebook=f"{number}.ipynb",
        cell_id=f"cell-{number}",
        execution_count=number,
        **more,
    )


OUTCOMES = [
    {},
    {"outcome": "stopped", "stop_cause": "button", "finish_reason": None},
    {"outcome": "truncated", "finish_reason": None, "diagnostics": ["ended without finish_reason or [DONE] after 11 characters"]},
    {"outcome": "failed", "text": "", "error": {"type": "http_error", "status": 500, "code": None, "message": "boom"}},
]


@pytest.mark.parametrize("how", OUTCOMES, ids=lambda how: how.get("outcome", "complete"))
def test_two_runs_that_said_the_same_leave_the_same_data(how):
    (one, about_one), (two, about_two) = settled(run(1, **how)), settled(run(2, **how))
    assert json.dumps(one) == json.dumps(two)
    assert about_one != about_two


def test_data_has_no_id_no_date_and_no_timing():
    data, _ = settled(run(1))
    assert set(data[MIME]) == {"version", "status", "model", "outcome", "stop_cause", "finish_reason", "text"}
    for trace in ("01J", "2021", "req-1", "fp-1", "m-1", "ttft", "1.ipynb", "cell-1"):
        assert trace not in json.dumps(data)


def test_metadata_has_ids_dates_timing_and_the_timeline():
    made = run(1)
    _, metadata = settled(made)
    assert set(metadata) == {"tokenstream"}
    about = metadata["tokenstream"]
    assert about["id"] == made.id
    assert about["created_at"] == "2021-01-01T00:00:00.000+00:00"
    assert about["usage"] == {
        "input_tokens": 5,
        "output_tokens": 4,
        "reasoning_tokens": None,
        "cached_input_tokens": None,
        "source": "reported",
    }
    assert about["timing"]["ttft_ms"] == made.timing.ttft_ms == 2.469
    assert about["timing"]["stop_latency_ms"] is None
    assert about["timeline"]["characters"] == [5, 5, 5]
    assert about["timeline"]["moments_ms"]["first_byte"] == 1.235
    assert (about["endpoint"], about["protocol"], about["resolved_model"]) == ("local", "openai-chat", "m-1")
    json.dumps(metadata, allow_nan=False)


def test_a_bundle_has_three_forms_and_no_html():
    data, _ = settled(transcript())
    assert list(data) == [MIME, "text/markdown", "text/plain"]
    assert data[MIME]["text"] == "The answer."
    assert data["text/markdown"].strip() == "The answer."
    assert data["text/plain"] == "The answer."


def test_the_canonical_form_keeps_the_text_as_it_was_said():
    said = "<b>\x1b[31m\r\u202e$x$"
    data, _ = settled(transcript(said))
    assert data[MIME]["text"] == said


def test_the_other_forms_are_inert():
    data, _ = settled(transcript("<img src=x>\x1b]0;t\x07 [a](http://e.x) $y$\u202e"))
    assert data["text/plain"] == "<img src=x> [a](http://e.x) $y$<U+202E>"
    for live_text in ("<img", "](", "http://", "$y$", "\x1b", "\u202e"):
        assert live_text not in data["text/markdown"]


def test_an_error_message_is_as_inert_as_an_answer():
    error = {"type": "x", "status": None, "code": None, "message": "<img src=x>\x1b[31m\n# [a](b)"}
    data, _ = settled(transcript("", outcome="failed", error=error))
    assert "\x1b" not in data["text/plain"] + data["text/markdown"]
    assert "<img" not in data["text/markdown"]
    assert "](" not in data["text/markdown"]
    assert data[MIME]["error"] == error


def test_what_was_not_said_is_left_out():
    everything = Choice(0, "a", "thought", "No.", [{"id": "c", "name": "f", "arguments": "{}"}], "stop")
    data, _ = settled(transcript(choices=[everything]))
    assert (data[MIME]["reasoning"], data[MIME]["refusal"], data[MIME]["tool_calls"]) == ("thought", "No.", everything.tool_calls)
    assert not {"reasoning", "refusal", "tool_calls", "error", "choices"} & set(settled(transcript())[0][MIME])


def test_several_choices_are_all_kept():
    data, _ = settled(transcript(choices=[Choice(0, "one"), Choice(1, "two", finish_reason="length")]))
    assert [(c["index"], c["text"], c["finish_reason"]) for c in data[MIME]["choices"]] == [(0, "one", None), (1, "two", "length")]


def test_a_refusal_is_shown_where_there_is_no_answer():
    data, _ = settled(transcript(choices=[Choice(0, refusal="I will not.", finish_reason="stop")]))
    assert data["text/plain"] == "I will not."
    assert "I will not." in data["text/markdown"]


NO_TEXT = {"choices": [Choice(0, finish_reason="stop")]}
ERROR = {"type": "server_error", "status": 500, "code": None, "message": "boom"}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({}, ""),
        ({"finish_reason": "length"}, "complete, cut at max_tokens"),
        ({"finish_reason": "tool_calls"}, ""),
        (NO_TEXT, "complete, without any text"),
        ({"choices": [Choice(0, tool_calls=[{"id": "c"}])]}, ""),
        ({"choices": [Choice(0, refusal="No.")]}, ""),
        ({"outcome": "stopped", "stop_cause": "button"}, "stopped by the Stop button"),
        ({"outcome": "stopped", "stop_cause": "interrupt"}, "stopped by an interrupt"),
        ({"outcome": "stopped", "stop_cause": "api"}, "stopped by a call"),
        ({"outcome": "stopped", "stop_cause": "limit:time"}, "stopped at its time limit"),
        ({"outcome": "stopped", "stop_cause": "limit:tokens"}, "stopped at its token limit"),
        ({"outcome": "stopped", "stop_cause": None}, "stopped"),
        ({"outcome": "truncated"}, "truncated"),
        ({"outcome": "truncated", "diagnostics": ["ended early", "2 x unknown: x"]}, "truncated: ended early"),
        ({"outcome": "truncated", "error": ERROR, "diagnostics": ["noise"]}, "truncated: boom"),
        ({"outcome": "truncated", "stop_cause": "crash"}, "truncated when the kernel ended"),
        ({"outcome": "failed", "error": ERROR}, "failed: boom"),
        ({"outcome": "failed"}, "failed"),
    ],
)
def test_every_ending_has_its_words(how, words):
    made = transcript(**how)
    assert in_words(made) == words
    data, _ = settled(made)
    assert data["text/plain"] == "\n".join(filter(None, [made.text or made.refusal, words and f"[{words}]"]))
    assert ("*" in data["text/markdown"]) == bool(words)


def test_the_ending_stands_below_the_answer():
    data, _ = settled(transcript("Half an ans", "stopped", None, stop_cause="button"))
    assert data["text/plain"] == "Half an ans\n[stopped by the Stop button]"
    assert data["text/markdown"].split("\n\n")[-1] == "*stopped by the Stop button*"


def test_an_ending_without_an_answer_stands_alone():
    data, _ = settled(transcript("", "failed", None, error=ERROR))
    assert data["text/plain"] == "[failed: boom]"
    assert data["text/markdown"] == "*failed: boom*"


def test_a_live_output_names_its_stream_and_its_model():
    made = transcript()
    data = live(made, "model-1", "so far\x1b[31m")
    assert set(data) == {MIME, "text/plain"}
    assert data[MIME]["status"] == "live"
    assert (data[MIME]["stream_id"], data[MIME]["model_id"]) == (made.id, "model-1")
    assert data["text/plain"] == "so far"
    assert live(made, "model-1")["text/plain"] == "[local is answering]"


def test_a_transcript_shows_itself_as_its_settled_bundle():
    made = transcript()
    assert made._repr_mimebundle_() == settled(made)
    assert settled(Transcript())[1]["tokenstream"]["timing"] == Timing().as_dict()


def test_transcripts_side_by_side_have_a_column_and_a_heading_each():
    one, two = transcript("One."), transcript("", "failed", None, error=ERROR)
    one.model, two.model = "a/<img src=x>", "b"
    data, metadata = settled_columns([one, two])
    assert [(column["text"], column["outcome"]) for column in data[MIME]["columns"]] == [("One.", "complete"), ("", "failed")]
    assert [about["endpoint"] for about in metadata["tokenstream"]["columns"]] == ["local", "local"]
    assert data["text/plain"] == "[a/<img src=x>]\nOne.\n\n[b]\n[failed: boom]"
    headings = [line for line in data["text/markdown"].split("\n") if line.startswith("###")]
    assert len(headings) == 2
    assert "<img" not in data["text/markdown"]
    assert "One." in data["text/markdown"]


def test_logprobs_are_how_it_went_and_not_what_was_said():
    likely = [{"token": "One", "logprob": -0.1, "alternatives": [["One", -0.1]]}]
    data, metadata = settled(transcript(choices=[Choice(0, "One", logprobs=likely), Choice(1, "Two")]))
    assert metadata["tokenstream"]["logprobs"] == [likely, []]
    assert "logprob" not in json.dumps(data)
    assert "logprobs" not in settled(transcript())[1]["tokenstream"]
