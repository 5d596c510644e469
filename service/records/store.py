"""The store of records: one table of a database, asked by id, or for a page by filters."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from alembic.util import CommandError
from sqlalchemy import ColumnElement, Connection, delete, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from service.records import schema
from service.records.database import Database, DatabaseURLError, SchemaError
from service.records.query import Filter, Page, cursor
from service.records.record import Record, first_id, is_id
from service.records.search import Search

__all__ = ["DatabaseURLError", "RecordError", "Store", "StoreError"]

log = logging.getLogger("spikehead")

_CHUNK = 1_000  # records deleted in one transaction: others get to write in between
_TOGETHER = 50  # rows of one statement: each gives up the interpreter's lock, and gets it back late
_BREATH = 0.01  # seconds between two such transactions


class StoreError(Exception):
    """The database did not do what it was asked: it is away, locked, full or broken. Says why in one line."""


class RecordError(StoreError):
    """The database is well, but a record is not of the kind it takes."""


class Store:
    """Records in SQLite or PostgreSQL. Safe across threads. A database that is away raises StoreError each time.

    `url` is `sqlite:///FILE` or `postgresql+psycopg://...`. Raises DatabaseURLError, but connects only once it is
    used: then it makes the file and its folder, and brings the schema up to date.
    """

    def __init__(self, url: str, patience: float = 5.0) -> None:
        """`patience`: seconds to wait for a lock or a connection."""
        self._database = Database(url, patience)
        self._opened: tuple[int, ...] | None = None  # identity of the database whose schema is up to date
        self._opening = threading.Lock()
        self._failed: tuple[float, str] | None = None  # when it last could not be opened, and why
        self._insert = _inserts(self._database)

    def open(self) -> None:
        """Connects, and brings the schema up to date; nothing is done twice. Raises StoreError."""
        with self._errors():
            self._ready()

    def insert(self, records: Sequence[Record]) -> None:
        """Adds records, all or none; when this returns they are on disk. Those that are there already stay.

        Raises StoreError, and RecordError where it is the records' fault.
        """
        if not records:
            return
        try:
            rows = schema.rows(records)
        except (TypeError, ValueError) as error:
            raise RecordError(f"expected records, got one that cannot be stored: {error}") from error
        with self._errors():
            written_to = self._ready()
            with self._database.writing.begin() as connection:
                self._insert(connection, rows)
            if self._database.identity() != written_to:
                raise OSError("the file was removed or replaced while it was written to")

    def page(self, wanted: Filter, page: Page, whole: bool = True) -> tuple[list[Record], str | None]:
        """At most `page.limit` records that match, and the cursor of the page that follows, None at the end.

        Without `whole`, image and answer are left empty, and not read. A damaged record is left out, and logged.
        Raises CursorError and StoreError.
        """
        search = Search(wanted, page)
        with self._reading() as connection:
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
        return (
            [records[one.id] for one in shown if one.id in records],
            cursor(shown[-1]) if more else None,
        )

    def get(self, identifier: str) -> Record:
        """The record of that id. Raises KeyError where there is none, and StoreError."""
        if is_id(identifier):
            with self._reading() as connection:
                statement = select(schema.records).where(schema.records.c.id == identifier)
                row = connection.execute(statement).mappings().one_or_none()
                if row is not None:
                    try:
                        return schema.record(row)
                    except schema.DamagedError as error:
                        raise StoreError(str(error)) from error
        raise KeyError(identifier)

    def delete(self, identifier: str) -> bool:
        """Forgets a record; False where there is none. Raises StoreError."""
        if not is_id(identifier):
            return False
        with self._errors():
            self._ready()
            with self._database.writing.begin() as connection:
                found = connection.execute(delete(schema.records).where(schema.records.c.id == identifier))
            return found.rowcount > 0

    def delete_until(self, moment: float) -> int:
        """Forgets all records from before that moment, and returns how many. Raises StoreError."""
        return self._delete_all(schema.records.c.id < first_id(moment))

    def prune(self, most: int | None, older_than: float | None, at_most: int | None = None) -> int:
        """Forgets the oldest records: those beyond the newest `most`, and those from before a moment.

        Returns how many. With `at_most` it stops about there: call it again for the rest. Raises StoreError.
        """
        column = schema.records.c.id
        bounds: list[ColumnElement[bool]] = []
        if older_than is not None:
            bounds.append(column < first_id(older_than))
        if most is not None:
            with self._reading() as connection:
                surplus = select(column).order_by(column.desc()).limit(1).offset(most)
                newest = connection.execute(surplus).scalar_one_or_none()
            if newest is not None:
                bounds.append(column <= newest)
        deleted = 0
        for bound in bounds:
            deleted += self._delete_all(bound, None if at_most is None else at_most - deleted)
        return deleted

    def close(self) -> None:
        """Closes the connections. A store that is used again opens them again."""
        self._database.close()
        self._opened = None

    def _delete_all(self, bound: ColumnElement[bool], at_most: int | None = None) -> int:
        column = schema.records.c.id
        oldest = select(column).where(bound).order_by(column).limit(_CHUNK)
        deleted = 0
        while at_most is None or deleted < at_most:
            with self._errors():
                self._ready()
                with self._database.writing.begin() as connection:
                    found = connection.execute(delete(schema.records).where(column.in_(oldest))).rowcount
            deleted += found
            if found < _CHUNK:
                break
            time.sleep(_BREATH)
        return deleted

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._errors():
            self._ready()
            with self._database.reading.begin() as connection:
                yield connection

    def _ready(self) -> tuple[int, ...] | None:
        """Opens the database unless it is open, and says which one it is. A file that was removed is made anew."""
        began = time.monotonic()
        with self._opening:
            found = self._database.identity()
            if found is not None and found == self._opened:
                return found
            if self._failed is not None and self._failed[0] >= began:
                raise StoreError(self._failed[1])  # of many that waited, one has tried
            try:
                with self._errors():
                    self._database.open()
            except StoreError as error:
                self._failed = time.monotonic(), str(error)
                raise
            self._opened = self._database.identity()
            return self._opened

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns all that a database can raise into StoreError."""
        try:
            yield
        except (DataError, IntegrityError) as error:
            raise RecordError(_reason(error)) from error
        except (SQLAlchemyError, SchemaError, CommandError, OSError) as error:
            self._opened = None  # the next use looks whether all is there
            raise StoreError(_reason(error)) from error


def _inserts(database: Database) -> Callable[[Connection, list[schema.Row]], None]:
    """How that database takes rows. To its driver as they are: SQLAlchemy would look at every value of every row.

    A commit whose answer was lost is tried again: the second time finds its records there.
    """
    columns = [column.name for column in schema.records.columns]
    if database.dialect == "postgresql":
        insert = postgresql.insert(schema.records).on_conflict_do_nothing(index_elements=["id"])
        statement = str(insert.compile(dialect=database.reading.dialect))

        def named(connection: Connection, rows: list[schema.Row]) -> None:
            connection.exec_driver_sql(statement, [dict(zip(columns, row, strict=True)) for row in rows])

        return named

    one = f"({', '.join('?' * len(columns))})"
    begin = f"INSERT INTO {schema.records.name} ({', '.join(columns)}) VALUES "
    end = " ON CONFLICT (id) DO NOTHING"
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
    """The first line of what the database said."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return str(said).strip().partition("\n")[0] or type(said).__name__
