"""Memory under steady load: 80 % of the peak, open loop, 5 minutes.

The resident size of all processes is read once a second. The median of the last minute is held against that of
the second minute; the first is for caches and pools to fill. A minute is a fifth of the whole time.
"""

from __future__ import annotations

import statistics
import time

from benchmarks import serving
from benchmarks.stress.client import described, helpers, open_loop, soon
from benchmarks.stress.peak import peak
from benchmarks.stress.plan import Plan
from benchmarks.stress.requests import drawings
from benchmarks.stress.verdicts import Claim, Row

SHARE = 0.8  # of the peak
CONNECTIONS = 1_000
MOST_GROWTH = 0.02


def measure(plan: Plan) -> list[Row]:
    samples: list[tuple[float, float]] = []  # (seconds since the beginning, MB)
    requests = drawings()
    with serving.ready() as service, helpers(1) as pool:
        most = peak(pool, service.port, requests, plan.peak)
        begin = soon()
        load = pool.submit(
            open_loop, service.port, requests, SHARE * most, begin, plan.soak, CONNECTIONS, seed=1
        )
        while not load.done():
            time.sleep(1.0)
            samples.append((time.monotonic() - begin, service.resident()))
        counts = load.result().counts()
    return [judged([sample for sample in samples if sample[0] < plan.soak], plan.soak, SHARE * most, counts)]


def judged(samples: list[tuple[float, float]], seconds: float, rate: float, counts: dict[int, int]) -> Row:
    """The row of samples of memory, and of the answers by status."""
    minute = seconds / 5
    second = statistics.median(size for at, size in samples if minute <= at < 2 * minute)
    last = statistics.median(size for at, size in samples if at >= seconds - minute)
    growth = last / second - 1
    return Row(
        f"soak, {seconds / 60:.2g} minutes at {SHARE:.0%} load",
        (
            Claim(
                "memory",
                f"{second:.1f} MB, then {last:.1f} MB: {growth:+.1%}",
                f"last minute within {MOST_GROWTH:.0%} of the second",
                abs(growth) <= MOST_GROWTH,
            ),
        ),
        (f"{rate:,.0f} requests a second", f"answers {described(counts)}"),
        {
            "second_minute": second,
            "last_minute": last,
            "rate": rate,
            "megabytes": [size for _, size in samples],
        },
    )
