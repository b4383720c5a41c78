"""A tracer, a meter and a logger, and what is recorded with them of a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tokenstream_magic.plan import Plan
from tokenstream_magic.record import Transcript
from tokenstream_magic.redaction import Redactor
from tokenstream_magic.telemetry.messages import content as messages_of
from tokenstream_magic.telemetry.names import Names, common as common_of, ours, request, response
from tokenstream_magic.telemetry.providers import own_loggers, own_meters, own_tracers
from tokenstream_magic.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, Meter
    from opentelemetry.trace import Tracer

    from tokenstream_magic.timing.timeline import Displayed

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_SECONDS = [0.01 * 2**step for step in range(14)]
_TOKENS = [float(4**step) for step in range(14)]
_SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
_EVENT = "gen_ai.client.inference.operation.details"


class Instruments:
    """A tracer, a meter and a logger, and what is recorded with them."""

    def __init__(self, names: Names) -> None:
        from opentelemetry import metrics, trace

        self._names = names
        self._own: list[Any] = []
        tracers: Any = trace.get_tracer_provider()
        meters: Any = metrics.get_meter_provider()
        if isinstance(tracers, trace.ProxyTracerProvider):
            tracers = self._keep(own_tracers())
        if type(meters).__name__ == "_ProxyMeterProvider":
            meters = self._keep(own_meters())
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
        self._paint = meter.create_histogram("tokenstream.paint.lag", **seconds)
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
        common = common_of(plan, transcript)
        wanted = os.environ.get(CONTENT, "").strip().upper()
        content = messages_of(transcript, redactor) if wanted in ("SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT") else {}
        details = {**common, **request(plan, self._names), **response(transcript), **ours(transcript, start)}
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

    def tell_shown(self, plan: Plan, transcript: Transcript, displayed: Displayed) -> None:
        """Records how far the page was behind the network (p99), which is often known only after the span has ended."""
        self._paint.record(displayed.p99 / 1e6, common_of(plan, transcript))

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
            self._loggers = self._keep(own_loggers()) if type(loggers).__name__ == "ProxyLoggerProvider" else loggers
        logger = self._loggers.get_logger("tokenstream_magic", __version__, schema_url=_SCHEMA)
        logger.emit(_logs.LogRecord(timestamp=at, context=context, event_name=_EVENT, attributes=attributes))

    def _keep(self, provider: Any) -> Any:
        self._own.append(provider)
        return provider
