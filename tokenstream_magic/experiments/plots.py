"""Pictures of runs: quiet, honest, readable in light and dark.

``plot(transcript, "timeline" | "reading" | "gaps")``, ``plot(result, "distribution" | "ecdf" | "box" | "heatmap" | "gaps"
| "drift")`` and, of some runs beside each other, ``plot(transcripts, "growth")``. Colours are Okabe and Ito's, which readers who are colour-blind tell apart; what is drawn is named where it
stands, with its unit. Axes of amounts begin at zero, or are logarithmic where values spread over decades, and say so.
``theme`` is ``light`` or ``dark``; left out, it follows ``figure.facecolor`` of matplotlib's own settings.
"""

from __future__ import annotations

import base64
import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.record import Transcript
from tokenstream_magic.timing.metrics import STALL_FACTOR, STALL_FLOOR_NS

WORDS_PER_MINUTE = (175, 238, 300)
"""Silent reading of English non-fiction: slow, usual, quick (Brysbaert 2019, doi 10.1016/j.jml.2019.104047)."""

UNITS = {
    "ttfb_ms": ("time to first byte", "ms"),
    "ttft_ms": ("time to first token", "ms"),
    "ttfa_ms": ("time to first answer token", "ms"),
    "e2e_ms": ("total time", "ms"),
    "tpot_ms": ("time per output token", "ms"),
    "icl_p50_ms": ("median gap between chunks", "ms"),
    "icl_p95_ms": ("95th percentile of the gaps between chunks", "ms"),
    "icl_max_ms": ("longest gap between chunks", "ms"),
    "output_tokens_per_second": ("output rate, first token included", "tokens/s"),
    "decode_tokens_per_second": ("rate after the first token", "tokens/s"),
    "chunks_per_second": ("chunks per second", "1/s"),
    "stop_latency_ms": ("time from Stop to the closed connection", "ms"),
    "stall_ratio": ("share of time stalled", ""),
    "output_tokens": ("output tokens", ""),
    "input_tokens": ("input tokens", ""),
}
DPI = 144
MOST_LEVELS = 8
FEW = 12  # up to so many runs a level every point can be told apart
FEWEST = 4  # fewer runs have no quarters
ODD_WORD = 15  # characters a word, from which on a text is not written with spaces


@dataclass(frozen=True)
class Theme:
    """The colours of a picture."""

    paper: str
    ink: str
    soft: str
    line: str
    fill: str
    series: tuple[str, ...]
    alarm: str
    ramp: tuple[str, ...]


THEMES = {
    "light": Theme(
        "#ffffff", "#1f2328", "#59636e", "#d1d9e0", "#eef1f4",
        ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#555555", "#e69f00"), "#d55e00",
        ("#f3f7fa", "#a9cfe6", "#3f8fc0", "#08456e"),
    ),
    "dark": Theme(
        "#16191d", "#e6e9ed", "#a3adb8", "#3a424b", "#242a31",
        ("#56b4e9", "#f08a3c", "#2fc79a", "#e29bc4", "#f0e442", "#8fa8ff", "#c0c6cd", "#e69f00"), "#f08a3c",
        ("#1d242b", "#1f5878", "#3f9bd0", "#cdeaff"),
    ),
}  # fmt: skip


class Picture(Figure):
    """A figure that shows itself in a notebook, whatever the backend, and needs no pyplot."""

    def _repr_png_(self) -> bytes:
        return png(self)


