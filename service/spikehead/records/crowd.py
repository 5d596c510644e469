"""Several processes on one database: what they have to tell each other.

Each keeps what it has answered in a queue of its own for a moment before it is written. So whoever forgets a record
leaves a note of it (a tombstone), which every process reads in the transaction in which it writes: what has been
forgotten while it waited is not written. And each process says now and then that it is there, so that one that is alone
waits for nobody.

Clocks of machines differ and are set. What is compared here is told by one that all processes on a database share:
PostgreSQL's server has it; those on a SQLite file are on one machine, whose time since it was started nobody sets.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, text

from spikehead.records import schema
from spikehead.records.clock import elapsed

KEPT_SECONDS = 86_400.0
"""Seconds that a note of what was forgotten is kept: no record may wait for longer in a queue to be covered by it."""

BEAT_SECONDS = 30.0
"""Seconds between two times that a process says it is there; up to twice as many if it has nothing else to do."""

ALIVE_SECONDS = 3 * BEAT_SECONDS
"""Seconds after which a process that has not said so is taken for gone."""

_LOCK = 0x464F52474554
"""A number for PostgreSQL's advisory locks: "FORGET". """

_SINCE = text("SELECT first, last, clock FROM records_forgotten WHERE clock >= :clock")
_BEAT = text(
    "INSERT INTO records_writers (name, seen) VALUES (:name, :seen) "
    "ON CONFLICT (name) DO UPDATE SET seen = excluded.seen"
)


class Forgotten(NamedTuple):
    """Records that were forgotten: those with ids from `first` to `last`, both included."""

    first: str
    last: str
    at: float  # by `elapsed`


class Notes:
    """Notes of what was forgotten, as one who writes has to heed them."""

    def __init__(self, notes: list[Forgotten]) -> None:
        self._one = {note.first for note in notes if note.first == note.last}
        self._many = [note for note in notes if note.first != note.last]

    def __bool__(self) -> bool:
        return bool(self._one or self._many)

    def covers(self, identifier: str, taken: float) -> bool:
        """Tell whether a record that a queue took at a time (by `elapsed`) was forgotten.

        Of a span of ids only those are that were there when it was forgotten: the clock may have been set back since,
        and what is answered later is not meant.
        """
        return identifier in self._one or any(
            note.first <= identifier <= note.last and taken <= note.at for note in self._many
        )


def now(connection: Connection) -> float:
    """Seconds by the clock that all processes on this database share."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
    return elapsed()


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
    """Leave a note for queues, with writers excluded."""
    connection.execute(insert(schema.forgotten).values(first=first, last=last, clock=now(connection)))


def forgotten_since(connection: Connection, taken: float) -> Notes:
    """Notes that were left since a time (by `elapsed`): nothing older covers a record that a queue took then."""
    shared = now(connection)
    # read later: so a note may seem later than it is by the way to the server, and never earlier
    own = elapsed()
    found = connection.execute(_SINCE, {"clock": shared - (own - taken)})
    return Notes([Forgotten(first, last, clock + own - shared) for first, last, clock in found])


def is_forgotten(connection: Connection, identifier: str) -> bool:
    """Tell whether a note is left of that record."""
    columns = schema.forgotten.c
    covering = select(columns.number).where(columns.last >= identifier, columns.first <= identifier)
    return connection.execute(covering.limit(1)).first() is not None


def beat(connection: Connection, name: str) -> None:
    """Say that the process of that name is there, and forget notes and processes that are long gone."""
    shared = now(connection)
    connection.execute(_BEAT, {"name": name, "seen": shared})
    # later ones: the machine, or another one's server, was started anew since
    seen, clock = schema.writers.c.seen, schema.forgotten.c.clock
    connection.execute(delete(schema.writers).where((seen < shared - ALIVE_SECONDS) | (seen > shared + 1)))
    connection.execute(delete(schema.forgotten).where((clock < shared - KEPT_SECONDS) | (clock > shared + 1)))


def leave(connection: Connection, name: str) -> None:
    """Say that the process of that name is there no more."""
    connection.execute(delete(schema.writers).where(schema.writers.c.name == name))


def others(connection: Connection, name: str) -> bool:
    """Tell whether another process than that of this name writes to the database."""
    columns, shared = schema.writers.c, now(connection)
    living = select(columns.name).where(columns.name != name, columns.seen >= shared - ALIVE_SECONDS)
    return connection.execute(living.limit(1)).first() is not None
