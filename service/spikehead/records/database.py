"""The database of records: SQLite or PostgreSQL, durable once a transaction ends, its schema up to date."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError

VERSION_TABLE = "records_version"
_EXPECTED = "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
_MIGRATIONS = "spikehead.records:migrations"  # Alembic looks it up as a package, wherever that is installed
_UPGRADE_LOCK = 0x5350494B45  # "SPIKE", the number of PostgreSQL's advisory lock
_LONGEST_QUERY = 30  # seconds
_CONNECTIONS = {"pool_size": 5, "max_overflow": 15}
_ERASE_PAUSE = 0.02  # seconds between two tries
_NUMBERS = re.compile(r"connect_timeout|keepalives(_\w+)?|tcp_user_timeout")
_NOWHERE = "/nonexistent"
_OWN_OPTIONS = {"autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"}

_one_at_a_time = threading.Lock()  # Alembic keeps what it works on in globals


class DatabaseURLError(ValueError):
    """The URL does not name a database that the service can use."""


class SchemaError(Exception):
    """This release does not know the schema of the database."""


class Database:
    """A database's URL and how to connect to it. Making one touches no file and no network."""

    def __init__(self, url: str, patience: float) -> None:
        """`patience`: seconds to wait for a lock or a connection. Raises DatabaseURLError."""
        self.url = _parsed(url)
        self.dialect = self.url.get_backend_name()
        self._file = Path(self.url.database) if self.dialect == "sqlite" and self.url.database else None
        self._patience = patience
        self.reading = self._engine()
        self.writing: Engine = self.reading.execution_options(begin="BEGIN IMMEDIATE")

    def identity(self) -> tuple[int, ...] | None:
        """Return numbers that identify a SQLite file and its journal, even at the same path; None if there is none."""
        if self._file is None:
            return ()
        try:
            stats = [self._file.stat(), self._file.with_name(self._file.name + "-wal").stat()]
        except OSError:
            return None
        return tuple(number for stat in stats for number in (stat.st_dev, stat.st_ino))

    def open(self) -> None:
        """Make a missing folder, file or schema. Raises SchemaError, OSError and SQLAlchemyError."""
        # old connections would write to a file that was removed
        self.reading.dispose()
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        # checked first without a lock, so that readers do not wait for writers
        with self.reading.connect() as connection:
            if _is_current(connection):
                return
        with _one_at_a_time, self.writing.begin() as connection:
            if self.dialect == "postgresql":
                connection.execute(text("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0"))
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
            # checked again: another process may have been faster
            if not _is_current(connection):
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

    def close(self) -> None:
        self.reading.dispose()

    def erase(self) -> bool:
        """Move SQLite's journal to the main file and empty it: deleted content is still in the journal.

        In the main file, `secure_delete` overwrites it. False if others kept the database busy for `patience` seconds.
        PostgreSQL overwrites deleted content in its own time, by VACUUM and by recycling its log.
        """
        if self._file is None:
            return True
        give_up = time.monotonic() + self._patience
        with closing(self.reading.raw_connection()) as connection:
            while True:
                busy, _, _ = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy or time.monotonic() > give_up:
                    return not busy
                time.sleep(_ERASE_PAUSE)

    def _engine(self) -> Engine:
        try:
            return self._postgresql() if self._file is None else self._sqlite()
        except ModuleNotFoundError as error:
            raise DatabaseURLError(
                f"expected the driver {self.url.drivername} to be installed "
                f"(pip install 'spikehead[postgres]'), got: {error}"
            ) from error
        except DatabaseURLError:
            raise
        # raised by drivers
        except (ArgumentError, TypeError, ValueError) as error:
            said = str(error).partition("\n")[0]
            raise DatabaseURLError(f"{_EXPECTED}, got a URL that cannot be used: {said}") from error

    def _sqlite(self) -> Engine:
        engine = create_engine(self.url, connect_args={"timeout": self._patience}, **_CONNECTIONS)

        @event.listens_for(engine, "connect")
        def connect(connection: sqlite3.Connection, record: Any) -> None:
            # the driver begins no transactions: `begin` below does
            connection.isolation_level = None
            with closing(connection.cursor()) as cursor:
                self._keep_journal(cursor)
                # a commit is on disk when it returns, and deleted content is overwritten
                cursor.execute("PRAGMA synchronous = FULL")
                cursor.execute("PRAGMA secure_delete = ON")
                # KiB: enough to write. The system caches what is read often, outside of this process's memory.
                cursor.execute("PRAGMA cache_size = -2000")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

        return engine

    def _keep_journal(self, cursor: sqlite3.Cursor) -> None:
        """Switch a new file to a write-ahead log, so that readers and writers do not wait for each other.

        SQLite itself does not wait if two processes do that at the same time.
        """
        give_up = time.monotonic() + self._patience
        while True:
            try:
                cursor.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(0.01)
            else:
                return

    def _postgresql(self) -> Engine:
        seconds = max(1, round(self._patience))
        asked = self.url.query
        _check_options(self.url)
        # A pooler in transaction mode, such as PgBouncer, may run each transaction on another connection, without the
        # statements and settings of the one before.
        ours = {"connect_timeout": seconds, "tcp_user_timeout": 2000 * seconds, "prepare_threshold": None}
        arguments = {name: value for name, value in ours.items() if name not in asked}
        engine = create_engine(self.url, pool_pre_ping=True, connect_args=arguments, **_CONNECTIONS)
        limits = (
            f"SET LOCAL lock_timeout = {round(self._patience * 1000)};"
            f"SET LOCAL statement_timeout = {_LONGEST_QUERY * 1000}"
        )

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql(limits)

        return engine