def plot(subject: Any, kind: str = "timeline", *, theme: str | None = None, **how: Any) -> Figure:
    """A picture of a transcript, a result or a few transcripts. Raises BadRequest for a kind there is not, and where there is nothing to draw."""
    kinds: Mapping[str, Any] = _OF_TRANSCRIPT if isinstance(subject, Transcript) else _OF_RESULT if hasattr(subject, "varied") else _OF_SOME
    if kind not in kinds:
        raise BadRequest(f"There is no plot {one_line(kind)[:40]!r}.", f"There are: {', '.join(kinds)}.")
    if theme is None:
        theme = "dark" if sum(to_rgb(rcParams["figure.facecolor"])) < 1.5 else "light"
    if theme not in THEMES:
        raise BadRequest(f"There is no theme {one_line(theme)[:40]!r}.", f"There are: {', '.join(THEMES)}.")
    drawn: Figure = kinds[kind](subject, THEMES[theme], **how)
    return drawn


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a prompt may be in any script
        figure.savefig(written, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    return written.getvalue()


def encoded(figure: Figure) -> str:
    """A figure as PNG in base64."""
    return base64.b64encode(png(figure)).decode()


# of one run


def timeline(transcript: Transcript, theme: Theme) -> Figure:
    """When everything came: each chunk a line, its channel a row, waiting and stalls marked, and how many came in one read."""
    line = transcript.timeline
    if line.first is None or line.last is None:
        raise BadRequest("Nothing arrived in this run, so there is no timeline.", "Its outcome says why.")
    stamps = list(line)
    channels = [name for name in ("reasoning", "text", "refusal", "tool") if any(s.channel == name for s in stamps)]
    moments = {name: at for name, at in line.moments().items() if at is not None}
    end = max(
        [stamps[-1].offset_ns / 1e6, *(at for name, at in moments.items() if name not in ("connected", "server_busy", "server_idle"))]
    )
    unit, per = ("s", 1000.0) if end >= 2000 else ("ms", 1.0)
    wide = end / per * 1.02
    figure, (axes,) = _figure(theme, height=1.25 + 0.55 * len(channels))
    first, last = stamps[0].offset_ns / 1e6, stamps[-1].offset_ns / 1e6
    axes.axvspan(0, first / per, color=theme.fill, lw=0, zorder=0)
    for row, name in enumerate(reversed(channels)):
        marks = [stamp.offset_ns / 1e6 / per for stamp in stamps if stamp.channel == name]
        colour = theme.series[(0, 2, 3, 4)[("text", "reasoning", "refusal", "tool").index(name)]]
        axes.vlines(marks, row - 0.32, row + 0.32, color=colour, lw=0.9 if len(marks) < 600 else 0.3, zorder=2)
        _lumps(axes, marks, row, wide, colour)
    for start, gap in _stalls(transcript):
        axes.axvspan(start / per, (start + gap) / per, color=theme.alarm, alpha=0.18, lw=0, zorder=0)
        axes.annotate(
            f"silence {_time(gap)}", ((start + gap / 2) / per, len(channels) - 0.5), ha="center", va="top", color=theme.alarm, fontsize=8
        )
    top = len(channels) - 0.42
    axes.set_xlim(0, wide)
    axes.set_ylim(-0.6, top)
    at_once = last - first < end * 0.01
    shown = [("all of it" if at_once else "first token", first)] + ([] if at_once else [("last token", last)])
    over = [(name, moments[name]) for name in ("stop_requested", "ended", "closed") if name in moments]
    if "stop_requested" in moments and over[-1][1] - over[0][1] > end * 0.01:
        shown += [("Stop", over[0][1]), ("closed", over[-1][1])]
    elif transcript.outcome != "complete" and over:
        shown += [(transcript.outcome, over[0][1])]
    _flags(axes, theme, [(f"{words} {_time(at)}", at / per) for words, at in shown], wide, top)
    axes.set_yticks(range(len(channels)), list(reversed(channels)))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"time since the request ({unit})")
    _title(figure, theme, f"{_name(transcript.model)} · {transcript.outcome} · {_count(len(stamps), 'chunk')}")
    return figure


