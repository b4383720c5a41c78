"""What the figures of many runs say: percentiles with bootstrap intervals, and paired differences.

Figures are those of complete runs only; failures and stops are counted beside them, never averaged in. Intervals come
from a seeded percentile bootstrap (Efron and Tibshirani, *An Introduction to the Bootstrap*, chapter 13). Runs of one
prompt are alike, so with many prompts whole prompts are resampled. What cannot be known from the runs is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenstream_magic.errors import BadRequest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FIGURES = (
    "ttfb_ms ttft_ms ttfa_ms e2e_ms tpot_ms icl_p50_ms icl_p95_ms icl_max_ms output_tokens_per_second decode_tokens_per_second"
    " chunks chunks_per_second stalls stall_ratio stop_latency_ms input_tokens output_tokens"
).split()
PERCENTILES = (50, 95, 99)
CONFIDENCE = 0.95
RESAMPLES = 2000
MANY_PROMPTS = 8  # from here on prompts are resampled instead of runs: fewer say too little about each other

How = tuple[float, int, int]  # confidence, resamples, seed

_AT_ONCE = 4_000_000  # numbers in memory at a time


def summarise(
    frame: pd.DataFrame,
    by: Sequence[str],
    figures: Sequence[str] | None = None,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a group and figure: ``runs``, ``errors`` (failed or truncated), ``stopped``, ``n`` (values), p50, p95 and p99.

    Each percentile has the ends of its interval beside it (``p50_low``, ``p50_high``). ``stop_latency_ms`` is that of the stopped
    runs. A percentile of few runs is hardly more than their largest: its interval says so.
    """
    np, pd = _loaded()
    columns = list(figures if figures is not None else [name for name in FIGURES if name in frame])
    _check(frame, [*by, *columns])
    names = [f"p{p}{end}" for p in PERCENTILES for end in ("", "_low", "_high")]
    rows, keys = [], []
    for key, group in _groups(frame, by):
        outcomes = group["outcome"].astype(str)
        counts = {
            "runs": len(group),
            "errors": int(outcomes.isin(("failed", "truncated")).sum()),
            "stopped": int((outcomes == "stopped").sum()),
        }
        for name in columns:
            part = group[outcomes == ("stopped" if name == "stop_latency_ms" else "complete")]
            values = _numbers(np, part[name])
            known = ~np.isnan(values)
            estimates = _percentiles(np, values[known], _clusters(np, part)[known], (confidence, resamples, seed))
            rows.append({**counts, "n": int(known.sum()), **dict(zip(names, estimates, strict=True))})
            keys.append((*key, name))
    index = pd.MultiIndex.from_tuples(keys, names=[*by, "figure"]) if keys else pd.MultiIndex.from_arrays([[]] * (len(by) + 1))
    return pd.DataFrame(rows, index=index, columns=["runs", "errors", "stopped", "n", *names])  # type: ignore[no-any-return]


