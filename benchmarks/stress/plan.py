"""How long and how often each test measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Seconds, unless it says otherwise."""

    examples: int = 40  # of schemathesis, each operation and phase
    schemathesis: int = 60  # at most
    mutations: int = 10_000  # requests
    warm_up: int = 4_000  # of them, before memory is compared
    peak: float = 8.0
    overload: float = 30.0
    beside: float = 12.0  # normal clients alone, and beside slow ones
    rounds: int = 20  # SIGTERM, kill -9
    soak: float = 300.0
    remembered: int = 500  # records fetched, and forgotten
    starts: int = 5


FULL = Plan()
QUICK = Plan(
    examples=5,
    schemathesis=30,
    mutations=1_500,
    warm_up=500,
    peak=3.0,
    overload=5.0,
    beside=8.0,
    rounds=3,
    soak=40.0,
    remembered=60,
    starts=3,
)
