"""The routes: they pass requests to the classifier or the records, and send the answers."""

from __future__ import annotations

from fastapi import APIRouter

from spikehead.web.routes import classify, health, models, spikes

router = APIRouter()
for part in (classify, spikes, models, health):
    router.include_router(part.router)
