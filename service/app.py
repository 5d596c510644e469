"""The application: `create_app` puts routes, errors, page and models together."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from service import openapi, page
from service.classification import Classifier
from service.errors import Problem
from service.middleware import RequestMiddleware, problem_response
from service.options import shown
from service.records import MemoryRecords, Records
from service.registry import Models, load_models
from service.routes import router
from service.settings import Settings, load_settings

log = logging.getLogger("spikehead")

P = ParamSpec("P")
T = TypeVar("T")

VERSION = "0.1.0"
DESCRIPTION = """\
Classifies handwritten digits with a spiking neural network that has multi-head attention, step by step, and
shows every spike. The same picture, model and seed give the same spikes.

Every error is an `application/problem+json` document (RFC 9457) with a stable `type`.
"""


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

    @property
    def models(self) -> Models:
        """Raises Problem until they are loaded."""
        return self.classifier.models

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function that computes, in a worker thread: the event loop goes on."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))


def create_app(settings: Settings | None = None, models: Models | None = None) -> FastAPI:
    """The service with these settings (default: from the environment) and models (default: loaded at startup).

    Startup fails with ModelError where a model cannot be used.
    """
    service = Service(settings or load_settings())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loaded = await asyncio.to_thread(load_models, service.settings) if models is None else models
        service.start(loaded)
        for simulator in loaded:
            card = simulator.card
            log.info("model %s %s ready on %s", card.name, card.version, simulator.engine.name)
        try:
            yield
        finally:
            service.stop()

    app = FastAPI(
        title="spikehead",
        version=VERSION,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's pages load scripts from another host; ours is in `page`
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(router)
    page.add_routes(app)
    app.add_middleware(RequestMiddleware)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    generate = app.openapi
    app.openapi = lambda: app.openapi_schema or openapi.complete(generate())  # type: ignore[method-assign]
    return app


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error, request.scope)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: unknown routes and methods."""
    assert isinstance(error, HTTPException)
    path, method = shown(request.scope["path"]), request.scope["method"]
    headers = dict(error.headers or {})
    if error.status_code == 405:
        allowed = headers.get("Allow", headers.get("allow", ""))
        if "GET" in allowed and "HEAD" not in allowed:  # answered by `RequestMiddleware`
            allowed += ", HEAD"
        headers = {"Allow": allowed}
        problem = Problem("method-not-allowed", f"{allowed or 'another method'} for {path}", shown(method))
    elif error.status_code == 404:
        problem = Problem("not-found", "a route of this service (see /docs)", path)
    else:
        problem = Problem("malformed-body", "a request that the service can read", str(error.detail))
    return problem_response(problem, request.scope, headers)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    """Query parameters that a route declares."""
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    name = str(first["loc"][-1])
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(_query_names(request))
        return problem_response(Problem("unknown-option", f"one of {allowed}", shown(name)), request.scope)
    expected = first["msg"].removeprefix("Input should be ").removeprefix("String should ")
    return problem_response(
        Problem("invalid-option", f"{name}: {expected}", shown(first["input"])), request.scope
    )


def _query_names(request: Request) -> list[str]:
    operation = request.app.openapi()["paths"][request.scope["route"].path][request.scope["method"].lower()]
    return [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"]


async def _on_disconnect(request: Request, error: Exception) -> Response:
    """The client has gone: nobody reads this."""
    return problem_response(Problem("malformed-body", "a whole body", "a part of it"), request.scope)
