"""Bounded work: a number of requests at a time, a number that wait for their turn, and the rest is refused at once."""

from __future__ import annotations

import asyncio
from collections import deque

from spikehead.errors import Problem

RETRY_SECONDS = 1
"""What a refused client is asked to wait."""


class Admission:
    """First come, first served. For one event loop; the only thread that may use it is the loop's."""

    def __init__(self, most_working: int, most_waiting: int) -> None:
        self.most_working, self.most_waiting = most_working, most_waiting
        self.working = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._light = 0
        self._counting = False

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Tell if a request that comes now would be refused."""
        return self.working >= self.most_working and self.waiting >= self.most_waiting

    def check(self) -> None:
        """Raises Problem if a request that comes now would be refused. Before its body is read, if possible."""
        if self.full:
            raise self.refusal()

    def enter(self) -> asyncio.Future[None] | None:
        """Takes a turn, for which `leave` must be called; None if it begins at once, else what to wait for.

        Raises Problem if the queue is full.
        """
        if self.working < self.most_working and not self._queue:
            self.working += 1
            return None
        self.check()
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(mine)
        return mine

    def give_up(self, mine: asyncio.Future[None]) -> None:
        """Instead of `leave`, by who waits no longer, whether its turn has just come or not."""
        if mine in self._queue:
            self._queue.remove(mine)
        else:
            self.leave()

    def leave(self) -> None:
        """The next one has its turn: the place is handed over."""
        if self._queue:
            self._queue.popleft().set_result(None)
        else:
            self.working -= 1

    def take_light(self) -> None:
        """Counts a request that is answered at once, in the event loop. Raises Problem if there are too many.

        Such requests never wait in a queue of ours. Those that have arrived together are answered one after the
        other in one turn of the event loop: they are the queue.
        """
        if self._light >= self.most_working + self.most_waiting:
            raise self.refusal()
        self._light += 1
        if not self._counting:
            self._counting = True
            asyncio.get_running_loop().call_soon(self._forget_light)

    def _forget_light(self) -> None:
        self._light, self._counting = 0, False

    def refusal(self) -> Problem:
        """Make the problem of a request that is one too many."""
        limit = f"at most {self.most_working} requests at a time and {self.most_waiting} that wait"
        return Problem("overloaded", limit, "more", retry_after=RETRY_SECONDS)
