"""Several processes on one database: deletions reach the queues of others, and a process alone does not wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from spikehead.records import Filter, Record, RecordPage, Store, StoreError, crowd, schema
from spikehead.records.clock import elapsed
from sqlalchemy import create_engine, event, text

from tests.service.records.conftest import PATIENCE
from tests.service.records.making import BEGIN, numbers, record
from tests.service.serving import LONG


def now(number: int) -> Record:
    """Record `number`, of this moment."""
    return record(number, time.time() - BEGIN)


def kept(store: Store) -> list[int]:
    return sorted(numbers(store.page(Filter(), RecordPage(100))[0]))


@pytest.fixture
def other(url: str) -> Iterator[Store]:
    """The store as another process has it."""
    made = Store(url, patience=PATIENCE)
    yield made
    made.close()


def test_one_that_waits_elsewhere_is_not_written_once_it_is_forgotten(store: Store, other: Store) -> None:
    taken = elapsed()
    waiting, beside = now(1), now(2)
    assert store.delete(waiting.id) is False
    other.insert([waiting, beside], [taken, taken])
    assert kept(store) == [2]


def test_one_that_was_written_twice_stays_forgotten(store: Store, other: Store) -> None:
    """The answer to a commit was lost, the record was forgotten, and its writer tries again."""
    written = now(1)
    taken = elapsed()
    other.insert([written], [taken])
    assert store.delete(written.id) is True
    other.insert([written], [taken])
    assert kept(store) == []


def test_all_that_waits_elsewhere_is_forgotten_by_time(store: Store, other: Store) -> None:
    taken = elapsed()
    first, early, late = now(0), now(1), now(2)
    store.insert([first])
    middle = (early.time + late.time) / 2
    assert store.delete_until(middle) == 1
    other.insert([early, late], [taken, taken])
    assert kept(store) == [2]


def test_what_is_answered_after_all_was_forgotten_stays_though_the_clock_was_set_back(
    store: Store, other: Store
) -> None:
    before = now(1)
    taken = elapsed()
    assert store.delete_until(time.time() + 1e9) == 0
    time.sleep(1)  # more than a way to the server
    other.insert([before, record(2)])  # now, by a clock that nobody sets
    store.insert([record(3)])
    assert kept(store) == [1, 2, 3]
    store.delete_until(time.time())
    other.insert([now(4)], [taken])
    assert kept(store) == [4]  # its time is later
    other.insert([before], [taken])
    assert kept(store) == [4]


def test_all_that_is_there_is_forgotten_also_if_its_clock_was_ahead(store: Store) -> None:
    store.insert([now(1), record(2, time.time() - BEGIN + 5_000.0)])
    assert store.delete_until(time.time() + 1e9) == 2
    store.insert([record(3, time.time() - BEGIN + 4_000.0)])
    assert kept(store) == [3]


def test_what_is_answered_while_many_are_forgotten_stays(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spikehead.records.store._CHUNK", 5)
    store.insert([now(number) for number in range(12)])
    late = [100]
    rest = store._ending.wait

    def answered_meanwhile(seconds: float) -> bool:
        other.insert([now(late[-1])])
        late.append(late[-1] + 1)
        return rest(seconds)

    monkeypatch.setattr(store._ending, "wait", answered_meanwhile)
    assert store.delete_until(time.time() + 1e9) == 12
    assert kept(store) == late[:-1]


def test_a_deletion_of_many_ends_when_the_service_does(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikehead.records.store._CHUNK", 5)
    store.insert([now(number) for number in range(12)])
    store.stop_deleting()
    with pytest.raises(StoreError, match="the service is stopping: 5 records were deleted, others are left"):
        store.delete_until(time.time())
    assert len(kept(store)) == 7
    store.close()
    assert store.delete_until(time.time()) == 7


def test_many_notes_cost_a_writer_nothing(store: Store) -> None:
    """Those from before a record was taken are not even read."""
    store.open()
    with store._database.writing.begin() as connection:
        for number in range(50):
            crowd.note_forgotten(connection, f"{number:024x}", f"{number:024x}")
    time.sleep(1)  # more than a way to the server
    with store._database.writing.begin() as connection:
        assert crowd.forgotten_since(connection, elapsed())._one == set()
        assert len(crowd.forgotten_since(connection, elapsed() - 60.0)._one) == 50


def test_a_moment_to_come_forgets_nothing_that_is_answered_later(store: Store, other: Store) -> None:
    store.insert([now(1)])
    assert store.delete_until(time.time() + 1e9) == 1
    other.insert([now(2)])
    assert kept(store) == [2]


def test_ids_of_long_ago_leave_no_note(store: Store) -> None:
    """No queue holds them, and whoever asks for many must not fill the database."""
    old = record(1)
    store.insert([old])
    assert store.delete(old.id) is True
    assert store.delete("f" * 24) is False
    with store._database.reading.begin() as connection:
        assert connection.execute(schema.forgotten.select()).all() == []


def test_notes_end_with_the_day(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.delete(now(1).id)
    monkeypatch.setattr(crowd, "KEPT_SECONDS", -1.0)
    store.announce()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(schema.forgotten.select()).all() == []
    engine.dispose()


def test_who_forgets_waits_for_those_that_write(store: Store, other: Store) -> None:
    """A record in a transaction that is under way is neither overlooked nor written again."""
    writing, go_on = threading.Event(), threading.Event()
    waiting = now(1)
    taken = elapsed()
    store.open()

    @event.listens_for(other._database.writing, "commit")
    def commit(connection: object) -> None:
        writing.set()
        assert go_on.wait(LONG)

    store._database._patience = LONG
    thread = threading.Thread(target=other.insert, args=([waiting], [taken]))
    thread.start()
    assert writing.wait(LONG)
    answers: list[bool] = []

    def forget() -> None:
        patient = Store(store._database.url.render_as_string(hide_password=False), patience=LONG)
        answers.append(patient.delete(waiting.id))
        patient.close()

    forgetting = threading.Thread(target=forget)
    forgetting.start()
    time.sleep(0.05)
    assert answers == []
    go_on.set()
    forgetting.join(LONG)
    thread.join(LONG)
    assert answers == [True]
    assert kept(store) == []


def test_a_process_that_is_alone_has_no_company(store: Store, other: Store) -> None:
    store.announce()
    assert store.has_company() is False
    other.announce()
    assert store.has_company() is True and other.has_company() is True
    other.leave()
    assert store.has_company() is False and other.has_company() is True


def test_writing_says_that_a_process_is_there(store: Store, other: Store) -> None:
    other.insert([now(1)])
    assert store.has_company() is True


def test_a_process_that_is_heard_of_no_more_is_gone(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.announce()
    monkeypatch.setattr(crowd, "ALIVE_SECONDS", -1.0)
    assert store.has_company() is False


def test_which_records_may_come(store: Store, other: Store) -> None:
    waiting, forgotten, old = now(1), now(2), record(3)
    assert store.may_come(waiting.id) is False  # nobody else writes
    other.insert([now(4)])
    assert store.may_come(waiting.id) is True
    assert store.may_come(old.id) is False
    assert store.may_come("no id") is False
    store.delete(forgotten.id)
    assert store.may_come(forgotten.id) is False
    other.insert([waiting])
    assert store.may_come(waiting.id) is False  # it is there
    store.delete_until(time.time())
    assert store.may_come(waiting.id) is False


def test_waiting_for_writers_is_bounded(store: Store, url: str) -> None:
    store.open()
    engine = create_engine(url)
    with engine.connect() as connection:
        if url.startswith("sqlite"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            crowd.beside_writers(connection)
        with pytest.raises(StoreError, match=r"database is locked|canceling statement due to lock timeout"):
            store.await_writers()
        connection.rollback()
    store.await_writers()
    engine.dispose()


class OnDisk:
    """The bytes of a SQLite database, in all its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(f"sqlite:///{folder}/records.db", patience=PATIENCE)

    def has(self, what: bytes) -> bool:
        return any(what in path.read_bytes() for path in self.folder.iterdir())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[OnDisk]:
    made = OnDisk(tmp_path)
    yield made
    made.store.close()


