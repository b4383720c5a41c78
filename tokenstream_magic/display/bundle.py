"""The settled bundle: what stays in the notebook. Data is what was said, metadata is how it went.

``data`` depends only on the request and the answer, so that a seeded or replayed notebook passes strict nbval; ids,
dates, timings and the timeline are in ``metadata`` (ARCHITECTURE decision 10). There is no ``text/html``, and the
Markdown is a derived, inert form (decision 9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tokenstream_magic.display.inert import for_markdown, for_terminal
from tokenstream_magic.display.masked import masked
from tokenstream_magic.errors import StoreError, one_line
from tokenstream_magic.record import Transcript

MIME = "application/vnd.tokenstream.transcript+json"
VERSION = 1

_CAUSES = {
    "button": "by the Stop button",
    "interrupt": "by an interrupt",
    "api": "by a call",
    "limit:time": "at its time limit",
    "limit:tokens": "at its token limit",
    "crash": "when the kernel ended",
}


def settled(transcript: Transcript) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data and metadata of a finished transcript."""
    transcript = masked(transcript)
    ending = in_words(transcript)
    said = transcript.text or transcript.refusal
    text = for_terminal(said)
    return (
        {
            MIME: content(transcript),
            "text/markdown": "\n\n".join(
                filter(None, [for_markdown(said, is_output=True), f"*{for_markdown(ending).strip()}*" if ending else ""])
            ),
            "text/plain": "\n".join(filter(None, [text, f"[{for_terminal(ending)}]" if ending else ""])),
        },
        {"tokenstream": about(transcript)},
    )


def settled_columns(transcripts: Sequence[Transcript]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data and metadata of several transcripts side by side: a column, and in the other forms a heading, each."""
    each = [settled(transcript) for transcript in transcripts]
    names = [one_line(transcript.model) for transcript in transcripts]
    return (
        {
            MIME: {"version": VERSION, "status": "settled", "columns": [data[MIME] for data, _ in each]},
            "text/markdown": "\n\n".join(
                f"### {for_markdown(name).strip()}\n\n{data['text/markdown']}" for name, (data, _) in zip(names, each, strict=True)
            ),
            "text/plain": "\n\n".join(
                f"[{for_terminal(name)}]\n{data['text/plain']}".strip() for name, (data, _) in zip(names, each, strict=True)
            ),
        },
        {"tokenstream": {"columns": [metadata["tokenstream"] for _, metadata in each]}},
    )


def live_columns(columns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Data of an output with several streams, each ``{model_id, stream_id, model}``."""
    names = ", ".join(one_line(str(column["model"])) for column in columns)
    return {
        MIME: {"version": VERSION, "status": "live", "columns": [{**column, "text": ""} for column in columns]},
        "text/plain": f"[{for_terminal(names)} are answering]",
    }


def live(transcript: Transcript, model_id: str, text: str = "") -> dict[str, Any]:
    """Data of an output whose stream is still running: our view binds to the widget model by its id."""
    return {
        MIME: {
            "version": VERSION,
            "status": "live",
            "stream_id": transcript.id,
            "model_id": model_id,
            "model": transcript.model,
            "text": text,
        },
        "text/plain": for_terminal(text) or f"[{transcript.model} is answering]",
    }


def content(transcript: Transcript) -> dict[str, Any]:
    """What was said, as plain data."""
    said: dict[str, Any] = {
        "version": VERSION,
        "status": "settled",
        "model": transcript.model,
        "outcome": transcript.outcome,
        "stop_cause": transcript.stop_cause,
        "finish_reason": transcript.finish_reason,
        "text": transcript.text,
    }
    optional = {
        "format": getattr(transcript, "format", None),
        "reasoning": transcript.reasoning,
        "refusal": transcript.refusal,
        "tool_calls": transcript.tool_calls,
    }
    said |= {name: value for name, value in optional.items() if value}
    if transcript.error is not None:
        said["error"] = transcript.error
    if len(transcript.choices) > 1:
        said["choices"] = [{name: value for name, value in asdict(choice).items() if name != "logprobs"} for choice in transcript.choices]
    return said


def document(transcript: Transcript) -> dict[str, Any]:
    """The content of a ``.tokenstream.json`` file: data and metadata in one, and beside them what was asked."""
    transcript = masked(transcript)
    asked = {
        "prompt": transcript.prompt,
        "system": transcript.system,
        "options": transcript.options,
        "notebook": transcript.notebook,
        "tags": transcript.tags,
        "note": transcript.note,
        "parent_id": transcript.parent_id,
        "conversation_id": transcript.conversation_id,
    }
    known = {name: value for name, value in asked.items() if value}
    return {**content(transcript), "tokenstream": {**about(transcript), "asked": known}}


def about(transcript: Transcript) -> dict[str, Any]:
    """How it went: ids, dates, timing, timeline, usage; logprobs, a list a choice, where the server sent them; the wire where it was kept."""
    logprobs = [getattr(choice, "logprobs", None) or [] for choice in transcript.choices]
    return {
        "id": transcript.id,
        "created_at": transcript.created_at.isoformat(timespec="milliseconds"),
        "resolved_model": transcript.resolved_model,
        "endpoint": transcript.endpoint,
        "protocol": transcript.protocol,
        "timing": transcript.timing.as_dict(),
        "usage": asdict(transcript.usage),
        "timeline": transcript.timeline.as_dict(),
        "diagnostics": transcript.diagnostics,
        "system_fingerprint": transcript.system_fingerprint,
        "package_version": transcript.package_version,
        **({"logprobs": logprobs} if any(logprobs) else {}),
        **({"replayed": transcript.replayed, "parent_id": transcript.parent_id} if transcript.replayed is not None else {}),
        **_wire(transcript),
    }


def _wire(transcript: Transcript) -> dict[str, Any]:
    """The Wire tab, of a run that was asked for it; worked out once."""
    try:
        wire = transcript.wire
    except StoreError:  # the transcript is shown all the same
        return {}
    if wire is None:
        return {}
    from tokenstream_magic.display.wiretab import wire_tab

    if wire.tab is None:
        wire.tab = wire_tab(wire)
    return {"wire": wire.tab}


def problem(transcript: Transcript) -> str:
    """What went wrong, in the words of the settled output; empty when nothing did."""
    message = str((transcript.error or {}).get("message") or "")
    return message or (transcript.diagnostics[0] if transcript.outcome == "truncated" and transcript.diagnostics else "")


def in_words(transcript: Transcript) -> str:
    """How it ended, for a reader; empty when it is simply complete."""
    if transcript.outcome == "running":
        return f"still answering, {len(transcript.timeline)} chunks so far"
    message = (transcript.error or {}).get("message") or (transcript.diagnostics[0] if transcript.diagnostics else "")
    if transcript.outcome == "stopped":
        return f"stopped {_CAUSES.get(transcript.stop_cause or '', '')}".strip()
    if transcript.outcome == "truncated":
        cause = _CAUSES.get(transcript.stop_cause or "", "")
        return ": ".join(filter(None, [f"truncated {cause}".strip(), message]))
    if transcript.outcome == "failed":
        return f"failed: {message}" if message else "failed"
    if transcript.finish_reason == "length":
        return "complete, cut at max_tokens"
    return "" if transcript.text or transcript.refusal or transcript.tool_calls else "complete, without any text"


Transcript.presenter = staticmethod(settled)
