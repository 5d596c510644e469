"""Traces: a span a request with its phases, in the caller's trace; off by default."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from spikehead.settings import Settings
from spikehead.telemetry import traces
from spikehead.web.app import _within, create_app

from tests.service.cli.test_app import refused
from tests.service.conftest import band

RAW = {"Content-Type": "application/octet-stream"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_spans(models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(traces, "provider", lambda: provider)
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/r.db", models=models_folder, default_model="tiny", traces=True
    )
    with TestClient(create_app(settings)) as client:
        headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "X-Request-ID": "mine"}
        answer = client.post("/classify", content=band(4).tobytes(), headers=RAW | headers).json()
        client.get("/spikes/unknown")
    spans: dict[str, ReadableSpan] = {span.name: span for span in kept.get_finished_spans()}
    request = spans["POST /classify"]
    assert request.context is not None and f"{request.context.trace_id:032x}" == TRACE
    found: dict[str, Any] = dict(request.attributes or {})
    assert found["http.response.status_code"] == 200
    assert found["http.request.header.x-request-id"] == "mine"
    assert (found["spikehead.model"], found["spikehead.prediction"]) == ("tiny", 4)
    for phase in ("queue", "decode", "encode", "simulate"):
        span = spans[phase]
        assert span.parent is not None and span.parent.span_id == request.context.span_id
        assert span.start_time is not None and span.end_time is not None
        if phase != "queue":
            took = (span.end_time - span.start_time) / 1e6
            assert took == pytest.approx(answer["timings_ms"][phase], abs=1e-3)
    assert dict(spans["GET /spikes/{id}"].attributes or {})["http.response.status_code"] == 404


def test_without_the_extra_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        __import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None
    )
    with pytest.raises(traces.TracesError, match=r"pip install 'spikehead\[traces\]'"):
        traces.provider()


def test_wrong_settings_are_said_at_start() -> None:
    assert refused(RATE_LIMIT="often")[1].startswith("spikehead: SPIKEHEAD_RATE_LIMIT: ")
    code, message = refused(DRAIN="9", SHUTDOWN_GRACE="8")
    assert code == 2 and "expected SPIKEHEAD_DRAIN below SPIKEHEAD_SHUTDOWN_GRACE (8.0), got 9.0" in message


def test_a_collector_that_is_away_does_not_take_the_grace() -> None:
    forever = threading.Event()
    _within(0.05, forever.wait)  # comes back, though nobody sets it
    done: list[int] = []
    _within(60.0, lambda: done.append(1))
    assert done == [1]
