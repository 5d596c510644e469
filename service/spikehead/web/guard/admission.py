"""Bounded work: some requests at a time, some that wait for their turn, and others are refused at once."""

from __future__ import annotations

import asyncio
from collections import deque

from spikehead.errors import Problem

RETRY_SECONDS = 1
"""Seconds that a refused client is asked to wait."""


class Admission:
    """Admits requests in order of arrival. Only for the thread of one event loop."""

    def __init__(self, most_working: int, most_waiting: int) -> None:
        self.most_working, self.most_waiting = most_working, most_waiting
        self.working = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._light = 0
        self._counting = False

    @property
    def waiting(self) -> int:
        """Count the requests that wait for their turn."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Tell if a request that comes now would be refused."""
        return self.working >= self.most_working and self.waiting >= self.most_waiting

    def check(self) -> None:
        """Raise Problem if a request that comes now would be refused. Call it before reading the body."""
        if self.full:
            raise self.refusal()

    def enter(self) -> asyncio.Future[None] | None:
        """Take a turn, which `leave` ends. Return None if it begins at once, else a future to wait for.

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
        """Stop waiting for a turn, or end it if it has just begun. In place of `leave`."""
        if mine in self._queue:
            self._queue.remove(mine)
        else:
            self.leave()

    def leave(self) -> None:
        """End a turn, and begin that of the next request."""
        if self._queue:
            self._queue.popleft().set_result(None)
        else:
            self.working -= 1

    def take_light(self) -> None:
        """Count a request that is answered at once, in the event loop. Raises Problem if there are too many.

        Such requests do not wait in the queue: those that arrive together are answered in one turn of the event loop.
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
        """Make the problem of a request over the limits."""
        limit = f"at most {self.most_working} requests at a time and {self.most_waiting} waiting"
        return Problem("overloaded", limit, "more", retry_after=RETRY_SECONDS)
