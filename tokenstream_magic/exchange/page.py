"""Transcripts as one page: no script, nothing fetched, model text only ever as text.

The policy in the page's head allows its own style sheet, by its hash, and nothing else. It reads in light and in dark.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape
from typing import IO

from tokenstream_magic.display import bundle
from tokenstream_magic.display.inert import for_terminal
from tokenstream_magic.errors import one_line
from tokenstream_magic.record import Transcript
from tokenstream_magic.timing.timeline import Timeline

MOST_BARS = 400
_WIDTH = 1000

STYLE = """
:root { color-scheme: light dark; --ink: #1c1d21; --dim: #5d6068; --page: #fbfbfa; --card: #fff; --line: #dcdde1; --accent: #1b6ec2; --warn: #a33; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7e7ea; --dim: #a3a6ae; --page: #17181b; --card: #1f2024; --line: #3a3c42; --accent: #6db3f8; --warn: #ff8a80; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 54rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.4rem; margin: 0 0 1.5rem; }
h2 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
h3 { font-size: .8rem; margin: 1.25rem 0 .35rem; color: var(--dim); font-weight: 600; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1.25rem; margin: 0 0 1.5rem; }
.about { color: var(--dim); font-size: .85rem; margin: .15rem 0 0; overflow-wrap: anywhere; }
.words { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.asked { border-left: 3px solid var(--line); padding-left: .8rem; color: var(--dim); }
.bad { color: var(--warn); }
code, .code { font: .85rem/1.5 ui-monospace, monospace; }
dl { display: flex; flex-wrap: wrap; gap: .4rem 1.6rem; margin: 1rem 0 0; font-size: .85rem; font-variant-numeric: tabular-nums; }
dt { color: var(--dim); }
dd { margin: 0; font-weight: 600; }
svg { display: block; width: 100%; height: 1.5rem; margin-top: 1rem; }
.rail { fill: var(--line); }
.bar { fill: var(--accent); }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--dim); font-size: .85rem; }
@media print { article { break-inside: avoid; } }
"""

_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"

_HEAD = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Transcripts</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>Transcripts</h1>
"""
_FOOT = "</main>\n</body>\n</html>\n"


def write(found: Iterable[Transcript], out: IO[bytes]) -> int:
    """Writes the page; how many transcripts are on it."""
    out.write(_HEAD.encode())
    count = 0
    for count, transcript in enumerate(found, 1):  # noqa: B007
        out.write("\n".join(_article(transcript)).encode() + b"\n")
    out.write(_FOOT.encode())
    return count


def figures(transcript: Transcript) -> list[tuple[str, str]]:
    """What was measured, by name, for a reader; what is unknown is left out."""
    timing, usage = transcript.timing, transcript.usage
    shown: list[tuple[str, float | None, str]] = [
        ("TTFT", timing.ttft_ms, "{:.0f} ms"),
        ("TTFA", timing.ttfa_ms if timing.ttfa_ms != timing.ttft_ms else None, "{:.0f} ms"),
        ("total", timing.e2e_ms, "{:.0f} ms"),
        ("ICL p50", timing.icl_p50_ms, "{:.1f} ms"),
        ("ICL p95", timing.icl_p95_ms, "{:.1f} ms"),
        ("rate", timing.decode_tokens_per_second, "{:.1f} tokens/s"),
        ("chunks", timing.chunks or None, "{:.0f}"),
        ("stalls", timing.stalls, "{:.0f}"),
        ("tokens in", usage.input_tokens, "{:.0f}"),
        ("tokens out", usage.output_tokens, "{:.0f}"),
    ]
    return [(name, form.format(value)) for name, value, form in shown if value is not None]


def text(value: object) -> str:
    """Text of anybody's for the page: control characters removed, those that hide or reorder made visible, all of it escaped."""
    return escape(for_terminal(str(value)), quote=True)


def _article(transcript: Transcript) -> Iterator[str]:
    ending = bundle.in_words(transcript)
    yield "<article>"
    yield f"<h2><bdi>{text(one_line(transcript.model) or 'transcript')}</bdi></h2>"
    when = transcript.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    trouble = "" if transcript.outcome == "complete" else ' class="bad"'
    yield f'<p class="about"><code>{text(transcript.id)}</code> · {when} · <span{trouble}>{text(ending or transcript.outcome)}</span></p>'
    for heading, words in (("System", transcript.system), ("Prompt", transcript.prompt)):
        if words:
            yield f'<h3>{heading}</h3>\n<p class="words asked" dir="auto">{text(words)}</p>'
    if transcript.reasoning:
        yield f'<details><summary>Reasoning</summary><p class="words asked" dir="auto">{text(transcript.reasoning)}</p></details>'
    for number, choice in enumerate(transcript.choices):
        heading = "Answer" if len(transcript.choices) == 1 else f"Answer {number + 1}"
        said = choice.text or choice.refusal
        if said or not choice.tool_calls:
            yield f'<h3>{heading}</h3>\n<p class="words" dir="auto">{text(said)}</p>'
        for call in choice.tool_calls:
            yield f'<h3>Tool call</h3>\n<p class="words code">{text(call.get("name") or "")}({text(call.get("arguments") or "")})</p>'
    yield from _timeline(transcript.timeline)
    shown = figures(transcript)
    if shown:
        yield "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{text(value)}</dd></div>" for name, value in shown) + "</dl>"
    yield "</article>"


def _timeline(timeline: Timeline) -> Iterator[str]:
    """When text came, from the request to the last of it: a bar where pieces came closer than can be drawn apart."""
    offsets = [stamp.offset_ns for stamp in timeline]
    if not offsets or offsets[-1] <= 0:
        return
    grain = offsets[-1] / MOST_BARS
    spans: list[list[int]] = []
    for offset in offsets:
        if spans and offset - spans[-1][1] < grain:
            spans[-1][1] = max(spans[-1][1], offset)
        else:
            spans.append([offset, offset])
    scale = _WIDTH / offsets[-1]
    yield f'<svg viewBox="0 0 {_WIDTH} 24" preserveAspectRatio="none" role="img" aria-label="when text arrived">'
    yield f'<rect class="rail" x="0" y="11" width="{_WIDTH}" height="2"/>'
    for start, end in spans:
        width = max(2.0, (end - start) * scale)
        yield f'<rect class="bar" x="{min(start * scale, _WIDTH - width):.1f}" y="4" width="{width:.1f}" height="16"/>'
    yield "</svg>"