def picture(number: int) -> tuple[Record, bytes]:
    """A record, and bytes that no other has."""
    ink = f"picture number {number:04}".encode()
    return now(number)._replace(image=ink.ljust(784, b"\0")), ink


def test_a_forgotten_picture_is_gone_from_all_files(disk: OnDisk) -> None:
    pictures = [picture(number) for number in range(200)]
    for one, _ in pictures:
        disk.store.insert([one])
    assert all(disk.has(ink) for _, ink in pictures)
    for one, ink in pictures[::2]:
        assert disk.store.delete(one.id)
        assert not disk.has(ink)
    assert all(disk.has(ink) for _, ink in pictures[1::2])
    disk.store.delete_until(time.time())
    assert not any(disk.has(ink) for _, ink in pictures)


def test_pictures_that_are_too_old_or_too_many_are_gone_from_all_files(disk: OnDisk) -> None:
    pictures = [picture(number) for number in range(60)]
    disk.store.insert([one for one, _ in pictures])
    while disk.store.prune(10, None, at_most=20):
        pass
    assert [disk.has(ink) for _, ink in pictures] == [False] * 50 + [True] * 10
    disk.store.prune(None, time.time())
    assert not any(disk.has(ink) for _, ink in pictures)


def test_what_a_reader_keeps_in_the_journal_goes_when_it_has_read(disk: OnDisk) -> None:
    one, ink = picture(1)
    disk.store.insert([one])
    engine = create_engine(f"sqlite:///{disk.folder}/records.db")
    with engine.connect() as reader:
        reader.execute(text("BEGIN"))
        assert len(reader.execute(text("SELECT id FROM records")).all()) == 1
        assert disk.store.delete(one.id) is True
        assert disk.has(ink)
    disk.store.announce()
    assert not disk.has(ink)
    engine.dispose()


def test_what_an_earlier_process_has_left_in_the_journal_goes_at_the_start(disk: OnDisk) -> None:
    one, ink = picture(1)
    disk.store.insert([one])
    with disk.store._database.writing.begin() as connection:
        connection.execute(schema.records.delete())  # and then it was killed
    assert disk.has(ink)
    later = OnDisk(disk.folder)
    later.store.announce()
    assert not disk.has(ink)
    later.store.close()
