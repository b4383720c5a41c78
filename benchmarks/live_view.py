"""The live view in a real JupyterLab in headless Chromium, beside what others do with the same tokens, in the same run.

``wire``: what a token costs on the notebook's websocket. ``lag``: from the moment the server sends a token to the frame
that shows it, at 80 tokens a second, on documents of growing size, and what such a frame costs the page's main thread.
``first``: the same for the first token. ``rate``: thousands of tokens a second, sustained. Name one or more to run only
those; ``--seconds`` is how long ``rate`` goes on (the bar is for 60). Every lag includes the server's write, the client
and the parser; peers read with a plain ``http.client``. Peers get fewer tokens where all would take hours.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
from collections.abc import Callable, Sequence

from page import HASH, NAMES, SELECTORS, Watched, cell, laboratory
from peers import print_table, quantile
from source import Source, text

SIZES = (0, 1_000, 10_000, 100_000)
COUNTS = (100, 1_000, 10_000, 100_000)
WAYS = tuple(NAMES)
PER_TOKEN = 50.0  # bytes, at 1,000 tokens/s
LAG = (30.0, 60.0)  # p50 and p99, ms
FIRST = 25.0
FRAME = (4.0, 1.5)  # ms, and times what it is at 1,000 tokens
RATE_P99 = 120.0
DRIFT = 20.0  # ms the lag may grow from the first quarter to the last

Open = Callable[[Sequence[str]], Watched]


def said(figure: float | None, digits: int = 1) -> str:
    return "-" if figure is None else f"{figure:.{digits}f}"


def note(*what: object) -> None:
    """A line as soon as it is known: the tables come when all is."""
    print("  ", *what, flush=True)


def verdict(what: str, missed: Sequence[str]) -> None:
    print(f"bar: {what}: {'met' if not missed else 'MISSED by ' + '; '.join(missed)}")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n", flush=True)


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The straight line through points with the least relative error: where it begins, and how it rises."""
    weights = [1 / y**2 for _, y in points]
    total = sum(weights)
    x_mean = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    y_mean = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    rise = sum(w * (x - x_mean) * (y - y_mean) for w, (x, y) in zip(weights, points, strict=True))
    rise /= sum(w * (x - x_mean) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    return y_mean - rise * x_mean, rise


def wire(open_page: Open, source: Source) -> None:
    """Bytes a token."""

    def run(way: str, count: int) -> dict[str, int]:
        page = open_page([cell(way, f"n{count}-r1000", 0, source)])
        page.watch(1, way)
        with page.wire() as counted:
            page.notebook.run(1)
            page.wait_shown(count - 1, 90 + count / 500)
            page.notebook.wait_done(1, 120_000)
            page.page.wait_for_timeout(700)
        page.close()
        note(NAMES[way], count, counted)
        return counted

    empty = run("ours", 1)
    totals = {count: run("ours", count) for count in COUNTS}
    peers = {(way, count): run(way, count) for way in WAYS[1:] for count in COUNTS[:2]}
    rows = []
    for count, counted in totals.items():
        ours = counted["bytes"] / count
        row = [f"{count:,}", f"{counted['messages'] / max(0.1, count / 1000):.0f}", said(counted["deltas"] / count), said(ours)]
        for way in WAYS[1:]:
            peer = peers.get((way, count))
            row.append(f"{peer['bytes'] / count:.0f} ({peer['bytes'] / counted['bytes']:.1f})" if peer else "-")
        rows.append(row)
    print_table(
        ["tokens, 1,000 a second", "messages/s", "deltas, B/token", "all, B/token", *(f"{NAMES[way]} (ratio)" for way in WAYS[1:])], rows
    )
    fixed, each = line([(count, totals[count]["bytes"]) for count in COUNTS])
    xs = [math.log(count) for count in COUNTS]
    ys = [math.log(max(1.0, totals[count]["bytes"] - fixed)) for count in COUNTS]
    mean = sum(xs) / len(xs)
    slope = sum((x - mean) * y for x, y in zip(xs, ys, strict=True)) / sum((x - mean) ** 2 for x in xs)
    deltas, everything = totals[10_000]["deltas"] / 10_000, (totals[10_000]["bytes"] - empty["bytes"]) / 10_000
    print(f"an answer of one token: {empty['bytes']:,} B; fitted: {fixed:,.0f} B a run and {each:.1f} B a token")
    print(f"slope of the bytes beyond what a run costs against tokens, log-log: {slope:.3f}")
    missed = [f"deltas {deltas:.1f} B"] if deltas > PER_TOKEN else []
    missed += [f"with the settled output {everything:.1f} B"] if everything > PER_TOKEN else []
    missed += [f"slope {slope:.3f}"] if abs(slope - 1) > 0.02 else []
    verdict(f"at most {PER_TOKEN:.0f} B a token at 1,000 tokens/s, slope 1.00 +- 0.02", missed)


def lag(open_page: Open, source: Source) -> None:
    """Sent to shown, and the work of a frame, by the size of the document."""
    rows, missed = [], []
    work: dict[int, float] = {}
    for size in SIZES:
        for way in WAYS:
            count = 800 if way == "ours" else 120
            before = max(1, size)
            page = open_page([cell(way, f"p{before}-n{count}-r80", before, source)])
            page.watch(1, way)
            page.page.wait_for_timeout(1000)
            idle = page.processor()
            page.page.wait_for_timeout(2000)
            idle = (page.processor() - idle) / 2
            page.notebook.run(1)
            there = page.wait_shown(before - 1, 60 if way == "ours" else 25)
            spent, at = page.processor(), page.page.evaluate("performance.now()")
            there = there and page.wait_shown(before + count - 1, 20 + count / 80)
            passed = (page.page.evaluate("performance.now()") - at) / 1000
            spent = page.processor() - spent - idle * passed
            lags, frames = page.lags(source.sent(), before), page.frames(before)
            note(f"{size:,}", NAMES[way], f"{len(lags)} of {count} shown")
            page.close()
            if not frames:
                rows.append([f"{size:,}", NAMES[way], "nothing shown in 45 s", *["-"] * 7])
                continue
            each = spent / len(frames)
            p50, p99 = quantile(lags, 50), quantile(lags, 99)
            if way == "ours":
                own, work[size] = p50, each
                if p50 > LAG[0] or p99 > LAG[1]:
                    missed.append(f"{size:,} tokens: p50 {p50:.0f}, p99 {p99:.0f}")
            rows.append([
                f"{size:,}", NAMES[way], said(p50), said(quantile(lags, 95)), said(p99), said(p50 / own), str(len(frames)),
                said(each), said(quantile(frames, 50)), said(quantile(frames, 99)), f"{len(lags)}/{count}" if there else f"{len(lags)}/{count} late",
            ])  # fmt: skip
    print_table(
        [
            "tokens before",
            "80 tokens/s",
            "p50, ms",
            "p95",
            "p99",
            "ratio",
            "frames",
            "main thread, ms a frame",
            "frame p50, ms",
            "p99",
            "shown",
        ],
        rows,
    )
    verdict(f"p50 at most {LAG[0]:.0f} ms, p99 at most {LAG[1]:.0f} ms at 0, 10,000 and 100,000 tokens", missed)
    most, ratio = work[100_000], work[100_000] / work[1_000]
    missed = [f"{most:.1f} ms"] if most > FRAME[0] else []
    missed += [f"{ratio:.2f} times that at 1,000"] if ratio > FRAME[1] else []
    verdict(f"main thread at most {FRAME[0]:.0f} ms a frame at 100,000 tokens and {FRAME[1]} times that at 1,000 ({ratio:.2f})", missed)


def first(open_page: Open, source: Source, rounds: int = 12) -> None:
    """The first token, in turn."""
    page = open_page([cell(way, "n4-r80", 0, source) for _ in range(rounds) for way in WAYS])
    lags: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds * len(WAYS)):
        way = WAYS[number % len(WAYS)]
        page.watch(1 + number, way)
        page.notebook.run(1 + number)
        page.wait_shown(3)
        page.notebook.wait_done(1 + number)
        lags[way].append(page.lags(source.sent(), 0)[0])
        page.unwatch()
    page.close()
    p50 = {way: quantile(lags[way][1:], 50) for way in WAYS}
    rows = [
        [NAMES[way], str(rounds - 1), *(said(quantile(lags[way][1:], at)) for at in (0, 50, 99)), said(p50[way] / p50["ours"])]
        for way in WAYS
    ]
    print_table(["first token", "n", "least, ms", "p50", "p99", "ratio"], rows)
    verdict(f"p50 at most {FIRST:.0f} ms", [f"{p50['ours']:.1f} ms"] if p50["ours"] > FIRST else [])


