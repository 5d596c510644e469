"""Databases: SQLite in a file, and a real PostgreSQL where SPIKEHEAD_TEST_POSTGRES_URL names one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from spikehead.records import Store
from sqlalchemy import URL, create_engine, make_url, text

VARIABLE = "SPIKEHEAD_TEST_POSTGRES_URL"
PATIENCE = 0.3


def server() -> URL:
    """The server's database for tests. They skip where there is none."""
    found = os.environ.get(VARIABLE)
    if not found:
        pytest.skip(
            f"needs PostgreSQL: set {VARIABLE} to a database in which schemas may be made (CI has one)"
        )
    return make_url(found)


def shown(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def administer(url: URL, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@contextmanager
def own_schema() -> Iterator[str]:
    """URL of an empty schema on the server."""
    url, name = server(), f"test_{secrets.token_hex(8)}"
    administer(url, f"CREATE SCHEMA {name}")
    try:
        yield shown(url.update_query_dict({"options": f"-csearch_path={name}"}))
    finally:
        administer(url, f"DROP SCHEMA {name} CASCADE")


@contextmanager
def own_database() -> Iterator[URL]:
    """URL of an empty database on the server."""
    url, name = server(), f"test_{secrets.token_hex(8)}"
    administer(url, f"CREATE DATABASE {name}")
    try:
        yield url.set(database=name)
    finally:
        administer(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/some/folder/records.db"
        return
    with own_schema() as found:
        yield found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An empty store."""
    made = Store(url, patience=PATIENCE)
    yield made
    made.close()
