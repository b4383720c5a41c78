"""OpenTelemetry: a span and metrics a run, by the names of the GenAI conventions.

Off unless it is asked for (``%config StreamMagics.otel = True``, or ``TOKENSTREAM_OTEL=1``): nothing leaves a machine because a
package happens to be installed. Providers that the program set up are used; without such the SDK's own are made, which
send by OTLP over HTTP where ``OTEL_EXPORTER_OTLP_ENDPOINT`` and its kin say. Prompts and answers are sent only when
``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says so, keys in them masked.

Names: profile ``semconv-1.41`` (the last release that has them) or, asked for with ``TOKENSTREAM_OTEL_PROFILE``, ``genai-main``.
What the conventions have no name for is under ``tokenstream.``. A stream that was stopped or cut short has the finish
reason ``error``, as they want it; ``tokenstream.outcome`` tells which it was.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.plan import Plan
from tokenstream_magic.record import Choice, Transcript
from tokenstream_magic.redaction import Redactor
from tokenstream_magic.run import Run
from tokenstream_magic.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, Meter
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

ENABLED = "TOKENSTREAM_OTEL"
PROFILE = "TOKENSTREAM_OTEL_PROFILE"
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
PROFILES = ("semconv-1.41", "genai-main")

_SECONDS = [0.01 * 2**step for step in range(14)]
_TOKENS = [float(4**step) for step in range(14)]
_SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
_EVENT = "gen_ai.client.inference.operation.details"

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
class _Names:
    """What the profiles call differently."""

    duration: str
    first_chunk: str
    chunk: str
    whole_top_k: bool
    usage: Mapping[str, str]
    """Histograms of tokens: by our name of a count, their name, or with ``#`` a counter's."""


