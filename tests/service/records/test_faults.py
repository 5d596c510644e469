"""Databases that are locked, read-only, full, removed or away: recording is degraded, and resumes by itself."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from spikehead.records import Filter, Recorder, RecorderState, RecordPage, Store, StoreError
from sqlalchemy import Connection, create_engine, event, text

from tests.service.records.conftest import PATIENCE, administer, own_database, server, shown
from tests.service.records.making import add_and_wait, identifier, numbers, record
from tests.service.serving import LONG, eventually


@contextmanager
def recording(url: str, **options: Any) -> Iterator[tuple[Store, Recorder]]:
    store = Store(url, PATIENCE)
    recorder = Recorder(store, linger=0.0, first_pause=0.01, longest_pause=0.05, **options)
    yield store, recorder
    recorder.close(LONG)
    store.close()


def kept(store: Store) -> list[int]:
    return numbers(store.page(Filter(), RecordPage(100))[0])


def survives(
    store: Store, recorder: Recorder, begin: Callable[[], None], end: Callable[[], None], reason: str
) -> None:
    """Records 1 before, 2 to 4 during and 5 after a fault, with a queue that has room for two."""
    assert add_and_wait(recorder, [record(1)], LONG) is True
    begin()
    assert add_and_wait(recorder, [record(2)], LONG) is False
    assert recorder.state.status == "degraded"
    assert reason in str(recorder.state.reason)
    assert "\n" not in str(recorder.state.reason)
    assert recorder.add([record(3)]) is True
    assert recorder.add([record(4)]) is False
    assert (recorder.state.queued, recorder.state.dropped) == (2, 1)
    end()
    eventually(lambda: recorder.state.status == "ok" and not recorder.state.queued)
    assert add_and_wait(recorder, [record(5)], LONG) is True
    assert recorder.state == RecorderState("ok", None, 0, 4, 1)


def test_locked(url: str) -> None:
    sqlite = url.startswith("sqlite")
    engine = create_engine(url)
    with recording(url, most_waiting=2) as (store, recorder):
        store.open()
        connection = engine.connect()

        def lock() -> None:
            if sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(text("LOCK TABLE records IN EXCLUSIVE MODE"))

        def unlock() -> None:
            assert kept(store) == [1]  # one can read meanwhile
            connection.rollback()

        reason = "database is locked" if sqlite else "canceling statement due to lock timeout"
        survives(store, recorder, lock, unlock, reason)
        assert kept(store) == [5, 3, 2, 1]
        connection.close()
    engine.dispose()


def test_folder_away_and_back(tmp_path: Path) -> None:
    folder, aside = tmp_path / "data", tmp_path / "aside"

    def away() -> None:
        folder.rename(aside)
        folder.write_text("in the way")

    def back() -> None:
        folder.unlink()
        aside.rename(folder)

    with recording(f"sqlite:///{folder}/records.db", most_waiting=2) as (store, recorder):

        def check_and_return() -> None:
            with pytest.raises(StoreError):
                store.page(Filter(), RecordPage(1))
            with pytest.raises(StoreError):
                store.get(identifier(1))
            with pytest.raises(StoreError):
                store.delete(identifier(1))
            back()

        survives(store, recorder, away, check_and_return, "data")
        assert kept(store) == [5, 3, 2, 1]


@pytest.mark.parametrize("names", [["records.db", "records.db-wal", "records.db-shm"], ["records.db"]])
def test_file_removed(tmp_path: Path, names: list[str]) -> None:
    """It is made anew: nothing is written to a file that nobody can open any more."""
    url = f"sqlite:///{tmp_path}/records.db"
    with recording(url) as (store, recorder):
        assert add_and_wait(recorder, [record(1), record(2)], LONG)
        for name in names:
            (tmp_path / name).unlink()
        assert add_and_wait(recorder, [record(3)], LONG) is True
        assert kept(store) == [3]
        other = sqlite3.connect(tmp_path / "records.db")
        assert other.execute("SELECT id FROM records").fetchall() == [(identifier(3),)]
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        other.close()
    again = Store(url)
    assert kept(again) == [3]
    again.close()


def test_file_replaced(tmp_path: Path) -> None:
    """A backup that is put back is taken up."""
    url, file = f"sqlite:///{tmp_path}/records.db", tmp_path / "records.db"
    with recording(url) as (store, recorder):
        assert add_and_wait(recorder, [record(1)], LONG)
        source, target = sqlite3.connect(file), sqlite3.connect(tmp_path / "backup.db")
        source.backup(target)
        source.close()
        target.close()
        assert add_and_wait(recorder, [record(2)], LONG)
        for name in ("records.db-wal", "records.db-shm"):
            (tmp_path / name).unlink()
        (tmp_path / "backup.db").replace(file)
        assert kept(store) == [1]
        assert add_and_wait(recorder, [record(3)], LONG)
        assert kept(store) == [3, 1]


def test_file_removed_while_it_is_written_to(tmp_path: Path) -> None:
    """The commit succeeds, but nobody will ever see it: so it does not count."""
    store, file = Store(f"sqlite:///{tmp_path}/records.db", PATIENCE), tmp_path / "records.db"
    store.insert([record(1)])

    @event.listens_for(store._database.reading, "commit", once=True)
    def remove(connection: Connection) -> None:
        file.unlink()

    with pytest.raises(StoreError, match="the database file was removed or replaced during a write"):
        store.insert([record(2)])
    store.insert([record(2)])
    assert kept(store) == [2]
    store.close()


def test_of_many_that_wait_one_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"sqlite:///{tmp_path}/records.db", PATIENCE)
    tries, failed, came = [], [], []

    class Lock:
        """The store's, at which those come that want to open it."""

        lock = store._opening

        def __enter__(self) -> None:
            came.append(1)
            self.lock.acquire()

        def __exit__(self, *error: object) -> None:
            self.lock.release()

    def slow() -> None:
        tries.append(1)
        eventually(lambda: len(came) == 8)
        raise OSError("away")

    def ask() -> None:
        try:
            store.get(identifier(1))
        except StoreError as error:
            failed.append(str(error))

    monkeypatch.setattr(store, "_opening", Lock())
    monkeypatch.setattr(store._database, "open", slow)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == ["away"] * 8 and tries == [1]
    store.close()


