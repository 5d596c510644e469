"""Identifiers, and the time they carry."""

import threading

import pytest
from spikehead.records import Ids, first_id, time_of
from spikehead.records.record import AHEAD_NS, last_id


def test_ids_grow_across_threads() -> None:
    source = Ids()
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend(source.new() for _ in range(500))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one[:16] for one in made}) == 2000
    assert all(len(one) == 24 and int(one, 16) >= 0 for one in made)
    own = [source.new() for _ in range(100)]
    assert own == sorted(own)


def test_some_are_in_order_and_follow_the_last() -> None:
    source = Ids()
    made = [source.new(), *source.some(3), source.new()]
    assert made == sorted(made) and len({one[:16] for one in made}) == 5
    assert [int(one[:16], 16) for one in made[1:4]] == [int(made[1][:16], 16) + i for i in range(3)]


def test_time_of_an_id_is_in_microseconds() -> None:
    assert time_of(f"{1_700_000_000_123_456_789:016x}89abcdef") == 1_700_000_000.123456


@pytest.mark.parametrize(
    "moment", [0.0, 0.000001, 1_700_000_000.123456, 1_700_000_000.999999, 4_000_000_000.000001]
)
def test_the_first_id_of_a_moment(moment: float) -> None:
    first = first_id(moment)
    assert time_of(first) == moment
    last = f"{int(first[:16], 16) + 999:016x}ffffffff"  # of the same microsecond
    assert time_of(last) == moment
    if moment > 0:
        before = f"{int(first[:16], 16) - 1:016x}ffffffff"
        assert time_of(before) < moment and before < first


def test_moments_beyond_all_ids() -> None:
    assert first_id(-5.0) == "0" * 24
    assert first_id(1e12) == "f" * 16 + "0" * 8


def test_times_are_those_of_the_clock_after_it_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [2_000_000_000_000_000_000]
    monkeypatch.setattr("spikehead.records.record.time.time_ns", lambda: clock[0])
    source = Ids()
    hour = 3_600_000_000_000
    for step in (0, hour, -hour, -hour, 2 * hour, -AHEAD_NS - 1):
        clock[0] += step
        assert int(source.new()[:16], 16) == clock[0]
        assert int(source.some(2)[0][:16], 16) == clock[0] + 1


def test_ids_grow_though_the_clock_is_corrected_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [2_000_000_000_000_000_000]
    monkeypatch.setattr("spikehead.records.record.time.time_ns", lambda: clock[0])
    source = Ids()
    made = [source.new()]
    clock[0] -= AHEAD_NS // 2
    made += [source.new(), *source.some(10_000), source.new()]
    assert made == sorted(made) and len(set(made)) == len(made)


@pytest.mark.parametrize("moment", [0.000001, 1_700_000_000.123456, 4_000_000_000.000001])
def test_the_last_id_before_a_moment(moment: float) -> None:
    last = last_id(moment)
    assert last < first_id(moment) and time_of(last) < moment
    assert int(first_id(moment)[:16], 16) - int(last[:16], 16) == 1 and last.endswith("f" * 8)


def test_no_id_is_before_all_moments() -> None:
    assert last_id(-5.0) == last_id(0.0) == "0" * 16 + "f" * 8
