"""Every request that is answered is entered here once: in the metrics, and as a line of the log."""

from __future__ import annotations

import time

from service.account import Account
from service.requests import GONE
from service.runtime import Service
from service.telemetry import logs
from service.telemetry.template import Template

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


class Ledger:
    """Of one service."""

    def __init__(self, service: Service) -> None:
        self._metrics = service.metrics
        self._logged = service.settings.log_level in ("debug", "info")
        self._renderer = logs.renderer(service.settings.log_format)
        self._templates: dict[tuple[bool, bool, bool], Template] = {}

    def enter(
        self,
        *,
        identifier: str,
        method: str,
        route: str,
        path: str,
        status: int,
        seconds: float,
        problem: str | None = None,
        classified: tuple[Account, float] | None = None,
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
        classified: tuple[Account, float] | None,
    ) -> str:
        """The line of a request that was answered at a time. For the thread that writes."""
        values: tuple[object, ...] = identifier, method, route, path, status, seconds * 1000.0
        single = False
        if classified is not None:
            account, queue_ms = classified
            single = account.prediction is not None
            values += (*account.values(), queue_ms)
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
            fields |= Account.fields(single) | {"queue_ms": ".3f"}
        if problem:
            fields["problem"] = "s"
        return Template(self._renderer, "request", fields)
