"""The recorder: queues records at once, and writes them to the store in the background, in groups.

Adding a record never waits for the database. One thread writes the queue. While the database is unavailable it keeps
trying; the queue is bounded, and once it is full, new records are dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from spikehead.records.clock import Clock, elapsed
from spikehead.records.crowd import BEAT_SECONDS
from spikehead.records.record import Record
from spikehead.records.store import RecordError, Store, StoreError

log = logging.getLogger("spikehead")

PRUNE_SECONDS = 60.0
"""Seconds between two deletions of records that are too many or too old."""

PRUNE_SHARE = 100
"""Records are also deleted after one new record for each PRUNE_SHARE that are kept."""

PRUNE_AT_MOST = 2_000
"""Records deleted before the next group is written."""

GRACE_SECONDS = 0.5
"""Seconds that `close` waits beyond its timeout for the thread to end."""


@dataclass(frozen=True)
class RecorderState:
    """The state of recording. The numbers count records since the start."""

    status: Literal["ok", "degraded"]
    reason: str | None  # why it is degraded
    queued: int
    written: int
    dropped: int  # because the queue was full or the database refused the record


_Waiting = tuple[Record, float]
"""A record in the queue, and when it was queued, by `elapsed`."""


class Promise:
    """The promise to write the records from number `first` up to `last`, exclusive."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.stored = True
        self._done = threading.Event()
        self._told: Callable[[bool], None] | None = None
        self._lock = threading.Lock()

    def wait(self, timeout: float) -> bool:
        """Wait, and tell if they are on disk. False after `timeout` seconds; they may still be written later."""
        return self._done.wait(timeout) and self.stored

    def then(self, told: Callable[[bool], None]) -> None:
        """Call `told(stored)` when the outcome is known, from any thread; at once if it is known already."""
        with self._lock:
            if not self._done.is_set():
                self._told = told
                return
        told(self.stored)

    def settle(self) -> None:
        """Tell the outcome, `stored`."""
        with self._lock:
            self._done.set()
            told = self._told
        if told is not None:
            told(self.stored)


