"""Parts shared by routes: the running service, turns to compute, and JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from spikehead.errors import Problem
from spikehead.inference.options import quoted
from spikehead.web.guard.admission import Admission
from spikehead.web.service import Service

JSON = "application/json"


def service_of(request: Request) -> Service:
    """Return the service that this application runs."""
    return request.app.state.service  # type: ignore[no-any-return]


@dataclass(slots=True)
class Turn:
    """A request's turn to compute."""

    waited_ms: float = 0.0


@asynccontextmanager
async def turn(request: Request, admission: Admission | None = None) -> AsyncIterator[Turn]:
    """Wait for the request's turn; default: among those that classify. Its body must have been read.

    Raises Problem if too many wait, ClientDisconnect if the client goes while it waits.
    """
    admission = admission or service_of(request).admission
    mine = Turn()
    place = admission.enter()
    if place is not None:
        began = time.perf_counter()
        watching = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait((place, watching), return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            admission.give_up(place)
            raise
        finally:
            watching.cancel()
        if not place.done():
            admission.give_up(place)
            raise ClientDisconnect
        mine.waited_ms = (time.perf_counter() - began) * 1000
    try:
        yield mine
    finally:
        admission.leave()


async def _gone(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def each_option_once(request: Request) -> None:
    """Raise Problem if the query has an option twice, or any option although the route has none."""
    known = {parameter.name for parameter in request.scope["route"].dependant.query_params}
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if not known:
            raise Problem("unknown-option", "no options", quoted(name))
        if name in given:
            raise Problem(
                "conflicting-option",
                f"one value of {quoted(name)}",
                f"{quoted(given[name])} and {quoted(value)}",
            )
        given[name] = value


def json(content: Any) -> Response:
    """Make an answer in JSON."""
    return Response(to_json(content), media_type=JSON)
