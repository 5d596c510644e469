"""The schema: made, upgraded, refused, by any number of processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from spikehead.records import Filter, RecordPage, Store, StoreError, schema
from spikehead.records.database import VERSION_TABLE
from sqlalchemy import create_engine, inspect, text

from tests.service.records.making import numbers, record

NEWEST = "2"


def version(url: str) -> list[str]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = list(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars())
    engine.dispose()
    return found


def test_an_empty_database_gets_the_schema(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # migrations are found wherever the service runs
    store = Store(url)
    store.open()
    store.open()
    assert version(url) == [NEWEST]
    store.close()


def test_migrations_are_part_of_the_package() -> None:
    folder = resources.files("spikehead.records") / "migrations"
    assert (folder / "env.py").is_file()
    assert (folder / "versions" / "version_1.py").is_file()


def test_an_empty_file_gets_the_schema(tmp_path: Path) -> None:
    (tmp_path / "records.db").touch()
    store = Store(f"sqlite:///{tmp_path}/records.db")
    store.insert([record(1)])
    store.close()
    assert version(f"sqlite:///{tmp_path}/records.db") == [NEWEST]


def test_migrations_lead_to_the_table_that_the_code_uses(store: Store, url: str) -> None:
    store.open()
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, schema.metadata) == []
        found = {index["name"]: index["column_names"] for index in inspect(connection).get_indexes("records")}
    engine.dispose()
    assert found == {
        f"records_{one}": [one, "id"] for one in ("model", "prediction", "confidence", "steps_used")
    }


def test_a_database_of_a_later_release_is_refused(url: str) -> None:
    store = Store(url)
    store.open()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '99'"))
    store.close()
    for work in (store.open, lambda: store.insert([record(1)]), lambda: store.page(Filter(), RecordPage(1))):
        with pytest.raises(
            StoreError,
            match="expected a database schema of version 2 at most, got 99, made by a later release",
        ):
            work()
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{NEWEST}'"))
    store.insert([record(1)])
    assert numbers(store.page(Filter(), RecordPage(1))[0]) == [1]
    engine.dispose()
    store.close()


def test_records_survive_a_reopening(url: str) -> None:
    for number in (1, 2):
        store = Store(url)
        store.insert([record(number)])
        store.close()
    store = Store(url)
    assert numbers(store.page(Filter(), RecordPage(9))[0]) == [2, 1]
    store.close()


def test_processes_that_start_at_once(url: str) -> None:
    """Each brings the schema up to date, and writes a record of its own."""
    command = [sys.executable, "-m", "tests.service.records.processes", "start", url, "6"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=500)
    assert (done.returncode, done.stderr) == (0, "")
    store = Store(url)
    assert numbers(store.page(Filter(), RecordPage(9))[0]) == [5, 4, 3, 2, 1, 0]
    assert version(url) == [NEWEST]
    store.close()
