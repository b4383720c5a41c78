"""What a user means by a schema, and what is said of an answer that breaks it."""

import dataclasses
import enum
import json
import os
from typing import Annotated, Any, Literal, Optional

import pytest

from tokenstream_magic import schemas
from tokenstream_magic.errors import BadRequest


def closed(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("text", "properties"),
    [
        ("name", {"name": TEXT}),
        ("name, age int", {"name": TEXT, "age": WHOLE}),
        ("name, age int, bio: short bio", {"name": TEXT, "age": WHOLE, "bio": {**TEXT, "description": "short bio"}}),
        ("tall bool,size float : in metres", {"tall": {"type": "boolean"}, "size": {"type": "number", "description": "in metres"}}),
        ("name: first, and last\nage int", {"name": {**TEXT, "description": "first, and last"}, "age": WHOLE}),
        ("url: as https://example.org", {"url": {**TEXT, "description": "as https://example.org"}}),
    ],
)
def test_the_concise_syntax(text, properties):
    assert schemas.of(text) == closed(**properties)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Place:
    name: str
    size: int | None = None


def test_types_become_schemas():
    @dataclasses.dataclass
    class City:
        name: Annotated[str, "official name"]
        kind: Literal["town", "city"]
        colour: Colour
        parts: list[Place]
        counts: dict[str, int]
        note: Optional[str] = None  # noqa: UP045 - the other spelling of an optional hint
        anything: Any = 0

    place = {"type": "object", "required": ["name"], "additionalProperties": False}
    place["properties"] = {"name": TEXT, "size": {"anyOf": [WHOLE, {"type": "null"}]}}
    City.__annotations__ = {
        name: eval(hint, {**globals(), **locals()}) if isinstance(hint, str) else hint for name, hint in City.__annotations__.items()
    }
    found = schemas.of(City)
    assert found["properties"] == {
        "name": {"type": "string", "description": "official name"},
        "kind": {"enum": ["town", "city"]},
        "colour": {"enum": ["red", "blue"]},
        "parts": {"type": "array", "items": place},
        "counts": {"type": "object", "additionalProperties": WHOLE},
        "note": {"anyOf": [TEXT, {"type": "null"}]},
        "anything": {},
    }
    assert found["required"] == ["name", "kind", "colour", "parts", "counts"]


def test_a_pydantic_model_is_closed_so_that_servers_can_enforce_it():
    pydantic = pytest.importorskip("pydantic")
    from tokenstream_magic.wire.parts import is_strict

    Inner = pydantic.create_model("Inner", x=(int, ...))
    Outer = pydantic.create_model("Outer", inner=(Inner, ...), name=(str, ...))
    assert is_strict(schemas.of(Outer))
    assert schemas.of("Outer", {"Outer": Outer}) == schemas.of(Outer)


def test_a_file_inline_json_and_a_variable_mean_the_same(tmp_path):
    schema = closed(n=WHOLE)
    path = tmp_path / "shape.json"
    path.write_text(json.dumps(schema))
    assert schemas.of(str(path)) == schemas.of(json.dumps(schema)) == schemas.of("shape", {"shape": schema}) == schemas.of(schema) == schema
    assert schemas.of("shape") == closed(shape=TEXT)


def test_what_is_no_schema_is_refused_in_one_line(tmp_path):
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "deep.json").write_text('{"a":' * 100_000)
    (tmp_path / "directory.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 40)

    class Knot:
        pass

    Knot.__annotations__ = {"again": Knot}
    knot = dataclasses.dataclass(Knot)
    for meant, said in {
        f"{tmp_path}/loop.json": "cannot be read",
        f"{tmp_path}/missing.json": "cannot be read",
        f"{tmp_path}/list.json": "no object",
        f"{tmp_path}/deep.json": "no JSON",
        f"{tmp_path}/directory.json": "is no file",
        f"{tmp_path}/pipe.json": "is no file",
        f"{tmp_path}/huge.json": "more than 1.0 MiB",
        "https://example.org/schema.json": "nothing is fetched",
        "{broken": "no JSON",
        "": "empty",
        " , ": "empty",
        "{}": "empty",
        "age integerish": "is no field",
        "two words here": "is no field",
        '{"type": "objekt"}': "no JSON Schema",
        '{"properties": 5}': "no JSON Schema",
        7: "no schema",
        object: "no JSON Schema",
        knot: "holds itself",
    }.items():
        with pytest.raises(BadRequest) as caught:
            schemas.of(meant)
        assert said in caught.value.message, (meant, caught.value.message)
    with pytest.raises(BadRequest, match="written as JSON"):
        schemas.of({"default": {1, 2}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"n": 1}', None),
        ('{"n": 1', "no JSON: expecting ',' delimiter at line 1, column 8"),
        ('Sure:\n{"n": 1}', "no JSON: expecting value at line 1, column 1"),
        ("", "no JSON"),
        ('{"n": NaN}', "NaN is no JSON number"),
        ("[" * 200_000, "nested too deep"),
        ('{"n": "one"}', "breaks the schema at $.n: 'one' is not of type 'integer'"),
        ('{"m": 1}', "breaks the schema at $:"),
        ("[]", "breaks the schema at $:"),
    ],
)
def test_an_answer_that_is_not_as_asked_is_said_where(text, said):
    found = schemas.disagreement(text, closed(n=WHOLE))
    assert found is None if said is None else (said in found and "\n" not in found)


def test_a_reference_to_elsewhere_is_not_fetched(mock):
    problem = schemas.violation({}, {"$ref": f"{mock.base_url}/schema.json"}, "it")
    assert "could not be checked" in problem
    assert mock.exchanges == []
