"""Faults of delivery: text that was held back, came in lumps, was compressed, or was shown late."""

from __future__ import annotations

from statistics import median

from tokenstream_magic.timing.delivery import PACE, STEP
from tokenstream_magic.timing.findings import EMPTY, UNTIMED, Case, Finding, seconds, word

NOTICEABLE = 1.0
"""Seconds without an answer that interrupt a train of thought (Nielsen 1993): below it, streaming has nothing to save."""
RESPONSE = 0.2
"""Seconds within which a page should answer a click (web.dev, Interaction to Next Paint, "good")."""
DISPLAY = 0.1
"""Seconds within which a change seems immediate (Nielsen 1993; RAIL)."""
WHOLE = 0.9
"""The share of the text in one portion that makes it the whole answer; the rest is what a buffer let through before or after."""
WORTH = 40
"""Pieces: fewer of them may be bunched by a hiccup of the network or of this machine (100 ms at 400 tokens/s)."""


def held_back(case: Case) -> Finding:
    """The whole answer at once after a wait: something on the way, or the server, gathered it."""
    threshold = (
        f"{WHOLE:.0%} of the text at once (faster than {PACE} pieces/s), {WORTH} pieces or more, after {NOTICEABLE:g} s or more;"
        f" from {STEP + 1} pieces on when the server says it wrote for {NOTICEABLE:g} s longer than it delivered"
    )
    advice = (
        "Something between you and the model gathers the answer. nginx: proxy_buffering off, or send X-Accel-Buffering: no from the"
        " server; other proxies, CDNs and serverless platforms: turn response buffering off for this path. Try the model without the proxy."
    )
    name = "held_back"
    if case.noted(r"^the server sent the whole answer at once instead of a stream"):
        evidence: dict[str, float | str | None] = {"pieces": len(case.run.timeline), "total_seconds": case.signals.total_seconds}
        advice = (
            'The server ignored the wish for a stream. See that what stands between passes "stream": true on, and that this model'
            " of this server streams at all."
        )
        return Finding(name, "found", "The server sent the whole answer in one object and no stream.", evidence, threshold, advice)
    if not case.has_times or not case.delivery.portions:
        return Finding(name, "unknown", EMPTY if case.has_times else UNTIMED, threshold=threshold)
    largest = max(case.delivery.portions, key=lambda portion: portion.characters)
    characters = sum(portion.characters for portion in case.delivery.portions)
    share = largest.characters / characters if characters else 0.0
    written = _written_seconds(case)
    evidence = {
        "share_at_once": round(share, 3),
        "pieces_at_once": largest.pieces,
        "within_seconds": round(largest.ends - largest.begins, 4),
        "wait_seconds": round(largest.begins, 3),
        "reads_with_text": case.run.timeline.fresh_reads,
        "server_wrote_seconds": written,
    }
    if share < WHOLE or largest.begins < NOTICEABLE or not (largest.is_gathered or largest.pieces <= STEP):
        return Finding(name, "clear", "The text came as it was written.", evidence, threshold)
    told = written is not None and written - (largest.ends - largest.begins) >= NOTICEABLE
    if largest.pieces >= WORTH or (told and largest.is_gathered):
        lasted = largest.ends - largest.begins
        within = "at once" if lasted < 0.001 else f"within {seconds(lasted)}"
        summary = f"{share:.0%} of the text came {within}, after {seconds(largest.begins)} of nothing."
        return Finding(name, "found", summary, evidence, threshold, advice)
    return Finding(name, "unknown", "The answer is too short to tell whether it was held back.", evidence, threshold)


