"""The application: `create_app` puts routes, errors, page and models together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from service import openapi, page
from service.errors import Problem
from service.express import ExpressLane
from service.middleware import RequestMiddleware, problem_response
from service.options import shown
from service.registry import Models, load_models
from service.routes import router
from service.runtime import Service
from service.settings import Settings, load_settings

log = logging.getLogger("spikehead")

VERSION = "0.1.0"
DESCRIPTION = """\
Classifies handwritten digits with a spiking neural network that has multi-head attention, step by step, and
shows every spike. The same picture, model and seed give the same spikes.

Every error is an `application/problem+json` document (RFC 9457) with a stable `type`.
"""


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
    app.add_middleware(ExpressLane, service=service)
    app.add_middleware(RequestMiddleware)  # the last one added is the outermost
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
