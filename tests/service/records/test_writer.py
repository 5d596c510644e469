"""The recorder: at once for who adds, in groups for the database, bounded, and honest about what is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from spikehead.records import (
    Filter,
    Record,
    Recorder,
    RecordError,
    RecorderState,
    RecordPage,
    Store,
    StoreError,
)
from spikehead.records.clock import Clock, elapsed
from spikehead.records.writer import PRUNE_AT_MOST

from tests.service.records.making import add_and_wait, identifier, numbers, record
from tests.service.serving import LONG, eventually


class Disk(Store):
    """A store in memory that can be held up and can fail."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.opened = 0
        self.pruned: list[tuple[int | None, float | None, int | None]] = []
        self.surplus = 0
        self.failing: str | None = None
        self.taken: list[float] = []
        self.left = 0
        self.refused: set[int] = set()
        self.busy, self.going_on = threading.Event(), threading.Event()
        self.going_on.set()

    def announce(self) -> None:
        self.opened += 1
        if self.failing:
            raise StoreError(self.failing)

    def leave(self) -> None:
        self.left += 1

    def insert(self, records: Sequence[Record], taken: Sequence[float] | None = None) -> None:
        self.busy.set()
        assert self.going_on.wait(LONG)
        if self.failing:
            raise StoreError(self.failing)
        some = numbers(list(records))
        if self.refused & set(some):
            raise RecordError("no such record")
        self.groups.append(some)
        self.taken += taken or []

    def prune(self, most: int | None, older_than: float | None, at_most: int | None = None) -> int:
        self.pruned.append((most, older_than, at_most))
        if self.failing:
            raise StoreError(self.failing)
        assert at_most is not None
        deleted = min(self.surplus, at_most)
        self.surplus -= deleted
        return deleted

    def close(self) -> None: ...

    def hold(self) -> None:
        """The next group gets stuck."""
        self.busy.clear()
        self.going_on.clear()

    @property
    def written(self) -> list[int]:
        return [number for group in self.groups for number in group]


@contextmanager
def recording(disk: Store, **options: Any) -> Iterator[Recorder]:
    recorder = Recorder(disk, **({"linger": 0.0, "first_pause": 0.01, "longest_pause": 0.02} | options))
    try:
        yield recorder
    finally:
        if isinstance(disk, Disk):
            disk.going_on.set()
        recorder.close(LONG)


def some(*which: int) -> list[Record]:
    return [record(number) for number in which]


OK = RecorderState("ok", None, 0, 0, 0)


def test_records_are_written(store: Store) -> None:
    """The whole way, on both databases."""
    with recording(store) as recorder:
        assert recorder.add(some(1, 2)) is True
        assert add_and_wait(recorder, some(3), LONG) is True
        assert numbers(store.page(Filter(), RecordPage(9))[0]) == [3, 2, 1]
        assert recorder.add(some(4)) and recorder.flush(LONG)
        assert store.get(identifier(4)) == record(4)
        assert recorder.state == RecorderState("ok", None, 0, 4, 0)


def test_who_adds_does_not_wait_for_the_database() -> None:
    disk = Disk()
    disk.hold()
    with recording(disk) as recorder:
        recorder.add(some(0))
        assert disk.busy.wait(LONG)
        for number in range(1, 1001):
            assert recorder.add(some(number))
        assert recorder.state.queued == 1001
        disk.going_on.set()
        assert recorder.flush(LONG)
    assert disk.written == list(range(1001))


def test_the_store_is_told_when_the_queue_took_each_record() -> None:
    disk = Disk()
    disk.hold()
    with recording(disk) as recorder:
        begin = elapsed()
        recorder.add(some(0))
        assert disk.busy.wait(LONG)
        recorder.add(some(1, 2))
        middle = elapsed()
        recorder.add(some(3))
        disk.going_on.set()
        assert recorder.flush(LONG)
    assert disk.groups == [[0], [1, 2, 3]]
    _, first, second, third = disk.taken
    assert begin <= disk.taken[0] <= first == second <= middle <= third
    assert disk.left == 1


