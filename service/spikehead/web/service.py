"""A running service: settings, models, records, and the threads that compute. One in each process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, repeat
from typing import ParamSpec, TypeVar

from spikehead.errors import Problem
from spikehead.inference.classifier import Classifier, Query, not_recorded
from spikehead.inference.models import Models
from spikehead.records import Promise, Record, Recorder, Store, StoreError
from spikehead.settings import Settings
from spikehead.telemetry.metrics import Metrics
from spikehead.version import VERSION
from spikehead.web.guard.admission import Admission

P = ParamSpec("P")
T = TypeVar("T")

REQUIRED_SECONDS = 5.0
"""`record=required` waits for so long, then it is a problem."""

SETTLE_SECONDS = 2.0
"""Seconds that one who asks for past requests waits, at most, for the newest ones to be written."""

COMPANY_SECONDS = 0.2
"""Seconds in which another process has begun to write what it answered: its recorder's `linger`, and time to wake."""

_PAUSES = (0.01, 0.02, 0.05)
"""Seconds between two looks for a record that another process may be writing; the last is repeated."""

AT_HAND = 4
"""Requests that are taken up for each core: while one computes, the next is at hand."""

LOOKING = 1
"""Threads that look at past requests: replays, figures, statistics."""

READING = 4
"""Threads that wait for the database on behalf of readers."""


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Service:
    """The running service that routes work with. One in each process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        at_a_time = settings.max_concurrency or AT_HAND * _cores()
        self.workers = min(at_a_time, _cores())
        self.metrics = Metrics(VERSION)
        self.admission = Admission(at_a_time, settings.max_queue)
        self.insights = Admission(LOOKING, settings.max_queue)
        self.in_flight = 0  # requests that are being answered
        self.ending = False  # it answers what comes, and says that it is not ready
        self.refused_models: str | None = None  # why the newest version of the models does not answer
        self._last: list[Callable[[], None]] = []
        self._store: Store | None = None
        self._recorder: Recorder | None = None
        self._classifier: Classifier | None = None
        self._pool: Executor | None = None  # simulates what comes in
        self._looking: Executor | None = None  # replays, draws and counts what has been
        self._reading: Executor | None = None  # waits for the database
        self._forgetting: Executor | None = (
            None  # deletes by time: who deletes much must not keep readers waiting
        )

    def start(self, models: Models) -> None:
        """Ready from here on. A database that is away does not matter: records wait for it."""
        settings = self.settings
        self._store = Store(settings.database_url)
        self._recorder = Recorder(
            self._store,
            most_waiting=settings.record_queue,
            most_kept=settings.retention or None,
            longest_kept=settings.retention_days * 86_400 or None,
        )
        # before it answers: other processes would not wait for what they do not know to be there
        self._recorder.await_beginning(SETTLE_SECONDS)
        self.metrics.begin_records()
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="simulation")
        self._looking = ThreadPoolExecutor(LOOKING, thread_name_prefix="looking")
        self._reading = ThreadPoolExecutor(READING, thread_name_prefix="reading")
        self._forgetting = ThreadPoolExecutor(1, thread_name_prefix="forgetting")
        self.switch(models)

    def switch(self, models: Models) -> None:
        """These models answer from now on; what has begun with others is finished with them."""
        if self._classifier is not None:
            self.publish()  # what those did that go
        self._classifier = Classifier(models, self.recorder, self.settings)
        self.metrics.show(models)

    def at_end(self, last: Callable[[], None]) -> None:
        """To be called when the service has stopped."""
        self._last.append(last)

    def publish(self) -> None:
        """Brings the metrics up to date."""
        if self._classifier is not None and self._recorder is not None:
            self.metrics.publish(self._classifier.models, self._recorder.state)
            self.metrics.waiting.set(self.admission.waiting)
            self.metrics.in_flight.set(self.in_flight)

    def stop(self) -> None:
        """Waits for the jobs in progress, and writes what waits to be written."""
        if self._store is not None:
            self._store.stop_deleting()
        for pool in (self._pool, self._looking, self._reading, self._forgetting):
            if pool is not None:
                pool.shutdown(cancel_futures=True)
        self._pool = self._looking = self._reading = self._forgetting = None
        if self._recorder is not None:
            self._recorder.close(self.settings.flush_seconds)
            self.publish()
            self._recorder = None
        self._classifier = None
        if self._store is not None:
            self._store.close()
            self._store = None
        for last in self._last:
            last()

    @property
    def classifier(self) -> Classifier:
        """Raises Problem until the models are loaded."""
        if self._classifier is None:
            raise _not_ready()
        return self._classifier

    @property
    def recorder(self) -> Recorder:
        """Raises Problem until the models are loaded."""
        if self._recorder is None:
            raise _not_ready()
        return self._recorder

    def is_light(self, content_type: str, query: Query, body: bytes) -> bool:
        """See `Classifier.is_light`. Nothing is, until the models are loaded."""
        return self._classifier is not None and self._classifier.is_light(content_type, query, body)

    @property
    def models(self) -> Models:
        """Raises Problem until they are loaded."""
        return self.classifier.models

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function that computes, in a worker thread: the event loop goes on. One that nobody waits for any
        more is not begun."""
        return await self._run(self._pool, lambda: function(*args, **kwargs))

    async def look(self, function: Callable[[], T]) -> T:
        """Likewise, among those that look at past requests: they take no worker from new ones."""
        return await self._run(self._looking, function)

    @staticmethod
    async def _run(pool: Executor | None, function: Callable[[], T]) -> T:
        if pool is None:  # not among asyncio's own threads
            raise _not_ready()
        return await asyncio.get_running_loop().run_in_executor(pool, function)

    async def kept(self, promise: Promise | None) -> None:
        """Returns once records that were required are on disk. Raises Problem if they are not, in good time."""
        if promise is None:
            return
        loop = asyncio.get_running_loop()
        known: asyncio.Future[bool] = loop.create_future()

        def tell(stored: bool) -> None:
            if not known.done():
                known.set_result(stored)

        def tell_loop(stored: bool) -> None:
            with suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(tell, stored)

        promise.then(tell_loop)
        try:
            stored = await asyncio.wait_for(known, REQUIRED_SECONDS)
        except TimeoutError:
            stored = False
        if not stored:
            raise not_recorded(self.recorder.state.reason)

    async def past(self, function: Callable[[Store], T], forgets: bool = False) -> T:
        """Asks the store of records, in a thread, once all that was answered is in it.

        What another process has answered is waited for COMPANY_SECONDS, and as long as it takes to write it. Raises
        Problem if the database is away.
        """
        if await self._ask(Store.has_company):
            await asyncio.sleep(COMPANY_SECONDS)
            await self._ask(Store.await_writers)
        return await self._ask(function, forgets)

    async def stored(self, identifier: str) -> Record:
        """The record of that id. Raises KeyError if there is none, and Problem if the database is away."""
        await self._appears(identifier)
        return await self._ask(lambda store: store.get(identifier))

    async def forget(self, identifier: str) -> bool:
        """Forgets a record for good; False if there is none. Raises Problem if the database is away."""
        await self._appears(identifier)
        return await self._ask(lambda store: store.delete(identifier))

    async def _appears(self, identifier: str) -> None:
        """Returns once a record of that id is there, or none is to be expected any more."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + SETTLE_SECONDS
        pauses = chain(_PAUSES, repeat(_PAUSES[-1]))
        while await self._ask(lambda store: store.may_come(identifier)) and loop.time() < give_up:
            await asyncio.sleep(next(pauses))

    async def _ask(self, function: Callable[[Store], T], forgets: bool = False) -> T:
        store, recorder = self._store, self.recorder
        if store is None:
            raise _not_ready()

        def ask() -> T:
            recorder.flush(SETTLE_SECONDS)
            return function(store)

        try:
            # not among the workers: a slow database must not keep pictures waiting
            return await self._run(self._forgetting if forgets else self._reading, ask)
        except StoreError as error:
            raise Problem("records-away", "an answer from the records database", str(error)[:200]) from error


def _not_ready() -> Problem:
    return Problem("not-ready", "models that are loaded and warmed up", "none yet")
