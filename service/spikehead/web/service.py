"""The running service of a process: settings, models, records, and the threads that compute."""

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
"""Seconds that `record=required` waits for its record before it fails."""

SETTLE_SECONDS = 2.0
"""Most seconds that a query of past requests waits for the newest ones to be written."""

COMPANY_SECONDS = 0.2
"""Seconds after which another process writes its latest records: its recorder's `linger`, and time to wake."""

_PAUSES = (0.01, 0.02, 0.05)
"""Seconds between two tries to find a record that another process may be writing; the last is repeated."""

AT_HAND = 4
"""Requests accepted for each core, so that the next one is ready when one is done."""

LOOKING = 1
"""Threads for replays, figures and statistics of past requests."""

READING = 4
"""Threads that wait for the database."""


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Service:
    """The running service that routes work with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        at_a_time = settings.max_concurrency or AT_HAND * _cores()
        self.workers = min(at_a_time, _cores())
        self.metrics = Metrics(VERSION)
        self.admission = Admission(at_a_time, settings.max_queue)
        self.insights = Admission(LOOKING, settings.max_queue)
        self.in_flight = 0  # requests that are being answered
        self.ending = False  # requests are still answered, but the service is not ready
        self.refused_models: str | None = None  # why the newest version of the models does not answer
        self._last: list[Callable[[], None]] = []
        self._store: Store | None = None
        self._recorder: Recorder | None = None
        self._classifier: Classifier | None = None
        # threads for new requests, for past ones, for the database, and for long deletions beside its readers
        self._pool: Executor | None = None
        self._looking: Executor | None = None
        self._reading: Executor | None = None
        self._forgetting: Executor | None = None

    def start(self, models: Models) -> None:
        """Begin to answer. The database may be unavailable: records wait for it."""
        settings = self.settings
        self._store = Store(settings.database_url)
        self._recorder = Recorder(
            self._store,
            most_waiting=settings.record_queue,
            most_kept=settings.retention or None,
            longest_kept=settings.retention_days * 86_400 or None,
        )
        # first, so that other processes wait for its records
        self._recorder.await_beginning(SETTLE_SECONDS)
        self.metrics.begin_records()
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="simulation")
        self._looking = ThreadPoolExecutor(LOOKING, thread_name_prefix="looking")
        self._reading = ThreadPoolExecutor(READING, thread_name_prefix="reading")
        self._forgetting = ThreadPoolExecutor(1, thread_name_prefix="forgetting")
        self.switch(models)

    def switch(self, models: Models) -> None:
        """Use these models from now on. Requests in progress finish with the old ones."""
        if self._classifier is not None:
            self.publish()  # the work of the old ones
        self._classifier = Classifier(models, self.recorder, self.settings)
        self.metrics.show(models)

    def at_end(self, last: Callable[[], None]) -> None:
        """Add a function to call when the service has stopped."""
        self._last.append(last)

    def publish(self) -> None:
        """Bring the metrics up to date."""
        if self._classifier is not None and self._recorder is not None:
            self.metrics.publish(self._classifier.models, self._recorder.state)
            self.metrics.waiting.set(self.admission.waiting)
            self.metrics.in_flight.set(self.in_flight)

    def stop(self) -> None:
        """Wait for the jobs in progress, and write the queued records."""
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
        """Return the classifier. Raises Problem until the models are loaded."""
        if self._classifier is None:
            raise _not_ready()
        return self._classifier

    @property
    def recorder(self) -> Recorder:
        """Return the recorder. Raises Problem until the models are loaded."""
        if self._recorder is None:
            raise _not_ready()
        return self._recorder

    def is_light(self, content_type: str, query: Query, body: bytes) -> bool:
        """See `Classifier.is_light`. False until the models are loaded."""
        return self._classifier is not None and self._classifier.is_light(content_type, query, body)

    @property
    def models(self) -> Models:
        """Return the models. Raises Problem until they are loaded."""
        return self.classifier.models

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in a worker thread. It is not begun if the caller was cancelled."""
        return await self._run(self._pool, lambda: function(*args, **kwargs))

    async def look(self, function: Callable[[], T]) -> T:
        """Run a function in the threads for past requests, which take no worker from new ones."""
        return await self._run(self._looking, function)

    @staticmethod
    async def _run(pool: Executor | None, function: Callable[[], T]) -> T:
        # None would mean asyncio's own threads
        if pool is None:
            raise _not_ready()
        return await asyncio.get_running_loop().run_in_executor(pool, function)

    async def kept(self, promise: Promise | None) -> None:
        """Wait until required records are on disk. Raises Problem if that fails or takes REQUIRED_SECONDS."""
        if promise is None:
            return
        loop = asyncio.get_running_loop()
        known: asyncio.Future[bool] = loop.create_future()

        def tell(stored: bool) -> None:
            if not known.done():
                known.set_result(stored)

        def tell_loop(stored: bool) -> None:
            # the loop may have ended
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, stored)

        promise.then(tell_loop)
        try:
            stored = await asyncio.wait_for(known, REQUIRED_SECONDS)
        except TimeoutError:
            stored = False
        if not stored:
            raise not_recorded(self.recorder.state.reason)

    async def past(self, function: Callable[[Store], T], forgets: bool = False) -> T:
        """Query the store of records, in a thread, once all answers so far are in it.

        Records of other processes get COMPANY_SECONDS to be begun, and the time that writing takes. Raises Problem if
        the database is unavailable.
        """
        if await self._ask(Store.has_company):
            await asyncio.sleep(COMPANY_SECONDS)
            await self._ask(Store.await_writers)
        return await self._ask(function, forgets)

    async def stored(self, identifier: str) -> Record:
        """Return the record of that id. Raises KeyError if there is none, Problem if the database is unavailable."""
        await self._appears(identifier)
        return await self._ask(lambda store: store.get(identifier))

    async def forget(self, identifier: str) -> bool:
        """Delete a record; False if there is none. Raises Problem if the database is unavailable."""
        await self._appears(identifier)
        return await self._ask(lambda store: store.delete(identifier))

    async def _appears(self, identifier: str) -> None:
        """Wait until a record of that id is stored, or none is expected any more."""
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
            # not in the worker threads: a slow database must not delay classification
            return await self._run(self._forgetting if forgets else self._reading, ask)
        except StoreError as error:
            raise Problem("records-away", "an answer from the records database", str(error)[:200]) from error


def _not_ready() -> Problem:
    return Problem("not-ready", "models that are loaded and warmed up", "none yet")