_PROFILE_NAMES = {
    "semconv-1.41": _Names(
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
        False,
        {},
    ),
    "genai-main": _Names(
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

_lock = threading.Lock()
_instruments: dict[str, _Instruments] = {}
_worker: ThreadPoolExecutor | None = None
_owner = 0


def is_on() -> bool:
    """Whether runs are told to OpenTelemetry."""
    on = os.environ.get(ENABLED, "").strip().lower() in ("1", "true", "yes", "on")
    return on and os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"


def check() -> None:
    """Raises BadRequest when it cannot be turned on: the packages are missing, or the profile is none."""
    if profile() not in PROFILES:
        raise BadRequest(f"There is no profile {one_line(profile())!r}.", f"There are: {', '.join(PROFILES)}.")
    try:
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError:
        raise BadRequest("OpenTelemetry is not installed.", 'Install it: pip install "tokenstream-magic[otel]".') from None


def profile() -> str:
    """The names in use."""
    return os.environ.get(PROFILE, "").strip() or PROFILES[0]


def sink() -> Telemetry | None:
    """A sink for a run that begins now, in the trace that is current here; None when it is off or cannot be."""
    if not is_on():
        return None
    try:
        check()
        from opentelemetry import context

        return Telemetry(_instrument(), context.get_current())
    except BadRequest as error:
        log.warning("%s Runs are not told to OpenTelemetry.", error)
        return None


def flush() -> None:
    """Waits until what was told is sent."""
    with _lock:
        worker, made = _worker, list(_instruments.values())
    if worker is not None:
        worker.submit(lambda: None).result()
    for instruments in made:
        instruments.flush()


class Telemetry:
    """The sink of one run. Spans are made at its end, with the times that were stamped, on a thread of their own."""

    def __init__(self, instruments: _Instruments, context: Context) -> None:
        self._instruments = instruments
        self._context = context
        self._began = (time_ns(), monotonic_ns())

    def begin(self, run: Run) -> None:
        """The clocks are read together, so that stamps become times of day."""
        self._began = (time_ns(), monotonic_ns())

    def state(self, run: Run, state: str, detail: Mapping[str, Any]) -> None:
        """States are not told."""

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """The timeline has it."""

    def end(self, run: Run) -> None:
        """Hands the finished transcript over."""
        wall, clock = self._began
        ended = monotonic_ns()
        key = run.plan.endpoint.key
        secrets = [key.reveal()] if key is not None else []
        requested = run.transcript.timeline.requested
        start = wall + ((requested if requested is not None else clock) - clock)
        worker = _thread()
        worker.submit(self._tell, run.plan, run.transcript, (start, wall + ended - clock), secrets)

    def _tell(self, plan: Plan, transcript: Transcript, times: tuple[int, int], secrets: list[str]) -> None:
        try:
            self._instruments.tell(plan, transcript, times, self._context, Redactor(secrets))
        except Exception:
            log.exception("a run could not be told to OpenTelemetry")


class _Instruments:
    """A tracer, a meter and a logger, and what is recorded with them."""

    def __init__(self, names: _Names) -> None:
        from opentelemetry import metrics, trace

        self._names = names
        self._own: list[Any] = []
        tracers: Any = trace.get_tracer_provider()
        meters: Any = metrics.get_meter_provider()
        if isinstance(tracers, trace.ProxyTracerProvider):
            tracers = self._keep(_own_tracers())
        if type(meters).__name__ == "_ProxyMeterProvider":
            meters = self._keep(_own_meters())
        self._tracer: Tracer = tracers.get_tracer("tokenstream_magic", __version__, schema_url=_SCHEMA)
        meter: Meter = meters.get_meter("tokenstream_magic", __version__, schema_url=_SCHEMA)
        self._providers = [tracers, meters]
        self._loggers: Any = None
        seconds: dict[str, Any] = {"unit": "s", "explicit_bucket_boundaries_advisory": _SECONDS}
        tokens: dict[str, Any] = {"unit": "{token}", "explicit_bucket_boundaries_advisory": _TOKENS}
        self._duration = meter.create_histogram(names.duration, **seconds)
        self._first = meter.create_histogram(names.first_chunk, **seconds)
        self._chunk = meter.create_histogram(names.chunk, **seconds)
        self._usage: Histogram | None = None if names.usage else meter.create_histogram("gen_ai.client.token.usage", **tokens)
        self._counters = {ours: meter.create_counter(theirs, unit="{token}") for ours, theirs in names.usage.items()}
        self._per_run = {
            name: meter.create_histogram(f"gen_ai.client.inference.operation.{name}", **tokens)
            for name in ("input_tokens", "output_tokens")
            if names.usage
        }
        self._ttfa = meter.create_histogram("tokenstream.ttfa", **seconds)
        self._tpot = meter.create_histogram("tokenstream.tpot", **seconds)
        self._stop = meter.create_histogram("tokenstream.stop.latency", **seconds)
        self._stalls = meter.create_counter("tokenstream.stall.count", unit="{stall}")

    def flush(self) -> None:
        """Sends what waits."""
        for provider in [*self._providers, self._loggers]:
            force = getattr(provider, "force_flush", None)
            if force is not None:
                force()

    def tell(self, plan: Plan, transcript: Transcript, times: tuple[int, int], context: Context, redactor: Redactor) -> None:
        """Records one run that began and ended at these ``times`` (ns since the epoch)."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        start, end = times
        common = _common(plan, transcript)
        wanted = os.environ.get(CONTENT, "").strip().upper()
        content = _content(transcript, redactor) if wanted in ("SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT") else {}
        details = {**common, **_request(plan, self._names), **_response(transcript), **_ours(transcript, start)}
        in_span = content if wanted in ("SPAN_ONLY", "SPAN_AND_EVENT") else {}
        span = self._tracer.start_span(
            f"{common['gen_ai.operation.name']} {plan.model}",
            context,
            SpanKind.CLIENT,
            attributes={**details, **in_span},
            start_time=start,
        )
        if transcript.outcome in ("failed", "truncated"):
            span.set_status(Status(StatusCode.ERROR, redactor.text(str((transcript.error or {}).get("message") or transcript.outcome))))
        inside = set_span_in_context(span, context)
        if wanted in ("EVENT_ONLY", "SPAN_AND_EVENT"):
            self._event({**details, **content}, end, inside)
        span.end(end)
        self._record(transcript, common, inside)

    def _record(self, transcript: Transcript, common: dict[str, Any], context: Context) -> None:
        timing, usage = transcript.timing, transcript.usage
        timeline = transcript.timeline
        figures: list[tuple[Histogram, float | None]] = [
            (self._duration, timing.e2e_ms),
            (self._first, timing.ttft_ms),
            (self._ttfa, timing.ttfa_ms),
            (self._tpot, timing.tpot_ms),
            (self._stop, timing.stop_latency_ms),
        ]
        if timing.e2e_ms is None and timeline.requested is not None and timeline.ended is not None:
            figures[0] = (self._duration, (timeline.ended - timeline.requested) / 1e6)
        for histogram, milliseconds in figures:
            if milliseconds is not None and milliseconds >= 0:
                histogram.record(milliseconds / 1e3, common, context)
        for gap in timeline.gaps():
            self._chunk.record(max(0, gap) / 1e9, common)
        if timing.stalls:
            self._stalls.add(timing.stalls, common)
        if self._usage is not None:
            for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                if count is not None:
                    self._usage.record(count, {**common, "gen_ai.token.type": kind}, context)
        for name, counter in self._counters.items():
            count = getattr(usage, name)
            if count is not None:
                counter.add(count, {**common, "gen_ai.token.modality": "unknown"})
        for name, per_run in self._per_run.items():
            count = getattr(usage, name)
            if count is not None:
                per_run.record(count, common, context)

    def _event(self, attributes: dict[str, Any], at: int, context: Context) -> None:
        from opentelemetry import _logs

        if self._loggers is None:
            loggers: Any = _logs.get_logger_provider()
            self._loggers = self._keep(_own_loggers()) if type(loggers).__name__ == "ProxyLoggerProvider" else loggers
        logger = self._loggers.get_logger("tokenstream_magic", __version__, schema_url=_SCHEMA)
        logger.emit(_logs.LogRecord(timestamp=at, context=context, event_name=_EVENT, attributes=attributes))

    def _keep(self, provider: Any) -> Any:
        self._own.append(provider)
        return provider


def _common(plan: Plan, transcript: Transcript) -> dict[str, Any]:
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


def _request(plan: Plan, names: _Names) -> dict[str, Any]:
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


def _response(transcript: Transcript) -> dict[str, Any]:
    usage, timing = transcript.usage, transcript.timing
    attributes: dict[str, Any] = {
        "gen_ai.response.time_to_first_chunk": None if timing.ttft_ms is None else timing.ttft_ms / 1e3,
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
        "gen_ai.conversation.id": transcript.conversation_id,
        "gen_ai.response.id": transcript.request_id if (transcript.request_id or "").startswith(_NAMED) else None,
        "gen_ai.response.finish_reasons": [_finish(transcript, choice) for choice in transcript.choices] or None,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _finish(transcript: Transcript, choice: Choice) -> str:
    return "error" if transcript.outcome != "complete" else choice.finish_reason or "stop"


def _ours(transcript: Transcript, start: int) -> dict[str, Any]:
    timing = transcript.timing
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
        "ai.response.msToFirstChunk": timing.ttft_ms,
    }
    if timing.ttft_ms is not None:
        at = datetime.fromtimestamp((start + timing.ttft_ms * 1e6) / 1e9, timezone.utc)
        attributes["langfuse.observation.completion_start_time"] = at.isoformat(timespec="milliseconds")
    return {name: value for name, value in attributes.items() if value is not None}


def _content(transcript: Transcript, redactor: Redactor) -> dict[str, str]:
    """Prompt, answer and tools as the conventions want them: JSON of roles and parts, keys masked."""
    messages = list(transcript.messages)
    system = [part for message in messages if message.get("role") == "system" for part in _parts(message)]
    said = [{"role": m.get("role"), "parts": list(_parts(m))} for m in messages if m.get("role") != "system"]
    answers = [
        {"role": "assistant", "parts": list(_answer(choice)), "finish_reason": _finish(transcript, choice)} for choice in transcript.choices
    ]
    tools = transcript.options.get("tool") or transcript.options.get("tools")
    found = {
        "gen_ai.system_instructions": system,
        "gen_ai.input.messages": said,
        "gen_ai.output.messages": answers,
        "gen_ai.tool.definitions": tools,
    }
    return {name: json.dumps(redactor.data(value), ensure_ascii=False) for name, value in found.items() if value}


def _parts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        yield {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}
        return
    for part in content if isinstance(content, (list, tuple)) else [content]:
        if isinstance(part, Mapping):
            yield (
                {"type": "text", "content": part["text"]}
                if part.get("type") == "text"
                else {
                    "type": str(part.get("type")),
                    "mime_type": part.get("media_type"),
                    "name": part.get("name"),
                }
            )
        elif part:
            yield {"type": "text", "content": str(part)}
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        yield {"type": "tool_call", "id": call.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}


def _answer(choice: Choice) -> Iterator[dict[str, Any]]:
    if choice.reasoning:
        yield {"type": "reasoning", "content": choice.reasoning}
    if choice.text or choice.refusal:
        yield {"type": "text", "content": choice.text or choice.refusal}
    for call in choice.tool_calls:
        yield {"type": "tool_call", "id": call.get("id"), "name": call.get("name"), "arguments": call.get("arguments")}


# the SDK's providers, for a program that has set up none


def _instrument() -> _Instruments:
    global _owner, _worker
    name = profile()
    with _lock:
        if _owner != os.getpid():
            _instruments.clear()
            _owner, _worker = os.getpid(), None
        if name not in _instruments:
            _instruments[name] = _Instruments(_PROFILE_NAMES[name])
        return _instruments[name]


def _thread() -> ThreadPoolExecutor:
    global _worker
    with _lock:
        if _worker is None:
            _worker = ThreadPoolExecutor(1, "tokenstream-otel")
        return _worker


def _resource() -> Any:
    from opentelemetry.sdk.resources import Resource

    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {"service.name": "tokenstream-magic"})


def _sends(what: str) -> bool:
    """Whether this signal is sent by OTLP over HTTP; another exporter is the program's to set up."""
    said = os.environ.get(f"OTEL_{what}_EXPORTER", "otlp").strip().lower()
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{what}_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    if said == "otlp" and protocol != "http/protobuf":
        log.warning("OTLP is sent as http/protobuf; set up a provider of your own for %s.", one_line(protocol)[:40])
        return False
    return said == "otlp"


def _own_tracers() -> Any:
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=_resource())
    if _sends("TRACES"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _own_meters() -> Any:
    from opentelemetry.sdk.metrics import MeterProvider

    readers = []
    if _sends("METRICS"):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    return MeterProvider(readers, resource=_resource())


def _own_loggers() -> Any:
    from opentelemetry.sdk._logs import LoggerProvider

    provider = LoggerProvider(resource=_resource())
    if _sends("LOGS"):
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    return provider