class Recorder:
    """Writes records to a store in the background. Safe across threads. Close it before the store."""

    def __init__(
        self,
        store: Store,
        most_waiting: int = 10_000,
        most_kept: int | None = None,
        longest_kept: float | None = None,
        *,
        group: int = 1_000,
        linger: float = 0.05,
        first_pause: float = 0.1,
        longest_pause: float = 5.0,
    ) -> None:
        """Start the thread.

        most_waiting: records that the queue holds; most_kept: records that the store keeps; longest_kept: seconds
        that it keeps them (None: no limit); group: records written in one transaction, at most; linger: seconds
        that a group waits for more records; first_pause, longest_pause: seconds before the database is tried again,
        which double each time.
        """
        self._store = store
        self._most_waiting = most_waiting
        self._most_kept, self._longest_kept = most_kept, longest_kept
        self._group, self._linger = group, linger
        self._first_pause, self._longest_pause = first_pause, longest_pause

        # guards all below; never held while the store works
        self._changed = threading.Condition()
        # a group leaves the queue when it is written
        self._waiting: deque[_Waiting] = deque()
        self._settled = 0  # records that have left the queue
        self._waiters: deque[Promise] = deque()
        self._hurry = False  # a caller waits: do not linger, do not pause
        self._full = False
        self._trouble: str | None = None
        self._deadline: float | None = None  # set once it is closed
        self._written = 0
        self._dropped = 0

        self._began = threading.Event()
        self._prune_at = time.monotonic() if most_kept is not None or longest_kept is not None else None
        self._grown = 0  # records written since the store was pruned
        self._clock = Clock()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def add(self, records: Sequence[Record]) -> bool:
        """Queue records, oldest first; return at once. False if there is no room for all: then all are dropped."""
        with self._changed:
            return self._take(records)

    def add_promised(self, records: Sequence[Record]) -> Promise | None:
        """Queue records to be written at once, with a promise of it. None if there is no room.

        If writing fails, the promise is broken; the records stay in the queue and may be written later.
        """
        with self._changed:
            first = self._settled + len(self._waiting)
            if not self._take(records):
                return None
            return self._wait_for(first, first + len(records))

    def flush(self, timeout: float) -> bool:
        """Wait until all records added so far are on disk, where the next query finds them.

        False after `timeout` seconds or if writing fails; at once if it has failed and was not tried again yet.
        """
        with self._changed:
            if not self._waiting:
                return True
            if self._trouble is not None:
                return False
            waiter = self._wait_for(self._settled, self._settled + len(self._waiting))
        return waiter.wait(timeout)

    def await_beginning(self, timeout: float) -> bool:
        """Wait until this process is registered or the database is unavailable. False after `timeout` seconds."""
        return self._began.wait(timeout)

    @property
    def state(self) -> RecorderState:
        with self._changed:
            reason = self._trouble
            if reason is None and self._full and self._waiting:
                reason = f"the queue of {self._most_waiting} records is full"
            return RecorderState(
                status="ok" if reason is None else "degraded",
                reason=reason,
                queued=len(self._waiting),
                written=self._written,
                dropped=self._dropped,
            )

    def close(self, timeout: float) -> None:
        """Take no more records, and write the queue; records left after `timeout` seconds are dropped."""
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + timeout
            self._hurry = True
            self._changed.notify()
        self._thread.join(timeout + GRACE_SECONDS)
        self._give_up()

    def _take(self, records: Sequence[Record]) -> bool:
        if not records:
            return True
        if self._deadline is not None or len(self._waiting) + len(records) > self._most_waiting:
            self._dropped += len(records)
            self._full = self._deadline is None
            return False
        woken = bool(self._waiting)
        taken = elapsed()
        self._waiting.extend([(record, taken) for record in records])
        if not woken or len(self._waiting) >= self._group:
            self._changed.notify()
        return True

    def _wait_for(self, first: int, last: int) -> Promise:
        waiter = Promise(first, last)
        if first == last:
            waiter.settle()
            return waiter
        self._waiters.append(waiter)
        self._hurry = True
        self._changed.notify()
        return waiter

    def _run(self) -> None:
        """Work, and wait until there is more to do or it is time to try again. This is the thread."""
        pause = 0.0
        trouble: str | None
        while True:
            try:
                self._work()
            except StoreError as error:
                trouble = str(error)
            # without the thread, no record would be written again
            except Exception as error:
                log.exception("the recorder failed")
                trouble = f"{type(error).__name__}: {error}"
            else:
                trouble = None
            self._report(trouble)
            self._began.set()
            pause = 0.0 if trouble is None else min(max(2 * pause, self._first_pause), self._longest_pause)
            if not (self._wait_for_work() if trouble is None else self._wait_to_try_again(pause)):
                if self.state.reason is None:
                    with suppress(StoreError):
                        self._store.leave()
                self._give_up()
                return

    def _work(self) -> None:
        """Write a group, or else check the database and register this process; delete old records."""
        with self._changed:
            self._hurry = False
            group = list(islice(self._waiting, self._group))
        if group:
            self._write(group)
        else:
            self._store.announce()
        if self._prune_is_due():
            self._prune()

    def _write(self, group: list[_Waiting]) -> None:
        """Write the records at the head of the queue. If the database refuses one, write the others without it."""
        try:
            self._store.insert([record for record, _ in group], [taken for _, taken in group])
        except RecordError as error:
            if len(group) > 1:
                half = len(group) // 2
                self._write(group[:half])
                self._write(group[half:])
                return
            log.error("record %s was dropped: %s", group[0][0].id, error)
            self._settle(1, stored=False)
        else:
            self._settle(len(group), stored=True)

    def _settle(self, count: int, stored: bool) -> None:
        """Remove the first `count` records from the queue."""
        with self._changed:
            self._settled += count
            for _ in range(min(count, len(self._waiting))):
                self._waiting.popleft()
            if stored:
                self._written += count
                self._grown += count
            else:
                self._dropped += count
            if len(self._waiting) <= self._most_waiting // 2:
                self._full = False
            for waiter in list(self._waiters):
                if not stored and waiter.first < self._settled:
                    waiter.stored = False
                if waiter.last <= self._settled:
                    waiter.settle()
                    self._waiters.remove(waiter)

    def _prune_is_due(self) -> bool:
        if self._prune_at is None:
            return False
        grown = self._most_kept is not None and self._grown > max(self._most_kept // PRUNE_SHARE, self._group)
        return grown or time.monotonic() >= self._prune_at

    def _prune(self) -> None:
        older_than = None if self._longest_kept is None else self._clock.now() - self._longest_kept
        deleted = self._store.prune(self._most_kept, older_than, PRUNE_AT_MOST)
        if deleted >= PRUNE_AT_MOST:
            # there may be more to delete, after the next group
            self._prune_at = time.monotonic()
        else:
            self._prune_at = time.monotonic() + PRUNE_SECONDS
            self._grown = 0

    def _report(self, trouble: str | None) -> None:
        """Keep the outcome of `_work`; after a failure, break all promises."""
        with self._changed:
            before, self._trouble = self._trouble, trouble
            if trouble is not None:
                self._release()
        if trouble is not None and before is None:
            log.warning("records cannot be written: %s", trouble)
        elif trouble is None and before is not None:
            log.info("records are written again")

    def _release(self) -> None:
        for waiter in self._waiters:
            waiter.stored = False
            waiter.settle()
        self._waiters.clear()

    def _wait_for_work(self) -> bool:
        """Wait until there is something to do. False if the thread is to end."""
        with self._changed:
            idle = BEAT_SECONDS
            if self._prune_at is not None:
                idle = min(idle, max(0.0, self._prune_at - time.monotonic()))
            self._changed.wait_for(lambda: self._waiting or self._deadline is not None, idle)
            if self._waiting:
                self._changed.wait_for(
                    lambda: self._hurry or len(self._waiting) >= self._group or self._deadline is not None,
                    self._linger,
                )
            return self._goes_on()

    def _wait_to_try_again(self, pause: float) -> bool:
        """Wait for `pause` seconds, or for the first pause if a caller waits. False if the thread is to end."""
        time.sleep(self._first_pause)
        with self._changed:
            longest = pause - self._first_pause
            if self._deadline is not None:
                longest = min(longest, self._deadline - time.monotonic())
            self._changed.wait_for(lambda: self._hurry, max(0.0, longest))
            return self._goes_on()

    def _goes_on(self) -> bool:
        if self._deadline is None:
            return True
        return bool(self._waiting) and time.monotonic() < self._deadline

    def _give_up(self) -> None:
        """Drop the records that are still in the queue."""
        with self._changed:
            lost = len(self._waiting)
            self._dropped += lost
            self._waiting.clear()
            self._release()
        if lost:
            log.error(
                "%d records were not written and are lost: %s", lost, self._trouble or "the time was up"
            )
