"""Four times the load that the service can serve, open loop: it serves what it can and refuses the rest at once.

The peak is measured before and after (16 clients, closed loop; the mean of both). In between requests arrive at
random times at four times the first peak, each on a free connection or a new one, whatever became of the others.
In the time of the load:

    goodput    answers of 200 a second, against the peak
    refusals   milliseconds from the first byte of the request to the last of a 429, median
    liveness   GET /health/live five times a second, from another process, on a connection of its own: the longest
    offered    share of the arrivals that could be sent: 4,000 connections must do

Done twice: with drawings as users send them, and with the lightest request there is (784 raw bytes), where the
client's own work weighs: the processor time of both sides is in the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from benchmarks import serving
from benchmarks.stress.client import UNSENT, Tally, described, helpers, merged, open_loop, soon, watch
from benchmarks.stress.peak import peak
from benchmarks.stress.plan import Plan
from benchmarks.stress.requests import drawings, raw
from benchmarks.stress.verdicts import Claim, Row

TIMES = 4
CONNECTIONS = 4_000
LEAST_GOODPUT = 0.9  # of the peak
LONGEST_REFUSAL = 20.0  # ms, median
LONGEST_LIVENESS = 100.0  # ms
LEAST_OFFERED = 0.99  # of the arrivals


def measure(plan: Plan) -> list[Row]:
    return [_overloaded("4 times the load, drawings", plan, drawings(), clients=1)]


def measure_raw(plan: Plan) -> list[Row]:
    return [_overloaded("4 times the load, raw pixels", plan, raw(), clients=2)]


def _overloaded(test: str, plan: Plan, requests: Sequence[bytes], clients: int) -> Row:
    with serving.ready() as service, helpers(clients + 1) as pool:
        most = peak(pool, service.port, requests, plan.peak)
        rate = TIMES * most
        used = service.seconds_of_processor()
        begin = soon()
        watching = pool.submit(watch, service.port, begin, plan.overload)
        loads = [
            pool.submit(
                open_loop,
                service.port,
                requests,
                rate / clients,
                begin,
                plan.overload,
                CONNECTIONS // clients,
                seed,
            )
            for seed in range(clients)
        ]
        liveness = watching.result()
        used = service.seconds_of_processor() - used
        tally = merged(load.result() for load in loads)
        with suppress(RuntimeError):  # it still works on what nobody waits for any more: no peak to be had
            most = (most + peak(pool, service.port, requests, plan.peak)) / 2
    return judged(test, most, tally, liveness, begin, plan.overload, used)


def judged(
    test: str, most: float, tally: Tally, liveness: list[float], begin: float, seconds: float, used: float
) -> Row:
    """The row of a load that was measured."""
    counts = tally.counts()
    arrivals = len(tally.status)
    offered = 1 - counts.get(UNSENT, 0) / arrivals
    goodput = tally.rate(200, begin, begin + seconds)
    refusals = tally.seconds(429) * 1000
    median = float(np.median(refusals)) if len(refusals) else float("inf")
    longest = max(liveness) * 1000
    late = (np.array(tally.began) - np.array(tally.due)) * 1000
    served = tally.seconds(200) * 1000
    return Row(
        test,
        (
            Claim(
                "goodput",
                f"{goodput:,.0f}/s, {goodput / most:.0%} of the peak of {most:,.0f}/s",
                f"at least {LEAST_GOODPUT:.0%} of the peak",
                goodput >= LEAST_GOODPUT * most,
            ),
            Claim(
                "refusals",
                f"{len(refusals):,}, median {median:.1f} ms" if len(refusals) else "none",
                f"429 in under {LONGEST_REFUSAL:.0f} ms (median)",
                median < LONGEST_REFUSAL,
            ),
            Claim(
                "liveness",
                f"{longest:.0f} ms at most, {len(liveness)} times"
                if np.isfinite(longest)
                else f"without an answer {liveness.count(float('inf'))} of {len(liveness)} times",
                f"under {LONGEST_LIVENESS:.0f} ms throughout",
                longest < LONGEST_LIVENESS,
            ),
            Claim(
                "offered",
                f"{arrivals / seconds:,.0f}/s, {offered:.1%} of them could be sent",
                f"at least {LEAST_OFFERED:.0%} sent",
                offered >= LEAST_OFFERED,
            ),
        ),
        (
            f"answers {described(counts)}",
            f"200 after {np.median(served) if len(served) else float('inf'):.0f} ms (median)",
            f"sent {np.percentile(late, 99):.0f} ms late (p99)",
            f"processor {used / seconds:.2f} service, {tally.processor / seconds:.2f} client",
        ),
        {
            "peak": most,
            "goodput": goodput,
            "refusal_ms": median if np.isfinite(median) else None,
            "liveness_ms": longest if np.isfinite(longest) else None,
            "offered": offered,
            "counts": {str(status): count for status, count in counts.items()},
        },
    )
