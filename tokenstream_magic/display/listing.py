"""Lists as plain text: transcripts, endpoints, what is running."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tokenstream_magic.catalog import Endpoint
from tokenstream_magic.display.inert import for_terminal
from tokenstream_magic.errors import one_line
from tokenstream_magic.record import Transcript
from tokenstream_magic.run import Run

_WORDS = 48


def transcripts(found: Sequence[Transcript], *, filtered: bool = False) -> str:
    """One line a transcript: id, when, model, outcome, TTFT, rate, first words."""
    if not found:
        return "No transcript matches." if filtered else "No transcripts yet."
    rows = [
        [
            t.id,
            t.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            t.model,
            t.outcome + (f" ({t.stop_cause})" if t.stop_cause else ""),
            "" if t.timing.ttft_ms is None else f"{t.timing.ttft_ms:.0f} ms",
            _rate(t),
            _first_words(t),
        ]
        for t in found
    ]
    return table(["id", "when", "model", "outcome", "TTFT", "rate", "prompt → answer"], rows)


def models(endpoints: Mapping[str, Endpoint], aliases: Mapping[str, str], has_key: Callable[[Endpoint], bool], config: Path) -> str:
    """One line an endpoint (name, where, whether it can be used) and an alias, and where the user's own are configured."""
    rows = []
    for name, endpoint in endpoints.items():
        where = "on this machine" if endpoint.starts else endpoint.base_url
        state = endpoint.advice or ("ready" if has_key(endpoint) else f"set {endpoint.api_key_env}")
        rows.append([f"{name}/{endpoint.model or 'MODEL'}", endpoint.protocol, where, state])
    rows += [[alias, "", f"→ {target}", ""] for alias, target in aliases.items()]
    mine = f"Your own endpoints and aliases: {config}" + ("" if config.exists() else " (not there yet)")
    return table(["model", "protocol", "where", "state"], rows) + "\n\n" + mine


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


def _rate(transcript: Transcript) -> str:
    timing = transcript.timing
    if timing.decode_tokens_per_second is not None:
        return f"{timing.decode_tokens_per_second:.0f} tokens/s"
    return "" if timing.chunks_per_second is None else f"{timing.chunks_per_second:.0f} chunks/s"


def _first_words(transcript: Transcript) -> str:
    answer = transcript.text or (transcript.error or {}).get("message") or ""
    return " → ".join(_cut(for_terminal(text)) for text in (transcript.prompt, answer))


def _cut(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"
