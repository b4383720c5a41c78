"""JSON Schemas: of what a user means, of Python types, and whether an answer keeps one.

``name, age int, bio: short bio`` is llm's concise syntax: fields between commas (or one a line, when descriptions need
commas), each with a type (``str`` unless said) and, behind a colon, a description.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from tokenstream_magic.attachments import read
from tokenstream_magic.errors import BadRequest, one_line

MOST_BYTES = 1 << 20
MOST_CHECKED = 1 << 20
DEPTH = 32

_WORDS = {"str": "string", "string": "string", "int": "integer", "float": "number", "bool": "boolean"}
_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    list: {"type": "array"},
    dict: {"type": "object"},
    inspect.Parameter.empty: {},
}
_EXAMPLE = "Example: --schema 'name, age int, bio: one sentence'."
_FIELD = re.compile(r"\s*([^\W\d]\w*)(?:[ \t]+([a-z]+))?[ \t]*(?::(.*))?", re.DOTALL)


def of(meant: Any, namespace: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The schema a user means: JSON, the path of a file, a variable, a class, or the concise syntax. Raises BadRequest."""
    if isinstance(meant, str):
        text = meant.strip()
        if namespace is not None and text.isidentifier() and text in namespace:
            return _checked(_of_value(namespace[text]))
        if text.startswith("{"):
            return _checked(_parsed(text, "The schema"))
        if text.endswith(".json") or "/" in text.split(":")[0] or text.startswith("~"):
            return _checked(_parsed(read(text, MOST_BYTES, "--schema"), text))
        return _checked(concise(text))
    return _checked(_of_value(meant))


def concise(text: str) -> dict[str, Any]:
    """The schema of a list of fields in the concise syntax. Raises BadRequest, with an example."""
    properties: dict[str, Any] = {}
    for field in filter(str.strip, text.split("\n" if "\n" in text.strip() else ",")):
        found = _FIELD.fullmatch(field.strip())
        if found is None or (found[2] and found[2] not in _WORDS):
            known = "str, int, float and bool"
            raise BadRequest(f"{one_line(field)!r} is no field of a schema: a name, a type ({known}), a description.", _EXAMPLE)
        properties[found[1]] = {"type": _WORDS[found[2] or "str"]} | ({"description": found[3].strip()} if found[3] else {})
    if not properties:
        raise BadRequest("The schema is empty.", _EXAMPLE)
    return _closed(properties, list(properties))


def of_type(hint: Any, depth: int = DEPTH) -> dict[str, Any]:
    """The schema of a type hint. Raises BadRequest for one that JSON has no values for."""
    if depth <= 0:
        raise BadRequest("The type holds itself, or is nested too deep.", "Write its JSON Schema.")
    try:
        if hint in _SIMPLE:
            return dict(_SIMPLE[hint])
    except TypeError:  # not hashable
        pass
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        described = next((note for note in arguments[1:] if isinstance(note, str)), None)
        return of_type(arguments[0], depth - 1) | ({"description": described} if described else {})
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [of_type(one, depth - 1) for one in arguments]}
    if origin in (list, set, frozenset, tuple) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        items = [one for one in arguments if one is not Ellipsis]
        return {"type": "array"} | ({"items": of_type(items[0], depth - 1)} if len(set(items)) == 1 else {})
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object"} | ({"additionalProperties": of_type(arguments[1], depth - 1)} if len(arguments) == 2 else {})
    if isinstance(hint, type):
        if issubclass(hint, enum.Enum):
            return {"enum": [member.value for member in hint]}
        if callable(getattr(hint, "model_json_schema", None)):
            return _closing(hint.model_json_schema())  # type: ignore[attr-defined,no-any-return]
        if dataclasses.is_dataclass(hint):
            return _of_dataclass(hint, depth)
        if typing.is_typeddict(hint):
            hints = hints_of(hint)
            required = sorted(getattr(hint, "__required_keys__", hints), key=list(hints).index)
            return _closed({name: of_type(one, depth - 1) for name, one in hints.items()}, required)
    raise BadRequest(f"There is no JSON Schema for {getattr(hint, '__name__', hint)}.", "Use str, int, float, bool, list, dict or Literal.")