def test_a_process_whose_database_is_away_leaves_without_a_word() -> None:
    disk = Disk()
    disk.failing = "away"
    with recording(disk) as recorder:
        eventually(lambda: recorder.state.reason == "away")
    assert disk.left == 0


def test_a_clock_that_jumps_ahead_makes_nothing_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, elapsed = [1_000_000.0], [0.0]
    monkeypatch.setattr("spikehead.records.writer.Clock", lambda: Clock(lambda: wall[0], lambda: elapsed[0]))
    monkeypatch.setattr("spikehead.records.writer.PRUNE_SECONDS", 0.01)
    disk = Disk()
    with recording(disk, longest_kept=100.0):
        eventually(lambda: disk.pruned)
        assert disk.pruned[0] == (None, 999_900.0, PRUNE_AT_MOST)
        wall[0] += 40 * 86_400
        elapsed[0] += 60
        disk.pruned.clear()
        eventually(lambda: disk.pruned)
        assert disk.pruned[-1] == (None, 999_960.0, PRUNE_AT_MOST)


def test_all_that_waits_is_one_group() -> None:
    disk = Disk()
    disk.hold()
    with recording(disk, group=10) as recorder:
        recorder.add(some(0))
        assert disk.busy.wait(LONG)
        for number in range(1, 26):
            recorder.add(some(number))
        disk.going_on.set()
        assert recorder.flush(LONG)
    assert disk.groups == [[0], list(range(1, 11)), list(range(11, 21)), list(range(21, 26))]


def test_a_group_waits_a_little_for_company() -> None:
    disk = Disk()
    with recording(disk, linger=LONG, group=3) as recorder:
        recorder.add(some(1))
        recorder.add(some(2))
        assert recorder.state.queued == 2
        recorder.add(some(3))  # the group is full
        eventually(lambda: recorder.state.queued == 0)
        recorder.add(some(4))
        assert add_and_wait(recorder, some(5), LONG)  # someone waits
        recorder.add(some(6))
        assert recorder.flush(LONG)
        recorder.add(some(7))
    assert disk.groups == [[1, 2, 3], [4, 5], [6], [7]]


def test_a_full_queue_drops_what_comes() -> None:
    disk = Disk()
    disk.hold()
    with recording(disk, most_waiting=4) as recorder:
        assert recorder.add(some(0))
        assert disk.busy.wait(LONG)
        assert recorder.add(some(1, 2)) is True
        assert recorder.add(some(3, 4)) is False  # all or none
        assert recorder.add(some(5)) is True
        assert recorder.add(some(6)) is False
        assert add_and_wait(recorder, some(7), LONG) is False  # at once
        assert recorder.state == RecorderState("degraded", "the queue of 4 records is full", 4, 0, 4)
        disk.going_on.set()
        assert recorder.flush(LONG)
        assert recorder.state == RecorderState("ok", None, 0, 4, 4)
        assert recorder.add([record(number) for number in range(8, 13)]) is False  # can never fit
        assert recorder.state == RecorderState("ok", None, 0, 4, 9)
        assert add_and_wait(recorder, some(13), LONG)
    assert disk.written == [0, 1, 2, 5, 13]


def test_nothing_to_add() -> None:
    with recording(Disk()) as recorder:
        assert recorder.add([]) and add_and_wait(recorder, [], LONG) and recorder.flush(LONG)
        assert recorder.state == OK


def test_waiting_ends_after_a_while() -> None:
    disk = Disk()
    disk.hold()
    with recording(disk) as recorder:
        assert add_and_wait(recorder, some(1), 0.01) is False
        assert recorder.flush(0.01) is False
        disk.going_on.set()
        eventually(lambda: disk.written == [1])  # later all the same


def test_many_wait_at_once() -> None:
    disk = Disk()
    disk.hold()
    answers: list[bool] = []
    with recording(disk) as recorder:
        threads = [
            threading.Thread(target=lambda n=number: answers.append(add_and_wait(recorder, some(n), LONG)))
            for number in range(20)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: recorder.state.queued == 20)
        assert answers == []
        disk.going_on.set()
        for thread in threads:
            thread.join()
    assert answers == [True] * 20
    assert sorted(disk.written) == list(range(20))


