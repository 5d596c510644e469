"""Health, metrics, and explanations of the kinds of problems."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from spikehead import page
from spikehead.errors import KINDS, Problem, example, type_of
from spikehead.inference.options import quoted
from spikehead.telemetry.metrics import MEDIA_TYPE
from spikehead.telemetry.request import prefers
from spikehead.web.documents import examples, openapi, schemas
from spikehead.web.documents.explanations import EXPLANATIONS
from spikehead.web.routes.common import JSON, json, service_of

router = APIRouter()

HTML = "text/html"
HIDDEN = "the log says why"
"""Replaces a reason if the service requires keys, because health does not."""


@router.get(
    "/health/live",
    tags=["health"],
    summary="Is the process alive?",
    response_class=Response,
    responses=openapi.answers(schemas.Live, examples.LIVE, [], "The process is alive"),
)
async def live() -> Response:
    """Answer while the process works. Restart a process that does not answer."""
    return json(examples.LIVE)


@router.get(
    "/health/ready",
    tags=["health"],
    summary="Is the service ready for requests?",
    response_class=Response,
    responses=openapi.answers(
        schemas.Ready,
        examples.READY,
        ["not-ready", "shutting-down"],
        "The service is ready, with these models",
    ),
)
async def ready(request: Request) -> Response:
    """Tell if all models are loaded and warmed up and the service is not shutting down. `degraded`: it classifies, but
    cannot store records, or does not use the newest version of its models.
    """
    service = service_of(request)
    state = service.recorder.state
    if service.ending:
        raise Problem("shutting-down", KINDS["shutting-down"].expected, KINDS["shutting-down"].received)
    loaded = [
        {"name": simulator.card.name, "version": simulator.card.version, "engine": simulator.engine.name}
        for simulator in service.models
    ]
    records = {
        "status": state.status,
        "reason": state.reason,
        "waiting": state.queued,
        "dropped": state.dropped,
    }
    refused = service.refused_models
    status = "ready" if state.status == "ok" and refused is None else "degraded"
    # reasons name files and hosts, and no key is needed here
    if service.settings.keys:
        refused = refused and HIDDEN
        records["reason"] = state.reason and HIDDEN
    return json({"status": status, "models": loaded, "refused_models": refused, "records": records})


@router.get(
    "/metrics",
    tags=["health"],
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=openapi.refusals(["not-ready"])
    | {
        200: {
            "description": "Metrics in Prometheus' text format",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": "spikehead_records_dropped_total 0.0\n",
                }
            },
        }
    },
)
async def metrics(request: Request) -> Response:
    """Get metrics of all worker processes: requests, phases, layers' spikes and operations, energy, records, models."""
    service = service_of(request)
    service.publish()
    return Response(await asyncio.to_thread(service.metrics.exposition), media_type=MEDIA_TYPE)


def _about(kind: str) -> dict[str, Any]:
    """Document a kind of problem."""
    named = {"type": type_of(kind), "title": KINDS[kind].title, "status": KINDS[kind].status}
    return {**named, **EXPLANATIONS[kind]._asdict(), "example": example(kind)}


@router.get(
    "/problems/{kind}",
    tags=["problems"],
    summary="Explanation of a kind of problem",
    response_class=Response,
    responses=openapi.answers(
        schemas.ProblemType,
        _about("empty-body"),
        ["not-found"],
        "Its title and status, its cause and remedy, and an example",
        {HTML: {"schema": {"type": "string"}, "example": "<!doctype html>..."}},
    ),
)
async def problem(request: Request, kind: Annotated[str, Path(examples=["empty-body"])]) -> Response:
    """Explain a kind of problem: the `type` of every problem document is such a path. Browsers get a page."""
    if kind not in KINDS:
        raise Problem("not-found", f"one of {', '.join(KINDS)}", quoted(kind))
    if prefers(request.headers.get("accept", ""), HTML, JSON):
        response = page.problem_page(_about(kind), service_of(request).settings.root_path)
    else:
        response = json(_about(kind))
    response.headers["Vary"] = "Accept"
    return response
