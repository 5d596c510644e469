"""New versions of models while the service runs: loaded and warmed up beside the old ones, then switched.

A version that cannot be used is refused, and the old ones go on. Requests that have begun end with the models that
they began with.
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
    """Looks at the folder of models every so often, and whenever it is told to."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._asked = asyncio.Event()
        self._loaded = fingerprints(service.settings.models)  # when the present models were loaded
        self._seen = self._loaded  # when it was last tried

    def ask(self) -> None:
        """Look now. In the event loop's thread."""
        self._asked.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        seconds = self._service.settings.reload_seconds
        before = self._seen
        while True:
            told = await self._pause(seconds)
            now = await asyncio.to_thread(fingerprints, self._service.settings.models)
            # not before the folder has come to rest: a copy takes its time
            if now != self._seen and (told or now == before):
                await self.reload(now)
            before = now

    async def _pause(self, seconds: float) -> bool:
        """Wait; tell if it was told to look before the time was over."""
        try:
            await asyncio.wait_for(self._asked.wait(), seconds or None)
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    async def reload(self, now: dict[Path, Print]) -> None:
        """Loads what has changed, and switches; or says why not."""
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
            words = str(error).encode(errors="backslashreplace").decode()  # paths may be no text
            log.error("the new models are refused, the old ones go on: %s", words)
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
                log.info("model %s is gone", folder.name)
        self._loaded = now
        for simulator in models:
            if simulator not in kept.values():
                log.info("model %s %s answers from now on", simulator.card.name, simulator.card.version)
