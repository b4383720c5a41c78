"""What a run is called in OpenTelemetry: the attributes of a span, and the names of metrics in each profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from tokenstream_magic.plan import Plan
from tokenstream_magic.record import Choice, Transcript

PROFILES = ("semconv-1.41", "genai-main")

_PROVIDERS = {
    "openai-responses": "openai",
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
_REQUEST = {  # our names of request fields, and those of the conventions
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "reasoning_effort": "reasoning.level",
    "n": "choice.count",
}
_WHOLE = ("max_tokens", "seed", "choice.count")
_NAMED = ("chatcmpl", "resp_", "msg_")  # how ids of responses begin, and those of requests do not


@dataclass(frozen=True)
class Names:
    """What the profiles call differently."""

    duration: str
    first_chunk: str
    chunk: str
    whole_top_k: bool
    usage: Mapping[str, str]
    """Histograms of tokens: by our name of a count, their name, or with ``#`` a counter's."""


PROFILE_NAMES = {
    "semconv-1.41": Names(
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
        False,
        {},
    ),
    "genai-main": Names(
        "gen_ai.client.inference.duration",
        "gen_ai.client.inference.time_to_first_chunk",
        "gen_ai.client.inference.time_per_output_chunk",
        True,
        {
            "input_tokens": "gen_ai.client.inference.usage.input_tokens",
            "output_tokens": "gen_ai.client.inference.usage.output_tokens",
            "cached_input_tokens": "gen_ai.client.inference.usage.cache_read.input_tokens",
            "reasoning_tokens": "gen_ai.client.inference.usage.reasoning.output_tokens",
        },
    ),
}


def common(plan: Plan, transcript: Transcript) -> dict[str, Any]:
    """What spans and metrics have in common."""
    endpoint = plan.endpoint
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "generate_content" if endpoint.protocol == "gemini" else "chat",
        "gen_ai.provider.name": _PROVIDERS.get(endpoint.name, endpoint.name),
        "gen_ai.request.model": plan.model,
    }
    if transcript.resolved_model:
        attributes["gen_ai.response.model"] = transcript.resolved_model
    if not endpoint.starts and endpoint.base_url:
        parts = urlsplit(endpoint.base_url)
        attributes["server.address"] = parts.hostname or ""
        attributes["server.port"] = parts.port or {"https": 443}.get(parts.scheme, 80)
    if transcript.outcome in ("failed", "truncated"):
        error = transcript.error or {}
        attributes["error.type"] = str(error.get("type") or error.get("status") or transcript.outcome)
    return attributes


def request(plan: Plan, names: Names) -> dict[str, Any]:
    """What was asked for."""
    options = plan.options
    attributes: dict[str, Any] = {"gen_ai.request.stream": True}
    for ours, theirs in _REQUEST.items():
        value = options.get(ours)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            continue
        if theirs == "reasoning.level":
            if names.whole_top_k:  # a name of this profile only
                attributes["gen_ai.request.reasoning.level"] = str(value)
        elif isinstance(value, (int, float)) and not (theirs == "choice.count" and value == 1):
            whole = theirs in _WHOLE or (theirs == "top_k" and names.whole_top_k)
            attributes[f"gen_ai.request.{theirs}"] = int(value) if whole else float(value)
    stop = options.get("stop")
    if isinstance(stop, (str, list)) and stop:
        attributes["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else [str(one) for one in stop]
    shaped = "schema" in options or "json" in options or "response_format" in options
    attributes["gen_ai.output.type"] = "json" if shaped else "text"
    return attributes


def response(transcript: Transcript) -> dict[str, Any]:
    """What came of it, by names of the conventions."""
    usage, timing = transcript.usage, transcript.timing
    attributes: dict[str, Any] = {
        "gen_ai.response.time_to_first_chunk": None if timing.ttft_ms is None else timing.ttft_ms / 1e3,
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
        "gen_ai.conversation.id": transcript.conversation_id,
        "gen_ai.response.id": transcript.request_id if (transcript.request_id or "").startswith(_NAMED) else None,
        "gen_ai.response.finish_reasons": [finish(transcript, choice) for choice in transcript.choices] or None,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def finish(transcript: Transcript, choice: Choice) -> str:
    """Why a choice ended."""
    return "error" if transcript.outcome != "complete" else choice.finish_reason or "stop"


def ours(transcript: Transcript, start: int) -> dict[str, Any]:
    """What came of it that the conventions have no name for."""
    timing, displayed = transcript.timing, transcript.timeline.displayed
    attributes: dict[str, Any] = {
        "tokenstream.id": transcript.id,
        "tokenstream.outcome": transcript.outcome,
        "tokenstream.stop_cause": transcript.stop_cause,
        "tokenstream.token_count.source": transcript.usage.source,
        "tokenstream.ttfa": None if timing.ttfa_ms is None else timing.ttfa_ms / 1e3,
        "tokenstream.tpot": None if timing.tpot_ms is None else timing.tpot_ms / 1e3,
        "tokenstream.stall.count": timing.stalls,
        "tokenstream.stall.ratio": timing.stall_ratio,
        "tokenstream.stop.latency": None if timing.stop_latency_ms is None else timing.stop_latency_ms / 1e3,
        "tokenstream.paint.lag": None if displayed is None else displayed.p99 / 1e6,
        "ai.response.msToFirstChunk": timing.ttft_ms,
    }
    if timing.ttft_ms is not None:
        at = datetime.fromtimestamp((start + timing.ttft_ms * 1e6) / 1e9, timezone.utc)
        attributes["langfuse.observation.completion_start_time"] = at.isoformat(timespec="milliseconds")
    return {name: value for name, value in attributes.items() if value is not None}
