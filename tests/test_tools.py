"""Tools: what a function's signature says to a model, and that nothing a call does gets out of hand."""

import dataclasses
import enum
import json
from typing import Literal

import pytest

from tokenstream_magic import tools
from tokenstream_magic.errors import BadRequest


class Unit(enum.Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


@dataclasses.dataclass
class Place:
    name: str
    size: int = 0


def weather(city: str, days: int = 1, unit: Unit = Unit.CELSIUS, style: Literal["short", "long"] = "short"):
    """The weather of a city.

    Today counts as a day.
    """
    return {"city": city, "days": days, "unit": unit, "style": style}


def size(place: Place, /, *, factor: float = 1.0) -> float:
    return place.size * factor


async def later(text: str) -> str:
    return text.upper()


def test_a_signature_and_a_docstring_become_a_definition():
    assert tools.tool(weather).definition == {
        "name": "weather",
        "description": "The weather of a city.\n\nToday counts as a day.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "default": 1},
                "unit": {"enum": ["C", "F"]},
                "style": {"enum": ["short", "long"], "default": "short"},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    }


def test_a_definition_is_taken_in_the_spellings_people_have():
    parameters = {"type": "object", "properties": {"x": {"type": "integer"}}}
    flat = {"name": "f", "description": "F.", "parameters": parameters}
    for given in (flat, {"type": "function", "function": flat}, {"name": "f", "description": "F.", "input_schema": parameters}):
        assert tools.tool(given).definition == flat


def call(function, arguments, name=None):
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return tools.result([tools.tool(function)], {"id": "1", "name": name or function.__name__, "arguments": text})


def test_arguments_arrive_as_the_function_wants_them():
    assert call(weather, {"city": "Oslo", "unit": "F"}) == '{"city": "Oslo", "days": 1, "unit": "Unit.FAHRENHEIT", "style": "short"}'
    assert call(size, {"factor": 2, "place": {"name": "Oslo", "size": 3}}) == "6"
    assert call(later, {"text": "soon"}) == "SOON"
    assert call(later, '{"text": "\\ud83d"}') == "\ufffd"


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("silence")


def fail(kind: str):
    """Fails in one way or another."""
    if kind == "exit":
        raise SystemExit(3)
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "mute":
        raise Mute
    if kind == "deep":
        return fail(kind)
    raise ValueError("no\nsuch\tkind")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("mute", "Mute: (an error"),
        ("deep", "RecursionError"),
        ("x", "ValueError: no such kind"),
    ],
)
def test_an_exception_is_a_result(kind, said):
    assert call(fail, {"kind": kind}).startswith(f"Error: {said}")


def value_of(which: str):
    knot = []
    knot.append(knot)
    return {"set": {1}, "nan": float("nan"), "knot": knot, "object": object(), "none": None, "long": "x" * 100_000, "bytes": b"\xff\0"}[
        which
    ]


@pytest.mark.parametrize(
    ("which", "said"), [("set", '"{1}"'), ("nan", "nan"), ("knot", "[[...]]"), ("object", '"<object'), ("none", "null"), ("bytes", '"b')]
)
def test_a_result_that_is_no_json_is_written_as_text(which, said):
    assert call(value_of, {"which": which}).startswith(said)


def test_a_long_result_is_cut():
    result = call(value_of, {"which": "long"})
    assert result.endswith("[cut: 100000 characters in all]")
    assert len(result) < tools.MOST_RESULT + 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{", "are no JSON"),
        ("[1]", "no JSON object"),
        ("null", "no JSON object"),
        ("[" * 100_000, "are no JSON"),
        ("{}", "'city' is a required property"),
        ('{"city": 1}', "$.city: 1 is not of type 'string'"),
        ('{"city": "x", "__class__": "y"}', "__class__"),
        ('{"city": "x", "style": "epic"}', "$.style"),
    ],
)
def test_hostile_arguments_do_not_reach_the_function(arguments, said, monkeypatch):
    monkeypatch.setattr(tools, "_called", lambda *_: pytest.fail("called"))
    assert said in call(weather, arguments)


def test_a_name_that_is_none_of_the_tools_is_said():
    assert call(weather, {}, name="eval") == "Error: there is no tool 'eval'. Known: weather."
    assert "cannot be run" in tools.result([tools.tool({"name": "f"})], {"name": "f", "arguments": "{}"})


def test_many_calls_in_one_answer_are_not_all_run():
    ran = []

    def note(n: int):
        ran.append(n)

    calls = [{"name": "note", "arguments": json.dumps({"n": n})} for n in range(100)]
    results = tools.carried_out([tools.tool(note)], calls).result(10)
    assert (len(results), ran) == (100, list(range(tools.MOST_CALLS)))
    assert results[-1].startswith("Not run")


def takes_any(*values):
    pass


def strange(stream: memoryview):
    pass


def unresolved(a: "Nowhere"):  # noqa: F821
    pass


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (takes_any, "any number"),
        (strange, "strange, argument stream: There is no JSON Schema for memoryview"),
        (unresolved, "cannot be read"),
        (lambda x: x, "needs a name"),
        (dict, "is no tool"),
        (7, "A int is no tool"),
        ({"name": "no spaces here"}, "needs a name and parameters"),
        ({"name": "f", "parameters": {"type": "nothing"}}, "no JSON Schema"),
        ([weather, weather], "Two tools are called weather"),
    ],
)
def test_what_is_no_tool_is_refused_in_one_line(given, said):
    with pytest.raises(BadRequest, match=said.replace("(", r"\(")):
        tools.toolbox(given)


def test_a_cell_names_a_function():
    assert tools.named("weather", {"weather": weather}).function is weather
    with pytest.raises(BadRequest, match="no function 'wether'"):
        tools.named("wether", {})