def test_a_database_that_fails_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "spikehead")
    disk = Disk()
    with recording(disk, most_waiting=3) as recorder:
        assert add_and_wait(recorder, some(1), LONG)
        disk.failing = "the disk is full"
        began = time.monotonic()
        assert add_and_wait(recorder, some(2), LONG) is False  # as soon as it has failed
        assert time.monotonic() - began < LONG / 2
        assert recorder.state == RecorderState("degraded", "the disk is full", 1, 1, 0)
        assert recorder.flush(LONG) is False
        assert recorder.add(some(3)) is True
        assert add_and_wait(recorder, some(4), LONG) is False
        assert recorder.add(some(5)) is False
        assert recorder.state == RecorderState("degraded", "the disk is full", 3, 1, 1)
        disk.failing = None
        eventually(lambda: recorder.state == RecorderState("ok", None, 0, 4, 1))
        assert add_and_wait(recorder, some(6), LONG)
    assert disk.written == [1, 2, 3, 4, 6]
    assert [one.getMessage() for one in caplog.records] == [
        "records cannot be written: the disk is full",
        "records are written again",
    ]


def test_a_database_that_is_away_from_the_start() -> None:
    disk = Disk()
    disk.failing = "nobody there"
    with recording(disk) as recorder:
        eventually(lambda: recorder.state == RecorderState("degraded", "nobody there", 0, 0, 0))
        disk.failing = None
        eventually(lambda: recorder.state == OK)  # without any record to write
        assert disk.opened >= 2


def test_pauses_grow_and_end_for_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    disk.failing = "away"
    pauses: list[float] = []
    wait = Recorder._wait_to_try_again

    def note(self: Recorder, pause: float) -> bool:
        pauses.append(pause)
        return wait(self, pause if len(pauses) < 5 else LONG)

    monkeypatch.setattr(Recorder, "_wait_to_try_again", note)
    with recording(disk, first_pause=0.02, longest_pause=0.2) as recorder:
        eventually(lambda: len(pauses) == 5)
        assert pauses == [0.02, 0.04, 0.08, 0.16, 0.2]
        began = time.monotonic()
        assert add_and_wait(recorder, some(1), LONG) is False
        assert time.monotonic() - began < LONG / 2
        disk.failing = None
        assert add_and_wait(recorder, some(2), LONG) is True
    assert disk.written == [1, 2]


def test_one_bad_record_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    disk.refused = {3, 8}
    disk.hold()
    with recording(disk) as recorder:
        recorder.add(some(0))
        assert disk.busy.wait(LONG)
        recorder.add(some(1, 2, 3, 4))
        answers: list[bool] = []
        bad = threading.Thread(target=lambda: answers.append(add_and_wait(recorder, some(7, 8, 9), LONG)))
        bad.start()
        eventually(lambda: recorder.state.queued == 8)
        disk.going_on.set()
        bad.join()
        assert add_and_wait(recorder, some(10), LONG) is True
        assert recorder.state == RecorderState("ok", None, 0, 7, 2)
    assert answers == [False]
    assert disk.written == [0, 1, 2, 4, 7, 9, 10]
    assert f"record {identifier(3)} was dropped: no such record" in caplog.text


