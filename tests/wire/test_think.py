"""``<think>`` tags told apart from the answer, wherever a server cuts them."""

import json

import pytest
from hypothesis import given, strategies as st

import tokenstream_magic as ts
from tokenstream_magic import decode
from tokenstream_magic.mock import MockServer, Script
from tokenstream_magic.wire.think import ThinkTags


def split(pieces, inside=False):
    tags = ThinkTags(inside=inside)
    parts = [part for piece in pieces for part in tags.feed(piece)] + tags.rest()
    return "".join(text for reasoning, text in parts if reasoning), "".join(text for reasoning, text in parts if not reasoning)


CASES = [
    ("<think>why</think>\n\nbecause", ("why", "because")),
    (" \n<think>\na < b </thin </think>ok", ("\na < b </thin ", "ok")),
    ("<thinking>x</think>y</thinking>z", ("x</think>y", "z")),
    ("[THINK]x[/THINK]z", ("x", "z")),
    ("<b>bold</b>", ("", "<b>bold</b>")),
    ("answer <think>no</think>", ("", "answer <think>no</think>")),
    ("<think>never closed </thi", ("never closed </thi", "")),
    ("<thin", ("", "<thin")),
    ("   ", ("", "   ")),
    ("", ("", "")),
]


@pytest.mark.parametrize(("text", "parts"), CASES)
def test_the_parts_are_the_same_however_the_text_is_cut(text, parts):
    assert split([text]) == parts
    assert split(text) == parts
    for cut in range(len(text)):
        assert split([text[:cut], text[cut:]]) == parts


def test_a_text_may_begin_inside():
    assert split("so</think>\nyes", inside=True) == ("so", "yes")
    assert split("so", inside=True) == ("so", "")


@given(st.lists(st.text("<think/>[THINK] \na", max_size=9)), st.booleans())
def test_nothing_but_tags_and_the_space_around_them_is_lost(pieces, inside):
    reasoning, answer = split(pieces, inside)
    assert (reasoning, answer) == split(["".join(pieces)], inside)
    assert "".join(pieces).endswith(answer)


def test_a_decoded_body_tells_its_thoughts_when_asked():
    chunks = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("<thi", "nk>hm", "</think>", "Hello")]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    told, plain = decode(body, protocol="openai-chat", think_tags="tagged"), decode(body, protocol="openai-chat")
    assert (told.reasoning, told.text) == ("hm", "Hello")
    assert (plain.reasoning, plain.text) == ("", "<think>hm</think>Hello")


def test_an_endpoint_may_say_that_its_models_think_in_tags(tmp_path, monkeypatch):
    with MockServer({"thinker": Script(("<thi", "nk>hm</th", "ink>\n", "Hello"))}) as server:
        config = tmp_path / "tokenstream.toml"
        config.write_text(f'[endpoints.r1]\nbase_url = "{server.base_url}"\nthink_tags = "tagged"\n')
        monkeypatch.setenv("TOKENSTREAM_CONFIG", str(config))
        transcript = ts.stream("Hi", "r1/thinker", no_log=True)
    assert (transcript.reasoning, transcript.text, transcript.outcome) == ("hm", "Hello", "complete")
    assert transcript.timing.ttfa_ms > transcript.timing.ttft_ms - 1
