"""Every request that is answered is entered here once: in the metrics, and as a line of the log."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import structlog

from service.account import Account
from service.requests import GONE
from service.runtime import Service

log = structlog.get_logger("spikehead")

REFUSALS = {
    "overloaded": "overloaded",
    "rate-limited": "rate_limited",
    "unauthorized": "unauthorized",
    "timed-out": "timed_out",
    GONE: "gone",
}
"""Problems that are counted as refusals, by what the metric calls them."""


class Ledger:
    """Of one service."""

    def __init__(self, service: Service) -> None:
        self._metrics = service.metrics
        self._logged = service.settings.log_level in ("debug", "info")

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
        if not self._logged:  # then no words are made either
            return
        words: dict[str, Any] = {}
        if classified is not None:
            account, queue_ms = classified
            words = account.words() | {"queue_ms": round(queue_ms, 3)}
        if problem is not None:
            words["problem"] = problem
        with suppress(OSError):  # who read the log has gone: that is not the client's fault
            log.info(
                "request",
                id=identifier,
                method=method,
                route=route,
                path=path,
                status=status,
                ms=round(seconds * 1000, 3),
                **words,
            )
