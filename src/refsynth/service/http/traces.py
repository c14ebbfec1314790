"""Send an OpenTelemetry span for each request, by OTLP over HTTP, to the operator's endpoint. No span holds a text.

Names and attributes follow OpenTelemetry's semantic conventions for HTTP servers. Spans continue a client's `traceparent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.core.extras import require

EXTRA = "traces"
SERVICE = "refsynth"


class Traces:
    """Sends spans in batches from a thread. Spans are dropped while the collector is unreachable.

    Args:
        endpoint: URL to post spans to, such as `http://127.0.0.1:4318/v1/traces`.

    Raises:
        ExtraError: the extra `traces` is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        self._trace: Any = require("opentelemetry.trace", extra=EXTRA)
        sdk, export = require("opentelemetry.sdk.trace", extra=EXTRA), require("opentelemetry.sdk.trace.export", extra=EXTRA)
        otlp = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", extra=EXTRA)
        resource = require("opentelemetry.sdk.resources", extra=EXTRA).Resource.create({"service.name": SERVICE})
        self._provider: Any = sdk.TracerProvider(resource=resource)
        self._provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("refsynth.service.http")
        propagation = require("opentelemetry.trace.propagation.tracecontext", extra=EXTRA)
        self._propagator: Any = propagation.TraceContextTextMapPropagator()

    def request(self, name: str, attributes: Mapping[str, Any], *, parent: str, start: int, end: int) -> None:
        """Take the span of a finished request; never waits.

        Args:
            name: method and route.
            attributes: the span's attributes.
            parent: the request's `traceparent` header, or an empty string.
            start: nanoseconds since 1970.
            end: nanoseconds since 1970.
        """
        context = self._propagator.extract({"traceparent": parent} if parent else {})
        kind = self._trace.SpanKind.SERVER
        span = self._tracer.start_span(name, context=context, kind=kind, attributes=attributes, start_time=start)
        if attributes["http.response.status_code"] >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(end)

    def close(self) -> None:
        """Send the spans that wait, and close."""
        self._provider.shutdown()
