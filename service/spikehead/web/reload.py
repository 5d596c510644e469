"""Reloading of models while the service runs: new versions are loaded and warmed up, then replace the old ones.

A version that cannot be used is refused, and the old ones stay. Requests end with the models with which they began.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from spikehead.inference.models import Print, fingerprints, load_models
from spikehead.model.card import ModelError
from spikehead.web.service import Service

log = logging.getLogger("spikehead")


class Reloader:
    """Checks the folder of models at intervals, and when asked to."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._asked = asyncio.Event()
        self._loaded = fingerprints(service.settings.models)  # those of the models in use
        self._seen = self._loaded  # those of the last try

    def ask(self) -> None:
        """Check now. To be called in the event loop's thread."""
        self._asked.set()

    async def run(self) -> None:
        """Check until cancelled."""
        seconds = self._service.settings.reload_seconds
        before = self._seen
        while True:
            told = await self._pause(seconds)
            now = await asyncio.to_thread(fingerprints, self._service.settings.models)
            # not before the folder has stopped changing: copying takes time
            if now != self._seen and (told or now == before):
                await self.reload(now)
            before = now

    async def _pause(self, seconds: float) -> bool:
        """Wait for `seconds`, or until asked; tell if it was asked."""
        try:
            await asyncio.wait_for(self._asked.wait(), seconds or None)
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    async def reload(self, now: dict[Path, Print]) -> None:
        """Load what has changed, and switch; log why if that fails."""
        service = self._service
        kept = {
            folder: simulator
            for folder, simulator in service.models.folders.items()
            if folder in now and now[folder] == self._loaded.get(folder)
        }
        self._seen = now
        try:
            models = await asyncio.to_thread(load_models, service.settings, kept)
        except Exception as error:
            if not isinstance(error, (ModelError, OSError)):
                log.exception("the new models cannot be loaded")
            # paths may hold bytes that are not text
            words = str(error).encode(errors="backslashreplace").decode()
            log.error("the new models are refused, the old ones stay in use: %s", words)
            service.refused_models = words
            service.metrics.models_refused.set(1)
            service.metrics.reloaded("refused")
            return
        if service.refused_models is not None:
            log.info("the models can be used again")
        service.switch(models)
        service.refused_models = None
        service.metrics.models_refused.set(0)
        service.metrics.reloaded("switched")
        for folder in self._loaded:
            if folder not in now:
                log.info("model %s was removed", folder.name)
        self._loaded = now
        for simulator in models:
            if simulator not in kept.values():
                log.info("model %s %s answers from now on", simulator.card.name, simulator.card.version)