def reading(transcript: Transcript, theme: Theme) -> Figure:
    """The answer as it grew, beside a reader at 238 words a minute who begins with the first word and waits where there is none."""
    stamps = [stamp for stamp in transcript.timeline if stamp.channel == "text" and stamp.choice == 0]
    if not stamps or not transcript.text:
        raise BadRequest("There is no answer to read in this run.", "Its outcome says why.")
    ends = [match.end() for match in re.finditer(r"\S+", transcript.text)]
    spaced = bool(ends) and len(transcript.text) / len(ends) <= ODD_WORD
    times, amounts, characters, read = [], [], 0, 0
    for stamp in stamps:
        characters += stamp.characters
        while read < len(ends) and ends[read] <= characters:
            read += 1
        times.append(stamp.offset_ns / 1e9)
        amounts.append(read if spaced else characters)
    figure, (axes,) = _figure(theme, height=3.2)
    axes.step([times[0], *times], [0, *amounts], where="post", color=theme.series[0], lw=1.8, zorder=3)
    limit, most = times[-1] * 1.05, amounts[-1]
    told = f"first word after {_time(times[0] * 1000)}"
    if spaced:
        slow, usual, quick = (speed / 60 for speed in WORDS_PER_MINUTE)
        path, starved = _read(times, amounts, usual)
        limit = max(limit, min(path[-1][0], 6 * max(times[-1], 1.0)) * 1.02)
        axes.fill_between(
            [times[0], limit], [0, (limit - times[0]) * slow], [0, (limit - times[0]) * quick], color=theme.fill, lw=0, zorder=0
        )
        axes.plot(*zip(*path, strict=True), color=theme.series[1], lw=1.6, zorder=2)
        for (start, before), (end, after) in pairwise(path):
            if before == after and end - start > limit * 0.005:  # the reader has come to the end of the text
                axes.axvspan(start, end, color=theme.alarm, alpha=0.14, lw=0, zorder=0)
        at = min(limit * 0.55, path[-1][0])
        height = next(y0 + (y1 - y0) * (at - x0) / ((x1 - x0) or 1) for (x0, y0), (x1, y1) in pairwise(path) if at <= x1)
        axes.annotate(
            "read at 238 words/min", (at, height), xytext=(10, -8), textcoords="offset points", ha="left", va="top",
            color=theme.series[1], fontsize=9,
        )  # fmt: skip
        waiting = f"then {_time(starved * 1000)} of waiting" if starved > 0.05 else "then no waiting"
        told += f", {waiting} · read after {_time(path[-1][0] * 1000)}"
    axes.set_xlim(0, limit)
    axes.set_ylim(0, most * 1.12)
    axes.plot([times[-1], limit], [most, most], color=theme.series[0], lw=1, ls=(0, (1, 2)), zorder=1)
    axes.annotate(
        "arrived", (times[-1], most), xytext=(0, 5), textcoords="offset points", ha="right" if times[-1] > limit * 0.15 else "left",
        va="bottom", color=theme.series[0], fontsize=9,
    )  # fmt: skip
    axes.set_xlabel("time since the request (s)")
    axes.set_ylabel("words" if spaced else "characters")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _title(figure, theme, f"{_name(transcript.model)} · {told}")
    return figure


def gaps(subject: Any, theme: Theme) -> Figure:
    """How long it took from each chunk to the next, in logarithmic bins; chunks that came with one read stand apart."""
    runs = [subject] if isinstance(subject, Transcript) else [t for t in subject.transcripts if t.outcome == "complete"]
    found = [gap / 1e6 for run in runs for gap in run.timeline.gaps()]
    apart = sorted(gap for gap in found if gap > 0)
    if not apart:
        raise BadRequest("There are no gaps to show.", "A gap needs two chunks that came with different reads.")
    zero = len(found) - len(apart)
    figure, (axes,) = _figure(theme, height=3.0)
    low, high = math.floor(math.log10(apart[0]) * 5) / 5, math.ceil(math.log10(apart[-1]) * 5) / 5
    if high - low < 0.4:
        low, high = low - 0.2, high + 0.2
    step = 0.04 if high - low < 1 else 0.1 if high - low < 3 else 0.2
    edges = [10 ** (low + step * i) for i in range(round((high - low) / step) + 2)]
    axes.hist(apart, bins=edges, color=theme.series[0], edgecolor=theme.paper, lw=0.6, zorder=2)
    axes.set_xscale("log")
    _decades(axes.xaxis, 10**low, edges[-1])
    axes.set_xlim(edges[0] * 0.9, edges[-1] * 1.1)
    top = axes.get_ylim()[1] * 1.18
    axes.set_ylim(0, top)
    for percent, words, side in ((50, "median", "right"), (95, "95 %", "left")):
        at = _percentile(apart, percent)
        axes.axvline(at, color=theme.ink, lw=0.9, ls=(0, (4, 2)), zorder=3)
        text = f"{words} {_time(at)}"
        axes.annotate(
            text,
            (at, top),
            xytext=(-4 if side == "right" else 4, -2),
            textcoords="offset points",
            ha=side,
            va="top",
            fontsize=8.5,
            color=theme.ink,
        )
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("gap between chunks (ms, logarithmic)")
    axes.set_ylabel("gaps")
    who = _name(runs[0].model) if len(runs) == 1 else f"{len(runs)} runs"
    _title(figure, theme, f"{who} · {len(apart):,} gaps" + (f", {zero:,} more chunks came with the read before" if zero else ""))
    return figure


