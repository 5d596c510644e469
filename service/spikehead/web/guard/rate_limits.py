"""Rate limits of clients, by the library `limits`, in memory: each worker process counts for itself."""

from __future__ import annotations

import math
import time

from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from spikehead.errors import Problem


class RateLimits:
    """Limits such as `100/second` or `100/second; 5000/hour`. Raises ValueError if they cannot be parsed."""

    def __init__(self, limit: str) -> None:
        self._limits = parse_many(limit)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def take(self, client: str) -> None:
        """Count a request. Raises Problem if the client is over a limit."""
        for limit in self._limits:
            if not self._limiter.hit(limit, client):
                left = self._limiter.get_window_stats(limit, client).reset_time - time.time()
                raise Problem("rate-limited", f"at most {limit}", "more", retry_after=max(1, math.ceil(left)))