def bursts(case: Case) -> Finding:
    """Text in lumps with silence between them: a buffer that is passed on whenever it is full."""
    threshold = (
        f"most of the text in two or more lumps of more than {STEP} pieces, each faster than {PACE} pieces/s,"
        f" with {RESPONSE:g} s or more between them"
    )
    advice = (
        "A buffer on the way is passed on when it is full (4 or 8 KiB in nginx, 32 KiB in compressors). Turn buffering and compression"
        " off for this path, or have the server flush after every event."
    )
    name = "bursts"
    if not case.has_times or not case.delivery.portions:
        return Finding(name, "unknown", EMPTY if case.has_times else UNTIMED, threshold=threshold)
    found = case.delivery
    evidence: dict[str, float | str | None] = {
        "lumps": len(found.gathered),
        "share_in_lumps": round(found.share, 3),
        "median_pieces": median(portion.pieces for portion in found.gathered) if found.gathered else None,
        "median_pause_seconds": None if found.median_pause is None else round(found.median_pause, 3),
    }
    if is_bursty(case):
        pause = seconds(found.median_pause or 0.0)
        summary = f"{found.share:.0%} of the text came in {len(found.gathered)} lumps, {pause} apart."
        return Finding(name, "found", summary, evidence, threshold, advice)
    return Finding(name, "clear", "The text came piece by piece, or in portions no larger than a step of the model.", evidence, threshold)


def compression(case: Case) -> Finding:
    """The stream was compressed although it was asked not to be: a compressor may wait for a full block."""
    threshold = "a Content-Encoding on the stream, although identity was asked for"
    noted = case.noted(r"^the server compressed the stream \(([^)]*)\) although asked not to")
    if noted is None and case.error_type != "compressed":
        return Finding("compression", "clear", "The stream was not compressed.", threshold=threshold)
    coding = word(noted[1]) if noted is not None else None
    held = (
        "It held text back." if is_bursty(case) or held_back(case).verdict == "found" else "Nothing says that it held text back this time."
    )
    if noted is None:
        held = "It could not be undone."
    advice = (
        "Turn compression off for event streams. nginx: no text/event-stream in gzip_types, or gzip off; Express and Starlette:"
        " leave streams out of the compression middleware; a CDN: a rule for this path."
    )
    return Finding(
        "compression", "found", f"The stream was compressed ({coding or 'unknown'}). {held}", {"coding": coding}, threshold, advice
    )


def slow_display(case: Case) -> Finding:
    """The text was there long before it was shown."""
    threshold = f"p99 of the time from arrival to display above {DISPLAY * 1000:g} ms, whatever the clocks leave open"
    shown = case.displayed
    if shown is None:
        return Finding("slow_display", "unknown", "No page in view said when it showed the text.", threshold=threshold)
    evidence: dict[str, float | str | None] = {
        "p50_ms": round(shown.p50 / 1000, 1),
        "p99_ms": round(shown.p99 / 1000, 1),
        "max_ms": round(shown.most / 1000, 1),
        "last_ms": round(shown.last / 1000, 1),
        "error_ms": round(shown.error / 1000, 1),
        "messages": shown.messages,
        "frame_work_ms": round(shown.work / 1000, 2),
    }
    limit = DISPLAY * 1e6
    if shown.p99 + shown.error <= limit:
        return Finding("slow_display", "clear", "The text was shown as it came.", evidence, threshold)
    if shown.p99 - shown.error <= limit:
        summary = f"The clocks of the page and the kernel cannot be told apart by less than {seconds(shown.error / 1e6)}."
        return Finding("slow_display", "unknown", summary, evidence, threshold)
    advice = (
        "The display is the bottleneck, not the model: close other outputs of this notebook, use --format text for very long answers,"
        " and keep code that holds the interpreter out of the kernel while a stream runs."
    )
    summary = f"Text was shown up to {seconds(shown.most / 1e6)} after it had come."
    return Finding("slow_display", "found", summary, evidence, threshold, advice)


def is_bursty(case: Case) -> bool:
    """Whether the text came in lumps far enough apart to be seen."""
    return case.has_times and case.delivery.in_lumps and (case.delivery.median_pause or 0.0) >= RESPONSE


def _written_seconds(case: Case) -> float | None:
    """How long the server says it generated: llama.cpp in ms, Ollama in ns, Groq in seconds."""
    server = case.run.timing.server
    for name, unit in (("predicted_ms", 1e-3), ("eval_duration", 1e-9), ("completion_time", 1.0)):
        value = server.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value * unit < 1e6:
            return round(value * unit, 3)
    return None