# of some runs, beside each other


def growth(subject: Iterable[Transcript], theme: Theme) -> Figure:
    """How each answer grew, on one time axis that begins with each run's own request: characters of text that had arrived."""
    runs = list(subject)
    hidden = bool(getattr(subject, "hidden", False))  # a comparison whose names the reader may not know yet
    names = list(getattr(subject, "labels", ())) if hidden else [run.model for run in runs]
    if len(runs) > len(theme.series):
        raise BadRequest(f"{len(runs)} runs are too many to tell apart: a picture shows {len(theme.series)} at most.")
    drawn, (axes,) = _figure(theme, height=2.7 + 0.2 * len(runs))
    most, last = 0, 0.0
    for place, (name, run) in enumerate(zip(names, runs, strict=True)):
        stamps = [stamp for stamp in run.timeline if stamp.channel == "text" and stamp.choice == 0]
        colour = theme.series[place]
        if not stamps:
            axes.plot([], [], color=colour, lw=2, label=f"{_name(name)}: no text ({run.outcome})")
            continue
        times = [stamp.offset_ns / 1e9 for stamp in stamps]
        amounts = list(accumulate(stamp.characters for stamp in stamps))
        ended = "" if run.outcome == "complete" else f", {run.outcome}"
        told = f"{_name(name)}: first words {_time(times[0] * 1000)}, last {_time(times[-1] * 1000)}{ended}"
        axes.step([times[0], *times], [0, *amounts], where="post", color=colour, lw=1.9, label=told, zorder=3)
        axes.plot(times[-1], amounts[-1], "o", ms=5, color=colour, zorder=4)
        most, last = max(most, amounts[-1]), max(last, times[-1])
    if not most:
        raise BadRequest("No text arrived in these runs.", "Their outcomes say why.")
    axes.set_xlim(0, last * 1.04)
    axes.set_ylim(0, most * 1.08)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("time since each request (s)")
    axes.set_ylabel("characters arrived")
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), frameon=False, labelcolor="linecolor", fontsize=8.5, handlelength=1.2, borderaxespad=0.2
    )
    _title(drawn, theme, "how the answers grew")
    return drawn


# of many runs


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
        (c, r): _median(frame[(frame[x].astype(str) == str(c)) & (frame[y].astype(str) == str(r))][figure]) for c in across for r in down
    }
    known = [value for value in medians.values() if value is not None]
    if not known:
        raise BadRequest(f"No run has a {figure}.", "Only complete runs are drawn, where the server said how many tokens there were.")
    drawn, (axes,) = _figure(theme, height=1.5 + 0.46 * len(down))
    import numpy as np

    ramp = LinearSegmentedColormap.from_list("tokenstream", theme.ramp).with_extremes(bad=theme.paper)
    low, high = min(known), max(known)
    field = np.array([[np.nan if medians[c, r] is None else medians[c, r] for c in across] for r in down], dtype=float)
    image = axes.imshow(field, cmap=ramp, vmin=low, vmax=high if high > low else low + 1, aspect="auto")
    for row, r in enumerate(down):
        for column, c in enumerate(across):
            value = medians[c, r]
            shade = 0.0 if value is None or high == low else (value - low) / (high - low)
            colour = theme.soft if value is None else _readable(ramp(shade), theme)
            axes.text(column, row, "none" if value is None else _number(value), ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(across)), [_name(value, 14) for value in across])
    axes.set_yticks(range(len(down)), [_name(value, 22) for value in down])
    axes.set_xticks([i - 0.5 for i in range(1, len(across))], minor=True)
    axes.set_yticks([i - 0.5 for i in range(1, len(down))], minor=True)
    axes.grid(which="minor", color=theme.paper, lw=2)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(which="major", visible=False)
    axes.set_xlabel(_name(x))
    axes.set_ylabel(_name(y))
    bar = drawn.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, colors=theme.soft)
    bar.locator = MaxNLocator(4)
    bar.formatter = FuncFormatter(lambda value, _: _number(value))
    bar.update_ticks()
    words, unit = UNITS.get(figure, (figure, ""))
    _title(drawn, theme, f"median {words}" + (f" ({unit})" if unit else ""))
    return drawn


