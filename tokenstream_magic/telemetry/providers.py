"""The SDK's providers, for a program that has set up none: OTLP over HTTP, where the environment says."""

from __future__ import annotations

import logging
import os
from typing import Any

from tokenstream_magic.errors import one_line

log = logging.getLogger(__name__)


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


def own_tracers() -> Any:
    """For spans."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=_resource())
    if _sends("TRACES"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def own_meters() -> Any:
    """For metrics."""
    from opentelemetry.sdk.metrics import MeterProvider

    readers = []
    if _sends("METRICS"):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    return MeterProvider(readers, resource=_resource())


def own_loggers() -> Any:
    """For events."""
    from opentelemetry.sdk._logs import LoggerProvider

    provider = LoggerProvider(resource=_resource())
    if _sends("LOGS"):
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    return provider
