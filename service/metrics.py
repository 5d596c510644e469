"""Figures for Prometheus: what was recorded and what was lost, and which models answer."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from service.runtime import Service

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class ServiceCollector:
    """Reads the figures of a running service when it is asked."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        state = self._service.recorder.state
        yield CounterMetricFamily(
            "spikehead_records_written", "records on disk since the start", value=state.written
        )
        yield CounterMetricFamily(
            "spikehead_records_dropped", "records lost since the start", value=state.dropped
        )
        yield GaugeMetricFamily(
            "spikehead_records_waiting", "records that wait to be written", value=state.queued
        )
        degraded = float(state.status != "ok")
        yield GaugeMetricFamily(
            "spikehead_records_degraded", "1 while records cannot be written", value=degraded
        )
        models = InfoMetricFamily("spikehead_model", "models that answer", labels=["name"])
        for simulator in self._service.models:
            card = simulator.card
            models.add_metric([card.name], {"version": card.version, "engine": simulator.engine.name})
        yield models


def exposition(service: Service) -> bytes:
    """All figures in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServiceCollector(service))
    return generate_latest(registry)
