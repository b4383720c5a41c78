"""Figures over many transcripts: how many, how they ended, and the quantiles of TTFT and rate, by group.

By model alone the database answers from its indexes; by anything else the few columns that matter are read. Quantiles
are linear between neighbours, as everywhere here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.timing.metrics import percentile
from tokenstream_magic.transcripts.schema import transcripts

if TYPE_CHECKING:
    from tokenstream_magic.transcripts.store import Store

GROUPS = ("model", "endpoint", "protocol", "outcome", "notebook", "finish_reason", "resolved_model", "stop_cause", "package_version")
PERCENTS = (50, 95)


@dataclass
class Group:
    """One group: ``by`` are the values it is a group of; quantiles are (p50, p95), None where nothing is known."""

    by: tuple[Any, ...]
    runs: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    ttft_ms: tuple[float, float] | None = None
    tokens_per_second: tuple[float, float] | None = None


def groups(store: Store, by: Sequence[str] = ("model",)) -> list[Group]:
    """The figures by columns (``model``, ``endpoint`` …) and request options (``temperature`` …), the largest group first."""
    names = [name.strip().replace("-", "_") for name in by if name.strip()]
    for name in names:
        if not name.isidentifier():
            raise BadRequest(f"{one_line(name)!r} is nothing to group by.", f"Columns: {', '.join(GROUPS)}; or a request option.")
    found = _by_model(store) if names == ["model"] else _by_any(store, names)
    return sorted(found, key=lambda group: -group.runs)


def _by_model(store: Store) -> list[Group]:
    of = transcripts.c
    made: dict[str, Group] = {}
    counted = sa.select(of.model, of.outcome, sa.func.count().label("n")).group_by(of.model, of.outcome)
    for row in store.query(counted):
        group = made.setdefault(row["model"], Group((row["model"],)))
        group.outcomes[row["outcome"]] = row["n"]
        group.runs += row["n"]
    for model, group in made.items():
        group.ttft_ms = _walk(store, of.ttft_ms, model)
        group.tokens_per_second = _walk(store, of.decode_tokens_per_second, model)
    return list(made.values())


def _walk(store: Store, column: Any, model: str) -> tuple[float, float] | None:
    """The quantiles of a column for a model, from the index that is sorted by it, from whichever end is nearer."""
    known = (transcripts.c.model == model) & column.isnot(None)
    n = int(store.query(sa.select(sa.func.count().label("n")).select_from(transcripts).where(known))[0]["n"])
    if n == 0:
        return None
    quantiles = []
    for percent in PERCENTS:
        low = int((n - 1) * percent / 100)
        part = (n - 1) * percent / 100 - low
        from_end = low > n // 2
        start = max(0, n - 2 - low) if from_end else low
        order = column.desc() if from_end else column.asc()
        rows = store.query(sa.select(column.label("v")).where(known).order_by(order).limit(2 if n > 1 else 1).offset(start))
        values = sorted(row["v"] for row in rows)
        if from_end and low == n - 1:
            values = values[-1:]
        quantiles.append(round(values[0] + (values[-1] - values[0]) * part, 3))
    return quantiles[0], quantiles[1]


def _by_any(store: Store, names: list[str]) -> list[Group]:
    of = transcripts.c
    options = [name for name in names if name not in GROUPS]
    chosen = [of[name] for name in names if name in GROUPS]
    query = sa.select(of.outcome.label("how"), of.ttft_ms, of.decode_tokens_per_second, *chosen, *([of.options] if options else []))
    runs: dict[tuple[Any, ...], list[Any]] = {}
    for row in store.query(query):
        key = tuple(row[name] if name in GROUPS else _plain((row["options"] or {}).get(name)) for name in names)
        runs.setdefault(key, []).append(row)
    return [
        Group(
            key,
            len(rows),
            dict(Counter(row["how"] for row in rows)),
            _quantiles([row["ttft_ms"] for row in rows]),
            _quantiles([row["decode_tokens_per_second"] for row in rows]),
        )
        for key, rows in runs.items()
    ]


def _quantiles(values: list[float | None]) -> tuple[float, float] | None:
    known: list[Any] = sorted(value for value in values if value is not None)
    if not known:
        return None
    low, high = (round(percentile(known, percent), 3) for percent in PERCENTS)
    return low, high


def _plain(value: Any) -> Any:
    """A value to group by: lists and tables by their text."""
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)