def hints_of(thing: Any) -> dict[str, Any]:
    """The type hints of a class or function, those written as text resolved. Raises BadRequest when one cannot be."""
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except Exception as error:  # a hint is an expression of the user's, which may raise anything
        raise BadRequest(f"A type hint of {getattr(thing, '__name__', thing)} cannot be read: {error}.") from None


def disagreement(text: str, schema: Mapping[str, Any] | None) -> str | None:
    """Where an answer is no JSON, or breaks ``schema``, in one line; None when it does neither."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return f"the answer is no JSON: {error.msg[:1].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError) as error:
        return f"the answer is no JSON: {'nested too deep' if isinstance(error, RecursionError) else error}"
    return None if schema is None or len(text) > MOST_CHECKED else violation(value, schema, "the answer")


def violation(value: Any, schema: Mapping[str, Any], what: str) -> str | None:
    """Where ``value`` breaks ``schema``, in one line; None when it does not, or when nobody can tell."""
    try:
        validators, referencing = import_module("jsonschema.validators"), import_module("referencing")
    except ImportError:
        return None
    try:
        kind = validators.validator_for(schema, default=validators.Draft202012Validator)
        # a registry of our own: the default one would fetch the address of a $ref
        error = next(iter(kind(schema, registry=referencing.Registry()).iter_errors(value)), None)
    except Exception as problem:  # a schema may ask for what the validator cannot do: an unknown $ref, a bad pattern
        return f"the schema could not be checked: {one_line(problem)[:200]}"
    if error is None:
        return None
    return f"{what} breaks the schema at {error.json_path}: {one_line(error.message)[:200]}"


def _of_value(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return of(value)
    if isinstance(value, type) and value not in _SIMPLE:
        return of_type(value)
    raise BadRequest(f"A {type(value).__name__} is no schema.", "Give a dictionary, a dataclass, a pydantic model or text.")


def _checked(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` when it can be sent as JSON and says what it wants."""
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"The schema cannot be written as JSON: {error}.", "Use plain dictionaries, lists, text and numbers.") from None
    if not schema:
        raise BadRequest("The schema is empty.", _EXAMPLE)
    if size > MOST_BYTES:
        raise BadRequest("The schema has more than 1 MiB.", "Use a smaller one.")
    if "jsonschema" in sys.modules or _importable("jsonschema"):
        validators = import_module("jsonschema.validators")
        kind = validators.validator_for(schema, default=validators.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except Exception as error:  # SchemaError, and whatever a strange schema does to the validator
            problem, place = getattr(error, "message", error), getattr(error, "json_path", "$")
            raise BadRequest(f"That is no JSON Schema: at {place}, {one_line(problem)[:200]}.", _EXAMPLE) from None
    return schema


def _parsed(text: str | bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{name} is no JSON: {error}.", _EXAMPLE) from None
    if not isinstance(value, dict):
        raise BadRequest(f"{name} is JSON, but no object.", _EXAMPLE)
    return value


def _of_dataclass(kind: Any, depth: int) -> dict[str, Any]:
    hints = hints_of(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    missing = dataclasses.MISSING
    required = [field.name for field in fields if field.default is missing and field.default_factory is missing]
    return _closed({field.name: of_type(hints[field.name], depth - 1) for field in fields}, required)


def _closed(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _closing(schema: Any) -> Any:
    """A model's schema with its objects closed, as servers that enforce schemas want them."""
    if isinstance(schema, list):
        return [_closing(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closing(value) for name, value in schema.items()}
    return closed if "properties" not in schema or schema.get("type") != "object" else {"additionalProperties": False, **closed}


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _importable(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True
