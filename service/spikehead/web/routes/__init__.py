"""The routes: what comes in over HTTP goes to the classifier or the records, what they say goes out."""

from __future__ import annotations

from fastapi import APIRouter

from spikehead.web.routes import classify, health, models, spikes

router = APIRouter()
for part in (classify, spikes, models, health):
    router.include_router(part.router)
