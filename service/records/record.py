"""One remembered request, and its identifier, which carries its time."""

from __future__ import annotations

import random
import re
import threading
import time
from typing import NamedTuple

ID_DIGITS = 24
_ID = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}")
_LAST = 2**64 - 1


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
    """Identifiers that grow with time, also within a clock tick: 16 hexadecimal digits of time, 8 random ones."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def new(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return f"{self._last:016x}{random.getrandbits(32):08x}"

    def some(self, count: int) -> list[str]:
        """So many new ones, in order."""
        digits = f"{random.getrandbits(32 * count):0{8 * count}x}"
        with self._lock:
            first = max(self._last + 1, time.time_ns())
            self._last = first + count - 1
        return [f"{first + i:016x}{digits[8 * i : 8 * i + 8]}" for i in range(count)]


def is_id(text: str) -> bool:
    """Whether a request can have that identifier."""
    return _ID.fullmatch(text) is not None


def time_of(identifier: str) -> float:
    """When the id was made: seconds since 1970, UTC, in whole microseconds."""
    return int(identifier[:16], 16) // 1000 / 1e6


def first_id(moment: float) -> str:
    """The least id of that microsecond or later: for every id, `id >= first_id(t)` where `time_of(id) >= t`."""
    nanoseconds = round(moment * 1e6) * 1000
    return f"{min(max(nanoseconds, 0), _LAST):016x}{0:08x}"
