"""Lists: transcripts, endpoints, what is running. As plain text, and transcripts as a table that the front end draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenstream_magic.display.inert import for_terminal
from tokenstream_magic.errors import one_line
from tokenstream_magic.record import Transcript
from tokenstream_magic.run import Run

MIME = "application/vnd.tokenstream.listing+json"
VERSION = 1
MOST = 500  # rows that a page draws; the plain text has them all

_WORDS = 48
_HEAD = 200


def transcripts(found: Sequence[Transcript], *, filtered: bool = False, short: bool = False, usage: bool = False) -> str:
    """One line a transcript: id, when, model, outcome, TTFT, rate, first words; with ``usage`` the tokens in and out too."""
    if not found:
        return "No transcript matches." if filtered else "No transcripts yet."
    if short:
        return table(["id", "outcome", "prompt → answer"], ([t.id, t.outcome, _first_words(t)] for t in found))
    rows = [
        [
            t.id,
            t.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            _cut(for_terminal(t.model)),
            t.outcome + (f" ({t.stop_cause})" if t.stop_cause else ""),
            "" if t.timing.ttft_ms is None else f"{_ms(t.timing.ttft_ms)} ms",
            _rate(t),
            *((_count(t.usage.input_tokens), _count(t.usage.output_tokens)) if usage else ()),
            _first_words(t),
        ]
        for t in found
    ]
    return table(["id", "when", "model", "outcome", "TTFT", "rate", *(("in", "out") if usage else ()), "prompt → answer"], rows)


def bundle(found: Sequence[Transcript], text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data and metadata of a list in a notebook: who said what and how it ended, and, as metadata, ids, dates and figures.

    ``text`` is the same list as text. It has dates and figures in it, so a cell that lists is one whose output nbval
    is told to ignore.
    """
    entries = [entry(transcript) for transcript in found[:MOST]]
    return (
        {
            MIME: {"version": VERSION, "rows": [data for data, _ in entries], "left_out": max(0, len(found) - MOST)},
            "text/plain": text,
        },
        {"tokenstream": {"rows": [about for _, about in entries]}},
    )


def entry(transcript: Transcript) -> tuple[dict[str, Any], dict[str, Any]]:
    """A transcript in a list: what was asked and said and how that ended, and about it its id, dates and figures."""
    timing = transcript.timing
    in_tokens = timing.decode_tokens_per_second is not None
    return (
        {
            "model": transcript.model,
            "outcome": transcript.outcome,
            "stop_cause": transcript.stop_cause,
            "prompt": transcript.prompt[:_HEAD],
            "text": (transcript.text or transcript.refusal)[:_HEAD],
            "problem": str((transcript.error or {}).get("message") or "")[:_HEAD],
        },
        {
            "id": transcript.id,
            "created_at": transcript.created_at.isoformat(timespec="milliseconds"),
            "ttft_ms": timing.ttft_ms,
            "rate": timing.decode_tokens_per_second if in_tokens else timing.chunks_per_second,
            "rate_unit": "tokens" if in_tokens else "chunks",
            "input_tokens": transcript.usage.input_tokens,
            "output_tokens": transcript.usage.output_tokens,
            "notebook": transcript.notebook,
            "tags": transcript.tags,
        },
    )


def groups(found: Sequence[Any], by: Sequence[str]) -> str:
    """One line a group of transcripts: how many, how they ended, p50 and p95 of TTFT and rate."""
    if not found:
        return "No transcripts yet."
    rows = [
        [
            *("-" if value is None else _cut(for_terminal(str(value))) for value in group.by),
            str(group.runs),
            ", ".join(f"{n} {outcome}" for outcome, n in sorted(group.outcomes.items(), key=lambda item: -item[1])),
            "" if group.ttft_ms is None else f"{_ms(group.ttft_ms[0])} / {_ms(group.ttft_ms[1])} ms",
            "" if group.tokens_per_second is None else f"{group.tokens_per_second[0]:.1f} / {group.tokens_per_second[1]:.1f} tokens/s",
        ]
        for group in found
    ]
    return table([*by, "runs", "outcomes", "TTFT p50 / p95", "rate p50 / p95"], rows)


def store(status: Mapping[str, Any]) -> str:
    """Where transcripts are kept, and how it stands with them."""
    size = status["size"]
    lines = [
        ("kept in", status["path"]),
        ("size", "" if size is None else f"{size / 1e6:.1f} MB"),
        ("transcripts", str(status["transcripts"])),
        ("schema", f"version {status['version']}"),
        (
            "new runs",
            "are not kept" if status["read_only"] else "are kept" if status["on"] else "are not kept: %transcripts on keeps them again",
        ),
    ]
    if status["away"]:
        lines.append(("away", status["away"]))
    if status["read_only"]:
        lines.append(("read only", status["read_only"]))
    if status["problem"]:
        lines.append(("not saved", f"{status['unsaved']} runs, tried again every second: {status['problem']}"))
    return "\n".join(f"{name:<12} {for_terminal(one_line(value))}".rstrip() for name, value in lines)


def runs(running: Sequence[Run]) -> str:
    """One line a run."""
    rows = [
        [
            run.id,
            run.transcript.model,
            f"{len(run.transcript.timeline)} chunks",
            run.transcript.created_at.astimezone().strftime("%H:%M:%S"),
        ]
        for run in running
    ]
    return table(["id", "model", "so far", "since"], rows) if rows else "Nothing is streaming."


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need to be."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _count(tokens: int | None) -> str:
    return "" if tokens is None else str(tokens)


def _rate(transcript: Transcript) -> str:
    timing = transcript.timing
    if timing.decode_tokens_per_second is not None:
        return f"{timing.decode_tokens_per_second:.0f} tokens/s"
    return "" if timing.chunks_per_second is None else f"{timing.chunks_per_second:.0f} chunks/s"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"  # what is near to hand answers in tenths


def _first_words(transcript: Transcript) -> str:
    answer = transcript.text or (transcript.error or {}).get("message") or ""
    return " → ".join(_cut(for_terminal(text)) for text in (transcript.prompt, answer))


def _cut(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"
