"""A stored request, and its identifier, which contains its time."""

from __future__ import annotations

import random
import re
import threading
import time
from typing import NamedTuple

ID_DIGITS = 24
_ID = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}")
_LAST = 2**64 - 1

AHEAD_NS = 1_000_000
"""Nanoseconds by which identifiers may be ahead of the clock, so that they grow within a tick and within a batch.

After a larger step back, identifiers follow the clock, so that a record's time stays a time.
"""


class Record(NamedTuple):
    """One image that was classified."""

    id: str  # 24 hexadecimal digits that grow with time, see Ids
    time: float  # seconds since 1970, UTC: `time_of` the id
    model: str
    model_version: str
    image: bytes  # 784 pixels, as the network saw them
    seed: int  # 0 to 2**64 - 1
    prediction: int
    confidence: float
    steps_used: int
    stopped_by: str
    answer: bytes  # JSON, as it was answered, without the raster


class Ids:
    """Identifiers that grow with time, also within a clock tick: 16 hexadecimal digits of time, 8 random ones.

    If the clock steps back, two may contain the same time; the random digits tell them apart.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def new(self) -> str:
        with self._lock:
            self._last = self._next()
            return f"{self._last:016x}{random.getrandbits(32):08x}"

    def some(self, count: int) -> list[str]:
        """Make `count` identifiers, in order."""
        digits = f"{random.getrandbits(32 * count):0{8 * count}x}"
        with self._lock:
            first = self._next()
            self._last = first + count - 1
        return [f"{first + i:016x}{digits[8 * i : 8 * i + 8]}" for i in range(count)]

    def _next(self) -> int:
        now = time.time_ns()
        return max(self._last + 1, now) if self._last < now + AHEAD_NS else now


def is_id(text: str) -> bool:
    """Tell if a request can have that identifier."""
    return _ID.fullmatch(text) is not None


def time_of(identifier: str) -> float:
    """Return the time when the id was made: seconds since 1970, UTC, in whole microseconds."""
    return int(identifier[:16], 16) // 1000 / 1e6


def first_id(moment: float) -> str:
    """Return the least id of that microsecond or later: `id >= first_id(t)` if `time_of(id) >= t`."""
    return f"{min(_nanoseconds(moment), _LAST):016x}{0:08x}"


def last_id(moment: float) -> str:
    """Return the greatest id from before that microsecond, at least the first of all."""
    return f"{min(max(_nanoseconds(moment) - 1, 0), _LAST):016x}{2**32 - 1:08x}"


def _nanoseconds(moment: float) -> int:
    return max(round(moment * 1e6) * 1000, 0)
