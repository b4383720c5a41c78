"""Cell text to Prompt: roles, and variables of the user's namespace.

Only ``{name}``, ``{name.attr}`` and ``{name[key]}``, with optional ``!r`` and ``:spec``, and only when ``name`` is
in the namespace; every other brace stays as typed, so JSON and code need no escaping. Values are never expanded
again and can open no role: the template is split before it is filled.

A template of the user's (``-t NAME``) stands around the cell's text: ``{input}`` in it is that text, and without one the
text comes behind it. Parameters (``-p NAME VALUE``) are variables that stand before those of the namespace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from tokenstream_magic.errors import BadRequest

_FIELD = re.compile(
    r"\{(?P<name>[^\W\d]\w*)(?P<path>(?:\.[^\W\d_]\w*|\[[^\[\]{}\n]+\])*)(?:!(?P<conversion>[rsa]))?(?::(?P<spec>[^{}\n]*))?\}"
)
_CONVERSIONS: dict[str, Callable[[Any], str]] = {"r": repr, "a": ascii, "s": str}
_STEP = re.compile(r"\.(\w+)|\[([^\]]+)\]")
_ROLE = re.compile(r"^--- (system|user|assistant)[ \t]*$", re.MULTILINE)


@dataclass(slots=True)
class Prompt:
    """What is asked: ``messages`` (``{"role", "content"}``), and the ``template`` and ``variables`` they came from."""

    messages: list[dict[str, Any]]
    template: str
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def system(self) -> str | None:
        """The system messages, or None."""
        parts = [words(m["content"]) for m in self.messages if m["role"] == "system"]
        return "\n\n".join(parts) if parts else None

    @property
    def text(self) -> str:
        """The last user message: what a list of transcripts shows."""
        return next((words(m["content"]) for m in reversed(self.messages) if m["role"] == "user"), "")


def words(content: Any) -> str:
    """The words of a message's content, which is text or a list of parts."""
    if not isinstance(content, (list, tuple)):
        return str(content)
    texts = [part["text"] for part in content if isinstance(part, Mapping) and part.get("type") == "text" and "text" in part]
    return "\n\n".join(map(str, texts))


def build(
    template: str,
    namespace: Mapping[str, Any] | None = None,
    system: str | None = None,
    *,
    around: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> Prompt:
    """The Prompt of a cell's text, of a template ``around`` it and of ``params``; raises BadRequest when nothing is asked.

    Where ``namespace`` is None, the text is expanded from ``params`` alone, and not at all without them.
    """
    variables: dict[str, str] = {}
    params = _checked(params or {})
    names: Mapping[str, Any] | None = {**(namespace or {}), **params} if namespace is not None or params else None
    if around is not None:
        template, names = _framed(around, template, names, variables)

    def fill(text: str) -> str:
        return text if names is None else expand(text, names, variables)

    messages: list[dict[str, Any]] = []
    if system:
        messages.append({"role": "system", "content": fill(system)})
    for role, text in _split_roles(template):
        content = fill(text.strip("\n"))
        if content.strip():
            messages.append({"role": role, "content": content})
    if not any(message["role"] != "system" for message in messages):
        if messages:
            raise BadRequest("There is only a system message.", "Add a line that is exactly: --- user, and what you ask below it.")
        raise BadRequest("The prompt is empty.", "Write it below the %%stream line, for example: Name three rivers.")
    return Prompt(messages, template, variables)


def expand(template: str, namespace: Mapping[str, Any], variables: dict[str, str] | None = None) -> str:
    """``template`` with its variables filled in; what was filled is noted in ``variables``.

    Raises BadRequest when a variable exists but the attribute or key asked of it does not.
    """

    def value(match: re.Match[str]) -> str:
        name, typed = match["name"], match[0]
        if name not in namespace or isinstance(namespace[name], ModuleType):
            return typed
        found = _follow(namespace[name], match["path"], typed)
        try:
            convert = _CONVERSIONS.get(match["conversion"] or "")
            text = format(convert(found) if convert else found, match["spec"] or "")
        except Exception as error:  # a format of the user's own class may raise anything
            raise BadRequest(f"{typed} cannot be written as text: {error}.", "Use --raw to send the braces as typed.") from None
        if variables is not None:
            variables[typed[1:-1]] = text
        return text

    return _FIELD.sub(value, template)


def _checked(params: Mapping[str, Any]) -> dict[str, str]:
    for name in params:
        if not isinstance(name, str) or not name.isidentifier() or name == "input":
            raise BadRequest(
                f"{name!r} cannot be a parameter.", "A parameter is named like a variable, and input is the text itself: -p city Oslo."
            )
    return {name: str(value) for name, value in params.items()}


def _framed(around: str, text: str, names: Mapping[str, Any] | None, variables: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """A template with the cell's text in it: what is to be filled, and from what."""
    known = dict(names or {})
    if any(field["name"] == "input" for field in _FIELD.finditer(around)):
        if not text.strip():
            raise BadRequest("The template wants a text for its {input}.", "Write it below the %%stream line.")
        known["input"] = text.strip("\n") if names is None else expand(text.strip("\n"), names, variables)
        return around, known
    known.pop("input", None)
    if not text.strip():
        return around, known
    roles = _ROLE.findall(around)
    between = "\n\n--- user\n" if roles and roles[-1] != "user" and not _ROLE.match(text.lstrip("\n")) else "\n\n"
    if names is not None:
        return f"{around.rstrip()}{between}{text}", known
    return f"{around.rstrip()}{between}{{input}}", {"input": text.strip("\n")}


def _split_roles(template: str) -> list[tuple[str, str]]:
    parts = _ROLE.split(template)
    return [("user", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]


def _follow(value: Any, path: str, typed: str) -> Any:
    for attribute, key in _STEP.findall(path):
        try:
            value = getattr(value, attribute) if attribute else _item(value, key)
        except Exception as error:  # a property or __getitem__ of the user's own class may raise anything
            reason = f"{type(error).__name__}: {error}"
            raise BadRequest(
                f"There is no {typed} to fill in ({reason}).", "Define it first, or use --raw to send the braces as typed."
            ) from None
    return value


def _item(value: Any, key: str) -> Any:
    if key[:1] in "'\"" and key[-1:] == key[:1] and len(key) >= 2:
        return value[key[1:-1]]
    if re.fullmatch(r"-?\d+", key):
        return value[int(key)]
    return value[key]
