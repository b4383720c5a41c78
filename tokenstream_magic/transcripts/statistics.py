"""Figures over many transcripts: how many, how they ended, and the quantiles of TTFT and rate, by group.

By model alone the database answers from what it keeps beside the rows, which counts every value, so that the figures are exact;
by anything else the few columns that matter are read. Quantiles are linear between neighbours, as everywhere here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.timing.metrics import percentile
from tokenstream_magic.transcripts import behind, ranges
from tokenstream_magic.transcripts.schema import transcripts

if TYPE_CHECKING:
    from tokenstream_magic.transcripts.store import Store

GROUPS = ("model", "endpoint", "protocol", "outcome", "notebook", "finish_reason", "resolved_model", "stop_cause", "package_version")
OPTIONS = (  # fields of a request that are known by their names, whether or not a run has set them
    "temperature top_p top_k min_p typical_p max_tokens max_completion_tokens max_output_tokens num_predict num_ctx n seed stop"
    " frequency_penalty presence_penalty repeat_penalty repeat_last_n reasoning_effort reasoning effort thinking verbosity logprobs"
    " top_logprobs logit_bias response_format service_tier mirostat cache_prompt"
).split()
PERCENTS = (50, 95)
_MOST_NAMED = 12


@dataclass
class Group:
    """One group: ``by`` are the values it is a group of; quantiles are (p50, p95), None where nothing is known."""

    by: tuple[Any, ...]
    runs: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    ttft_ms: tuple[float, float] | None = None
    tokens_per_second: tuple[float, float] | None = None


def groups(store: Store, by: Sequence[str] = ("model",)) -> list[Group]:
    """The figures by columns (``model``, ``endpoint`` …) and request options (``temperature`` …), the largest group first.

    Raises BadRequest for a name that is neither: no column, no option we know, and none that a run was made with.
    """
    names = [name.strip().replace("-", "_") for name in by if name.strip()]
    for name in names:
        if not name.isidentifier():
            raise BadRequest(f"{one_line(name)!r} is nothing to group by.", f"Columns: {', '.join(GROUPS)}; or a request option.")
    found = _by_model(store) if names == ["model"] else _by_any(store, names)
    return sorted(found, key=lambda group: -group.runs)


def _by_model(store: Store) -> list[Group]:
    if not store.database.is_sqlite:
        return _by_indexes(store)

    def counted() -> list[Group]:
        for _ in range(2):
            if store.catch_up() or not behind.has_figures(store.database):
                break
            with store.database.reading() as connection:  # one moment of the database
                if behind.is_counted(connection):
                    return _by_counts(connection)
            if store.database.read_only is None:
                behind.count_again(store.database)
        return _by_any(store, ["model"])

    try:
        return store.database.asked(counted)
    except (TypeError, KeyError, IndexError, ValueError):  # what is beside the table is damaged: the table itself is asked
        return _by_any(store, ["model"])


def _by_counts(connection: sa.Connection) -> list[Group]:
    """From the counts of outcomes and of values in narrow ranges: only in the range of a rank is walked over values."""
    made: dict[str, Group] = {}
    parts: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for what, model, part, n in connection.exec_driver_sql("SELECT what, model, range, n FROM counted ORDER BY what, model, range"):
        if what == "outcome":
            group = made.setdefault(model, Group((model,)))
            group.outcomes[part], group.runs = n, group.runs + n
        else:
            parts.setdefault((what, model), []).append((part, n))
    running = "SELECT model, count(*) FROM transcripts WHERE outcome = 'running' GROUP BY model"  # which are counted when they settle
    for model, n in connection.exec_driver_sql(running):
        group = made.setdefault(model, Group((model,)))
        group.outcomes["running"], group.runs = n, group.runs + n
    for (what, model), counts in parts.items():
        values = Ranked(connection, what, model, counts)
        quantiles = values.quantile(PERCENTS[0]), values.quantile(PERCENTS[1])
        if what == "ttft_ms":
            made[model].ttft_ms = quantiles
        else:
            made[model].tokens_per_second = quantiles
    return list(made.values())


class Ranked:
    """The values of a column for a model by their rank, exactly."""

    def __init__(self, connection: sa.Connection, what: str, model: str, counts: list[tuple[int, int]]) -> None:
        self._connection, self._of = connection, (what, model)
        self._ranges = [number for number, _ in counts]
        self._upto = list(accumulate(n for _, n in counts))

    def quantile(self, percent: float) -> float:
        """Linear between neighbours."""
        at = (self._upto[-1] - 1) * percent / 100
        low = self.value(int(at))
        return round(low + (self.value(int(at) + 1) - low) * (at - int(at)) if at > int(at) else low, 3)

    def value(self, rank: int) -> float:
        """The value of a rank, from 0; it is walked to from the nearer end of its range."""
        place = bisect_right(self._upto, rank)
        skipped, after = rank - (self._upto[place - 1] if place else 0), self._upto[place] - 1 - rank
        values = "SELECT value FROM measured WHERE what = ? AND model = ?"
        if skipped <= after:
            query, bound, offset = f"{values} AND value >= ? ORDER BY value", ranges.lowest(self._ranges[place]), skipped
        else:
            offset = after
            if place + 1 < len(self._ranges):
                query, bound = f"{values} AND value < ? ORDER BY value DESC", ranges.lowest(self._ranges[place + 1])
            else:
                query, bound = f"{values} AND value >= ? ORDER BY value DESC", ranges.lowest(self._ranges[place])
        found: float = self._connection.exec_driver_sql(f"{query} LIMIT 1 OFFSET ?", (*self._of, bound, offset)).scalar_one()
        return found


def _by_indexes(store: Store) -> list[Group]:
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
    unknown = [name for name in options if name not in OPTIONS]
    used: set[str] = set()
    for row in store.query(query):
        key = tuple(row[name] if name in GROUPS else _plain((row["options"] or {}).get(name)) for name in names)
        runs.setdefault(key, []).append(row)
        if unknown:
            used.update(row["options"] or ())
    _check(unknown, used)
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


def _check(names: Iterable[str], used: set[str]) -> None:
    """Refuses a name that no run has ``used`` as an option: every run would be in one group, without a value."""
    for name in names:
        if name not in used:
            close = get_close_matches(name, [*GROUPS, *OPTIONS, *used], n=1)
            others = f"; options: {', '.join(one_line(option)[:40] for option in sorted(used)[:_MOST_NAMED])}" if used else ""
            meant = f"Did you mean {one_line(close[0])[:40]}? " if close else ""
            raise BadRequest(
                f"No run has {one_line(name)[:80]!r} to group by.", f"{meant}Columns: {', '.join(GROUPS)}{others}; or temperature, seed …"
            )


def _quantiles(values: list[float | None]) -> tuple[float, float] | None:
    known: list[Any] = sorted(value for value in values if value is not None)
    if not known:
        return None
    low, high = (round(percentile(known, percent), 3) for percent in PERCENTS)
    return low, high


def _plain(value: Any) -> Any:
    """A value to group by: lists and tables by their text."""
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)