def _parsed(url: str) -> URL:
    """Parse a URL, whose driver may be left out. Raises DatabaseURLError."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # the text is not shown, because it may hold a password
        raise DatabaseURLError(f"{_EXPECTED}, got text that is not a URL") from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise DatabaseURLError(f"{_EXPECTED}, got {parsed.drivername}")
    if parsed.get_backend_name() == "sqlite":
        file = parsed.database or ":memory:"
        if file == ":memory:" or file.startswith("file:"):
            raise DatabaseURLError(f"{_EXPECTED}, got SQLite without a plain file")
        if parsed.query or parsed.host or parsed.username:
            raise DatabaseURLError(f"{_EXPECTED}, got SQLite with a host or with options")
        if file.startswith("~"):
            raise DatabaseURLError(f"{_EXPECTED}, got a file in ~, which only a shell expands")
    return parsed


def _check_options(url: URL) -> None:
    """Raise DatabaseURLError if the driver does not know an option of the URL, or cannot use its value."""
    from psycopg import ProgrammingError, conninfo, pq

    asked: dict[str, str] = {}
    for name, value in url.query.items():
        # these may be given for several servers
        if name in ("host", "port"):
            continue
        if name in _OWN_OPTIONS:
            raise DatabaseURLError(
                f"{_EXPECTED}, got the option {name}, which the service sets itself: leave it out"
            )
        if not isinstance(value, str):
            raise DatabaseURLError(f"{_EXPECTED}, got the option {name} more than once: give it once")
        if _NUMBERS.fullmatch(name) and not re.fullmatch(r"\d{1,9}", value, re.ASCII):
            raise DatabaseURLError(f"{_EXPECTED}, got the option {name}={value!r}: give a whole number")
        asked[name] = value
    try:
        # libpq checks all values before it looks for a server, which it does not find in a folder that does not exist
        options = conninfo.make_conninfo("", **{**asked, "host": _NOWHERE})
    except ProgrammingError as error:
        said = str(error).strip().partition("\n")[0]
    else:
        said = pq.PGconn.connect_start(options.encode()).get_error_message().partition("\n")[0]
        if _NOWHERE in said:
            return
    raise DatabaseURLError(f"{_EXPECTED}, with options of libpq such as sslmode=require, got: {said}")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    return config


@cache
def _versions() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _is_current(connection: Connection) -> bool:
    """Tell if the schema is the newest one. Raises SchemaError if it comes from a later release."""
    found = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE}
    ).get_current_revision()
    scripts = _versions()
    newest = scripts.get_current_head()
    known = {script.revision for script in scripts.walk_revisions()}
    if found is not None and found not in known:
        raise SchemaError(
            f"expected a database schema of version {newest} at most, got {found}, made by a later release"
        )
    return found == newest
