"""Pictures of the runs of a sweep: how figures spread, by what was varied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.experiments.picture import (
    UNITS,
    Theme,
    as_name,
    as_number,
    axis_of_amounts,
    headline,
    median_of,
    names_beside,
    panels,
    percentile_of,
    readable_on,
)

MOST_LEVELS = 8
FEW = 12  # up to so many runs a level every point can be told apart
FEWEST = 4  # fewer runs have no quarters


def distribution(
    result: Any,
    theme: Theme,
    by: str | None = None,
    figures: Sequence[str] = ("ttft_ms", "decode_tokens_per_second"),
    style: str | None = None,
) -> Figure:
    """Every run's figures by model (or another column): points with boxes for few runs, cumulative shares for many."""
    by, levels = _levels(result, by)
    most = max(len(runs) for _, runs in levels)
    return (_ecdf if style == "ecdf" or (style is None and most > FEW * 4) else _box)(theme, by, levels, figures)


def ecdf(result: Any, theme: Theme, by: str | None = None, figures: Sequence[str] = ("ttft_ms", "decode_tokens_per_second")) -> Figure:
    """The share of runs that were at most so slow (or fast)."""
    return distribution(result, theme, by, figures, "ecdf")


def box(result: Any, theme: Theme, by: str | None = None, figures: Sequence[str] = ("ttft_ms", "decode_tokens_per_second")) -> Figure:
    """Every run a point, over a box from the 25th to the 75th percentile with the median in it."""
    return distribution(result, theme, by, figures, "box")


def heatmap(result: Any, theme: Theme, x: str | None = None, y: str | None = None, figure: str = "ttft_ms") -> Figure:
    """The median of a figure over two columns of the grid, written into each field; a field without a complete run is empty."""
    frame = _complete(result)
    _known(frame, figure)
    varied = result.varied()
    chosen = [name for name in varied if name not in (x, y)]
    y = y or (chosen.pop(0) if chosen else None)
    x = x or (chosen.pop(0) if chosen else None)
    if x is None or y is None:
        raise BadRequest("A heat map needs two columns that vary.", "Name them: result.plot('heatmap', x='temperature', y='model').")
    _known(frame, x)
    _known(frame, y)
    everything = result.in_order_of_cells()
    across, down = _values(everything[x]), _values(everything[y])
    medians = {
        (c, r): median_of(frame[(frame[x].astype(str) == str(c)) & (frame[y].astype(str) == str(r))][figure]) for c in across for r in down
    }
    known = [value for value in medians.values() if value is not None]
    if not known:
        raise BadRequest(f"No run has a {figure}.", "Only complete runs are drawn, where the server said how many tokens there were.")
    drawn, (axes,) = panels(theme, height=1.5 + 0.46 * len(down))
    import numpy as np

    ramp = LinearSegmentedColormap.from_list("tokenstream", theme.ramp).with_extremes(bad=theme.paper)
    low, high = min(known), max(known)
    field = np.array([[np.nan if medians[c, r] is None else medians[c, r] for c in across] for r in down], dtype=float)
    image = axes.imshow(field, cmap=ramp, vmin=low, vmax=high if high > low else low + 1, aspect="auto")
    for row, r in enumerate(down):
        for column, c in enumerate(across):
            value = medians[c, r]
            shade = 0.0 if value is None or high == low else (value - low) / (high - low)
            colour = theme.soft if value is None else readable_on(ramp(shade), theme)
            axes.text(column, row, "none" if value is None else as_number(value), ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(across)), [as_name(value, 14) for value in across])
    axes.set_yticks(range(len(down)), [as_name(value, 22) for value in down])
    axes.set_xticks([i - 0.5 for i in range(1, len(across))], minor=True)
    axes.set_yticks([i - 0.5 for i in range(1, len(down))], minor=True)
    axes.grid(which="minor", color=theme.paper, lw=2)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(which="major", visible=False)
    axes.set_xlabel(as_name(x))
    axes.set_ylabel(as_name(y))
    bar = drawn.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, colors=theme.soft)
    bar.locator = MaxNLocator(4)
    bar.formatter = FuncFormatter(lambda value, _: as_number(value))
    bar.update_ticks()
    words, unit = UNITS.get(figure, (figure, ""))
    headline(drawn, theme, f"median {words}" + (f" ({unit})" if unit else ""))
    return drawn


def drift(result: Any, theme: Theme, by: str | None = None, figure: str = "ttft_ms") -> Figure:
    """A figure of every run by when it ran: a server that warms up, tires or is busy shows."""
    by, levels = _levels(result, by)
    drawn, (axes,) = panels(theme, height=3.2)
    began = min(run["created_at"] for _, runs in levels for _, run in runs.iterrows())
    last, values = [], []
    for place, (level, runs) in enumerate(levels):
        runs = runs.dropna(subset=[figure]).sort_values("created_at")  # noqa: PLW2901 - the same runs, in order
        if not len(runs):
            continue
        x = [(at - began).total_seconds() for at in runs["created_at"]]
        y = [float(value) for value in runs[figure]]
        colour = theme.series[place % len(theme.series)]
        axes.plot(x, y, "o", ms=4, color=colour, alpha=0.75, mew=0, zorder=2)
        last.append((median_of(runs[figure]) or 0.0, as_name(level, 22), colour))
        values += y
    if not values:
        raise BadRequest(f"No run has a {figure}.", "Only complete runs are drawn.")
    axis_of_amounts(axes.yaxis, axes.set_ylim, axes.set_yscale, values, figure)
    axes.set_xlim(left=-axes.get_xlim()[1] * 0.02)
    axes.set_xlabel("time since the first run (s)")
    names_beside(axes, last)
    headline(drawn, theme, f"{UNITS.get(figure, (figure, ''))[0]} as the sweep went on{_by(by)}")
    return drawn


