"""The application: `create_app` puts routes, errors, page and models together."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import compile_path

from spikehead import page
from spikehead.errors import Problem
from spikehead.inference.models import Models, load_models
from spikehead.inference.options import quoted
from spikehead.settings import Settings, listed, load_settings, origin_pattern
from spikehead.telemetry import traces
from spikehead.telemetry.request import GONE, REQUEST_ID, note_problem, problem_of
from spikehead.version import VERSION
from spikehead.web.documents import openapi
from spikehead.web.fast_path import FastPathMiddleware
from spikehead.web.guard.access import AccessMiddleware, Keys
from spikehead.web.guard.rate_limits import RateLimits
from spikehead.web.middleware import DeadlineMiddleware, RequestMiddleware
from spikehead.web.problems import problem_response
from spikehead.web.reload import Reloader
from spikehead.web.routes import router
from spikehead.web.service import Service

log = logging.getLogger("spikehead")

PUBLISH_SECONDS = 1.0
TRACES_SECONDS = 1.0
"""Seconds to send the last spans at the end, so that an unavailable collector does not use up the grace."""
DESCRIPTION = """\
Classifies handwritten digits with a spiking neural network that has multi-head attention, step by step, and
shows every spike. The same picture, model and seed give the same spikes.

Every error is an `application/problem+json` document (RFC 9457) with a stable `type`.
"""


def create_app(settings: Settings | None = None, models: Models | None = None) -> FastAPI:
    """Make the application with settings (default: from the environment) and models (default: loaded at startup).

    Startup fails with ModelError if a model cannot be used. Raises TracesError if the settings ask for traces and
    OpenTelemetry is not installed.
    """
    service = Service(settings or load_settings())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loaded = await asyncio.to_thread(load_models, service.settings) if models is None else models
        service.start(loaded)
        for simulator in loaded:
            card = simulator.card
            log.info("model %s %s ready on %s", card.name, card.version, simulator.engine.name)
        app.state.reloader = Reloader(service)
        async with _beside(app.state.reloader.run(), _publish(service)):
            try:
                yield
            finally:
                service.stop()

    app = FastAPI(
        title="spikehead",
        version=VERSION,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's page loads scripts from another host; `page` has its own
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # see `spikehead.telemetry`
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(router)
    page.add_routes(app, service.settings.root_path)
    app.add_middleware(DeadlineMiddleware, seconds=service.settings.timeout)
    app.add_middleware(FastPathMiddleware, service=service)
    _protect(app, service.settings)
    if service.settings.traces:
        spans = traces.provider()
        app.add_middleware(traces.TracesMiddleware, spans=spans)
        service.at_end(lambda: _within(TRACES_SECONDS, spans.shutdown))
    # the last one added is the outermost
    app.add_middleware(RequestMiddleware, service=service)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    generate, locked, root = app.openapi, bool(service.settings.keys), service.settings.root_path
    app.openapi = lambda: app.openapi_schema or openapi.complete(generate(), locked, root)  # type: ignore[method-assign]
    return app


def _protect(app: FastAPI, settings: Settings) -> None:
    """Add the checks of keys, rates and origins that the settings ask for."""
    keys = Keys(settings.keys) if settings.keys else None
    rates = RateLimits(settings.rate_limit) if settings.rate_limit else None
    if keys or rates:
        app.add_middleware(AccessMiddleware, keys=keys, rates=rates)
    if settings.cors_origins:
        # outside of the check of keys: a browser's preflight request has no key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=listed(settings.cors_origins),
            allow_origin_regex=origin_pattern(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "X-API-Key",
                REQUEST_ID,
                "traceparent",
                "tracestate",
            ],
            expose_headers=[REQUEST_ID, "Retry-After"],
        )


@asynccontextmanager
async def _beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines in the background; one that fails is logged, and the service goes on without it."""
    tasks = [asyncio.create_task(work) for work in works]
    for task in tasks:
        task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _log_failure(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("a background task has failed", exc_info=error)


def _within(seconds: float, function: Callable[[], object]) -> None:
    """Run a function, and wait for it for at most `seconds`."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(seconds)


async def _publish(service: Service) -> None:
    """Publish the metrics now and then, because another worker process may be scraped."""
    while True:
        await asyncio.sleep(PUBLISH_SECONDS)
        service.publish()


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error, request.scope)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Answer requests that the framework refuses: unknown routes and methods."""
    assert isinstance(error, HTTPException)
    path, method = quoted(request.scope["path"]), request.scope["method"]
    headers = dict(error.headers or {})
    if error.status_code == 405:
        allowed = ", ".join(_methods(request, headers.get("Allow", "")))
        headers = {"Allow": allowed}
        problem = Problem("method-not-allowed", f"{allowed or 'another method'} for {path}", quoted(method))
    elif error.status_code == 404:
        problem = Problem("not-found", "a route of this service (see /docs)", path)
    else:
        problem = Problem("malformed-body", "a request that the service can read", str(error.detail))
    return problem_response(problem, request.scope, headers)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    """Answer a query that does not match the route's parameters."""
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    name = str(first["loc"][-1])
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(_query_parameters(request))
        return problem_response(Problem("unknown-option", f"one of {allowed}", quoted(name)), request.scope)
    missing = first["type"] == "missing"
    # the framework's messages for these do not help
    if missing or first["type"] == "string_pattern_mismatch":
        expected = _described(request, name)
    else:
        expected = first["msg"]
        for beginning in ("Input should be ", "String should ", "Value error, "):
            expected = expected.removeprefix(beginning)
    received = "none" if missing else quoted(first["input"])
    return problem_response(Problem("invalid-option", f"{name}: {expected}", received), request.scope)


def _methods(request: Request, said: str) -> list[str]:
    """List the methods of a path: the framework knows those of one of its routes, the document of all."""
    path, paths = request.scope["path"], request.app.openapi()["paths"]
    found = {method.strip() for method in said.split(",") if method.strip()}
    # an exact path first: `/spikes/statistics` is not an id
    for template in [path] if path in paths else paths:
        if compile_path(template)[0].match(path):
            found |= {method.upper() for method in paths[template]}
    if "GET" in found:
        found.add("HEAD")  # answered by `RequestMiddleware`
    return sorted(found)


def _query_parameters(request: Request) -> dict[str, dict[str, Any]]:
    operation = request.app.openapi()["paths"][request.scope["route"].path][request.scope["method"].lower()]
    return {one["name"]: one for one in operation["parameters"] if one["in"] == "query"}


def _described(request: Request, name: str) -> str:
    """Describe the values of a query parameter in words."""
    parameter = _query_parameters(request).get(name, {})
    schemas = parameter.get("schema", {}).get("anyOf", [parameter.get("schema", {})])
    choices = next((schema["enum"] for schema in schemas if "enum" in schema), None)
    return f"one of {', '.join(choices)}" if choices else str(parameter.get("description", "a value"))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    """End a request whose client has gone or was cut off. The answer only gets into metrics and log."""
    noted = problem_of(request.scope)
    response = problem_response(Problem("malformed-body", "a whole body", "only part of it"), request.scope)
    note_problem(request.scope, noted or GONE)
    return response