def test_no_database(tmp_path: Path) -> None:
    (tmp_path / "records.db").write_text("this is something else, and it is longer than a header " * 20)
    store = Store(f"sqlite:///{tmp_path}/records.db")
    with pytest.raises(StoreError, match=r"^file is not a database$"):
        store.open()
    store.close()


# --------------------------------------------------------------------------------------------------- real disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 500 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk(small_disk: Path) -> None:
    ballast = small_disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            while shutil.disk_usage(small_disk).free:
                file.write(bytes(1024))

    with recording(f"sqlite:///{small_disk}/records.db", most_waiting=2) as (store, recorder):
        survives(store, recorder, fill, ballast.unlink, "disk")
        assert kept(store) == [5, 3, 2, 1]
        integrity = sqlite3.connect(small_disk / "records.db")
        assert integrity.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        integrity.close()


def test_read_only_disk(small_disk: Path) -> None:
    def remount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(small_disk)], check=True)

    url = f"sqlite:///{small_disk}/records.db"
    with recording(url) as (_, recorder):
        assert add_and_wait(recorder, [record(1)], LONG)
    remount("ro")
    with recording(url) as (store, recorder):
        assert add_and_wait(recorder, [record(2)], LONG) is False
        assert recorder.state.status == "degraded"
        remount("rw")
        eventually(lambda: recorder.state.status == "ok" and not recorder.state.queued)
        assert kept(store) == [2, 1]


@pytest.mark.skipif(
    os.getuid() == 0, reason="root may write to a read-only file (test_read_only_disk runs then)"
)
def test_read_only_file(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path}/records.db", tmp_path / "records.db"
    with recording(url) as (_, recorder):
        assert add_and_wait(recorder, [record(1)], LONG)
    file.chmod(0o444)
    with recording(url) as (store, recorder):
        assert add_and_wait(recorder, [record(2)], LONG) is False
        assert "readonly" in str(recorder.state.reason)
        file.chmod(0o644)
        eventually(lambda: recorder.state.status == "ok" and not recorder.state.queued)
        assert kept(store) == [2, 1]


# --------------------------------------------------------------------------------------------------- PostgreSQL


def test_server_away_and_back() -> None:
    with own_database() as url:
        name = url.database

        def away() -> None:
            administer(
                server(),
                f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
            )

        def back() -> None:
            administer(server(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

        with recording(shown(url), most_waiting=2) as (store, recorder):
            survives(store, recorder, away, back, "is not currently accepting connections")
            assert kept(store) == [5, 3, 2, 1]


def test_a_database_that_was_emptied() -> None:
    """Its tables are made anew, as a file is that was removed."""
    with own_database() as url, recording(shown(url)) as (store, recorder):
        assert add_and_wait(recorder, [record(1)], LONG)
        administer(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        assert add_and_wait(recorder, [record(2)], LONG) is False
        eventually(lambda: recorder.state.status == "ok" and not recorder.state.queued)
        assert kept(store) == [2]


def test_connections_that_broke_are_replaced() -> None:
    with own_database() as url, recording(shown(url)) as (store, recorder):
        assert add_and_wait(recorder, [record(1)], LONG)
        administer(
            server(),
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.database}'",
        )
        assert add_and_wait(recorder, [record(2)], LONG) is True
        assert kept(store) == [2, 1]


def test_read_only_server() -> None:
    with own_database() as url, recording(shown(url)) as (store, recorder):
        assert add_and_wait(recorder, [record(1)], LONG)
        name = url.database
        restart = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        administer(server(), f"ALTER DATABASE {name} SET default_transaction_read_only = on", restart)
        assert add_and_wait(recorder, [record(2)], LONG) is False
        assert recorder.state.reason == "cannot execute INSERT in a read-only transaction"
        administer(server(), f"ALTER DATABASE {name} RESET default_transaction_read_only", restart)
        eventually(lambda: recorder.state.status == "ok" and not recorder.state.queued)
        assert kept(store) == [2, 1]


def test_nobody_listens() -> None:
    with recording("postgresql://user:secret@127.0.0.1:1/records") as (store, recorder):
        assert add_and_wait(recorder, [record(1)], LONG) is False
        reason = str(recorder.state.reason)
        assert "refused" in reason and "secret" not in reason and "\n" not in reason
        with pytest.raises(StoreError, match="refused"):
            store.page(Filter(), RecordPage(1))
        recorder.close(0.1)


def test_a_table_that_is_gone(url: str) -> None:
    """Nothing that retrying mends: said, and the rest goes on."""
    with recording(url) as (store, recorder):
        assert add_and_wait(recorder, [record(1)], LONG)
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE records RENAME TO elsewhere"))
        assert add_and_wait(recorder, [record(2)], LONG) is False
        assert "records" in str(recorder.state.reason)
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO records"))
        engine.dispose()
        eventually(lambda: recorder.state.status == "ok" and not recorder.state.queued)
        assert kept(store) == [2, 1]
