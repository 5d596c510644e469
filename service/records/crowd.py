"""Several processes on one database: what they have to tell each other.

Each keeps what it has answered in a queue of its own for a moment before it is written. So whoever forgets a record
leaves a note of it (a tombstone), which every process reads before it writes: what has been forgotten in a queue is not
written afterwards. And each process says now and then that it is there, so that one that is alone waits for nobody.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, text

from service.records import schema

KEPT_SECONDS = 86_400.0
"""Seconds that a note of what was forgotten is kept: no record may wait for longer in a queue to be covered by it."""

BEAT_SECONDS = 30.0
"""Seconds between two times that a process says it is there."""

ALIVE_SECONDS = 3 * BEAT_SECONDS
"""Seconds after which a process that has not said so is taken for gone."""

_LOCK = 0x464F52474554
"""A number for PostgreSQL's advisory locks: "FORGET". """

_BEAT = text(
    "INSERT INTO records_writers (name, seen) VALUES (:name, :seen) "
    "ON CONFLICT (name) DO UPDATE SET seen = excluded.seen"
)


class Forgotten(NamedTuple):
    """Records that were forgotten: those with ids from `first` to `last`, both included."""

    number: int
    first: str
    last: str

    def covers(self, identifier: str) -> bool:
        return self.first <= identifier <= self.last


def exclude_writers(connection: Connection) -> None:
    """Wait until those that write have committed, and keep others from writing until this transaction ends.

    SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def beside_writers(connection: Connection) -> None:
    """Write beside others, but not beside one that excludes writers. To be called before anything is read."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock_shared(_LOCK)))


def note_forgotten(connection: Connection, first: str, last: str) -> None:
    """Leave a note for queues, with writers excluded: so notes are committed in the order of their numbers."""
    connection.execute(insert(schema.forgotten).values(first=first, last=last, time=time.time()))


def forgotten_since(connection: Connection, number: int) -> list[Forgotten]:
    """Notes that came after that number, in order."""
    columns = schema.forgotten.c
    wanted = select(columns.number, columns.first, columns.last).where(columns.number > number)
    return [Forgotten(*row) for row in connection.execute(wanted.order_by(columns.number))]


def is_forgotten(connection: Connection, identifier: str) -> bool:
    """Tell whether a note is left of that record."""
    columns = schema.forgotten.c
    covering = select(columns.number).where(columns.first <= identifier, columns.last >= identifier)
    return connection.execute(covering.limit(1)).first() is not None


def beat(connection: Connection, name: str) -> None:
    """Say that the process of that name is there, and forget notes and processes that are long gone."""
    now = time.time()
    connection.execute(_BEAT, {"name": name, "seen": now})
    connection.execute(delete(schema.writers).where(schema.writers.c.seen < now - ALIVE_SECONDS))
    connection.execute(delete(schema.forgotten).where(schema.forgotten.c.time < now - KEPT_SECONDS))


def leave(connection: Connection, name: str) -> None:
    """Say that the process of that name is there no more."""
    connection.execute(delete(schema.writers).where(schema.writers.c.name == name))


def others(connection: Connection, name: str) -> bool:
    """Tell whether another process than that of this name writes to the database."""
    columns = schema.writers.c
    living = select(columns.name).where(columns.name != name, columns.seen >= time.time() - ALIVE_SECONDS)
    return connection.execute(living.limit(1)).first() is not None
