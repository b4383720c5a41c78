"""What all plots share: themes, the sheet they stand on, axes, and figures in words."""

from __future__ import annotations

import base64
import io
import math
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tokenstream_magic.errors import one_line

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


def panels(theme: Theme, columns: int = 1, *, height: float) -> tuple[Picture, list[Any]]:
    """A sheet with so many panels side by side, and their axes."""
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


def headline(figure: Figure, theme: Theme, text: str) -> None:
    """The line above a picture."""
    width = int(figure.get_size_inches()[0] * 13)
    figure.suptitle("\n".join(textwrap.wrap(text, width)), x=0.01, ha="left", fontsize=10.5, color=theme.ink)


def axis_of_amounts(axis: Any, limit: Any, scale: Any, values: Sequence[float], figure: str) -> None:
    """The axis of a figure: from zero, or logarithmic where values spread over more than a decade and a half."""
    words, unit = UNITS.get(figure, (figure, ""))
    label = f"{words} ({unit})" if unit else words
    above = [value for value in values if value > 0]
    if above and len(above) == len(values) and max(above) / min(above) > 30:
        scale("log")
        low, high = min(above) * 0.7, max(above) * 1.5
        limit(low, high)
        in_decades(axis, low, high)
        label = f"{words} ({unit}, logarithmic)" if unit else f"{words} (logarithmic)"
    else:
        limit(0, max(values, default=1.0) * 1.12 or 1.0)
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda value, _: as_number(value) if value else "0"))
    axis.set_label_text("\n".join(textwrap.wrap(label, 44)))


def in_decades(axis: Any, low: float, high: float) -> None:
    """Numbers on a logarithmic axis, written as numbers."""
    few = math.log10(high / low) < 2.2
    axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: as_number(value)))
    axis.set_minor_locator(NullLocator())


def names_beside(axes: Any, names: Iterable[tuple[float, str, str]]) -> None:
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


def readable_on(background: Sequence[float], theme: Theme) -> str:
    """Ink or paper, whichever stands out."""
    shade = 0.2126 * background[0] + 0.7152 * background[1] + 0.0722 * background[2]
    return max(
        (theme.ink, theme.paper),
        key=lambda ink: abs(sum(c * w for c, w in zip(to_rgb(ink), (0.2126, 0.7152, 0.0722), strict=True)) - shade),
    )


def as_time(ms: float) -> str:
    """Milliseconds in words."""
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.0f} ms" if ms >= 10 else f"{ms:.2g} ms"


def as_number(value: float) -> str:
    """A number, short."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def as_name(value: Any, most: int = 40) -> str:
    """A name from elsewhere as a label: one line, cut, and no mathematics in it."""
    text = one_line(value)
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return text.replace("\\", "\\\\").replace("$", r"\$") if "$" in text else text


def percentile_of(ordered: Sequence[float], percent: float) -> float:
    """The percentile of ordered values."""
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median_of(column: Any) -> float | None:
    """The median of what is known; None when nothing is."""
    values = sorted(float(value) for value in column.dropna())
    return percentile_of(values, 50) if values else None
