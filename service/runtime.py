"""What a running service consists of: settings, models, records, and the threads that compute. One a process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from service.classification import Classifier, Query
from service.errors import Problem
from service.records import MemoryRecords, Records
from service.registry import Models
from service.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Service:
    """What the routes work with. One a process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.records: Records = MemoryRecords(settings.history, settings.history_bytes)
        self.workers = _cores()
        self._classifier: Classifier | None = None
        self._pool: ThreadPoolExecutor | None = None

    def start(self, models: Models) -> None:
        """Ready from here on."""
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="simulation")
        self._classifier = Classifier(models, self.records, self.settings)

    def stop(self) -> None:
        """Waits for the jobs in progress."""
        self._classifier = None
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    @property
    def classifier(self) -> Classifier:
        """Raises Problem until the models are loaded."""
        if self._classifier is None:
            raise Problem("not-ready", "models that are loaded and warmed up", "none yet")
        return self._classifier

    def is_light(self, content_type: str, query: Query, body: bytes) -> bool:
        """See `Classifier.is_light`. Nothing is, until the models are loaded."""
        return self._classifier is not None and self._classifier.is_light(content_type, query, body)

    @property
    def models(self) -> Models:
        """Raises Problem until they are loaded."""
        return self.classifier.models

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function that computes, in a worker thread: the event loop goes on."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))
