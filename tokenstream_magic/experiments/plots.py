"""Pictures of runs: quiet, honest, readable in light and dark.

``plot(transcript, "timeline" | "reading" | "gaps")``, ``plot(result, "distribution" | "ecdf" | "box" | "heatmap" | "gaps"
| "drift")`` and, of some runs beside each other, ``plot(transcripts, "growth")``. Colours are Okabe and Ito's, which
readers who are colour-blind tell apart; what is drawn is named where it stands, with its unit. Axes of amounts begin at zero, or are logarithmic where values spread over decades, and say so.
``theme`` is ``light`` or ``dark``; left out, it follows ``figure.facecolor`` of matplotlib's own settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib import rcParams
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.experiments.picture import THEMES
from tokenstream_magic.experiments.plots_of_results import box, distribution, drift, ecdf, heatmap
from tokenstream_magic.experiments.plots_of_runs import gaps, growth, reading, timeline
from tokenstream_magic.record import Transcript

_OF_TRANSCRIPT = {"timeline": timeline, "reading": reading, "gaps": gaps}
_OF_SOME = {"growth": growth}
_OF_RESULT = {"distribution": distribution, "ecdf": ecdf, "box": box, "heatmap": heatmap, "gaps": gaps, "drift": drift}


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
