"""From starting the process to the first 200 of /health/ready, and the memory that is resident then.

The probe connects every 5 ms. Memory is that of all processes, at readiness and after some
drawings: the larger.
"""

from __future__ import annotations

import statistics
import time

from benchmarks import serving
from benchmarks.stress.client import closed_loop
from benchmarks.stress.plan import Plan
from benchmarks.stress.requests import drawings
from benchmarks.stress.verdicts import Claim, Row

LONGEST = 2.0  # seconds, median
MOST = 200.0  # MB


def measure(plan: Plan) -> list[Row]:
    seconds, megabytes = [], []
    requests = drawings()
    for _ in range(plan.starts):
        began = time.monotonic()
        with serving.launched() as service:
            seconds.append(service.wait_until_ready() - began)
            at_first = service.resident()
            closed_loop(service.port, requests, 4, time.monotonic(), 0.3)
            megabytes.append(max(at_first, service.resident()))
    return [judged(seconds, megabytes)]


def judged(seconds: list[float], megabytes: list[float]) -> Row:
    """The row of several starts."""
    median = statistics.median(seconds)
    return Row(
        "start",
        (
            Claim(
                "ready",
                f"after {median:.2f} s (median of {len(seconds)}, {min(seconds):.2f} to {max(seconds):.2f})",
                f"under {LONGEST:.0f} s (median)",
                median < LONGEST,
            ),
            Claim("resident", f"{max(megabytes):.0f} MB", f"under {MOST:.0f} MB", max(megabytes) < MOST),
        ),
        figures={"seconds": seconds, "megabytes": megabytes},
    )
