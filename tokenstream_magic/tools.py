"""Tools: Python functions a model may ask for, their schemas, and one call of one carried out.

A call is only ever carried out when the user said ``--run-tools``. Its arguments come from a model and are checked
against the tool's schema first; whatever goes wrong, an unknown name or an exception, becomes the result the model
reads. Functions run on a thread of their own, never on the one that streams.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import inspect
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from tokenstream_magic import schemas
from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.plain import plain, plain_text

MOST_CALLS = 32
MOST_RESULT = 16_000

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_DESCRIBED = 4_000


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool: its ``definition`` (``{name, description, parameters}``) and the function behind it, if there is one."""

    definition: dict[str, Any]
    function: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        """What the model calls it."""
        return str(self.definition["name"])


def named(word: str, namespace: Mapping[str, Any]) -> Tool:
    """The tool a cell names: a function or a definition in a variable. Raises BadRequest."""
    if word not in namespace:
        raise BadRequest(f"There is no function {word!r}.", "Define it in a cell above, with type hints and a docstring.")
    return tool(namespace[word])


def tool(given: Any) -> Tool:
    """The tool of a function (its signature and docstring) or of a definition in a dictionary. Raises BadRequest."""
    if isinstance(given, Tool):
        return given
    if isinstance(given, Mapping):
        return _of_definition(given)
    if not callable(given) or isinstance(given, type):
        raise BadRequest(f"A {type(given).__name__} is no tool.", "A tool is a function, or a dictionary with name and parameters.")
    name = getattr(given, "__name__", "")
    if not _NAME.fullmatch(name):
        raise BadRequest(f"A tool needs a name, and {name or 'this function'!r} is none.", "Write it with def.")
    return Tool({"name": name, "description": _description(given, name), "parameters": _parameters(given, name)}, given)


def toolbox(given: Any) -> list[Tool]:
    """The tools of one or several. Raises BadRequest when two have one name."""
    several = isinstance(given, Sequence) and not isinstance(given, str)
    tools = [tool(one) for one in (given if several else [given])]
    names = [one.name for one in tools]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"Two tools are called {name}.", "Give one of them another name.")
    return tools


def carried_out(tools: Sequence[Tool], calls: Sequence[Mapping[str, Any]]) -> Future[list[str]]:
    """The results of ``calls`` (``{id, name, arguments}`` each), in their order, worked out on a thread of their own.

    Cancelling the future begins no further call and drops the results; a function that runs cannot be interrupted.
    """
    outcome: Future[list[str]] = Future()

    def work() -> None:
        results: list[str] = []
        for position, call in enumerate(calls):
            if outcome.cancelled():
                return
            results.append(result(tools, call) if position < MOST_CALLS else f"Not run: more than {MOST_CALLS} calls in one answer.")
        if outcome.set_running_or_notify_cancel():
            outcome.set_result(results)

    threading.Thread(target=work, name="tokenstream-tools", daemon=True).start()
    return outcome


def result(tools: Sequence[Tool], call: Mapping[str, Any]) -> str:
    """What a call gives, as text for the model. Never raises."""
    name = str(call.get("name"))
    asked = next((one for one in tools if one.name == name), None)
    if asked is None:
        return _cut(f"Error: there is no tool {name!r}. Known: {', '.join(one.name for one in tools)}.")
    if asked.function is None:
        return f"Error: {name} is described but cannot be run here."
    try:
        arguments = json.loads(str(call.get("arguments") or "{}"))
    except (ValueError, RecursionError) as error:
        return _cut(f"Error: the arguments are no JSON: {one_line(error)}.")
    if not isinstance(arguments, dict):
        return "Error: the arguments are no JSON object."
    wrong = schemas.violation(arguments, asked.definition["parameters"], "the arguments")
    if wrong is not None:
        return _cut(f"Error: {wrong}.")
    try:
        return _cut(_text(_called(asked.function, arguments)))
    except BaseException as error:  # whatever a user's function raises, SystemExit included, is its result
        return _cut(f"Error: {type(error).__name__}: {_safe(error)}")


def _called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    hints = schemas.hints_of(function)
    signature = inspect.signature(function)
    taken = {name: _converted(value, hints.get(name)) for name, value in arguments.items()}
    bound = signature.bind_partial()
    for name, value in taken.items():
        if name not in signature.parameters:
            raise TypeError(f"there is no argument {name!r}")
        bound.arguments[name] = value
    missing = [p.name for p in signature.parameters.values() if p.default is p.empty and p.name not in taken]
    if missing:
        raise TypeError(f"missing: {', '.join(missing)}")
    # in the order of the signature, whatever the model's: what is positional only goes by its place
    places = [name for name, p in signature.parameters.items() if p.kind is p.POSITIONAL_ONLY and name in taken]
    value = function(*(taken[name] for name in places), **{name: one for name, one in taken.items() if name not in places})
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Any) -> Any:
    return await value


def _converted(value: Any, hint: Any) -> Any:
    """An argument as its function wants it: a dataclass or an enum instead of what JSON has for it."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict):
        inner = schemas.hints_of(hint)
        return hint(**{name: _converted(one, inner.get(name)) for name, one in value.items()})
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    if isinstance(hint, type) and callable(getattr(hint, "model_validate", None)):
        return hint.model_validate(value)  # type: ignore[attr-defined]
    return value


def _parameters(function: Callable[..., Any], name: str) -> dict[str, Any]:
    hints = schemas.hints_of(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise BadRequest(f"{name} has no signature that can be read.", "Write a function of your own around it.") from None
    properties: dict[str, Any] = {}
    required = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise BadRequest(f"{name} takes any number of arguments.", "A tool names each of its arguments.")
        try:
            about = schemas.of_type(hints.get(parameter.name, parameter.annotation))
        except BadRequest as error:
            raise BadRequest(f"{name}, argument {parameter.name}: {error.message}", error.hint) from None
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        elif isinstance(parameter.default, (str, int, float, bool)):
            about["default"] = plain(parameter.default)
        properties[parameter.name] = about
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _of_definition(given: Mapping[str, Any]) -> Tool:
    inner = given.get("function") if given.get("type") == "function" and isinstance(given.get("function"), Mapping) else given
    assert isinstance(inner, Mapping)
    name, parameters = inner.get("name"), inner.get("parameters", inner.get("input_schema", {"type": "object", "properties": {}}))
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(parameters, Mapping):
        raise BadRequest(
            "The definition of a tool needs a name and parameters.",
            'Example: {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}.',
        )
    return Tool(
        {"name": name, "description": str(inner.get("description") or name)[:_DESCRIBED], "parameters": schemas.of(dict(parameters))}
    )


def _description(function: Callable[..., Any], name: str) -> str:
    return plain_text(inspect.getdoc(function) or name)[:_DESCRIBED]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_text_of_object)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _text_of_object(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)


def _safe(error: BaseException) -> str:
    try:
        return one_line(error)
    except Exception:  # a class of the user's own may fail to say what it is
        return "(an error that cannot be written)"


def _cut(text: str) -> str:
    text = plain_text(text)
    return text if len(text) <= MOST_RESULT else f"{text[:MOST_RESULT]}\n[cut: {len(text)} characters in all]"
