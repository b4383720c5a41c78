"""Faults of silence: text that stood still, with or without keep-alives."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from tokenstream_magic.timing.faults_of_delivery import is_bursty
from tokenstream_magic.timing.findings import UNTIMED, Case, Finding, seconds
from tokenstream_magic.timing.metrics import STALL_FACTOR, STALL_FLOOR_NS
from tokenstream_magic.timing.timeline import QUIET_NS

ATTENTION = 10.0
"""Seconds that attention lasts (Nielsen 1993)."""
GAPS = 3
"""Gaps: a rhythm can be told from so many."""
SPARE = 2
"""Keep-alives in a silence that are evidence: one may be the chunk a block, or the whole stream, begins or ends with."""

# chunks without content that a stream of a protocol has at its opening and its end, and at those of each further block
_IDLE_CHUNKS = {"openai-chat": (1, 1), "openai-responses": (2, 2), "anthropic": (2, 1), "gemini": (1, 1), "ollama": (0, 0)}


def stall(case: Case) -> Finding:
    """Silence in the middle, far longer than this stream's own rhythm; or silence until the run was given up."""
    floor = STALL_FLOOR_NS / 1e9
    threshold = (
        f"a gap longer than {floor:g} s and than {STALL_FACTOR} times the median gap; {ATTENTION:g} s before a rhythm is known and between"
        " thinking and answer; an idle timeout"
    )
    if not case.has_times:
        return Finding("stall", "unknown", UNTIMED, threshold=threshold)
    silences = silences_of(case)
    longest = max(silences, default=None)
    evidence: dict[str, float | str | None] = {
        "stalls": len(silences),
        "longest_seconds": None if longest is None else round(longest, 3),
        "limit_seconds": round(_rhythm(case), 3),
        "total_seconds": round(sum(silences), 3),
    }
    if longest is None:
        return Finding("stall", "clear", "The text never stood still for long.", evidence, threshold)
    advice = (
        "A server that is out of memory, preempts requests or waits for another one falls silent; so does a connection that a network"
        " change has cut. --idle-timeout ends a run that says nothing. See the server's log at that moment."
    )
    summary = f"Nothing came for {seconds(longest)}" + (f", and {len(silences) - 1} more times for long." if len(silences) > 1 else ".")
    return Finding("stall", "found", summary, evidence, threshold, advice)


def keep_alive_only(case: Case) -> Finding:
    """A stall in which the server went on saying that it is alive: idle timeouts of programs that count bytes never fire."""
    threshold = f"a stall in which {SPARE} keep-alives or more came, {QUIET_NS / 1e6:g} ms apart; one more in the silence before any text"
    if not case.has_times:
        return Finding("keep_alive_only", "unknown", UNTIMED, threshold=threshold)
    stamps = case.run.timeline.keep_alive_offsets
    if stamps is None:
        return _by_count(case)
    filled = [(end - begin, inside) for begin, end in stretches_of(case) if (inside := _inside(stamps, begin, end))]
    longest, inside = max(filled, default=(0.0, []))
    evidence: dict[str, float | str | None] = {
        "keep_alives": case.run.timeline.keep_alives,
        "in_the_silence": len(inside),
        "silence_seconds": round(longest, 3),
        "first_seconds": round(inside[0], 3) if inside else None,
        "last_seconds": round(inside[-1], 3) if inside else None,
    }
    if not filled:
        return Finding("keep_alive_only", "clear", "No stretch of keep-alives alone.", evidence, threshold)
    summary = f"For {seconds(longest)} nothing came but keep-alives."
    return Finding("keep_alive_only", "found", summary, evidence, threshold, _ASK)


def _inside(stamps: list[int], begin: float, end: float) -> list[float]:
    """The keep-alives of a silence, in seconds, when they are enough to be evidence."""
    inside = [at / 1e9 for at in stamps if begin < at / 1e9 < end]
    # the empty chunks a stream opens with come at one moment, which may be the only sign of life for long
    return inside if len(inside) >= (SPARE if begin else SPARE + 1) else []


_ASK = (
    "The connection lives and the model says nothing: its queue is full or it hangs. A timeout on bytes never fires here:"
    " use one on progress, as --idle-timeout is, and ask the server's operator."
)


def _by_count(case: Case) -> Finding:
    """Of a record that knows only how many keep-alives there were."""
    threshold = f"a stall, and {SPARE} keep-alives or more beyond the empty chunks a stream of this protocol begins and ends with"
    silences = silences_of(case)
    spare = case.run.timeline.keep_alives - _idle_chunks(case)
    evidence: dict[str, float | str | None] = {
        "keep_alives": case.run.timeline.keep_alives,
        "beyond_the_usual": max(spare, 0),
        "silence_seconds": round(max(silences, default=0.0), 3),
    }
    if not silences or spare < SPARE:
        return Finding("keep_alive_only", "clear", "No stretch of keep-alives alone.", evidence, threshold)
    summary = f"For {seconds(max(silences))} nothing came but keep-alives."
    return Finding("keep_alive_only", "found", summary, evidence, threshold, _ASK)


def _rhythm(case: Case) -> float:
    """The longest gap, in seconds, that is no stall in this stream: from its own gaps, or those between lumps when it comes in lumps."""
    gaps = case.run.timeline.gaps()
    usual = median(gaps) / 1e9 if gaps else 0.0
    if is_bursty(case):
        usual = max(usual, case.delivery.median_pause or 0.0)
    return max(STALL_FLOOR_NS / 1e9, STALL_FACTOR * usual)


def silences_of(case: Case) -> list[float]:
    """Every stall, in seconds."""
    return [end - begin for begin, end in stretches_of(case)]


def stretches_of(case: Case) -> list[tuple[float, float]]:
    """When the stalls began and ended, in seconds from the request. The wait for the first piece is none, as long as a piece came."""
    stamps = case.stamps
    given_up = case.error_type in ("idle_timeout", "first_token_timeout")
    if not stamps:
        waited = case.ended_after or 0.0
        return [(0.0, waited)] if given_up or (waited >= ATTENTION and case.run.outcome == "stopped") else []
    limit = _rhythm(case)
    if len(stamps) <= GAPS:
        limit = max(limit, ATTENTION)
    found = []
    for before, after in pairwise(stamps):
        gap = (after.offset_ns - before.offset_ns) / 1e9
        # between thinking and answer, and before a tool call, models work without a word
        if gap > (limit if before.channel == after.channel else max(limit, ATTENTION)):
            found.append((before.offset_ns / 1e9, after.offset_ns / 1e9))
    if case.run.outcome in ("truncated", "failed", "stopped") and case.ended_after is not None:
        last = stamps[-1].offset_ns / 1e9
        if given_up or case.ended_after - last > limit:
            found.append((last, case.ended_after))
    return found


def _idle_chunks(case: Case) -> int:
    """How many chunks without content a stream like this has when nothing is wrong."""
    run = case.run
    opening, end = _IDLE_CHUNKS.get(run.protocol, (1, 1))
    blocks = len(run.tool_calls) + bool(run.reasoning)
    # what was never begun has no end
    return (opening + end) * (1 + blocks) if len(run.timeline) else opening