def drift(result: Any, theme: Theme, by: str | None = None, figure: str = "ttft_ms") -> Figure:
    """A figure of every run by when it ran: a server that warms up, tires or is busy shows."""
    by, levels = _levels(result, by)
    drawn, (axes,) = _figure(theme, height=3.2)
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
        last.append((_median(runs[figure]) or 0.0, _name(level, 22), colour))
        values += y
    if not values:
        raise BadRequest(f"No run has a {figure}.", "Only complete runs are drawn.")
    _amounts(axes.yaxis, axes.set_ylim, axes.set_yscale, values, figure)
    axes.set_xlim(left=-axes.get_xlim()[1] * 0.02)
    axes.set_xlabel("time since the first run (s)")
    _beside(axes, last)
    _title(drawn, theme, f"{UNITS.get(figure, (figure, ''))[0]} as the sweep went on{_by(by)}")
    return drawn


_OF_TRANSCRIPT = {"timeline": timeline, "reading": reading, "gaps": gaps}
_OF_SOME = {"growth": growth}
_OF_RESULT = {"distribution": distribution, "ecdf": ecdf, "box": box, "heatmap": heatmap, "gaps": gaps, "drift": drift}


def _ecdf(theme: Theme, by: str, levels: Sequence[tuple[Any, Any]], figures: Sequence[str]) -> Figure:
    drawn, all_axes = _figure(theme, len(figures), height=3.4)
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
            named.append((_name(level, 22), _percentile(one, height * 100), height, colour))
        _amounts(axes.xaxis, axes.set_xlim, axes.set_xscale, values, figure)
        axes.set_ylim(0, 1.02)
        for name, at, height, colour in named:
            left = axes.transAxes.inverted().transform(axes.transData.transform((at, 0)))[0] > 0.6
            axes.annotate(
                name, (at, height), xytext=(-6 if left else 6, 0), textcoords="offset points", ha="right" if left else "left", va="center",
                color=colour, fontsize=8.5, bbox={"facecolor": theme.paper, "edgecolor": "none", "pad": 0.6, "alpha": 0.8}, zorder=4,
            )  # fmt: skip
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.0f} %"))
        axes.set_ylabel("share of runs" if axes is all_axes[0] else "")
    _title(drawn, theme, f"share of runs that were at most this{_by(by)}")
    return drawn


def _box(theme: Theme, by: str, levels: Sequence[tuple[Any, Any]], figures: Sequence[str]) -> Figure:
    drawn, all_axes = _figure(theme, len(figures), height=1.3 + 0.5 * len(levels))
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
            left, middle, right = (_percentile(one, percent) for percent in (25, 50, 75))
            if len(one) >= FEWEST:
                axes.barh(row, right - left, left=left, height=0.52, color=colour, alpha=0.22, lw=0, zorder=1)
            axes.plot([middle, middle], [row - 0.26, row + 0.26], color=colour, lw=2.2, solid_capstyle="butt", zorder=3)
            spread = [row + 0.17 * math.sin(2.4 * i) for i in range(len(one))]
            axes.plot(one, spread, "o", ms=3.4, color=colour, alpha=0.7, mew=0, zorder=2)
            axes.annotate(
                _number(middle),
                (middle, row + 0.28),
                xytext=(0, 1),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8.5,
                color=theme.ink,
            )
        _amounts(axes.xaxis, axes.set_xlim, axes.set_xscale, values, figure)
        axes.set_ylim(-0.55, len(levels) - 0.3)
        axes.set_yticks(
            range(len(levels)), [_name(level, 24) for level, _ in reversed(levels)] if axes is all_axes[0] else [""] * len(levels)
        )
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
    count = sorted({len(runs) for _, runs in levels})
    runs_each = f"{count[0]} runs each" if len(count) == 1 else f"{count[0]} to {count[-1]} runs each"
    boxed = "box from 25 to 75 %, median named" if count[-1] >= FEWEST else "median named"
    _title(drawn, theme, f"every complete run{_by(by)} · {runs_each}; {boxed}")
    return drawn


