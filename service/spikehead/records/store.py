"""The store of records: one table of a database, queried by id, or for a page by filters."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from alembic.util import CommandError
from sqlalchemy import ColumnElement, Connection, Engine, delete, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from spikehead.records import crowd, schema
from spikehead.records.clock import elapsed
from spikehead.records.database import Database, DatabaseURLError, SchemaError
from spikehead.records.query import Filter, RecordPage, cursor
from spikehead.records.record import Record, first_id, is_id, last_id, time_of
from spikehead.records.search import Search

__all__ = ["DatabaseURLError", "RecordError", "Store", "StoreError"]

log = logging.getLogger("spikehead")

# records deleted in one transaction, so that others can write in between; and seconds between two of them
_CHUNK = 1_000
_BREATH = 0.01
# rows of one statement: each statement gives up the interpreter's lock, and gets it back late
_TOGETHER = 50

RECENT_SECONDS = 60.0
"""Seconds after which a record is in the database or never will be. Other machines' clocks may differ by less."""


class StoreError(Exception):
    """The database is unavailable, locked, full or damaged. The message says why in one line."""


class RecordError(StoreError):
    """The database works, but cannot hold a record."""


class Store:
    """Records in SQLite or PostgreSQL. Safe across threads. Methods raise StoreError if the database is unavailable.

    `url` is `sqlite:///FILE` or `postgresql+psycopg://...`; a wrong one raises DatabaseURLError. The first use
    connects, makes the file and its folder, and brings the schema up to date.
    """

    def __init__(self, url: str, patience: float = 5.0) -> None:
        """`patience`: seconds to wait for a lock or a connection."""
        self._database = Database(url, patience)
        self._opened: tuple[int, ...] | None = None  # identity of the database whose schema is up to date
        self._opening = threading.Lock()
        self._failed: tuple[float, str] | None = None  # when it last could not be opened, and why
        self._insert = _inserts(self._database)
        # of this process, among those that write; and when it registers again, on the monotonic clock
        self._name = secrets.token_hex(8)
        self._beat_at = 0.0
        self._ending = threading.Event()
        # the journal may still hold what an earlier process deleted
        self._erase_due = True

    def open(self) -> None:
        """Connect and bring the schema up to date, unless it is done already. Raises StoreError."""
        with self._errors():
            self._ready()

    def insert(self, records: Sequence[Record], taken: Sequence[float] | None = None) -> None:
        """Add records, all or none, and return when they are on disk. Known ids are left as they are.

        taken: when each was queued, by `clock.elapsed` (default: now). Records deleted since are left out. Raises
        StoreError, and RecordError if a record is at fault.
        """
        if not records:
            return
        taken = [elapsed()] * len(records) if taken is None else taken
        try:
            rows = schema.rows(records)
        except (TypeError, ValueError) as error:
            raise RecordError(f"expected a record that can be stored, got: {error}") from error
        with self._errors():
            written_to = self._ready()
            with self._database.writing.begin() as connection:
                crowd.beside_writers(connection)
                notes = crowd.forgotten_since(connection, min(taken))
                if notes:
                    rows = [row for row, at in zip(rows, taken, strict=True) if not notes.covers(row[0], at)]
                if rows:
                    self._insert(connection, rows)
                beat_at = self._beat(connection)
            if self._database.identity() != written_to:
                raise OSError("the database file was removed or replaced during a write")
        self._beat_at = beat_at

    def announce(self) -> None:
        """Open the database and register this process, if it is time. Raises StoreError."""
        with self._errors():
            self._ready()
            if time.monotonic() >= self._beat_at:
                with self._database.writing.begin() as connection:
                    beat_at = self._beat(connection)
                self._beat_at = beat_at
        if self._erase_due:
            self.erase()

    def leave(self) -> None:
        """Remove the registration of this process, so that no other waits for it. Raises StoreError."""
        with self._begin(self._database.writing) as connection:
            crowd.leave(connection, self._name)
        self._beat_at = 0.0

    def has_company(self) -> bool:
        """Tell if other processes write to the database: their latest records may not be here yet."""
        with self._begin(self._database.reading) as connection:
            return crowd.others(connection, self._name)

    def await_writers(self) -> None:
        """Wait for all transactions that are writing now. Raises StoreError."""
        with self._begin(self._database.writing) as connection:
            crowd.exclude_writers(connection)

    def page(self, wanted: Filter, page: RecordPage, whole: bool = True) -> tuple[list[Record], str | None]:
        """Return at most `page.limit` records that match, and the cursor of the next page, None at the end.

        Without `whole`, image and answer are left empty, and not read. A damaged record is left out, and logged.
        Raises CursorError and StoreError.
        """
        search = Search(wanted, page)
        with self._begin(self._database.reading) as connection:
            found = search.positions(connection)
            shown = found[: page.limit]
            identifiers = [one.id for one in shown]
            columns = [one for one in schema.records.c if whole or one.name not in schema.LARGE]
            rows = connection.execute(select(*columns).where(schema.records.c.id.in_(identifiers))).mappings()
            records = {}
            for row in rows:
                try:
                    records[row["id"]] = schema.record(row)
                except schema.DamagedError as error:
                    log.warning("%s", error)
        more = bool(shown) and len(found) > page.limit
        # a record may have been deleted since its id was found
        return ([records[one.id] for one in shown if one.id in records], cursor(shown[-1]) if more else None)

    def get(self, identifier: str) -> Record:
        """Return the record of that id. Raises KeyError if there is none, and StoreError."""
        if is_id(identifier):
            with self._begin(self._database.reading) as connection:
                statement = select(schema.records).where(schema.records.c.id == identifier)
                row = connection.execute(statement).mappings().one_or_none()
                if row is not None:
                    try:
                        return schema.record(row)
                    except schema.DamagedError as error:
                        raise StoreError(str(error)) from error
        raise KeyError(identifier)

    def may_come(self, identifier: str) -> bool:
        """Tell if another process may still write a record of that id, which is neither here nor deleted.

        Raises StoreError.
        """
        if not is_id(identifier) or abs(time.time() - time_of(identifier)) > RECENT_SECONDS:
            return False
        with self._begin(self._database.reading) as connection:
            found = select(schema.records.c.id).where(schema.records.c.id == identifier)
            return (
                connection.execute(found).first() is None
                and not crowd.is_forgotten(connection, identifier)
                and crowd.others(connection, self._name)
            )

    def delete(self, identifier: str) -> bool:
        """Delete a record; False if there is none. Raises StoreError.

        No process writes it later, neither from its queue nor by repeating a write whose success it missed.
        """
        if not is_id(identifier):
            return False
        with self._begin(self._database.writing) as connection:
            if abs(time.time() - time_of(identifier)) < crowd.KEPT_SECONDS:
                crowd.exclude_writers(connection)
                crowd.note_forgotten(connection, identifier, identifier)
            found = connection.execute(delete(schema.records).where(schema.records.c.id == identifier))
        if found.rowcount == 0:
            return False
        self.erase()
        return True

    def delete_until(self, moment: float) -> int:
        """Delete all records from before that moment, also those in queues, and return how many were stored.

        Records made after the call are kept, however late the moment. Raises StoreError.
        """
        column = schema.records.c.id
        with self._begin(self._database.writing) as connection:
            crowd.exclude_writers(connection)
            last = last_id(min(moment, time.time()))
            crowd.note_forgotten(connection, first_id(0), last)
            # stored records from the future, made before a clock was set back; later ones are kept
            ahead = delete(schema.records).where(column > last, column < first_id(moment))
            deleted = connection.execute(ahead).rowcount
        deleted += self._delete_all(column <= last)
        self.erase()
        return deleted

    def erase(self) -> None:
        """Overwrite deleted records in the journal, too. `announce` tries again if the database is busy."""
        with self._errors():
            self._ready()
            self._erase_due = not self._database.erase()

    def prune(self, most: int | None, older_than: float | None, at_most: int | None = None) -> int:
        """Delete the oldest records: all but the newest `most`, and those from before a moment; return how many.

        With `at_most` it stops there: call it again for the rest, after which the journal is overwritten. Raises
        StoreError.
        """
        column = schema.records.c.id
        bounds: list[ColumnElement[bool]] = []
        if older_than is not None:
            bounds.append(column < first_id(older_than))
        if most is not None:
            with self._begin(self._database.reading) as connection:
                surplus = select(column).order_by(column.desc()).limit(1).offset(most)
                newest = connection.execute(surplus).scalar_one_or_none()
            if newest is not None:
                bounds.append(column <= newest)
        deleted = 0
        for bound in bounds:
            deleted += self._delete_all(bound, None if at_most is None else at_most - deleted)
        self._erase_due = self._erase_due or deleted > 0
        if self._erase_due and (at_most is None or deleted < at_most):
            self.erase()
        return deleted

    def stop_deleting(self) -> None:
        """End a long deletion that is running with StoreError, because it would outlast the grace."""
        self._ending.set()

    def close(self) -> None:
        """Close the connections. The next use opens them again."""
        self._ending.clear()
        self._database.close()
        self._opened = None

    def _delete_all(self, bound: ColumnElement[bool], at_most: int | None = None) -> int:
        column = schema.records.c.id
        oldest = select(column).where(bound).order_by(column).limit(_CHUNK)
        deleted = 0
        while at_most is None or deleted < at_most:
            with self._begin(self._database.writing) as connection:
                found = connection.execute(delete(schema.records).where(column.in_(oldest))).rowcount
            deleted += found
            if found < _CHUNK:
                break
            if self._ending.wait(_BREATH):
                raise StoreError(f"the service is stopping: {deleted} records were deleted, others are left")
        return deleted

    @contextmanager
    def _begin(self, engine: Engine) -> Iterator[Connection]:
        """Begin a transaction, which commits at the end. Raises StoreError."""
        with self._errors():
            self._ready()
            with engine.begin() as connection:
                yield connection

    def _beat(self, connection: Connection) -> float:
        """Register this process, if it is time, and return the time of the next registration."""
        now = time.monotonic()
        if now < self._beat_at:
            return self._beat_at
        crowd.beat(connection, self._name)
        return now + crowd.BEAT_SECONDS

    def _ready(self) -> tuple[int, ...] | None:
        """Open the database unless it is open, and return its identity. A file that was removed is made again."""
        began = time.monotonic()
        with self._opening:
            found = self._database.identity()
            if found is not None and found == self._opened:
                return found
            if self._failed is not None and self._failed[0] >= began:
                # one of the waiting threads has tried it meanwhile
                raise StoreError(self._failed[1])
            try:
                with self._errors():
                    self._database.open()
            except StoreError as error:
                self._failed = time.monotonic(), str(error)
                raise
            self._opened = self._database.identity()
            # it may be another database, in which this process is not registered
            self._beat_at = 0.0
            return self._opened

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn all errors of a database into StoreError."""
        try:
            yield
        except (DataError, IntegrityError) as error:
            raise RecordError(_reason(error)) from error
        except (SQLAlchemyError, SchemaError, CommandError, OSError) as error:
            # the next use checks file and schema
            self._opened = None
            raise StoreError(_reason(error)) from error


def _inserts(database: Database) -> Callable[[Connection, list[schema.Row]], None]:
    """Return the function that inserts rows. They go straight to the driver: SQLAlchemy would check every value.

    A commit whose answer was lost is tried again, and then finds its records in the table.
    """
    columns = [column.name for column in schema.records.columns]
    names = f"{schema.records.name} ({', '.join(columns)})"
    end = " ON CONFLICT (id) DO NOTHING"
    if database.dialect == "postgresql":
        # one statement for any number of rows, which need not be prepared
        dialect = database.reading.dialect
        kinds = [
            column.type.dialect_impl(dialect).compile(dialect).partition(" ")[0]
            for column in schema.records.columns
        ]
        arrays = ", ".join(f"%s::{kind}[]" for kind in kinds)
        statement = f"INSERT INTO {names} SELECT * FROM unnest({arrays}){end}"

        def together(connection: Connection, rows: list[schema.Row]) -> None:
            connection.exec_driver_sql(statement, tuple(list(values) for values in zip(*rows, strict=True)))

        return together

    one = f"({', '.join('?' * len(columns))})"
    begin = f"INSERT INTO {names} VALUES "
    statements = {count: begin + ", ".join([one] * count) + end for count in (_TOGETHER, 1)}

    def placed(connection: Connection, rows: list[schema.Row]) -> None:
        whole = len(rows) - len(rows) % _TOGETHER
        for start in range(0, whole, _TOGETHER):
            values = tuple(chain.from_iterable(rows[start : start + _TOGETHER]))
            connection.exec_driver_sql(statements[_TOGETHER], values)
        if rows[whole:]:
            connection.exec_driver_sql(statements[1], rows[whole:])

    return placed


def _reason(error: Exception) -> str:
    """Return the first line of the database's message."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return str(said).strip().partition("\n")[0] or type(said).__name__
