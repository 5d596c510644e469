"""Records in memory: bounded, newest first, paged."""

import threading

import pytest

from service.records import Ids, MemoryRecords, Record


def record(identifier: str, size: int = 10) -> Record:
    return Record(
        id=identifier,
        time=1.5,
        model="tiny",
        model_version="1",
        image=bytes(784),
        seed=7,
        prediction=3,
        confidence=0.5,
        steps_used=2,
        stopped_by="max_steps",
        answer=b"x" * size,
    )


def ids(records: list[Record]) -> list[str]:
    return [one.id for one in records]


def test_newest_come_first() -> None:
    store = MemoryRecords(10, 1000)
    store.add([record("1"), record("2")])
    store.add([record("3")])
    assert ids(store.recent(10)) == ["3", "2", "1"]
    assert ids(store.recent(2)) == ["3", "2"]
    assert store.recent(0) == []


def test_pages() -> None:
    store = MemoryRecords(10, 1000)
    store.add(record(str(n)) for n in range(1, 6))
    assert ids(store.recent(2, before="4")) == ["3", "2"]
    assert ids(store.recent(2, before="1")) == []
    assert ids(store.recent(9, before="35")) == ["3", "2", "1"]  # an id that is gone still marks its place


def test_order_is_that_of_ids() -> None:
    store = MemoryRecords(10, 1000)
    store.add([record("2"), record("1"), record("3")])
    assert ids(store.recent(10)) == ["3", "2", "1"]


def test_bounded_by_number() -> None:
    store = MemoryRecords(3, 1000)
    store.add(record(str(n)) for n in range(9))
    assert ids(store.recent(10)) == ["8", "7", "6"]
    with pytest.raises(KeyError):
        store.get("5")
    assert store.get("6").id == "6"


def test_bounded_by_bytes() -> None:
    store = MemoryRecords(100, 25)
    store.add([record("1"), record("2"), record("3")])
    assert ids(store.recent(10)) == ["3", "2"]
    store.add([record("4", size=26)])
    assert store.recent(10) == []
    store.add([record("5", size=25)])
    assert ids(store.recent(10)) == ["5"]


def test_no_history() -> None:
    store = MemoryRecords(0, 1000)
    store.add([record("1")])
    assert store.recent(10) == []


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
