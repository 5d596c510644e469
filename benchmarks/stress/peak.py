"""The most that a service can serve: 16 clients, each sends as soon as it has its answer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from benchmarks.stress.client import closed_loop, described, soon

CLIENTS = 16


def peak(pool: Executor, port: int, requests: Sequence[bytes], seconds: float) -> float:
    """Answers of 200 a second. Raises RuntimeError if there are others."""
    begin = soon()
    tally = pool.submit(closed_loop, port, requests, CLIENTS, begin, seconds).result()
    if set(tally.counts()) != {200}:
        raise RuntimeError(f"expected 200 for all of {CLIENTS} clients, got {described(tally.counts())}")
    return tally.rate(200, begin, begin + seconds)