# parts


def _figure(theme: Theme, columns: int = 1, *, height: float) -> tuple[Picture, list[Any]]:
    figure = Picture(figsize=(4.2 * columns if columns > 1 else 7.2, height), facecolor=theme.paper, layout="constrained")
    FigureCanvasAgg(figure)
    if columns > 1:
        figure.get_layout_engine().set(wspace=0.08)  # type: ignore[union-attr, call-arg]
    all_axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for axes in all_axes:
        axes.set_facecolor(theme.paper)
        axes.grid(visible=True, color=theme.line, lw=0.6, alpha=0.6)
        axes.set_axisbelow(True)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(theme.line)
        axes.tick_params(colors=theme.soft, labelsize=8.5, width=0.6)
        axes.xaxis.label.set(color=theme.soft, size=9)
        axes.yaxis.label.set(color=theme.soft, size=9)
    return figure, all_axes


def _title(figure: Figure, theme: Theme, text: str) -> None:
    width = int(figure.get_size_inches()[0] * 13)
    figure.suptitle("\n".join(textwrap.wrap(text, width)), x=0.01, ha="left", fontsize=10.5, color=theme.ink)


def _amounts(axis: Any, limit: Any, scale: Any, values: Sequence[float], figure: str) -> None:
    """The axis of a figure: from zero, or logarithmic where values spread over more than a decade and a half."""
    words, unit = UNITS.get(figure, (figure, ""))
    label = f"{words} ({unit})" if unit else words
    above = [value for value in values if value > 0]
    if above and len(above) == len(values) and max(above) / min(above) > 30:
        scale("log")
        low, high = min(above) * 0.7, max(above) * 1.5
        limit(low, high)
        _decades(axis, low, high)
        label = f"{words} ({unit}, logarithmic)" if unit else f"{words} (logarithmic)"
    else:
        limit(0, max(values, default=1.0) * 1.12 or 1.0)
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value) if value else "0"))
    axis.set_label_text("\n".join(textwrap.wrap(label, 44)))


def _flags(axes: Any, theme: Theme, flags: Sequence[tuple[str, float]], wide: float, top: float) -> None:
    """Words above the axes at their moments, each on a pole of its own; those that would meet stand one above the other."""
    reached, height = -math.inf, 0
    for words, at in sorted(flags, key=lambda flag: flag[1]):
        left = at < wide * 0.72
        height = height + 1 if at - reached < wide * (0.16 if left else 0.32) else 0
        axes.annotate(
            "", (at, top), xytext=(0, 15 + 12 * height), textcoords="offset points", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": theme.soft, "lw": 0.7, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        axes.annotate(
            words, (at, top), xytext=(3 if left else -3, 5 + 12 * height), textcoords="offset points", ha="left" if left else "right",
            va="bottom", fontsize=8, color=theme.soft, annotation_clip=False,
        )  # fmt: skip
        reached = at


