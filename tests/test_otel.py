"""OpenTelemetry: the names of the conventions, nothing unasked, no content unasked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

import tokenstream_magic as ts
from tokenstream_magic import telemetry
from tokenstream_magic.endpoint import Endpoint
from tokenstream_magic.mock.server import MockServer
from tokenstream_magic.plan import Plan
from tokenstream_magic.timing.timeline import Displayed

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Told:
    """What was told, kept in memory."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> list[Any]:
        telemetry.flush()
        return list(self.exporter.get_finished_spans())

    @property
    def metrics(self) -> dict[str, Any]:
        telemetry.flush()
        data = self.reader.get_metrics_data()
        found = [] if data is None else [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return {metric.name: metric for metric in found}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    kept = Told()
    monkeypatch.setenv(telemetry.ENABLED, "1")
    monkeypatch.setattr("tokenstream_magic.telemetry.instruments.own_tracers", lambda: kept.tracers)
    monkeypatch.setattr("tokenstream_magic.telemetry.instruments.own_meters", lambda: kept.meters)
    monkeypatch.setattr(telemetry, "_instruments", {})
    yield kept
    telemetry.flush()


def points(metric: Any) -> list[Any]:
    return list(metric.data.data_points)


def test_a_run_is_a_span_and_metrics_by_the_names_of_the_conventions(mock: MockServer, told: Told) -> None:
    with trace.get_tracer("outer").start_as_current_span("cell"):
        said = ts.stream("hi", "story", base_url=mock.base_url, temperature=0.5, stop=["END"], option={"top_k": 4}, max_tokens=99)
    (span,) = told.spans
    assert span.name == "chat story"
    assert span.kind is trace.SpanKind.CLIENT
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "story",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_k": 4.0,
        "gen_ai.request.max_tokens": 99,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": said.usage.input_tokens,
        "gen_ai.usage.output_tokens": said.usage.output_tokens,
        "server.address": "127.0.0.1",
        "server.port": mock.port,
        "tokenstream.outcome": "complete",
        "tokenstream.id": said.id,
    }
    assert {name: span.attributes.get(name) for name in expected} == expected
    assert span.attributes["gen_ai.response.time_to_first_chunk"] == pytest.approx(said.timing.ttft_ms / 1e3)
    assert (span.end_time - span.start_time) / 1e6 >= said.timing.e2e_ms
    metrics = told.metrics
    (duration,) = points(metrics["gen_ai.client.operation.duration"])
    assert duration.sum == pytest.approx(said.timing.e2e_ms / 1e3)
    assert list(duration.explicit_bounds)[:3] == [0.01, 0.02, 0.04]
    assert list(duration.explicit_bounds)[-1] == 81.92
    (chunks,) = points(metrics["gen_ai.client.operation.time_per_output_chunk"])
    assert chunks.count == said.timing.chunks - 1
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in points(metrics["gen_ai.client.token.usage"])}
    assert tokens == {"input": said.usage.input_tokens, "output": said.usage.output_tokens}
    assert list(points(metrics["gen_ai.client.token.usage"])[0].explicit_bounds)[-1] == 67108864
    assert not any("messages" in name or "instructions" in name for name in span.attributes)


@pytest.mark.parametrize("when", ["at the end", "after it"])
def test_how_far_the_page_was_behind_is_told_once(mock: MockServer, told: Told, when: str) -> None:
    run = telemetry.sink()
    assert run is not None
    said = ts.stream("hi", "story", base_url=mock.base_url)
    seen: Any = SimpleNamespace(plan=Plan(Endpoint("mock", base_url=mock.base_url), "story", []), transcript=said)
    if when == "at the end":
        said.timeline.displayed = Displayed(3, 20_000, 45_000, 50_000, 45_000, 100, 900)
    run.end(seen)
    said.timeline.displayed = Displayed(4, 20_000, 45_000, 60_000, 45_000, 100, 900)
    run.amended(seen)
    run.amended(seen)
    (lag,) = points(told.metrics["tokenstream.paint.lag"])
    assert (lag.count, lag.sum) == (1, 0.045)
    assert told.spans[-1].attributes["gen_ai.request.model"] == "story"


