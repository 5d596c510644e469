"""Clocks: one that nobody sets, and the one by which records are too old, which is doubted after a jump ahead."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

log = logging.getLogger("spikehead")

JUMP_SECONDS = 60.0
"""Seconds by which a clock may be set ahead without being doubted: more than the correction of one that runs badly."""

DOUBT_SECONDS = 3_600.0
"""Seconds for which a clock is doubted after a jump ahead. If it was wrong, it is set right meanwhile, or by hand."""


# asked once for every record: the clock is chosen here, not each time
_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)
elapsed: Callable[[], float] = time.monotonic if _BOOT is None else partial(time.clock_gettime, _BOOT)
"""Seconds that nobody sets, the same in all processes; they go on while the machine sleeps if it can tell."""


class Clock:
    """Seconds since 1970, UTC. While a jump ahead is doubted, those that have passed by the clock that nobody sets."""

    def __init__(self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = elapsed) -> None:
        self._wall, self._elapsed = wall, elapsed
        self._offset = wall() - elapsed()  # the time that is believed, ahead of the clock that nobody sets
        self._doubted_since: float | None = None

    def now(self) -> float:
        """The time that may be acted on. A clock that steps back is believed at once: nothing gets too old by it."""
        elapsed = self._elapsed()
        offset = self._wall() - elapsed
        if offset <= self._offset + JUMP_SECONDS:
            self._offset, self._doubted_since = offset, None
        elif self._doubted_since is None:
            log.warning(
                "the clock has jumped ahead by %.0f seconds: for an hour nothing is deleted for its age by it",
                offset - self._offset,
            )
            self._doubted_since = elapsed
        elif elapsed - self._doubted_since >= DOUBT_SECONDS:
            self._offset, self._doubted_since = offset, None
        return self._offset + elapsed
