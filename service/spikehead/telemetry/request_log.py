"""Every request that is answered is entered here once: in the metrics, and as a line of the log."""

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
"""Problems that are counted as refusals, by what the metric calls them."""

MOST_PATH = 1024
"""Characters of a path in the log: lines may have to wait in memory, and a client may send a path of any length."""

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
        """A request was answered. `classified`: what was, and the milliseconds that it had waited for its turn."""
        metrics = self._metrics
        metrics.answered(route, method, status, seconds)
        if classified is not None:
            metrics.classified(*classified)
        if problem in REFUSALS:
            metrics.refused(REFUSALS[problem])
        if self._logged:
            path = path[:MOST_PATH]
            now = time.time()
            logs.LINES.put(
                self._line, now, identifier, method, route, path, status, seconds, problem, classified
            )

    def _line(
        self,
        at: float,
        identifier: str,
        method: str,
        route: str,
        path: str,
        status: int,
        seconds: float,
        problem: str | None,
        classified: tuple[Summary, float] | None,
    ) -> str:
        """The line of a request that was answered at a time. For the thread that writes."""
        values: tuple[object, ...] = identifier, method, route, path, status, seconds * 1000.0
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
