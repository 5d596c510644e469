"""The log of requests: each answered request becomes a count in the metrics and a line of the log."""

from __future__ import annotations

import time

from spikehead.inference.summary import Summary
from spikehead.settings import Settings
from spikehead.telemetry import logs
from spikehead.telemetry.metrics import Metrics
from spikehead.telemetry.request import GONE
from spikehead.telemetry.template import Template

REFUSALS = {
    "overloaded": "overloaded",
    "rate-limited": "rate_limited",
    "unauthorized": "unauthorized",
    "timed-out": "timed_out",
    GONE: "gone",
}
"""Problems that count as refusals, with their names in the metric."""

MOST_PATH = 1024
"""Most characters of a path in the log: lines wait in memory, and clients may send paths of any length."""

_FIELDS = {"id": "s", "method": "s", "route": "s", "path": "s", "status": "d", "ms": ".3f"}


class RequestLog:
    """The requests of one service."""

    def __init__(self, metrics: Metrics, settings: Settings) -> None:
        self._metrics = metrics
        self._logged = settings.log_level in ("debug", "info")
        self._renderer = logs.renderer(settings.log_format)
        self._templates: dict[tuple[bool, bool, bool], Template] = {}

    def add(
        self,
        *,
        identifier: str,
        method: str,
        route: str,
        path: str,
        status: int,
        seconds: float,
        problem: str | None = None,
        classified: tuple[Summary, float] | None = None,
    ) -> None:
        """Enter an answered request. `classified`: a summary, and the milliseconds of waiting for its turn."""
        metrics = self._metrics
        metrics.answered(route, method, status, seconds)
        if classified is not None:
            metrics.classified(*classified)
        if problem in REFUSALS:
            metrics.refused(REFUSALS[problem])
        if self._logged:
            request = identifier, method, route, path[:MOST_PATH], status, seconds * 1000.0
            logs.LINES.put(self._line, time.time(), request, problem, classified)

    def _line(
        self,
        at: float,
        values: tuple[object, ...],
        problem: str | None,
        classified: tuple[Summary, float] | None,
    ) -> str:
        """Make the line of a request answered at a time, with values of _FIELDS. For the thread that writes."""
        single = False
        if classified is not None:
            summary, queue_ms = classified
            single = summary.prediction is not None
            values += (*summary.values(), queue_ms)
        if problem is not None:
            values += (problem,)
        kind = classified is not None, single, problem is not None
        template = self._templates.get(kind)
        if template is None:
            template = self._templates[kind] = self._template(*kind)
        return template.fill(at, *values)

    def _template(self, classified: bool, single: bool, problem: bool) -> Template:
        fields = dict(_FIELDS)
        if classified:
            fields |= Summary.fields(single) | {"queue_ms": ".3f"}
        if problem:
            fields["problem"] = "s"
        return Template(self._renderer, "request", fields)
