"""A browser and a service for the tests of the page, and for its screenshots."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright
from spikehead.settings import Settings
from spikehead.web.app import create_app

from tests.service.drawings import Style, paths
from tests.service.serving import LONG, eventually

WAIT = 120_000
"""Milliseconds: far more than anything takes, for machines that are busy with something else."""

HAND = Style(
    shape="round",
    side=280,
    height=0.7,
    pen=0.08,
    slant=0.05,
    turn=0,
    stretch=1.1,
    wobble=0.01,
    place=(0.5, 0.5),
    ink=(0, 0, 0),
    paper=(255, 255, 255),
)


def chromium() -> str | None:
    """The system's browser, or None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def browsing(executable: str) -> Iterator[Browser]:
    """A headless browser. No event loop of it runs once this is left."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"], timeout=WAIT
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serving(models: Path, records: Path, **more: Any) -> Iterator[str]:
    """A service with these models on a free port, its records in the folder `records`. Yields its address."""
    settings = Settings(models=models, database_url=f"sqlite:///{records / 'records.db'}", **more)
    config = uvicorn.Config(
        create_app(settings),
        host="127.0.0.1",
        port=0,
        log_level="warning",
        ws="none",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        if not server.started:
            raise RuntimeError("the service did not start: its reason is in the log")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(LONG)


def draw(page: Page, digit: int, shape: str, moved: Callable[[], object] = lambda: None) -> None:
    """Draw a digit on the pad with the mouse, in strokes of a slightly unsteady hand; call `moved` after each move."""
    pad = page.locator("#pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None
    for path in paths(digit, replace(HAND, shape=shape), np.random.default_rng(digit)):
        places = [
            (box["x"] + x * box["width"] / HAND.side, box["y"] + y * box["height"] / HAND.side)
            for x, y in path[::3]
        ]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
            moved()
        page.mouse.up()
