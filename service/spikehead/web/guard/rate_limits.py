"""A rate for each client, by the library `limits`: kept in memory, so each worker process counts for itself."""

from __future__ import annotations

import math
import time

from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from spikehead.errors import Problem


class RateLimits:
    """`limit` as in `100/second` or `100/second; 5000/hour`. Raises ValueError if it cannot be read."""

    def __init__(self, limit: str) -> None:
        self._limits = parse_many(limit)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def take(self, client: str) -> None:
        """Counts a request. Raises Problem if the client has had its share."""
        for limit in self._limits:
            if not self._limiter.hit(limit, client):
                left = self._limiter.get_window_stats(limit, client).reset_time - time.time()
                raise Problem("rate-limited", f"at most {limit}", "more", retry_after=max(1, math.ceil(left)))
