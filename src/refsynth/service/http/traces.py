"""A span of OpenTelemetry for each request, sent by OTLP over HTTP to where the operator says. No span holds a text.

Names and attributes are those of OpenTelemetry's semantic conventions for HTTP servers. A client's `traceparent` is taken up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.core.extras import require

EXTRA = "traces"
SERVICE = "refsynth"


class Traces:
    """Spans that are sent in batches by a thread; where the collector is away they are dropped.

    Args:
        endpoint: address that spans are posted to, such as `http://127.0.0.1:4318/v1/traces`.

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
        """Take the span of a request that is over; never waits.

        Args:
            name: method and route.
            attributes: of the span.
            parent: header `traceparent` of the request, or nothing.
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
        """Send what waits."""
        self._provider.shutdown()
