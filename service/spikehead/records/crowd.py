"""Coordination of several processes that write to one database.

Each process queues records for a moment before it writes them. So a process that deletes a record leaves a note (a
tombstone), which the others read in the transaction in which they write, and leave out records deleted meanwhile. Each
process also registers itself now and then, so that a process that is alone need not wait for others.

Clocks of machines differ and can be set. Times compared here come from one clock that all processes share: that of the
PostgreSQL server, or for a SQLite file the time since its machine was started.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, text

from spikehead.records import schema
from spikehead.records.clock import elapsed

KEPT_SECONDS = 86_400.0
"""Seconds that a note is kept: a record that waits longer in a queue is not covered by it."""

BEAT_SECONDS = 30.0
"""Seconds between two registrations of a process; up to twice as many if it is idle."""

ALIVE_SECONDS = 3 * BEAT_SECONDS
"""Seconds after which a process that has not registered again counts as gone."""

_LOCK = 0x464F52474554
"""The number of PostgreSQL's advisory lock: "FORGET". """

_SINCE = text("SELECT first, last, clock FROM records_forgotten WHERE clock >= :clock")
_BEAT = text(
    "INSERT INTO records_writers (name, seen) VALUES (:name, :seen) "
    "ON CONFLICT (name) DO UPDATE SET seen = excluded.seen"
)


class Forgotten(NamedTuple):
    """A note that the records with ids from `first` to `last`, both included, were deleted."""

    first: str
    last: str
    at: float  # by `elapsed`


class Notes:
    """Notes that a process which writes records has to respect."""

    def __init__(self, notes: list[Forgotten]) -> None:
        self._one = {note.first for note in notes if note.first == note.last}
        self._many = [note for note in notes if note.first != note.last]

    def __bool__(self) -> bool:
        return bool(self._one or self._many)

    def covers(self, identifier: str, taken: float) -> bool:
        """Tell if a record that was queued at the time `taken` (by `elapsed`) was deleted.

        A note of a span of ids covers only records that existed then: if the clock was set back since, later
        records may have ids in that span.
        """
        return identifier in self._one or any(
            note.first <= identifier <= note.last and taken <= note.at for note in self._many
        )


def now(connection: Connection) -> float:
    """Return the seconds of the clock that all processes on this database share."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
    return elapsed()


def exclude_writers(connection: Connection) -> None:
    """Wait for all writers to commit, and block writers until this transaction ends. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def beside_writers(connection: Connection) -> None:
    """Share the database with other writers, but not with one that excludes them. Call it before reading anything."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock_shared(_LOCK)))


def note_forgotten(connection: Connection, first: str, last: str) -> None:
    """Leave a note for the queues of other processes. Call it with writers excluded."""
    connection.execute(insert(schema.forgotten).values(first=first, last=last, clock=now(connection)))


def forgotten_since(connection: Connection, taken: float) -> Notes:
    """Return the notes left since a time (by `elapsed`): older ones do not cover a record queued then."""
    shared = now(connection)
    # read after the shared clock, so that a note may seem later than it is, but never earlier
    own = elapsed()
    found = connection.execute(_SINCE, {"clock": shared - (own - taken)})
    return Notes([Forgotten(first, last, clock + own - shared) for first, last, clock in found])


def is_forgotten(connection: Connection, identifier: str) -> bool:
    """Tell if a note covers that record."""
    columns = schema.forgotten.c
    covering = select(columns.number).where(columns.last >= identifier, columns.first <= identifier)
    return connection.execute(covering.limit(1)).first() is not None


def beat(connection: Connection, name: str) -> None:
    """Register the process of that name, and delete notes and processes that have expired."""
    shared = now(connection)
    connection.execute(_BEAT, {"name": name, "seen": shared})
    # times in the future come from before a restart of the machine or the server
    seen, clock = schema.writers.c.seen, schema.forgotten.c.clock
    connection.execute(delete(schema.writers).where((seen < shared - ALIVE_SECONDS) | (seen > shared + 1)))
    connection.execute(delete(schema.forgotten).where((clock < shared - KEPT_SECONDS) | (clock > shared + 1)))


def leave(connection: Connection, name: str) -> None:
    """Remove the registration of the process of that name."""
    connection.execute(delete(schema.writers).where(schema.writers.c.name == name))


def others(connection: Connection, name: str) -> bool:
    """Tell if a process of another name writes to the database."""
    columns, shared = schema.writers.c, now(connection)
    living = select(columns.name).where(columns.name != name, columns.seen >= shared - ALIVE_SECONDS)
    return connection.execute(living.limit(1)).first() is not None
