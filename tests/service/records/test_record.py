"""Identifiers, and the time they carry."""

import threading

import pytest

from service.records import Ids, first_id, time_of


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