def paired(
    frame: pd.DataFrame,
    by: str,
    shared: Sequence[str],
    figures: Sequence[str] | None = None,
    *,
    baseline: Any = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Each value of ``by`` against the ``baseline`` (the first one), on what both did: the same ``shared`` columns and repeat.

    One row a value and figure: ``pairs``, the two medians, ``difference`` (the median of the differences of the pairs) and
    ``difference_of_medians``, each with its interval. The pairs are resampled, whole prompts where there are several, so what
    both have in common (a hard prompt, a slow minute) falls out. An interval without 0 in it is a difference.
    """
    np, pd = _loaded()
    columns = list(figures if figures is not None else [name for name in FIGURES if name in frame and name != "stop_latency_ms"])
    match = [*shared, "prompt_index", "repeat"]
    _check(frame, [by, *match, *columns])
    values = list(dict.fromkeys(frame[by].astype(object)))
    base = values[0] if baseline is None and values else baseline
    if base not in values or len(values) < 2:
        raise BadRequest(f"There is nothing to compare {by} {base!r} with.", f"Its values: {', '.join(map(repr, values))}.")
    complete = frame[frame["outcome"].astype(str) == "complete"]
    sides = {value: complete[complete[by].astype(object) == value].drop_duplicates(match) for value in values}
    rows, keys = [], []
    for value in values:
        if value == base:
            continue
        both = sides[base][[*match, *columns]].merge(sides[value][[*match, *columns]], on=match, suffixes=("_a", "_b"))
        clusters = _clusters(np, both, least=2)
        for name in columns:
            a, b = _numbers(np, both[f"{name}_a"]), _numbers(np, both[f"{name}_b"])
            known = ~(np.isnan(a) | np.isnan(b))
            rows.append(_differences(np, (a[known], b[known]), clusters[known], (confidence, resamples, seed)))
            keys.append((value, name))
    index = pd.MultiIndex.from_tuples(keys, names=[f"{by} against {base}", "figure"])
    return pd.DataFrame(rows, index=index)  # type: ignore[no-any-return]


def _groups(frame: pd.DataFrame, by: Sequence[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    if not by:
        return [((), frame)] if len(frame) else []
    plain = frame.assign(**{name: frame[name].astype(object) for name in by})
    return [(key if isinstance(key, tuple) else (key,), group) for key, group in plain.groupby(list(by), sort=False, dropna=False)]


def _clusters(np: Any, frame: pd.DataFrame, least: int = MANY_PROMPTS) -> np.ndarray[Any, Any]:
    """What is resampled together: the runs of one prompt where there are many prompts, else each run by itself."""
    if "prompt_index" in frame and frame["prompt_index"].nunique() >= least:
        return np.asarray(frame["prompt_index"].astype("category").cat.codes)  # type: ignore[no-any-return]
    return np.arange(len(frame))  # type: ignore[no-any-return]


def _weights(np: Any, clusters: np.ndarray[Any, Any], resamples: int, generator: Any) -> np.ndarray[Any, Any]:
    """How often each value is drawn: a row a resample."""
    _, place = np.unique(clusters, return_inverse=True)
    count = int(place.max()) + 1
    drawn = generator.multinomial(count, [1 / count] * count, size=resamples)
    return drawn[:, place]  # type: ignore[no-any-return]


def _of_weighted(np: Any, ordered: Any, weights: Any, percent: float) -> Any:
    """The percentile of each resample, as numpy's of the values written out (linear between neighbours)."""
    reached = weights.cumsum(axis=1)
    position = (reached[:, -1] - 1) * (percent / 100)
    low = np.floor(position)
    high = np.ceil(position)
    below = ordered[(reached > low[:, None]).argmax(axis=1)]
    above = ordered[(reached > high[:, None]).argmax(axis=1)]
    return below + (above - below) * (position - low)


def _resampled(np: Any, several: Sequence[Any], clusters: Any, percents: Sequence[float], how: How) -> Any:
    """Percentiles of the resamples, an array [which of ``several``, which percentile, which resample]; the same draws for all."""
    _, resamples, seed = how
    generator = np.random.default_rng(seed)
    step = max(1, min(resamples, _AT_ONCE // max(1, len(clusters))))
    parts = []
    for start in range(0, resamples, step):
        weights = _weights(np, clusters, min(step, resamples - start), generator)
        one = []
        for values in several:
            order = np.argsort(values, kind="stable")
            one.append([_of_weighted(np, values[order], weights[:, order], percent) for percent in percents])
        parts.append(one)
    return np.concatenate(parts, axis=2)


def _interval(np: Any, draws: Any, confidence: float) -> tuple[float, float]:
    rest = (1 - confidence) * 50
    low, high = np.percentile(draws, [rest, 100 - rest])
    return float(low), float(high)


def _percentiles(np: Any, values: Any, clusters: Any, how: How) -> list[float]:
    missing = float("nan")
    if not len(values):
        return [missing] * (3 * len(PERCENTILES))
    found = [float(value) for value in np.percentile(values, PERCENTILES)]
    if len(np.unique(clusters)) < 2:
        return [part for value in found for part in (value, missing, missing)]
    draws = _resampled(np, [values], clusters, PERCENTILES, how)[0]
    return [part for value, drawn in zip(found, draws, strict=True) for part in (value, *_interval(np, drawn, how[0]))]


def _differences(np: Any, sides: tuple[Any, Any], clusters: Any, how: How) -> dict[str, float]:
    a, b = sides
    names: tuple[str, ...] = ("median_a", "median_b", "difference", "difference_low", "difference_high")
    names += ("difference_of_medians", "difference_of_medians_low", "difference_of_medians_high")
    row: dict[str, float] = {"pairs": len(a), **dict.fromkeys(names, float("nan"))}
    if not len(a):
        return row
    row["median_a"], row["median_b"] = float(np.median(a)), float(np.median(b))
    row["difference"] = float(np.median(b - a))
    row["difference_of_medians"] = row["median_b"] - row["median_a"]
    if len(np.unique(clusters)) >= 2:
        of_a, of_b, of_both = _resampled(np, [a, b, b - a], clusters, [50], how)[:, 0]
        row["difference_low"], row["difference_high"] = _interval(np, of_both, how[0])
        row["difference_of_medians_low"], row["difference_of_medians_high"] = _interval(np, of_b - of_a, how[0])
    return row


def _numbers(np: Any, column: pd.Series[Any]) -> np.ndarray[Any, Any]:
    return column.astype("Float64").to_numpy(dtype=float, na_value=np.nan)


def _check(frame: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in frame:
            raise BadRequest(f"There is no column {name!r}.", f"There are: {', '.join(map(str, frame.columns))}.")


def _loaded() -> tuple[Any, Any]:
    try:
        import numpy as np
        import pandas as pd
    except ImportError:
        raise BadRequest("A summary needs pandas.", 'Install it: pip install "tokenstream-magic[experiments]".') from None
    return np, pd
