"""Pictures of one run, or of a few beside each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tokenstream_magic.errors import BadRequest
from tokenstream_magic.experiments.picture import (
    Theme,
    as_name,
    as_time,
    headline,
    in_decades,
    panels,
    percentile_of,
)
from tokenstream_magic.record import Transcript
from tokenstream_magic.timing.metrics import STALL_FACTOR, STALL_FLOOR_NS

WORDS_PER_MINUTE = (175, 238, 300)
"""Silent reading of English non-fiction: slow, usual, quick (Brysbaert 2019, doi 10.1016/j.jml.2019.104047)."""
ODD_WORD = 15  # characters a word, from which on a text is not written with spaces


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
    figure, (axes,) = panels(theme, height=1.25 + 0.55 * len(channels))
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
            f"silence {as_time(gap)}", ((start + gap / 2) / per, len(channels) - 0.5), ha="center", va="top", color=theme.alarm, fontsize=8
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
    _flags(axes, theme, [(f"{words} {as_time(at)}", at / per) for words, at in shown], wide, top)
    axes.set_yticks(range(len(channels)), list(reversed(channels)))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"time since the request ({unit})")
    headline(figure, theme, f"{as_name(transcript.model)} · {transcript.outcome} · {_count(len(stamps), 'chunk')}")
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
    figure, (axes,) = panels(theme, height=3.2)
    axes.step([times[0], *times], [0, *amounts], where="post", color=theme.series[0], lw=1.8, zorder=3)
    limit, most = times[-1] * 1.05, amounts[-1]
    told = f"first word after {as_time(times[0] * 1000)}"
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
        waiting = f"then {as_time(starved * 1000)} of waiting" if starved > 0.05 else "then no waiting"
        told += f", {waiting} · read after {as_time(path[-1][0] * 1000)}"
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
    headline(figure, theme, f"{as_name(transcript.model)} · {told}")
    return figure


def gaps(subject: Any, theme: Theme) -> Figure:
    """How long it took from each chunk to the next, in logarithmic bins; chunks that came with one read stand apart."""
    runs = [subject] if isinstance(subject, Transcript) else [t for t in subject.transcripts if t.outcome == "complete"]
    found = [gap / 1e6 for run in runs for gap in run.timeline.gaps()]
    apart = sorted(gap for gap in found if gap > 0)
    if not apart:
        raise BadRequest("There are no gaps to show.", "A gap needs two chunks that came with different reads.")
    zero = len(found) - len(apart)
    figure, (axes,) = panels(theme, height=3.0)
    low, high = math.floor(math.log10(apart[0]) * 5) / 5, math.ceil(math.log10(apart[-1]) * 5) / 5
    if high - low < 0.4:
        low, high = low - 0.2, high + 0.2
    step = 0.04 if high - low < 1 else 0.1 if high - low < 3 else 0.2
    edges = [10 ** (low + step * i) for i in range(round((high - low) / step) + 2)]
    axes.hist(apart, bins=edges, color=theme.series[0], edgecolor=theme.paper, lw=0.6, zorder=2)
    axes.set_xscale("log")
    in_decades(axes.xaxis, 10**low, edges[-1])
    axes.set_xlim(edges[0] * 0.9, edges[-1] * 1.1)
    top = axes.get_ylim()[1] * 1.18
    axes.set_ylim(0, top)
    for percent, words, side in ((50, "median", "right"), (95, "95 %", "left")):
        at = percentile_of(apart, percent)
        axes.axvline(at, color=theme.ink, lw=0.9, ls=(0, (4, 2)), zorder=3)
        text = f"{words} {as_time(at)}"
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
    who = as_name(runs[0].model) if len(runs) == 1 else f"{len(runs)} runs"
    headline(figure, theme, f"{who} · {len(apart):,} gaps" + (f", {zero:,} more chunks came with the read before" if zero else ""))
    return figure


def growth(subject: Iterable[Transcript], theme: Theme) -> Figure:
    """How each answer grew, on one time axis that begins with each run's own request: characters of text that had arrived."""
    runs = list(subject)
    hidden = bool(getattr(subject, "hidden", False))  # a comparison whose names the reader may not know yet
    names = list(getattr(subject, "labels", ())) if hidden else [run.model for run in runs]
    if len(runs) > len(theme.series):
        raise BadRequest(f"{len(runs)} runs are too many to tell apart: a picture shows {len(theme.series)} at most.")
    drawn, (axes,) = panels(theme, height=2.7 + 0.2 * len(runs))
    most, last = 0, 0.0
    for place, (name, run) in enumerate(zip(names, runs, strict=True)):
        stamps = [stamp for stamp in run.timeline if stamp.channel == "text" and stamp.choice == 0]
        colour = theme.series[place]
        if not stamps:
            axes.plot([], [], color=colour, lw=2, label=f"{as_name(name)}: no text ({run.outcome})")
            continue
        times = [stamp.offset_ns / 1e9 for stamp in stamps]
        amounts = list(accumulate(stamp.characters for stamp in stamps))
        ended = "" if run.outcome == "complete" else f", {run.outcome}"
        told = f"{as_name(name)}: first words {as_time(times[0] * 1000)}, last {as_time(times[-1] * 1000)}{ended}"
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
    headline(drawn, theme, "how the answers grew")
    return drawn


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
    limit = max(STALL_FLOOR_NS, STALL_FACTOR * percentile_of(sorted(found), 50))
    stamps = list(transcript.timeline)
    stalls = [(stamps[i].offset_ns / 1e6, gap / 1e6) for i, gap in enumerate(found) if gap > limit]
    moments, last = transcript.timeline.moments(), stamps[-1].offset_ns / 1e6
    ended = next((at for at in (moments["stop_requested"], moments["ended"], moments["closed"]) if at is not None), None)
    if ended is not None and transcript.outcome != "complete" and (ended - last) * 1e6 > limit:
        stalls.append((last, ended - last))  # given up, or stopped, in a silence
    return stalls
