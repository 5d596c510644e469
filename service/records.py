"""What the service remembers of past requests, behind one small interface.

Here it is memory, bounded by number and by bytes. A store on disk can take its place.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    """One image that was classified."""

    id: str  # ids grow with time
    time: float  # seconds since 1970, UTC
    model: str
    model_version: str
    image: bytes  # 784 pixels, as the network saw them
    seed: int
    prediction: int
    confidence: float
    steps_used: int
    stopped_by: str
    answer: bytes  # JSON, as it was answered


class Ids:
    """Identifiers that grow with time, also within a clock tick: 16 hexadecimal digits of time, 8 random ones."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def new(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return f"{self._last:016x}{os.urandom(4).hex()}"

    def some(self, count: int) -> list[str]:
        """So many new ones, in order."""
        random = os.urandom(4 * count).hex()
        with self._lock:
            first = max(self._last + 1, time.time_ns())
            self._last = first + count - 1
        return [f"{first + i:016x}{random[8 * i : 8 * i + 8]}" for i in range(count)]


class Records(Protocol):
    """A store of records. Safe across threads."""

    def add(self, records: Iterable[Record]) -> None:
        """Remember records, oldest first."""

    def recent(self, limit: int, before: str | None = None) -> list[Record]:
        """At most `limit` records, newest first; `before` goes on with those older than that id."""

    def get(self, identifier: str) -> Record:
        """The record of that id. Raises KeyError where none is remembered."""


class MemoryRecords:
    """The last `most` records, as long as their answers take at most `most_bytes` together."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, records: Iterable[Record]) -> None:
        with self._lock:
            for record in records:
                self._records[record.id] = record
                self._bytes += len(record.answer)
                while len(self._records) > self._most or self._bytes > self._most_bytes:
                    _, dropped = self._records.popitem(last=False)
                    self._bytes -= len(dropped.answer)

    def recent(self, limit: int, before: str | None = None) -> list[Record]:
        with self._lock:
            records = list(self._records.values())
        # sorted, since threads may add in another order than they took their ids
        older = sorted((r for r in records if before is None or r.id < before), key=lambda r: r.id)
        return older[: -limit - 1 : -1]

    def get(self, identifier: str) -> Record:
        with self._lock:
            return self._records[identifier]