def test_stops_and_failures_end_in_error(mock: MockServer, told: Told) -> None:
    for piece in ts.events("hi", "endless", base_url=mock.base_url):
        assert piece.text
        break
    ts.stream("hi", "cut", base_url=mock.base_url)
    ts.stream("hi", "unauthorized", base_url=mock.base_url)
    stopped, cut, refused = told.spans
    assert stopped.attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert stopped.attributes["tokenstream.outcome"] == "stopped"
    assert stopped.status.status_code is trace.StatusCode.UNSET
    assert cut.attributes["tokenstream.outcome"] == "truncated"
    assert cut.status.status_code is trace.StatusCode.ERROR
    assert refused.attributes["error.type"]
    assert refused.attributes["tokenstream.outcome"] == "failed"


def test_nothing_is_told_unless_it_is_asked_for(mock: MockServer, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    ts.stream("hi", "hello", base_url=mock.base_url)
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    monkeypatch.delenv(telemetry.ENABLED)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    kept = ts.stream("hi", "hello", base_url=mock.base_url)
    monkeypatch.setenv(telemetry.ENABLED, "1")
    kept.replay(speed="instant")  # nobody was asked
    assert told.spans == []


@pytest.mark.parametrize("wanted", ["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"])
def test_content_only_when_its_variable_says_so(mock: MockServer, told: Told, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

    events: list[Any] = []

    class Kept:
        def export(self, batch: Any) -> None:
            events.extend(batch)

        def shutdown(self) -> None: ...

        def force_flush(self, *_: Any) -> bool:
            return True

    loggers = LoggerProvider()
    loggers.add_log_record_processor(SimpleLogRecordProcessor(Kept()))  # type: ignore[arg-type]
    monkeypatch.setattr("tokenstream_magic.telemetry.instruments.own_loggers", lambda: loggers)
    monkeypatch.setenv(telemetry.CONTENT, wanted)
    key = "sk-" + "a1" * 20
    ts.stream(f"my key is {key}", "reasoning", base_url=mock.base_url, system="Be brief.")
    (span,) = told.spans
    in_span = "gen_ai.input.messages" in span.attributes
    assert in_span == ("SPAN" in wanted)
    assert bool(events) == ("EVENT" in wanted)
    holder = span.attributes if in_span else events[0].log_record.attributes if events else None
    if holder is None:
        return
    assert json.loads(holder["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief."}]
    (asked,) = json.loads(holder["gen_ai.input.messages"])
    assert asked["role"] == "user"
    assert asked["parts"][0]["content"] == "my key is " + "*" * len(key)
    (answer,) = json.loads(holder["gen_ai.output.messages"])
    assert [part["type"] for part in answer["parts"]] == ["reasoning", "text"]
    if events:
        assert events[0].log_record.event_name == "gen_ai.client.inference.operation.details"


def test_the_other_profile(mock: MockServer, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(telemetry.PROFILE, "genai-main")
    ts.stream("hi", "hello", base_url=mock.base_url, option={"top_k": 4, "reasoning_effort": "low"})
    (span,) = told.spans
    assert span.attributes["gen_ai.request.top_k"] == 4
    assert isinstance(span.attributes["gen_ai.request.top_k"], int)
    assert span.attributes["gen_ai.request.reasoning.level"] == "low"
    metrics = told.metrics
    assert "gen_ai.client.inference.duration" in metrics
    assert "gen_ai.client.token.usage" not in metrics
    (counted,) = points(metrics["gen_ai.client.inference.usage.output_tokens"])
    assert counted.attributes["gen_ai.token.modality"] == "unknown"
    monkeypatch.setenv(telemetry.PROFILE, "nonsense")
    with pytest.raises(ts.TokenstreamError, match=r"semconv-1\.41"):
        telemetry.check()


def test_otlp_over_http_reaches_a_collector(mock: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    got: dict[str, bytes] = {}

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        monkeypatch.setenv(telemetry.ENABLED, "1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setattr(telemetry, "_instruments", {})
        said = ts.stream("hi", "hello", base_url=mock.base_url)
        telemetry.flush()
        for made in telemetry._instruments.values():
            for provider in made._own:
                provider.shutdown()
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
    sent = ExportTraceServiceRequest.FromString(got["/v1/traces"])
    (span,) = sent.resource_spans[0].scope_spans[0].spans
    assert span.name == "chat hello"
    assert {a.key: a.value.string_value for a in span.attributes}["tokenstream.id"] == said.id
    service = {a.key: a.value.string_value for a in sent.resource_spans[0].resource.attributes}["service.name"]
    assert service == "tokenstream-magic"
    metrics = ExportMetricsServiceRequest.FromString(got["/v1/metrics"]).resource_metrics[0].scope_metrics[0].metrics
    assert "gen_ai.client.operation.duration" in {metric.name for metric in metrics}
