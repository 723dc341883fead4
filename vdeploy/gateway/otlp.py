"""Spans of the gateway, sent to an OpenTelemetry collector; needs the extra `tracing`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from vdeploy import __version__
from vdeploy.core.trace_context import TRACEPARENT
from vdeploy.gateway.traces import Trace, Tracing

__all__ = ["OtlpTracing"]

_HEADER = "traceparent"
_EXPORT_SECONDS = 5.0
_PROPAGATOR = TraceContextTextMapPropagator()


class _OtlpTrace(Trace):
    def __init__(self, tracer: otel.Tracer, traceparent: str) -> None:
        self._tracer = tracer
        self._span = tracer.start_span(
            "request", _PROPAGATOR.extract({_HEADER: traceparent}), kind=otel.SpanKind.SERVER
        )
        self.current: otel.Span = self._span
        super().__init__(_header_of(self._span))

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name, otel.set_span_in_context(self._span), record_exception=False
        ) as span:
            before, self.current = self.current, span
            try:
                yield
            finally:
                self.current = before

    def end(self, method: str, route: str, status: int) -> None:
        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        )
        if status >= 500:
            self._span.set_status(otel.StatusCode.ERROR)
        self._span.end()


class OtlpTracing(Tracing):
    """Records a span for each request, for decoding, for inference, and for each batch.

    The standard variables of OpenTelemetry apply: `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`,
    `OTEL_EXPORTER_OTLP_HEADERS` and others.

    Args:
        url: Where the collector takes traces, such as ``http://localhost:4318/v1/traces``; if left out, what
            `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` says.
    """

    def __init__(self, url: str | None = None) -> None:
        resource = Resource.create({"service.version": __version__})
        if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "vdeploy-gateway"}))
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=url, timeout=_EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("vdeploy.gateway", __version__)

    def begin(self, traceparent: str) -> Trace:
        """Begin the span of a request; see `Tracing.begin`."""
        return _OtlpTrace(self._tracer, traceparent)

    @contextlib.contextmanager
    def batch(self, traces: Sequence[Trace]) -> Iterator[None]:
        """Record a batch: a part of the first request's trace, with links to those of the others."""
        spans = [trace.current for trace in traces if isinstance(trace, _OtlpTrace)]
        if not spans:
            with super().batch(traces):
                yield
            return
        links = [otel.Link(span.get_span_context()) for span in spans[1:]]
        context = otel.set_span_in_context(spans[0])
        span = self._tracer.start_span("batch", context, kind=otel.SpanKind.CLIENT, links=links)
        with otel.use_span(span, end_on_exit=True):
            span.set_attribute("vdeploy.requests", len(spans))
            token = TRACEPARENT.set(_header_of(span))
            try:
                yield
            finally:
                TRACEPARENT.reset(token)

    def close(self) -> None:
        """Send what has not been sent, and end the exporter."""
        self._provider.shutdown()


def _header_of(span: otel.Span) -> str:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, otel.set_span_in_context(span))
    return carrier.get(_HEADER, "")
