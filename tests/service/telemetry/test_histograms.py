"""Values that are handed over together make the histogram that they make one by one."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from spikehead.telemetry.histograms import BucketCounts, BulkHistogram

BOUNDS = (0.5, 1, 2, 8)


def histogram(registry: CollectorRegistry) -> BulkHistogram:
    return BulkHistogram("taken", "values", ("who",), registry=registry, buckets=BOUNDS)


@given(st.lists(st.tuples(st.sampled_from([-1, 0, 0.5, 0.75, 1, 2, 3, 8, 9, 1e9]), st.integers(0, 3))))
def test_together_or_one_by_one(values: list[tuple[float, int]]) -> None:
    one_by_one, together = CollectorRegistry(), CollectorRegistry()
    expected, child = histogram(one_by_one).labels("a"), histogram(together).labels("a")
    counts = BucketCounts(child, BOUNDS)
    for i, (value, times) in enumerate(values):
        for _ in range(times):
            expected.observe(value)
        counts.add(value, times)
        if i % 3 == 0:
            counts.empty()
    counts.empty()
    counts.empty()  # there is nothing in it
    found, wanted = (
        [line for line in generate_latest(one).decode().splitlines() if "_created" not in line]
        for one in (together, one_by_one)
    )
    assert found == wanted


def test_counts_of_other_buckets_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        histogram(CollectorRegistry()).labels("a").take([1, 2], 3.0)


def test_nothing_is_lost_between_threads() -> None:
    registry = CollectorRegistry()
    counts = BucketCounts(histogram(registry).labels("a"), BOUNDS)
    ended = threading.Event()

    def fill() -> None:
        for _ in range(5_000):
            counts.add(1)

    def empty() -> None:
        while not ended.is_set():
            counts.empty()

    emptying = threading.Thread(target=empty)
    filling = [threading.Thread(target=fill) for _ in range(4)]
    for thread in (emptying, *filling):
        thread.start()
    for thread in filling:
        thread.join()
    ended.set()
    emptying.join()
    counts.empty()
    assert registry.get_sample_value("taken_count", {"who": "a"}) == 20_000
    assert registry.get_sample_value("taken_sum", {"who": "a"}) == 20_000
