"""A worker: uvicorn's server with an end that loses nothing.

At the first signal it says that it is not ready, and still takes requests for some seconds, so that balancers notice;
each answer is the last one of its connection. Then it takes the connections that wait in the kernel's queue, and no
more; it finishes what it has, writes what is to be recorded, and exits with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from spikehead.errors import Problem
from spikehead.server.listening import BACKLOG, address_of, waiting_at
from spikehead.server.memory import keep_freed_memory
from spikehead.server.protocol import ProblemProtocol
from spikehead.settings import Settings
from spikehead.telemetry import logs
from spikehead.telemetry.request import OTHER
from spikehead.telemetry.request_log import RequestLog
from spikehead.web.fast_path import WireFastPath

log = logging.getLogger("spikehead")

INTERRUPTED_DRAIN = 0.5
"""Seconds in which requests are still taken after Ctrl-C, at most: it is a person who waits, and no balancer."""

LAST_WORDS = 0.2
"""Seconds for the log to be written before an end at once."""

EXIT_UNFINISHED = 1
"""The grace was over before everything was done."""

ENDING = (signal.SIGINT, signal.SIGTERM)


def config_of(settings: Settings, app: FastAPI | None = None) -> uvicorn.Config:
    """How uvicorn serves. Without an app it serves nothing: for the process above several workers."""
    grace = settings.shutdown_grace - settings.flush_seconds - settings.drain_seconds
    return uvicorn.Config(
        app or "spikehead.web.app:create_app",
        backlog=BACKLOG,
        http=protocol_of(settings, app),
        workers=settings.workers,
        log_config=None,  # `spikehead.telemetry.logs` has done it
        access_log=False,  # the application says more of each request
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=max(1, round(grace)),
        ws="none",
        lifespan="on",
    )


def protocol_of(settings: Settings, app: FastAPI | None) -> type[ProblemProtocol]:
    """The protocol with a service's settings."""
    if app is None:
        return ProblemProtocol
    service = app.state.service
    metrics, request_log = service.metrics, RequestLog(service.metrics, service.settings)

    def refused(problem: Problem, identifier: str) -> None:
        request_log.add(
            identifier=identifier,
            method=OTHER,
            route=OTHER,
            path="",
            status=problem.status,
            seconds=0.0,
            problem=problem.kind,
        )

    class Configured(ProblemProtocol):
        fast_path = WireFastPath(service)
        client_timeout = settings.client_timeout
        on_too_slow = staticmethod(lambda: metrics.refused("too_slow"))
        on_refused = staticmethod(refused)

    return Configured


def app_of(settings: Settings) -> FastAPI:
    """The application, with its models loaded and warmed up. Raises ModelError and TracesError."""
    # only who serves needs all of it: the process above several workers does not
    from spikehead.inference.models import load_models
    from spikehead.web.app import create_app

    return create_app(settings, load_models(settings))


class Worker(uvicorn.Server):
    """Serves until it is told to end. `above`: the process that gives the signals, once each, where there is one."""

    def __init__(self, settings: Settings, app: FastAPI, above: int | None = None) -> None:
        super().__init__(config_of(settings, app))
        self._settings, self._app = settings, app
        self._above = above
        self._sockets: list[socket.socket] = []
        self._drain = settings.drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._limit = threading.Timer(settings.shutdown_grace, self._give_up)
        self._limit.daemon = True

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves on these sockets."""
        keep_freed_memory()
        super().run(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's, which ends by the signal again: who ends as asked exits with 0."""
        self._loop = asyncio.get_running_loop()
        handlers = {sig: signal.signal(sig, self.handle_exit) for sig in ENDING}
        handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._handle_hangup)
        try:
            yield
        finally:
            for sig, handler in handlers.items():
                signal.signal(sig, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, a second one is the end."""
        if sig == signal.SIGINT:
            self._drain = min(self._drain, INTERRUPTED_DRAIN)
            if self._above is not None:  # Ctrl-C reaches all: when to end is said by the process above
                return
        if not self.should_exit:
            self._begin_to_end()
        elif self._above is None:
            logs.flush(LAST_WORDS)
            os._exit(128 + sig)

    def _begin_to_end(self) -> None:
        self.should_exit = True
        self._limit.start()  # already here: what keeps the loop busy keeps it from `shutdown`

    def _handle_hangup(self, sig: int, frame: FrameType | None) -> None:
        reloader = getattr(self._app.state, "reloader", None)
        if reloader is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(reloader.ask)

    async def on_tick(self, counter: int) -> bool:
        """A tenth of a second is over."""
        if self._above not in (None, os.getppid()) and not self.should_exit:  # it has died
            self._begin_to_end()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves from here on."""
        self._sockets = sockets or []
        # the loop closes those that it has
        await super().startup([sock.dup() for sock in self._sockets])
        log.info("serving on %s", ", ".join(map(address_of, self._sockets)))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Within the grace, whatever happens."""
        grace = self._settings.shutdown_grace
        log.info("ending: what is in flight is finished, within %g seconds", grace)
        self._app.state.service.ending = True
        over = time.monotonic() + self._drain
        while (left := over - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 1.0))
            await super().on_tick(0)  # the time in answers goes on
        await self._stop_listening()
        await super().shutdown()
        self._limit.cancel()

    async def _stop_listening(self) -> None:
        """Takes the connections that wait in the kernel's queue: closing the socket would reset them."""
        for server in self.servers:
            server.close()
        sockets, self._sockets = self._sockets, []
        waiting = [each for sock in sockets for each in waiting_at(sock)]
        for sock in sockets:
            sock.close()
        loop = asyncio.get_running_loop()
        for each in waiting:
            await loop.connect_accepted_socket(self._protocol, each)

    def _protocol(self) -> asyncio.Protocol:
        protocol = cast(type[ProblemProtocol], self.config.http_protocol_class)
        return protocol(self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _give_up(self) -> None:
        log.error("ended before everything was done: %g seconds were over", self._settings.shutdown_grace)
        logs.flush(LAST_WORDS)  # who reads the log may be stuck: that must not keep it
        os._exit(EXIT_UNFINISHED)