def _ecdf(theme: Theme, by: str, levels: Sequence[tuple[Any, Any]], figures: Sequence[str]) -> Figure:
    drawn, all_axes = panels(theme, len(figures), height=3.4)
    for axes, figure in zip(all_axes, figures, strict=True):
        values: list[float] = []
        named: list[tuple[str, float, float, str]] = []
        for place, (level, runs) in enumerate(levels):
            _known(runs, figure)
            one = sorted(float(value) for value in runs[figure].dropna())
            if not one:
                continue
            values += one
            colour = theme.series[place % len(theme.series)]
            shares = [i / len(one) for i in range(len(one) + 1)]
            axes.step([one[0], *one], shares, where="post", color=colour, lw=1.8, zorder=2)
            height = (0.5 + 0.11 * ((place + 1) // 2) * (-1) ** place) if len(levels) > 1 else 0.5
            named.append((as_name(level, 22), percentile_of(one, height * 100), height, colour))
        axis_of_amounts(axes.xaxis, axes.set_xlim, axes.set_xscale, values, figure)
        axes.set_ylim(0, 1.02)
        for name, at, height, colour in named:
            left = axes.transAxes.inverted().transform(axes.transData.transform((at, 0)))[0] > 0.6
            axes.annotate(
                name, (at, height), xytext=(-6 if left else 6, 0), textcoords="offset points", ha="right" if left else "left", va="center",
                color=colour, fontsize=8.5, bbox={"facecolor": theme.paper, "edgecolor": "none", "pad": 0.6, "alpha": 0.8}, zorder=4,
            )  # fmt: skip
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.0f} %"))
        axes.set_ylabel("share of runs" if axes is all_axes[0] else "")
    headline(drawn, theme, f"share of runs that were at most this{_by(by)}")
    return drawn


def _box(theme: Theme, by: str, levels: Sequence[tuple[Any, Any]], figures: Sequence[str]) -> Figure:
    drawn, all_axes = panels(theme, len(figures), height=1.3 + 0.5 * len(levels))
    for axes, figure in zip(all_axes, figures, strict=True):
        values: list[float] = []
        for place, (_, runs) in enumerate(levels):
            _known(runs, figure)
            one = sorted(float(value) for value in runs[figure].dropna())
            row, colour = len(levels) - 1 - place, theme.series[place % len(theme.series)]
            if not one:
                axes.annotate("no figure", (0.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=theme.soft)
                continue
            values += one
            left, middle, right = (percentile_of(one, percent) for percent in (25, 50, 75))
            if len(one) >= FEWEST:
                axes.barh(row, right - left, left=left, height=0.52, color=colour, alpha=0.22, lw=0, zorder=1)
            axes.plot([middle, middle], [row - 0.26, row + 0.26], color=colour, lw=2.2, solid_capstyle="butt", zorder=3)
            spread = [row + 0.17 * math.sin(2.4 * i) for i in range(len(one))]
            axes.plot(one, spread, "o", ms=3.4, color=colour, alpha=0.7, mew=0, zorder=2)
            axes.annotate(
                as_number(middle),
                (middle, row + 0.28),
                xytext=(0, 1),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8.5,
                color=theme.ink,
            )
        axis_of_amounts(axes.xaxis, axes.set_xlim, axes.set_xscale, values, figure)
        axes.set_ylim(-0.55, len(levels) - 0.3)
        axes.set_yticks(
            range(len(levels)), [as_name(level, 24) for level, _ in reversed(levels)] if axes is all_axes[0] else [""] * len(levels)
        )
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
    count = sorted({len(runs) for _, runs in levels})
    runs_each = f"{count[0]} runs each" if len(count) == 1 else f"{count[0]} to {count[-1]} runs each"
    boxed = "box from 25 to 75 %, median named" if count[-1] >= FEWEST else "median named"
    headline(drawn, theme, f"every complete run{_by(by)} · {runs_each}; {boxed}")
    return drawn


def _levels(result: Any, by: str | None) -> tuple[str, list[tuple[Any, Any]]]:
    """The complete runs by the values of a column: the model, if it varies."""
    frame = _complete(result)
    everything = result.in_order_of_cells()
    if by is None:
        varied = [name for name in result.varied() if len(_values(everything[name])) <= MOST_LEVELS]
        if not varied and len(_values(everything["model"])) > 1:
            return "", [("all runs", frame)]  # everything that varies has too many values to tell apart
        by = "model" if "model" in varied or not varied else varied[0]
    _known(frame, by)
    values = _values(everything[by])
    if len(values) > MOST_LEVELS:
        raise BadRequest(f"{by} has {len(values)} values: a picture shows {MOST_LEVELS} at most.", "Choose another column with by=.")
    return by, [(value, frame[frame[by].astype(str) == str(value)]) for value in values]


def _by(by: str) -> str:
    return f", by {as_name(by)}" if by else ""


def _complete(result: Any) -> Any:
    frame = result.in_order_of_cells()
    complete = frame[frame["outcome"].astype(str) == "complete"]
    if not len(complete):
        raise BadRequest("No run is complete, so there is nothing to draw.", "The rows of to_pandas() say what went wrong.")
    return complete


def _values(column: Any) -> list[Any]:
    """The different values: numbers by size, others as they came."""
    values = list(dict.fromkeys(value for value in column.astype(object) if value is not None))
    return sorted(values) if all(isinstance(value, (int, float)) for value in values) else values


def _known(frame: Any, name: str) -> None:
    if name not in frame:
        raise BadRequest(f"There is no column {one_line(name)[:40]!r}.", "to_pandas() has them all.")
