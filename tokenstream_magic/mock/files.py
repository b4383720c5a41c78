"""Scripts from a TOML file: a table ``[scripts.NAME]`` each, with the fields of :class:`~tokenstream_magic.mock.script.Script`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from tokenstream_magic.errors import BadRequest
from tokenstream_magic.mock.script import ALTERNATIVES, Citation, Script, Tool, cut, words

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

LARGEST = 16 * 1024 * 1024

_EXAMPLE = '[scripts.mine] and below it text = "Hello there."'


def load(path: str | Path) -> dict[str, Script]:
    """The scripts of a file by name. Raises BadRequest, in one line, for a file that cannot be read or says nonsense."""
    path = Path(path).expanduser()
    try:
        if path.stat().st_size > LARGEST:
            raise BadRequest(f"{path} is over {LARGEST >> 20} MiB: that is no file of scripts.")
        loaded = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{path} is no TOML: {error}.") from None
    for table in loaded:
        if table != "scripts":
            raise BadRequest(f"{path}: there is no table [{table}].", f"A file of scripts has {_EXAMPLE}.")
    tables = loaded.get("scripts")
    if not isinstance(tables, dict) or not tables:
        raise BadRequest(f"{path} has no scripts.", f"Example: {_EXAMPLE}.")
    return {name: _script(f"{path}: [scripts.{name}]", table) for name, table in tables.items()}


def _script(where: str, table: Any) -> Script:
    if not isinstance(table, dict):
        raise BadRequest(f"{where} is no table.", f"Example: {_EXAMPLE}.")
    if "text" in table and "pieces" in table:
        raise BadRequest(f"{where} has text and pieces.", "text is cut into pieces, a word each: leave one of them out.")
    values = {key: _value(where, key, value, FIELDS) for key, value in table.items()}
    try:
        return Script(**values)
    except BadRequest as error:
        raise BadRequest(f"{where}: {error.message}", error.hint) from None


def _value(where: str, key: str, value: Any, known: dict[str, tuple[Callable[[Any], Any], str]]) -> Any:
    if key not in known:
        raise BadRequest(f"{where} has an unknown key {key!r}.", f"Known: {', '.join(sorted(known))}.")
    convert, what = known[key]
    try:
        return convert(value)
    except _Wrong as error:
        raise BadRequest(f"{where}: in {key}, {error}.") from None
    except (TypeError, ValueError):
        raise BadRequest(f"{where}: {key} is {what}.") from None


class _Wrong(Exception):
    """What is wrong inside a value."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _flag_or_whole(value: Any) -> bool | int:
    return value if isinstance(value, bool) else _whole(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _pieces(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return words(value) if value else ()
    return tuple(_text(piece) for piece in _list(value))


def _arguments(value: Any) -> tuple[str, ...]:
    """JSON text, its pieces, or a table that is written as JSON."""
    if isinstance(value, dict):
        try:
            return cut(json.dumps(value, ensure_ascii=False))
        except RecursionError:
            raise ValueError from None
    return cut(value) if isinstance(value, str) else tuple(_text(piece) for piece in _list(value))


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError
    headers = {_text(name): _text(text) for name, text in value.items()}
    if any(not (name + text).isprintable() or not (name + text).isascii() or ":" in name for name, text in headers.items()):
        raise ValueError
    return headers


def _content_type(value: Any) -> str:
    return _headers({"Content-Type": value})["Content-Type"]


def _objects(kind: type, known: dict[str, tuple[Callable[[Any], Any], str]]) -> Callable[[Any], Any]:
    """Makes what reads a list of tables into objects of ``kind``."""

    def convert(value: Any) -> Any:
        made = []
        for table in _list(value):
            if not isinstance(table, dict):
                raise TypeError
            values = {}
            for key, inner in table.items():
                if key not in known:
                    raise _Wrong(f"{key!r} is unknown; known: {', '.join(sorted(known))}")
                try:
                    values[key] = known[key][0](inner)
                except (TypeError, ValueError):
                    raise _Wrong(f"{key} is {known[key][1]}") from None
            missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in values]
            if missing:
                raise _Wrong(f"{missing[0]} is missing")
            made.append(kind(**values))
        return tuple(made)

    return convert


_TEXT = (_text, "text")
_SECONDS = (_number, "a number of seconds")
_COUNT = (_whole, "a whole number")
_FLAG = (_flag, "true or false")
_PIECES = (_pieces, "text, or a list of texts")

FIELDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "text": _TEXT,
    "pieces": _PIECES,
    "reasoning": _PIECES,
    "choices": (lambda value: tuple(_pieces(text) for text in _list(value)), "a list with a text, or a list of texts, a choice"),
    "annotations": (
        _objects(Citation, {"url": _TEXT, "title": _TEXT, "start": _COUNT, "end": _COUNT}),
        "a list of tables: [[scripts.NAME.annotations]]",
    ),
    "refusal": _PIECES,
    "tools": (
        _objects(Tool, {"name": _TEXT, "id": _TEXT, "arguments": (_arguments, "a table, JSON text, or a list of its pieces")}),
        "a list of tables: [[scripts.NAME.tools]]",
    ),
    "logprobs": (lambda value: tuple(map(_number, _list(value))), "a list of numbers"),
    "top_logprobs": _COUNT,
    "finish": _TEXT,
    "usage": _FLAG,
    "input_tokens": _COUNT,
    "output_tokens": _COUNT,
    "cached_tokens": _COUNT,
    "delay": _SECONDS,
    "first": _SECONDS,
    "gap": _SECONDS,
    "together": _COUNT,
    "split": _COUNT,
    "drip": _SECONDS,
    "buffered": (_flag_or_whole, "true, false, or a whole number of bytes"),
    "keep_alive": _SECONDS,
    "giant": _COUNT,
    "gzip": _FLAG,
    "unstreamed": _FLAG,
    "duplicate": _TEXT,
    "status": _COUNT,
    "error": _TEXT,
    "error_type": _TEXT,
    "headers": (_headers, "a table of texts that can stand in a header"),
    "content_type": (_content_type, "text that can stand in a header"),
    "fails_first": _COUNT,
    "error_after": _COUNT,
    "stall_after": _COUNT,
    "cut_at": _COUNT,
    "cut_by": (_text, f"one of {', '.join(ALTERNATIVES['cut_by'])}"),
    "ending": (_text, f"one of {', '.join(ALTERNATIVES['ending'])}"),
    "body": (lambda value: _text(value).encode(), "text"),
}
"""By key: what makes a value of it, and what it is in words."""
