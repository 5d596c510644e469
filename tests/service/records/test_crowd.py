"""Several processes on one database: what is forgotten in a queue is not written, and nobody waits for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text

from service.records import Filter, Page, Record, Store, StoreError, crowd, schema
from tests.service.records.conftest import PATIENCE
from tests.service.records.making import BEGIN, numbers, record

LONG = 20.0


def now(number: int) -> Record:
    """Record `number`, of this moment."""
    return record(number, time.time() - BEGIN)


def kept(store: Store) -> list[int]:
    return sorted(numbers(store.page(Filter(), Page(100))[0]))


@pytest.fixture
def other(url: str) -> Iterator[Store]:
    """The store as another process has it."""
    made = Store(url, patience=PATIENCE)
    yield made
    made.close()


def test_one_that_waits_elsewhere_is_not_written_once_it_is_forgotten(store: Store, other: Store) -> None:
    waiting, beside = now(1), now(2)
    assert store.delete(waiting.id) is False
    told = other.insert([waiting, beside])
    assert [(one.first, one.last) for one in told] == [(waiting.id, waiting.id)]
    assert kept(store) == [2]
    assert other.insert([now(3)]) == []  # told once: what comes later is another matter


def test_one_that_was_written_twice_stays_forgotten(store: Store, other: Store) -> None:
    """The answer to a commit was lost, the record was forgotten, and its writer tries again."""
    written = now(1)
    other.insert([written])
    assert store.delete(written.id) is True
    other.insert([written])
    assert kept(store) == []


def test_all_that_waits_elsewhere_is_forgotten_by_time(store: Store, other: Store) -> None:
    first, early, late = now(0), now(1), now(2)
    store.insert([first])
    middle = (early.time + late.time) / 2
    assert store.delete_until(middle) == 1
    other.insert([early, late])
    assert kept(store) == [2]


def test_a_moment_to_come_forgets_nothing_that_is_answered_later(store: Store, other: Store) -> None:
    store.insert([now(1)])
    assert store.delete_until(time.time() + 1e9) == 1
    other.insert([now(2)])
    assert kept(store) == [2]


def test_ids_of_long_ago_leave_no_note(store: Store, other: Store) -> None:
    """No queue holds them, and whoever asks for many must not fill the database."""
    old = record(1)
    store.insert([old])
    assert store.delete(old.id) is True
    assert store.delete("f" * 24) is False
    assert other.insert([now(2)]) == []


def test_notes_end_with_the_day(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.delete(now(1).id)
    monkeypatch.setattr(crowd, "KEPT_SECONDS", -1.0)
    store.announce()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(schema.forgotten.select()).all() == []
    engine.dispose()


def test_a_database_in_the_place_of_another_numbers_its_notes_anew(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    store = Store(url)
    store.delete(now(1).id)
    store.insert([now(2)])  # has heeded note 1
    store.close()
    for path in tmp_path.iterdir():
        path.unlink()
    waiting = now(3)
    with_other = Store(url)
    with_other.delete(waiting.id)  # note 1 of the new file
    store.insert([waiting, now(4)])
    assert kept(store) == [4]
    store.close()
    with_other.close()


def test_who_forgets_waits_for_those_that_write(store: Store, other: Store) -> None:
    """A record in a transaction that is under way is neither overlooked nor written again."""
    writing, go_on = threading.Event(), threading.Event()
    record_ = now(1)
    store.open()

    @event.listens_for(other._database.writing, "commit")
    def commit(connection: object) -> None:
        writing.set()
        assert go_on.wait(LONG)

    store._database._patience = LONG
    thread = threading.Thread(target=other.insert, args=([record_],))
    thread.start()
    assert writing.wait(LONG)
    answers: list[bool] = []

    def forget() -> None:
        patient = Store(store._database.url.render_as_string(hide_password=False), patience=LONG)
        answers.append(patient.delete(record_.id))
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