def test_a_bug_does_not_end_recording(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk()
    with recording(disk) as recorder:
        whole = disk.insert

        def broken(records: Sequence[Record], taken: Sequence[float]) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(disk, "insert", broken)
        assert add_and_wait(recorder, some(1), LONG) is False
        assert recorder.state.reason == "ZeroDivisionError: a bug"
        monkeypatch.setattr(disk, "insert", whole)
        eventually(lambda: recorder.state.written == 1)
    assert "the recorder failed" in caplog.text


# ---------------------------------------------------------------------------------------------------- retention


def test_too_many_and_too_old_are_pruned(store: Store) -> None:
    with recording(store, most_kept=3) as recorder:
        assert add_and_wait(recorder, some(*range(10)), LONG)
    now = time.time()
    with recording(store, most_kept=3) as recorder:
        eventually(lambda: numbers(store.page(Filter(), RecordPage(9))[0]) == [9, 8, 7])
    fresh = [record(n, now - record(0).time - 5 + n) for n in (1, 2)]
    with recording(store, most_kept=100, longest_kept=60.0) as recorder:
        assert add_and_wait(recorder, fresh, LONG)
        eventually(lambda: numbers(store.page(Filter(), RecordPage(9))[0]) == [2, 1])


def test_pruning_goes_on_between_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikehead.records.writer.PRUNE_AT_MOST", 10)
    disk = Disk()
    disk.surplus = 35
    with recording(disk, most_kept=7) as recorder:
        eventually(lambda: disk.surplus == 0)
        assert add_and_wait(recorder, some(1), LONG)
        assert disk.pruned == [(7, None, 10)] * 4


def test_pruned_when_it_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    with recording(disk, most_kept=200, group=3) as recorder:
        eventually(lambda: len(disk.pruned) == 1)
        assert add_and_wait(recorder, some(1, 2, 3), LONG)
        assert len(disk.pruned) == 1
        assert add_and_wait(recorder, some(4), LONG)
        eventually(lambda: len(disk.pruned) == 2)


def test_pruned_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikehead.records.writer.PRUNE_SECONDS", 0.01)
    disk = Disk()
    began = time.time()
    with recording(disk, longest_kept=100.0):
        eventually(lambda: len(disk.pruned) > 3)  # without any record to write
    most, older_than, _ = disk.pruned[-1]
    assert most is None
    assert older_than is not None and began - 100 <= older_than <= time.time() - 100


def test_no_limit_no_pruning() -> None:
    disk = Disk()
    with recording(disk) as recorder:
        assert add_and_wait(recorder, some(1), LONG)
    assert disk.pruned == []


def test_a_database_that_can_not_prune_is_in_trouble() -> None:
    disk = Disk()
    disk.failing = "read only"
    with recording(disk, most_kept=7) as recorder:
        eventually(lambda: recorder.state.reason == "read only")
        disk.failing = None
        eventually(lambda: recorder.state == OK)


# ------------------------------------------------------------------------------------------------------ closing


def test_closing_writes_what_waits() -> None:
    disk = Disk()
    recorder = Recorder(disk, linger=LONG)
    recorder.add(some(1, 2))
    recorder.close(LONG)
    assert disk.written == [1, 2]
    assert recorder.add(some(3)) is False
    assert add_and_wait(recorder, some(4), LONG) is False
    assert recorder.state == RecorderState("ok", None, 0, 2, 2)
    recorder.close(LONG)


def test_closing_tries_once_more() -> None:
    disk = Disk()
    disk.failing = "away"
    recorder = Recorder(disk, first_pause=0.01, longest_pause=LONG)
    recorder.add(some(1))
    eventually(lambda: recorder.state.reason == "away")
    disk.failing = None
    recorder.close(LONG / 2)
    assert disk.written == [1]


def test_closing_does_not_take_longer_than_it_may() -> None:
    disk = Disk()
    disk.failing = "away"
    recorder = Recorder(disk, first_pause=0.01, longest_pause=0.05)
    recorder.add(some(1, 2))
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(recorder.flush(LONG)))
    waiting.start()
    began = time.monotonic()
    recorder.close(0.2)
    assert time.monotonic() - began < LONG / 2
    waiting.join()
    assert answers == [False]
    assert recorder.state == RecorderState("degraded", "away", 0, 0, 2)


def test_closing_leaves_a_thread_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikehead.records.writer.GRACE_SECONDS", 0.0)
    disk = Disk()
    disk.hold()
    recorder = Recorder(disk, linger=0.0)
    recorder.add(some(1))
    assert disk.busy.wait(LONG)
    recorder.close(0.01)
    assert recorder.state == RecorderState("ok", None, 0, 0, 1)
    disk.going_on.set()
    eventually(lambda: not recorder._thread.is_alive())


def test_what_is_lost_at_the_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    disk.failing = "it is away"
    recorder = Recorder(disk, first_pause=0.01)
    assert recorder.add([record(1), record(2)])
    recorder.close(0.05)
    assert recorder.state.dropped == 2
    assert "2 records were not written and are lost: it is away" in caplog.text