def rate(open_page: Open, source: Source, seconds: int) -> None:
    """Thousands of tokens a second."""
    rows, missed = [], []
    for speed, way, length in ((5_000, "ours", seconds), (20_000, "ours", seconds), *((5_000, way, 3) for way in WAYS[1:])):
        count = speed * length
        page = open_page([cell(way, f"n{count}-r{speed}", 0, source)])
        page.watch(1, way)
        with page.wire() as counted:
            page.notebook.run(1)
            there = page.wait_shown(count - 1, 40 + length)
            page.page.wait_for_timeout(1000)
        lags = page.lags(source.sent(), 0)
        equal = there and page.page.evaluate(HASH, SELECTORS[way]) == hashlib.sha256("".join(text(count).split()).encode()).hexdigest()
        quarter = len(lags) // 4
        drift = quantile(lags[-quarter:], 50) - quantile(lags[:quarter], 50) if quarter else None
        p50, p99 = (quantile(lags, at) if lags else None for at in (50, 99))
        rows.append([
            f"{speed:,}", NAMES[way], str(length), said(p50, 0), said(p99, 0), said(drift, 0), f"{len(lags):,}/{count:,}",
            str(counted["syncs"]) if way == "ours" else "-", said(page.longest_task(), 0), "equal" if equal else "DIFFERS",
        ])  # fmt: skip
        page.close()
        note(*rows[-1])
        if way == "ours" and speed == 5_000:
            bad = [f"p99 {said(p99, 0)} ms"] if p99 is None or p99 > RATE_P99 else []
            bad += [f"lag grew by {said(drift, 0)} ms"] if drift is None or drift > DRIFT else []
            missed += bad if equal else [*bad, "the text differs"]
    print_table(["tokens/s", "", "seconds", "p50, ms", "p99", "lag grew by", "shown", "syncs", "longest task", "SHA-256"], rows)
    verdict(f"5,000 tokens/s for {seconds} s: p99 at most {RATE_P99:.0f} ms, the lag does not grow, the text is what was sent", missed)


def main() -> None:
    """Prints the figures of the named parts, or of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="wire lag first rate")
    parser.add_argument("--seconds", type=int, default=15)
    asked = parser.parse_args()
    chosen = asked.parts or ["wire", "lag", "first", "rate"]
    number = 0
    with laboratory() as (browser, lab, source):

        def open_page(cells: Sequence[str]) -> Watched:
            nonlocal number
            number += 1
            return Watched(browser, lab, source, cells, f"page-{number}.ipynb")

        for part in chosen:
            if part == "rate":
                rate(open_page, source, asked.seconds)
            else:
                {"wire": wire, "lag": lag, "first": first}[part](open_page, source)


if __name__ == "__main__":
    main()