def _lumps(axes: Any, marks: Sequence[float], row: float, wide: float, colour: str) -> None:
    """How many chunks a line stands for, where several came together and there is room to say so."""
    lumps: list[list[float]] = []
    for at in marks:
        if lumps and at - lumps[-1][-1] < wide * 0.004:
            lumps[-1].append(at)
        else:
            lumps.append([at])
    room = all(after[0] - before[-1] > wide * (0.05 if after[-1] < wide * 0.9 else 0.1) for before, after in pairwise(lumps))
    if not room or max(map(len, lumps)) < 2:
        return
    for lump in lumps:
        right = lump[-1] < wide * 0.9
        axes.annotate(
            f"\u00d7{len(lump)}", (lump[-1] if right else lump[0], row), xytext=(4 if right else -4, 0), textcoords="offset points",
            ha="left" if right else "right", va="center", fontsize=8, color=colour,
        )  # fmt: skip


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _decades(axis: Any, low: float, high: float) -> None:
    """Numbers on a logarithmic axis, written as numbers."""
    few = math.log10(high / low) < 2.2
    axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axis.set_minor_locator(NullLocator())


def _beside(axes: Any, names: Iterable[tuple[float, str, str]]) -> None:
    """Names at the right edge, at the height of what they name, apart from each other."""
    inverse = axes.transAxes.inverted()
    places: list[list[Any]] = [[float(inverse.transform(axes.transData.transform((0, y)))[1]), name, colour] for y, name, colour in names]
    places.sort(key=lambda place: place[0])
    for before, place in pairwise(places):
        place[0] = max(place[0], before[0] + 0.08)
    for height, name, colour in places:
        axes.annotate(
            name, (1.01, height), xycoords="axes fraction", va="center", ha="left", color=colour, fontsize=8.5, annotation_clip=False
        )


def _read(times: Sequence[float], amounts: Sequence[int], speed: float) -> tuple[list[tuple[float, float]], float]:
    """The path of a reader who begins with the first word and is never ahead of the text; and how long they waited."""
    path = [(times[0], 0.0)]
    now, read, waited = times[0], 0.0, 0.0
    for place, amount in enumerate(amounts):
        following = times[place + 1] if place + 1 < len(times) else math.inf
        now = max(now, times[place])
        done = now + (amount - read) / speed
        if done <= following:
            if amount > read:
                path.append((done, float(amount)))
            read, now = float(amount), done
            if following != math.inf:
                waited += following - done
                path.append((following, read))
                now = following
        else:
            read += (following - now) * speed
            now = following
    return path, waited


def _stalls(transcript: Transcript) -> list[tuple[float, float]]:
    """Where nothing came for longer than the stall rule allows: start and length in ms."""
    found = transcript.timeline.gaps()
    if not found:
        return []
    limit = max(STALL_FLOOR_NS, STALL_FACTOR * _percentile(sorted(found), 50))
    stamps = list(transcript.timeline)
    stalls = [(stamps[i].offset_ns / 1e6, gap / 1e6) for i, gap in enumerate(found) if gap > limit]
    moments, last = transcript.timeline.moments(), stamps[-1].offset_ns / 1e6
    ended = next((at for at in (moments["stop_requested"], moments["ended"], moments["closed"]) if at is not None), None)
    if ended is not None and transcript.outcome != "complete" and (ended - last) * 1e6 > limit:
        stalls.append((last, ended - last))  # given up, or stopped, in a silence
    return stalls


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
    return f", by {_name(by)}" if by else ""


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


def _median(column: Any) -> float | None:
    values = sorted(float(value) for value in column.dropna())
    return _percentile(values, 50) if values else None


def _percentile(ordered: Sequence[float], percent: float) -> float:
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def _readable(background: Sequence[float], theme: Theme) -> str:
    """Ink or paper, whichever stands out."""
    shade = 0.2126 * background[0] + 0.7152 * background[1] + 0.0722 * background[2]
    return max(
        (theme.ink, theme.paper),
        key=lambda ink: abs(sum(c * w for c, w in zip(to_rgb(ink), (0.2126, 0.7152, 0.0722), strict=True)) - shade),
    )


def _time(ms: float) -> str:
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.0f} ms" if ms >= 10 else f"{ms:.2g} ms"


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _name(value: Any, most: int = 40) -> str:
    """A name from elsewhere as a label: one line, cut, and no mathematics in it."""
    text = one_line(value)
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return text.replace("\\", "\\\\").replace("$", r"\$") if "$" in text else text
