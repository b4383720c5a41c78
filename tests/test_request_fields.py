"""The flags that name request fields: in every protocol each is sent under that protocol's name, or refused; never lost."""

from __future__ import annotations

import pytest

from tokenstream_magic import asking
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.wire.protocols import PROTOCOLS

VALUES = {
    "temperature": 0.25,
    "top_p": 0.125,
    "max_tokens": 4321,
    "seed": 8765,
    "stop": ["halt"],
    "reasoning_effort": "high",
    "logprobs": 7,
}
LOST = {("openai-responses", "seed"), ("openai-responses", "stop"), ("anthropic", "seed"), ("anthropic", "logprobs")}


def sent(protocol: str, **fields):
    plan, _ = asking.prepare("Hi", "m", base_url="http://127.0.0.1:9/v1", protocol=protocol, **fields)
    return plan.call().body


@pytest.mark.parametrize("number", [float("nan"), float("-inf"), 1 << 63])
def test_a_number_that_would_be_sent_as_something_else_is_refused(number: float) -> None:
    for given in ({"temperature": number}, {"option": {"top_k": number}}):
        with pytest.raises(BadRequest, match="no number that can be sent"):
            sent("openai-chat", **given)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("road", ["flag", "option"])
def test_a_field_is_sent_or_refused_and_never_lost(protocol: str, name: str, road: str) -> None:
    given = {name: VALUES[name]} if road == "flag" else {"option": {name: VALUES[name]}}
    if (protocol, name) in LOST:
        with pytest.raises(BadRequest, match=rf"{protocol} has no field for {name}"):
            sent(protocol, **given)
        return
    with_it, without = sent(protocol, **given), sent(protocol)
    assert with_it != without
    value = VALUES[name]
    looked_for = value[0] if isinstance(value, list) else value
    assert str(looked_for).lower() in str(with_it).lower()
