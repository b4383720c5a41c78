"""The cell that asks the same again does: parsed as the magic parses it, it sends what was sent."""

from __future__ import annotations

from typing import Any

import pytest

from tokenstream_magic import asking
from tokenstream_magic.flags import parse_stream
from tokenstream_magic.labserver.cell import cell_of
from tokenstream_magic.prompt import build
from tokenstream_magic.record import Transcript


def asked_again(source: str, namespace: dict[str, Any]) -> tuple[Any, list[Any], dict[str, Any]]:
    """Model, messages and options of a cell, in a notebook with these names."""
    line, _, body = source.removeprefix("%%stream ").partition("\n")
    flags, keywords = parse_stream(line)
    prompt = build(body, None if flags.raw else namespace, flags.system, params=keywords.pop("param"))
    plan, prompt = asking.prepare(prompt, flags.model or flags.model_name, **keywords)
    return f"{plan.endpoint.name}/{plan.model}", prompt.messages, dict(plan.options)


HOSTILE = "It's \"quoted\" $HOME `id` \\n #no {x} {y!r} %pip -- ; '"


@pytest.mark.parametrize(
    ("template", "namespace", "system", "keywords"),
    [
        ("Name three rivers.", {}, None, {"temperature": 0.0, "seed": -3, "max_tokens": 20}),
        ("Compare {a} and {b}.", {"a": "Oslo", "b": HOSTILE}, "Be brief. Don't ramble.", {"stop": ["\n\nEND", "-", "'"]}),
        ("Compare {a} and {b}.", {"a": "two\nlines", "b": "-x"}, "Be\nbrief.", {}),
        (HOSTILE, {}, HOSTILE, {"option": {"top_k": 5, "metadata": {"it's": [1, "two"]}, "user": "12", "word": "plain"}}),
        ("--- system\nAnswer in French.\n--- user\nHi\n--- assistant\nSalut\n--- user\nAnd {x}?", {"x": "now"}, None, {"json": True}),
        ("  indented\n\n\tcode {not_a_name}", {}, "-s", {"schema": {"type": "object", "properties": {"it's": {"type": "string"}}}}),
    ],
)
def test_the_cell_sends_what_was_sent(template: str, namespace: dict[str, Any], system: str | None, keywords: dict[str, Any]) -> None:
    prompt = build(template, namespace, system)
    kept = asking.describe(*asking.prepare(prompt, "vllm/some-model", **keywords))
    stop = kept.options.get("stop")
    source, missing = cell_of(kept)
    lost = bool(stop) and any("\n" in text for text in stop)  # a line has no line breaks: that is said
    assert missing == (["options"] if lost else [])
    model, messages, options = asked_again(source, {"x": "another x", "a": "another a", "not_a_name": "a name"})
    assert (model, messages) == ("vllm/some-model", prompt.messages)
    assert options == ({**kept.options, "stop": stop[1:]} if lost else kept.options)


def test_a_template_stays_one_where_it_can() -> None:
    prompt = build("Compare {a} and {b}.", {"a": "Oslo", "b": "New York"})
    source, _ = cell_of(asking.describe(*asking.prepare(prompt, "vllm/some-model")))
    assert source == "%%stream vllm/some-model -p a Oslo -p b 'New York'\nCompare {a} and {b}."


def test_what_a_cell_cannot_hold_is_named() -> None:
    kept = Transcript(
        model="127.0.0.1/hello",
        endpoint="127.0.0.1",
        protocol="anthropic",
        prompt="Look",
        messages=[{"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image", "name": "a.png"}]}],
        options={"tool": [{"name": "f"}], "api_key": "x"},
        tags=["two words", "-t"],
    )
    source, missing = cell_of(kept)
    assert missing == ["address", "tools", "attachments"]
    assert source == "%%stream hello --protocol anthropic -o api_key x --tag 'two words' --tag=-t\nLook"


@pytest.mark.parametrize("model", ["a\nimport os", "a\u2028b", "--help", "x' --raw '"])
def test_a_hostile_model_stays_in_its_line(model: str) -> None:
    source, _ = cell_of(Transcript(model=model, prompt="Hi", messages=[{"role": "user", "content": "Hi"}]))
    assert len(source.splitlines()) == 2
    assert source.splitlines()[1] == "Hi"
