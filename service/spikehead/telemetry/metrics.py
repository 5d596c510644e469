"""Metrics for Prometheus. Several worker processes share them in files (`PROMETHEUS_MULTIPROC_DIR`).

Requests are counted as they are answered. Durations, and the work of models and the recorder, are added up first;
`publish` adds them to the metrics once a second and before each scrape.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from spikehead.inference.simulator import Simulator
from spikehead.inference.summary import Summary
from spikehead.model.synaptic_operations import energy_nj
from spikehead.records import RecorderState
from spikehead.telemetry import SHARED
from spikehead.telemetry.histograms import BucketCounts, BulkHistogram
from spikehead.telemetry.logs import LINES

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
REASONS = ("overloaded", "rate_limited", "timed_out", "too_slow", "gone", "unauthorized")
RESULTS = ("switched", "refused")

_LATENCIES = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_PHASES = (5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.5, 1)
_STEPS = (1, 2, 3, 4, 6, 8, 16, 32, 64)


class Metrics:
    """The metrics of one process."""

    def __init__(self, version: str) -> None:
        registry = self._registry = CollectorRegistry(auto_describe=False)

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"spikehead_{name}", about, labels, registry=registry)

        def gauge(name: str, about: str, mode: str, *labels: str) -> Gauge:
            # mode: how the values of several processes are combined
            return Gauge(f"spikehead_{name}", about, labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]

        def histogram(name: str, about: str, buckets: Iterable[float], *labels: str) -> BulkHistogram:
            return BulkHistogram(
                f"spikehead_{name}", about, labels, registry=registry, buckets=tuple(buckets)
            )

        self._requests = counter(
            "requests", "requests answered, by route, method and status", "route", "method", "status"
        )
        self._seconds = histogram(
            "request_seconds", "seconds from a request's head to its answer", _LATENCIES, "route"
        )
        self._phases = histogram("phase_seconds", "seconds an image spent in a phase", _PHASES, "phase")
        self.in_flight = gauge("requests_in_flight", "requests that are being answered", "livesum")
        self.waiting = gauge("requests_waiting", "requests that wait for their turn", "livesum")
        refused = counter("refused", "requests that were refused or given up, by reason", "reason")
        self._refused = {reason: refused.labels(reason) for reason in REASONS}
        self._images = counter("images", "images classified", "model")
        self._steps = histogram("steps", "time steps that an image took", _STEPS, "model")
        self._predictions = counter("predictions", "images read as a digit", "model", "digit")
        self._spikes = counter("spikes", "spikes of a layer", "model", "layer")
        self._neuron_steps = counter(
            "neuron_steps",
            "neurons of a layer times time steps: what its spikes are a share of",
            "model",
            "layer",
        )
        self._operations = counter(
            "synaptic_operations", "operations that a layer's spikes caused", "model", "layer", "kind"
        )
        self._energy = counter(
            "energy_joules", "energy of these operations at 45 nm, arithmetic alone", "model", "precision"
        )
        self._normal = gauge(
            "normal_firing_rate", "firing rate on the validation set", "livemax", "model", "layer"
        )
        self._written = counter("records_written", "records on disk since the start")
        self._dropped = counter("records_dropped", "records lost since the start")
        self._records_waiting = gauge("records_waiting", "records that wait to be written", "livesum")
        self._degraded = gauge("records_degraded", "1 while records cannot be written", "livemax")
        self._lines_dropped = counter(
            "log_lines_dropped", "lines of the log that standard error did not take"
        )
        reloads = counter("reloads", "new versions of models, taken or refused", "result")
        self._reloads = {result: reloads.labels(result) for result in RESULTS}
        self.models_refused = gauge(
            "models_refused", "1 while the newest version of the models cannot be used", "livemax"
        )
        self._models = gauge(
            "model_info", "1 for each model that answers", "livemax", "name", "version", "engine"
        )
        build = gauge("build_info", "1", "livemax", "version", "python")
        build.labels(version, platform.python_version()).set(1)
        self._shown: set[tuple[str, str, str]] = set()  # models: name, version and engine
        self._records_seen = (0, 0)
        self._lines_seen = LINES.dropped
        self._publishing = threading.Lock()
        self._tallies: list[BucketCounts] = []
        self._queue, self._decode, self._encode, self._simulate = (
            self._tally(self._phases.labels(phase), _PHASES)
            for phase in ("queue", "decode", "encode", "simulate")
        )
        self._answered: dict[tuple[str, str, int], Callable[[], None]] = {}
        self._took: dict[str, BucketCounts] = {}

    def _tally(self, histogram: BulkHistogram, bounds: Sequence[float]) -> BucketCounts:
        self._tallies.append(BucketCounts(histogram, bounds))
        return self._tallies[-1]

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        key = route, method, status
        count = self._answered.get(key)
        # counters are kept, because finding one by its labels takes longer than counting
        if count is None:
            count = self._answered[key] = self._requests.labels(route, method, str(status)).inc
        count()
        took = self._took.get(route)
        if took is None:
            took = self._took[route] = self._tally(self._seconds.labels(route), _LATENCIES)
        took.add(seconds)

    def classified(self, summary: Summary, queue_ms: float) -> None:
        """Count classified images. Phases are means over the images of a request."""
        share = 1000.0 * summary.images
        self._queue.add(queue_ms / 1000.0)
        self._decode.add(summary.decode_ms / share)
        self._encode.add(summary.encode_ms / share)
        self._simulate.add(summary.simulate_ms / share)

    def refused(self, reason: str) -> None:
        """Count a refused request, by one of REASONS."""
        self._refused[reason].inc()

    def reloaded(self, result: str) -> None:
        """Count a reload of the models, by one of RESULTS."""
        self._reloads[result].inc()

    def begin_records(self) -> None:
        """Note that a recorder begins, which counts from 0."""
        self._records_seen = 0, 0

    def publish(self, models: Iterable[Simulator], records: RecorderState) -> None:
        """Add the sums of models, recorder and log to the metrics."""
        with self._publishing:
            for counts in list(self._tallies):
                counts.empty()
            for simulator in models:
                self._publish_model(simulator)
            self._records_waiting.set(records.queued)
            self._degraded.set(float(records.status != "ok"))
            written, dropped = self._records_seen
            self._written.inc(records.written - written)
            self._dropped.inc(records.dropped - dropped)
            self._records_seen = records.written, records.dropped
            lines = LINES.dropped
            self._lines_dropped.inc(lines - self._lines_seen)
            self._lines_seen = lines

    def show(self, models: Iterable[Simulator]) -> None:
        """List these models as the ones that answer, and no others."""
        shown = {(one.card.name, one.card.version, one.engine.name) for one in models}
        for gone in self._shown - shown:
            self._models.labels(*gone).set(0)
        for new in shown:
            self._models.labels(*new).set(1)
        self._shown = shown
        for simulator in models:
            for layer in simulator.card.layers:
                if layer.normal_rate is not None:
                    self._normal.labels(simulator.card.name, layer.name).set(layer.normal_rate)

    def exposition(self) -> bytes:
        """Return the metrics of all worker processes in Prometheus' text format."""
        if SHARED not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry(auto_describe=False)
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def _publish_model(self, simulator: Simulator) -> None:
        card, sums = simulator.card, simulator.totals.take()
        images = sum(sums.steps)
        if not images:
            return
        name = card.name
        self._images.labels(name).inc(images)
        took = BucketCounts(self._steps.labels(name), _STEPS)
        for steps, count in enumerate(sums.steps):
            took.add(steps, count)
        took.empty()
        for digit, count in enumerate(sums.predictions):
            self._predictions.labels(name, str(digit)).inc(count)
        steps = sum(steps * count for steps, count in enumerate(sums.steps))
        cost = {"accumulates": 0, "multiply_accumulates": 0}
        for index, layer in enumerate(card.layers):
            self._spikes.labels(name, layer.name).inc(int(sums.spikes[index]))
            self._neuron_steps.labels(name, layer.name).inc(layer.size * steps)
            kind = "multiply_accumulates" if index == 0 or card.kind == "ann" else "accumulates"
            caused = int(sums.operations[index])
            cost[kind] += caused
            self._operations.labels(name, layer.name, kind).inc(caused)
        self._energy.labels(name, "fp32").inc(energy_nj(**cost, precision="fp32") * 1e-9)
        self._energy.labels(name, "int8").inc(energy_nj(**cost, precision="int8") * 1e-9)
