"""Clocks: a steady one that cannot be set, and the time of day for ageing records, doubted after a jump ahead."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

log = logging.getLogger("spikehead")

JUMP_SECONDS = 60.0
"""Seconds by which a clock may jump ahead without being doubted: more than a correction of its drift."""

DOUBT_SECONDS = 3_600.0
"""Seconds for which a clock is doubted after a jump ahead. A wrong clock is corrected in this time."""

# chosen once, because it is read for every record
_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)
elapsed: Callable[[], float] = time.monotonic if _BOOT is None else partial(time.clock_gettime, _BOOT)
"""Seconds of the steady clock, the same in all processes. On Linux it also counts while the machine sleeps."""


class Clock:
    """Seconds since 1970, UTC. While a jump ahead is doubted, the steady clock tells how many have passed."""

    def __init__(self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = elapsed) -> None:
        self._wall, self._elapsed = wall, elapsed
        # the believed time, less the steady clock
        self._offset = wall() - elapsed()
        self._doubted_since: float | None = None

    def now(self) -> float:
        """Return the believed time. A step back is believed at once, because it makes no record too old."""
        elapsed = self._elapsed()
        offset = self._wall() - elapsed
        if offset <= self._offset + JUMP_SECONDS:
            self._offset, self._doubted_since = offset, None
        elif self._doubted_since is None:
            log.warning(
                "the clock has jumped ahead by %.0f seconds: for an hour, the ages of records ignore the jump",
                offset - self._offset,
            )
            self._doubted_since = elapsed
        elif elapsed - self._doubted_since >= DOUBT_SECONDS:
            self._offset, self._doubted_since = offset, None
        return self._offset + elapsed
