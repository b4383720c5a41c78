"""Faults of the ending: answers that are not whole, errors that look like answers, tokens nobody counted, a Stop that did not stop."""

from __future__ import annotations

from tokenstream_magic.timing.faults_of_delivery import RESPONSE
from tokenstream_magic.timing.faults_of_silence import silences_of
from tokenstream_magic.timing.findings import Case, Finding, seconds, word

LONGEST_TOKEN = 32
"""Characters: text has some four a token, and none has eight times as many on average."""

_LIMITS = frozenset(("length", "max_tokens", "max_output_tokens", "model_length"))
# what a client says for itself; any other type of error is the server's own word
_OURS = frozenset((
    "first_token_timeout", "idle_timeout", "connection_lost", "no_connection", "bad_response", "compressed", "cancelled", "internal",
    "frame_too_large", "empty_stream", "redirect", "http_error",
))  # fmt: skip


def truncated(case: Case) -> Finding:
    """The answer is not whole, however whole it looks: the connection or the body ended before the protocol's end."""
    threshold = "the stream ended without a finish reason or the protocol's end"
    run, timeline = case.run, case.run.timeline
    ended = timeline.ended is not None and not case.error_type
    evidence: dict[str, float | str | None] = {
        "ended_after_seconds": None if case.ended_after is None else round(case.ended_after, 3),
        "finish_reason": word(run.finish_reason) or None,
        "closed": "in good order" if ended else case.error_type or None,
        "pieces": len(timeline),
    }
    empty = case.error_type == "empty_stream"
    if run.outcome != "truncated" and not empty:
        return Finding(
            "truncated", "clear", "The stream came to its end." if run.outcome == "complete" else "Not cut off.", evidence, threshold
        )
    if run.stop_cause == "crash":
        summary, advice = "The kernel ended while this was streaming.", "Run the cell again, or go on from the text that was kept."
    elif empty:
        summary = "The server said that all was well and closed the stream without a word in it."
        advice = "Look into the server's log: a model that could not be loaded, a prompt longer than its context, a proxy that lost it."
    elif ended:
        summary = "The connection closed in good order, but the model never said that it had finished: the answer only looks whole."
        advice = (
            "Do not take the text for whole. Look for a limit on the way: a proxy's proxy_read_timeout, a load balancer's or serverless"
            " platform's longest response, a worker that was restarted."
        )
    elif case.error_type == "idle_timeout":
        silence = seconds(max(silences_of(case), default=0.0))
        summary, advice = f"The run was given up in the middle of the answer, after {silence} without a word.", "See stall."
    else:
        summary = "The connection broke off in the middle of the answer."
        advice = (
            "Look for a timeout on the way (proxy_read_timeout, a load balancer's idle timeout), a restarted server, a changed network."
            " --max-retries does not repeat an answer that has begun: run the cell again."
        )
    return Finding("truncated", "found", summary, evidence, threshold, advice)


def token_limit(case: Case) -> Finding:
    """The answer ends where its token limit was."""
    reason = word(case.run.finish_reason).lower().replace("-", "_")
    threshold = f"finish reason {', '.join(sorted(_LIMITS))}"
    if reason not in _LIMITS or case.run.outcome != "complete":
        return Finding("token_limit", "clear", "No token limit ended the answer.", {"finish_reason": reason or None}, threshold)
    evidence: dict[str, float | str | None] = {"finish_reason": reason, "output_tokens": case.run.usage.output_tokens}
    advice = "Raise --max-tokens, or ask for a shorter answer. Reasoning counts too."
    return Finding(
        "token_limit",
        "found",
        "The answer ends where its token limit was, not where the model would have ended.",
        evidence,
        threshold,
        advice,
    )


def error_after_200(case: Case) -> Finding:
    """The server said that all was well and sent an error then: programs that look at the status only take it for an answer."""
    threshold = "an error from the server after the HTTP status 200"
    run, kind = case.run, case.error_type
    after = case.run.timeline.last
    evidence: dict[str, float | str | None] = {"type": kind or None, "pieces_before": len(run.timeline)}
    if after is not None and case.has_times:
        evidence["last_text_seconds"] = round((after - run.timeline.origin) / 1e9, 3)
    status = (run.error or {}).get("status")
    begun = run.timeline.first_event is not None or not isinstance(status, int) or status < 400
    begun = begun and run.timeline.headers is not None
    if run.outcome not in ("failed", "truncated") or run.error is None or kind in _OURS or not begun:
        return Finding("error_after_200", "clear", "No error came in the stream.", evidence, threshold)
    summary = f"After {len(run.timeline)} pieces the server reported an error in the stream, under a status that said all was well."
    if not len(run.timeline):
        summary = "The server reported an error under a status that said all was well."
    advice = (
        "Read the error: overload and rate limits pass, so run the cell again later; a context that is too long does not. Programs"
        " must look for errors in every event: the status alone says nothing about the end of a stream."
    )
    return Finding("error_after_200", "found", summary, evidence, threshold, advice)


