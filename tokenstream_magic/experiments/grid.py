"""The cells of a sweep: every model, every value of the grid, every prompt. Pure, but for asking which flags there are."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from typing import Any

from tokenstream_magic import asking, prompt as prompts
from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.plain import plain
from tokenstream_magic.prompt import Prompt
from tokenstream_magic.rounds import Prepared

MOST_RUNS = 1_000_000

_NAMED = re.compile(r"\{([^\W\d]\w*)[^{}\n]*\}")
_NOT_IN_A_GRID = ("no_log", "tag", "note", "wire", "param", "option", "default_model", "continue_", "cid", "run_tools")
_FLAGS = {name for name, p in inspect.signature(asking.ask).parameters.items() if p.kind is p.KEYWORD_ONLY} - {*_NOT_IN_A_GRID}


@dataclass(frozen=True)
class Cell:
    """One place of the grid. ``factors`` are the columns it has in a frame; ``key`` is the same wherever its content is the same."""

    number: int
    key: str
    model: str | None
    factors: Mapping[str, Any]
    prompt: Prompt
    flags: Mapping[str, Any]
    prompt_index: int = 0
    prepared: Prepared | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Item:
    """One run of a cell: the ``repeat``-th, or a warm-up. ``position`` is its place in the order they were meant to start in."""

    cell: Cell
    repeat: int
    position: int = -1
    warmup: bool = False


@dataclass(frozen=True)
class Asked:
    """What every cell has in common. ``namespace`` holds a notebook's variables, None leaves other braces as typed."""

    text: str
    system: str | None = None
    around: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    namespace: Mapping[str, Any] | None = None

    @property
    def names(self) -> set[str]:
        """The variables it names."""
        return {name for text in (self.text, self.system, self.around) if text for name in _NAMED.findall(text)}

    def prompt(self, variables: Mapping[str, Any]) -> Prompt:
        """The prompt of one cell."""
        known = {**(self.namespace or {}), **variables}
        filled = known if known or self.namespace is not None else None
        return prompts.build(self.text, filled, self.system, around=self.around, params=self.params or None)


def cells(
    asked: Asked,
    models: Sequence[str | None],
    grid: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    flags: Mapping[str, Any],
) -> list[Cell]:
    """All cells, in the order of the grid. Raises BadRequest for a name that is neither a variable, a flag nor a field."""
    names = asked.names
    levels = {name: _levels(name, values) for name, values in grid.items()}
    for name in levels:
        _check(name, names, rows, flags)
    count = len(models) * len(rows)
    for level in levels.values():
        count *= len(level)
    if count > MOST_RUNS:
        raise BadRequest(f"That are {count} cells.", f"At most {MOST_RUNS} make sense in one sweep.")
    made: list[Cell] = []
    seen: dict[str, int] = {}
    for model, *chosen in product(models, *levels.values()):
        values = dict(zip(levels, chosen, strict=True))
        for index, row in enumerate(rows):
            variables = {**row, **{name: value for name, value in values.items() if name in names}}
            fields = {name: value for name, value in values.items() if name not in names}
            mine = _with(flags, fields)
            system = mine.pop("system", None)
            prompt = (asked if system is None else _with_system(asked, system)).prompt(variables)
            content = _content(model, prompt, mine, {**row, **values})
            again = seen.setdefault(content, 0)
            seen[content] += 1
            key = hashlib.sha256(f"{content}{again or ''}".encode()).hexdigest()[:16]
            factors = {**({"model": model} if len(models) > 1 else {}), **values, **row}
            made.append(Cell(len(made), key, model, {k: shown(v) for k, v in factors.items()}, prompt, mine, index))
    return made


def order(cells: Sequence[Cell], repeat: int, seed: int) -> list[Item]:
    """Every cell once in each repeat, in an order of its own: a server that drifts hits all cells alike."""
    chance = random.Random(seed)  # noqa: S311 - an order, not a secret
    items: list[Item] = []
    for number in range(repeat):
        block = list(cells)
        chance.shuffle(block)
        items += [Item(cell, number, len(items) + place) for place, cell in enumerate(block)]
    return items


def rows_of(given: Any) -> list[dict[str, Any]]:
    """The rows of a DataFrame, of a list of dictionaries, or of a list of texts, which are each the variable ``prompt``."""
    if given is None:
        return [{}]
    found = given.to_dict("records") if hasattr(given, "to_dict") and hasattr(given, "columns") else given
    if isinstance(found, (str, Mapping)) or not isinstance(found, Iterable):
        raise BadRequest("prompts is a DataFrame or a list.", 'Example: prompts=[{"city": "Oslo"}, {"city": "Lima"}].')
    rows: list[dict[str, Any]] = []
    for row in found:
        if isinstance(row, str):
            rows.append({"prompt": row})
        elif isinstance(row, Mapping) and all(isinstance(name, str) for name in row):
            rows.append({name: _scalar(value) for name, value in row.items()})
        else:
            raise BadRequest(f"{one_line(row)[:60]!r} is no row of variables.", 'A row is a text, or a dictionary like {"city": "Oslo"}.')
    if not rows:
        raise BadRequest("There are no prompts.", "Give at least one row.")
    return rows


def shown(value: Any) -> Any:
    """A value as it stands in a frame: plain, and hashable."""
    value = _scalar(value)
    return json.dumps(plain(value), ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else value


def _levels(name: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        values = [values]
    levels = [_scalar(value) for value in values]
    if not levels:
        raise BadRequest(f"The grid has no values for {name}.", f"Example: grid={{{name!r}: [1, 2]}}.")
    return levels


def _check(name: str, names: set[str], rows: Sequence[Mapping[str, Any]], flags: Mapping[str, Any]) -> None:
    if flags.get(name) not in (None, False, [], ()) or name in (flags.get("option") or {}) or name in rows[0]:
        raise BadRequest(f"{name} is given twice, in the grid and beside it.", "Leave one of them out.")
    if name in names or name in _FLAGS:
        return
    if name in _NOT_IN_A_GRID or not name.isidentifier():
        raise BadRequest(f"{name!r} cannot be varied.", "A grid varies the model, fields of the request and variables of the prompt.")
    meant = get_close_matches(name, names - rows[0].keys(), n=1)
    if meant:
        raise BadRequest(
            f"The prompt has no {{{name}}}.", f"Did you mean {meant[0]}? A field of the request is called as the server calls it."
        )


def _with(flags: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of a cell: what is no flag of ours is a field of the request."""
    ours = {name: value for name, value in fields.items() if name in _FLAGS}
    option = {**(flags.get("option") or {}), **{name: value for name, value in fields.items() if name not in _FLAGS}}
    return {**flags, **ours, **({"option": option} if option else {})}


def _with_system(asked: Asked, system: str) -> Asked:
    return Asked(asked.text, system, asked.around, asked.params, asked.namespace)


def _content(model: str | None, prompt: Prompt, flags: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """What makes a cell this one and no other, as text: all that is sent, and its place in the grid."""
    sent = {name: value for name, value in flags.items() if name not in ("no_log", "tag", "note", "wire")}
    return json.dumps(plain([model, prompt.messages, sent, values]), sort_keys=True, ensure_ascii=False)


def _scalar(value: Any) -> Any:
    """A number of numpy's as Python's."""
    return value.item() if hasattr(value, "item") and hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0 else value
