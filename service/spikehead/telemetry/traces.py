"""Traces by OpenTelemetry: a span for each request and each phase of a classification. Needs the extra `traces`.

OpenTelemetry's own variables, above all `OTEL_EXPORTER_OTLP_ENDPOINT`, set where spans are sent. A request with a
`traceparent` continues its caller's trace.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from spikehead.inference.summary import Summary
from spikehead.telemetry.request import REQUEST_ID, noted, request_id, route_of

_NANOSECONDS = 1_000_000  # in a millisecond


class TracesError(RuntimeError):
    """Traces cannot be made. The message says what is missing."""


def provider() -> Any:
    """Make the provider of spans, which sends them in the background. Raises TracesError without the extra."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracesError(
            f"expected OpenTelemetry for SPIKEHEAD_TRACES (pip install 'spikehead[traces]'), got: {error}"
        ) from error
    # OTEL_SERVICE_NAME takes precedence
    made = TracerProvider(resource=Resource.create({SERVICE_NAME: "spikehead"}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


class TracesMiddleware:
    """Puts a span around each request (ASGI middleware). Inside `RequestMiddleware`, which knows its id."""

    def __init__(self, app: ASGIApp, spans: Any) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.app = app
        self._tracer = spans.get_tracer("spikehead")
        self._callers = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        caller = self._callers.extract(headers)
        status = 0

        async def note_status(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._tracer.start_as_current_span(scope["method"], context=caller, kind=self._kind) as span:
            try:
                await self.app(scope, receive, note_status)
            finally:
                route = route_of(scope)
                span.update_name(f"{scope['method']} {route}")
                span.set_attributes(
                    {
                        "http.request.method": scope["method"],
                        "http.route": route,
                        "http.response.status_code": status,
                        f"http.request.header.{REQUEST_ID.lower()}": request_id(scope),
                    }
                )
                found = noted(scope)
                if found is not None:
                    self._phases(*found)

    def _phases(self, summary: Summary, queue_ms: float) -> None:
        """Add a span for each phase, one after the other, up to now."""
        from opentelemetry import trace

        trace.get_current_span().set_attributes(
            {f"spikehead.{name}": value for name, value in summary.words().items()}
        )
        phases = {
            "queue": queue_ms,
            "decode": summary.decode_ms,
            "encode": summary.encode_ms,
            "simulate": summary.simulate_ms,
        }
        at = time.time_ns() - round(sum(phases.values()) * _NANOSECONDS)
        for name, milliseconds in phases.items():
            span = self._tracer.start_span(name, start_time=at)
            at += round(milliseconds * _NANOSECONDS)
            span.end(end_time=at)