def missing_usage(case: Case) -> Finding:
    """A whole answer without a count of its tokens: cost and tokens/s stay unknown."""
    threshold = (
        f"a complete answer whose tokens were not counted, only before it began, or as fewer than one for {LONGEST_TOKEN} characters"
    )
    run, timeline = case.run, case.run.timeline
    tokens, at = run.usage.output_tokens, timeline.usage
    early = at is not None and timeline.first is not None and at < timeline.first
    characters = sum(stamp.characters for stamp in case.stamps)
    evidence: dict[str, float | str | None] = {
        "output_tokens": tokens,
        "characters": characters,
        "counted_before_the_answer": "yes" if early else "no",
    }
    if run.outcome != "complete":
        return Finding("missing_usage", "unknown", "Servers count at the end, and this answer did not come to it.", evidence, threshold)
    if tokens is not None and not early and characters <= LONGEST_TOKEN * tokens:
        return Finding("missing_usage", "clear", "The server counted the tokens.", evidence, threshold)
    advice = (
        'OpenAI-compatible servers count when asked to: stream_options {"include_usage": true}, which is sent unless an option or'
        " a proxy takes it out. Otherwise the figures here are per chunk, and a chunk is not a token."
    )
    some = "" if tokens is None else f": {tokens} cannot be all of them"
    return Finding("missing_usage", "found", f"The server did not count the tokens of the answer{some}.", evidence, threshold, advice)


def _since(asked: int | None, at: int | None) -> float | None:
    return None if asked is None or at is None else round((at - asked) / 1e6, 1)


def stop_did_not_stop(case: Case) -> Finding:
    """Stop was asked for and the connection stayed, or the server went on generating."""
    threshold = (
        f"the connection closed later than {RESPONSE * 1000:g} ms after Stop, or never; the server did not end a lasting answer, or its"
        " slots said that it went on generating until the last look, 1.5 s after Stop"
    )
    run, timeline = case.run, case.run.timeline
    goes_on = case.noted(r"it may go on generating")
    if timeline.stop_requested is None and goes_on is None:
        return Finding("stop_did_not_stop", "clear", "Nobody stopped this run.", threshold=threshold)
    latency = run.timing.stop_latency_ms
    asked = None if timeline.stop_requested is None else timeline.stop_requested - timeline.origin
    busy = _since(timeline.stop_requested, timeline.server_busy)
    late = [stamp for stamp in case.stamps if asked is not None and stamp.offset_ns > asked]
    evidence: dict[str, float | str | None] = {
        "latency_ms": latency,
        "pieces_after_stop": len(late),
        "server": "may go on generating" if goes_on else None,
        "server_busy_ms": busy,
        "server_idle_ms": _since(timeline.stop_requested, timeline.server_idle),
    }
    generated = busy is not None and timeline.server_idle is None
    # a stop before there was a connection has none to close
    open_still = latency is None and timeline.stop_requested is not None and timeline.connected is not None
    if not goes_on and not open_still and not generated and (latency is None or latency <= RESPONSE * 1000):
        seen = " and the server was seen to end the answer" if timeline.server_idle is not None else ""
        return Finding("stop_did_not_stop", "clear", f"Stop closed the connection{seen}.", evidence, threshold)
    if generated and not goes_on:
        summary = f"The server still generated the answer {seconds((busy or 0.0) / 1000)} after Stop."
        advice = (
            "Something between you and the server keeps its connection open: a proxy that does not pass the close on. Ask the server"
            " without it. A llama.cpp server also ends no batch of the prompt that it has begun: lower --batch-size."
        )
    elif goes_on:
        summary = "The answer lasts without its connection, and the server did not confirm that it ended it: it may go on and cost."
        advice = "Cancel the answer at the provider, or turn resumable off for this endpoint, so that closing the connection ends it."
    else:
        when = "was never seen to close" if latency is None else f"closed only {seconds(latency / 1000)} after Stop"
        summary = f"The connection {when}."
        advice = (
            "Code that holds the interpreter delays a Stop: look for extensions and threads in the kernel that do. With another HTTP"
            " client in the place of ours, its abort must close the socket at once."
        )
    return Finding("stop_did_not_stop", "found", summary, evidence, threshold, advice)
