"""Chunks read by their template say exactly what they say when they are parsed."""

import json

import pytest
from hypothesis import example, given, settings, strategies as st

from tokenstream_magic.wire import anthropic, openai_chat
from tokenstream_magic.wire.events import Text
from tokenstream_magic.wire.framing import Frame
from tokenstream_magic.wire.template import Template, learn

PATHS = {openai_chat: ("choices", 0, "delta", "content"), anthropic: ("delta", "text")}


def chunk(text, choice=0, created=1, padding="", ascii=True, **more):
    choices = [{"index": choice, "delta": {"content": text}, "logprobs": None, "finish_reason": None, **more}]
    message = {"id": "c1", "object": "chat.completion.chunk", "created": created, "model": "m", "choices": choices}
    return json.dumps(message | ({"obfuscation": padding} if padding else {}), ensure_ascii=ascii)


def block(text, index=0, kind="text_delta", ascii=True):
    return json.dumps({"type": "content_block_delta", "index": index, "delta": {"type": kind, "text": text}}, ensure_ascii=ascii)


def parsed(protocol):
    decoder = protocol.Decoder()
    decoder.TEXT_AT = ()
    return decoder


TEXTS = st.text(max_size=8) | st.sampled_from([" word", "word", '"', "\\", "\n", "content", "\x7f", "\u2028", "é", '"},"x":{"content":"'])
CHUNKS = st.builds(chunk, TEXTS, st.integers(0, 2), st.integers(1, 2), st.text('aB9-"é', max_size=4), st.booleans())
ODD = st.sampled_from(
    ["[DONE]", "{}", '{"error": {"message": "no"}}', chunk("x", finish_reason="stop"), chunk("x", logprobs={"content": []})]
)
BLOCKS = st.builds(block, TEXTS, st.integers(0, 1), st.sampled_from(["text_delta", "thinking_delta"]), st.booleans())
ENDS = st.sampled_from(['{"type": "message_stop"}', '{"type": "content_block_stop", "index": 0}', '{"type": "ping"}'])


@settings(max_examples=300)
@given(st.lists(CHUNKS | ODD, max_size=40))
@example([chunk("a"), chunk("b"), chunk("c", 1), chunk("d")])
def test_chat_chunks_mean_the_same_with_and_without_templates(chunks):
    with_templates, without = openai_chat.Decoder(), parsed(openai_chat)
    for data in chunks:
        assert with_templates.decode(Frame(data)) == without.decode(Frame(data)), data
    assert (with_templates.verdict(), with_templates.characters) == (without.verdict(), without.characters)


@settings(max_examples=300)
@given(st.lists(st.tuples(BLOCKS | ENDS, st.sampled_from(["content_block_delta", "error", "message"])), max_size=40))
def test_anthropic_frames_mean_the_same_with_and_without_templates(frames):
    with_templates, without = anthropic.Decoder(), parsed(anthropic)
    for data, event in frames:
        assert with_templates.decode(Frame(data, event)) == without.decode(Frame(data, event)), data
    assert (with_templates.verdict(), with_templates.characters) == (without.verdict(), without.characters)


def test_a_stream_of_alike_chunks_is_read_by_its_template():
    decoder, taken = openai_chat.Decoder(), []
    learned = Template.text
    try:
        Template.text = lambda self, raw: taken.append(raw) or learned(self, raw)
        for number in range(20):
            assert decoder.decode(Frame(chunk(f" {number}", padding="x9Y")))[-1] == Text(f" {number}")
    finally:
        Template.text = learned
    assert len(taken) >= 17


@pytest.mark.parametrize(
    "raw",
    [
        chunk("stop", finish_reason="stop"),  # the text stands twice
        chunk('a"b'),
        chunk("a\\b"),
        chunk(""),
        chunk("x" * 5000),
        '{"choices": [{"delta": {"content": 5}}]}',
        "[]",
    ],
)
def test_what_cannot_be_proved_is_not_learned(raw):
    assert learn(raw.encode(), json.loads(raw), PATHS[openai_chat], "message", 0) is None


def test_a_text_that_stands_elsewhere_in_plain_is_not_taken_for_it():
    raw = b'{"choices":[{"index":0,"delta":{"content":"\\u0061b"}}],"obfuscation":"ab"}'
    assert learn(raw, json.loads(raw), PATHS[openai_chat], "message", 0) is None


@pytest.mark.parametrize("middle", [b'a","content":"b', b"a\nb", b"\\ud83d", b"\\", b"a\x00", b"\xff", b""])
def test_a_chunk_that_is_not_one_string_more_is_parsed(middle):
    raw = chunk("known").encode()
    template = learn(raw, json.loads(raw), PATHS[openai_chat], "message", 0)
    assert template.text(raw) == "known"
    assert template.text(raw.replace(b"known", rb"a\n\"\u00e9")) == 'a\n"é'
    assert template.text(raw.replace(b"known", middle)) is None
