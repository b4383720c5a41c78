"""No key reaches a notebook: not while the answer grows, not in what is left of it, in no channel, token or error."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_live import MS, Answer, Frames, answer, frames, said  # noqa: F401 - fixtures

import tokenstream_magic as ts
from tokenstream_magic import redaction
from tokenstream_magic.display import plain as plain_module
from tokenstream_magic.display.bundle import document, settled, settled_columns
from tokenstream_magic.display.plain import Plain
from tokenstream_magic.mock.script import Script, Tool
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.wire.events import Reasoning, Text, ToolCall

KEY = "sk-" + "canaryKEY42" * 4
VALUE = "canary-value-of-the-lab"
STARS, HIDDEN = "*" * len(KEY), "*" * len(VALUE)


@pytest.fixture(autouse=True)
def _in_use() -> None:
    redaction.remember([VALUE])


def test_a_growing_answer_shows_no_key_and_every_arrival(answer: Answer, frames: Frames) -> None:  # noqa: F811
    at = 0
    for channel in (Text, Reasoning):
        for piece in ("The ", "key is ", *KEY, " and ", "canary-va", "lue-of", "-the-lab", "! It is"):
            at += 10
            answer.say(at, channel(piece))
            frames.pass_()
            assert "canary" not in json.dumps(said(answer))
            assert "canary" not in json.dumps(answer.view._state())
    for piece in ('{"', "key", '":"', *KEY, '"}'):
        at += 10
        answer.say(at, ToolCall(0, "1", "find", piece))
        frames.pass_()
    answer.end()
    frames.pass_()
    state = answer.view._state()
    whole = f"The key is {STARS} and {HIDDEN}! It is"
    assert (state["text"], state["reasoning"], state["tool_calls"][0]["arguments"]) == (whole, whole, f'{{"key":"{STARS}"}}')
    messages = [message for message in said(answer) if message["op"] == "append"]
    for channel, shown in (("text", whole), ("reasoning", whole), ("tool", f'{{"key":"{STARS}"}}')):
        assert "".join(message["text"] for message in messages if message["channel"] == channel) == shown
    assert [message["seq"] for message in messages] == list(range(1, len(messages) + 1))
    arrivals = [stamp.offset_ns // MS for stamp in answer.transcript.timeline]
    told: list[int] = []
    for message in messages:
        moments = message.get("at", [message["ms"]])
        told += [sum(moments[: place + 1]) for place in range(len(moments))]
    assert told == arrivals
    assert "canary" not in json.dumps(answer.view.bundle())
    assert answer.transcript.text == f"The key is {KEY} and {VALUE}! It is"  # in memory it is what was said


def test_text_without_a_key_is_shown_piece_by_piece_as_it_came(answer: Answer, frames: Frames) -> None:  # noqa: F811
    pieces = ("The ", "quick ", "brown fox", " jumped", "; it asked", " a question: ", "2 + 2 = 4?", "\n\nmore", " below,")
    for number, piece in enumerate(pieces):
        answer.say(10 * number, Text(piece))
        frames.pass_()
    assert [message["text"] for message in said(answer)] == list(pieces)


def test_what_was_held_back_comes_with_the_end(answer: Answer, frames: Frames) -> None:  # noqa: F811
    answer.say(10, Text("a task of sk-"))
    answer.say(20, ToolCall(0, "1", "find", "hf_"))
    frames.pass_()
    answer.end()
    frames.pass_()
    shown = [message for message in said(answer) if message["op"] == "append"]
    assert "".join(message["text"] for message in shown if message["channel"] == "text") == "a task of sk-"
    assert answer.view._state()["tool_calls"] == [{"name": "find", "arguments": "hf_"}]
    assert said(answer)[-1]["op"] == "settled"


def test_what_is_left_in_the_notebook_has_no_key_in_any_part() -> None:
    def token(text: str) -> dict[str, Any]:
        return {"token": text, "logprob": -0.1, "alternatives": [[text, -0.1], ["other", -3.0]]}

    cut = [KEY[start : start + 5] for start in range(0, len(KEY), 5)]
    transcript = Transcript(
        model="m",
        outcome="truncated",
        prompt=f"Look: {KEY}",
        system=VALUE,
        error={"type": "x", "status": 401, "code": None, "message": f"Incorrect key {KEY}"},
        diagnostics=[f"tried again: {VALUE}"],
        options={"user": VALUE},
        tags=[KEY],
        choices=[
            Choice(
                0,
                f"It is {KEY}.",
                f"Is it {VALUE}?",
                tool_calls=[{"id": "1", "name": "f", "arguments": json.dumps({"key": KEY})}],
                annotations=[{"kind": "url", "url": f"https://u:{VALUE}@host/", "title": KEY, "quote": None, "start": 0, "end": 1}],
                logprobs=[token("It"), token(" is "), *map(token, cut), token(".")],
            ),
            Choice(1, VALUE),
        ],
    )
    for made in (settled(transcript), settled_columns([transcript, transcript]), document(transcript), transcript._repr_mimebundle_()):
        assert "canary" not in json.dumps(made, ensure_ascii=False)
    data, metadata = settled(transcript)
    assert data["text/plain"].startswith(f"It is {STARS}.")
    tokens = metadata["tokenstream"]["logprobs"][0]
    assert "".join(each["token"] for each in tokens) == f"It is {STARS}."
    assert tokens[0]["alternatives"][0][0] == "It"
    assert metadata["tokenstream"]["diagnostics"][-1].endswith("x masked in what is shown: text that looks like a key, or is one in use")
    assert transcript.text == f"It is {KEY}."


def test_what_is_clean_is_shown_as_it_is() -> None:
    transcript = Transcript(model="m", outcome="complete", choices=[Choice(0, "A task-oriented answer: sk-learn, hf_hub.")])
    data, metadata = settled(transcript)
    assert data["text/plain"] == transcript.text
    assert metadata["tokenstream"]["diagnostics"] == []


def test_a_server_that_echoes_the_key_shows_none_of_it(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", "another-canary-value")
    Path(os.environ["TOKENSTREAM_CONFIG"]).write_text(
        f'[endpoints.lab]\nprotocol = "openai-chat"\nbase_url = "{mock.base_url}"\napi_key_env = "LAB_KEY"\n'
    )
    mock.scripts["echo"] = Script(
        ("You sent ", "another-", "canary-", "value", "."),
        headers={"X-Echo": "another-canary-value"},
        tools=(Tool("f", '{"k":"another-canary-value"}'),),
    )
    sent = ts.stream("Hi", "lab/echo", wire=True, no_log=True)
    assert sent.text == "You sent another-canary-value."
    assert "canary" not in json.dumps(settled(sent), ensure_ascii=False)
    monkeypatch.delenv("LAB_KEY")  # what this process has used stays masked
    assert "canary" not in json.dumps(settled(sent), ensure_ascii=False)


def test_plain_mode_shows_no_key_either(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    clock, shown = [0.0], []

    class Handle:
        def update(self, data: dict[str, Any], **_: Any) -> None:
            shown.append(data)

    monkeypatch.setattr(plain_module, "monotonic", lambda: clock[0])
    monkeypatch.setattr(plain_module, "is_certain", lambda: True)
    growing = Plain(answer, Handle(), "")  # type: ignore[arg-type]
    monkeypatch.setattr(growing, "_offer", lambda _awaited: None)
    for piece in ("The key is ", *KEY, ", yes"):
        answer.say(10, Text(piece))
        clock[0] += 3
        growing.tick(awaited=True)
    assert "canary" not in json.dumps(shown)
    assert shown[-1]["text/plain"] == f"The key is {STARS}, yes"
