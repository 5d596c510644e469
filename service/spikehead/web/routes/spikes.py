"""Past requests: lists, replays, figures, statistics, and deletion."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic_core import to_json

from spikehead.errors import Problem
from spikehead.inference.options import quoted
from spikehead.insight.replay import parts_of, replay, same_model
from spikehead.insight.statistics import neurons_of, statistics
from spikehead.records import CursorError, Filter, Record, RecordPage
from spikehead.telemetry.request import prefers
from spikehead.web.documents import examples, openapi, schemas
from spikehead.web.documents.queries import (
    FigureQuery,
    ForgetQuery,
    RecentQuery,
    ReplayQuery,
    StatisticsQuery,
)
from spikehead.web.routes.common import JSON, each_option_once, json, service_of, turn

router = APIRouter(dependencies=[Depends(each_option_once)])

NPZ = "application/x-npz"
Identifier = Annotated[str, Path(alias="id", examples=[examples.ID])]
_OPTIONS = ["unknown-option", "invalid-option"]
_REPLAY = ["unknown-request", "unknown-model", "model-changed", "overloaded", "records-away", "not-ready"]
_LISTED = ("model", "model_version", "prediction", "confidence", "steps_used", "stopped_by", "seed")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _since(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _until(time: datetime | None) -> float | None:
    """Return the end of the millisecond, because times are listed in whole milliseconds."""
    return None if time is None else time.timestamp() + 0.001


def _summary(record: Record) -> dict[str, Any]:
    return {"id": record.id, "time": _time(record.time)} | {name: getattr(record, name) for name in _LISTED}


@router.get(
    "/spikes",
    tags=["spikes"],
    summary="Recent requests",
    response_class=Response,
    responses=openapi.answers(schemas.RequestList, examples.REQUESTS, [*_OPTIONS, "records-away"], "A page"),
)
async def recent_requests(request: Request, query: Annotated[RecentQuery, Query()]) -> Response:
    """List past requests, newest first or least confident first, a page at a time."""
    wanted = Filter(
        model=query.model,
        prediction=query.prediction,
        confidence_below=query.confidence_below,
        steps_at_least=query.steps_at_least,
        since=_since(query.since),
        until=_until(query.until),
    )
    page = RecordPage(limit=query.limit, before=query.before, order=query.order)
    try:
        records, following = await service_of(request).past(
            lambda store: store.page(wanted, page, whole=False)
        )
    except CursorError as error:
        raise Problem("invalid-option", "before: `next` of an earlier page", quoted(query.before)) from error
    return json({"requests": [_summary(record) for record in records], "next": following})


@router.delete(
    "/spikes",
    tags=["spikes"],
    summary="Delete requests",
    response_class=Response,
    responses=openapi.answers(
        schemas.Forgotten, {"deleted": 3}, [*_OPTIONS, "records-away"], "The number of deleted records"
    ),
)
async def forget_requests(request: Request, query: Annotated[ForgetQuery, Query()]) -> Response:
    """Delete all records up to a time."""
    until = _until(query.until)
    assert until is not None
    return json({"deleted": await service_of(request).past(lambda store: store.delete_until(until), True)})


@router.get(
    "/spikes/statistics",
    tags=["spikes"],
    summary="Statistics of recent requests",
    response_class=Response,
    responses=openapi.answers(
        schemas.Statistics,
        examples.STATISTICS,
        [*_OPTIONS, "unknown-model", "overloaded", "records-away", "not-ready"],
        "Statistics of the window",
    ),
)
async def request_statistics(request: Request, query: Annotated[StatisticsQuery, Query()]) -> Response:
    """Sum up the newest requests of a window to the present version of a model: predictions, steps, confidence, energy,
    each layer's firing rate beside the card's normal rate, silent and saturated neurons, and if the pictures drift away
    from those for which the network was trained.
    """
    service = service_of(request)
    simulator = service.models.get(query.model or service.models.default)
    wanted = Filter(model=simulator.card.name, since=_since(query.since), until=_until(query.until))
    page = RecordPage(limit=query.limit, before=None, order="newest")
    found, _ = await service.past(lambda store: store.page(wanted, page))
    records = [record for record in found if record.model_version == simulator.card.version]

    def work() -> dict[str, Any]:
        neurons = neurons_of(records[: query.replays], simulator.engine)
        return statistics(records, simulator.card, neurons)

    async with turn(request, service.insights):
        return json(await service.look(work))


async def _stored(request: Request, identifier: str) -> Record:
    try:
        return await service_of(request).stored(identifier)
    except KeyError:
        raise Problem(
            "unknown-request", "the id of a recent request (see GET /spikes)", quoted(identifier)
        ) from None


@router.get(
    "/spikes/{id}",
    tags=["spikes"],
    summary="One request, replayed",
    response_class=Response,
    responses=openapi.answers(
        schemas.StoredRequest,
        examples.STORED,
        [*_OPTIONS, *_REPLAY],
        "The picture as the network saw it, its answer, and the parts of a replay",
        {NPZ: {"schema": {"type": "string", "format": "binary"}, "example": "(numpy's arrays)"}},
    ),
)
async def stored_request(
    request: Request, identifier: Identifier, query: Annotated[ReplayQuery, Query()]
) -> Response:
    """Get a past request with its answer. With `include`, it is simulated again from its image and seed to get what
    was not stored; `replay` tells if the replay equals the record. With `Accept: application/x-npz`, the parts are
    numpy arrays.
    """
    parts = parts_of(query.include)
    record = await _stored(request, identifier)
    service = service_of(request)
    as_npz = prefers(request.headers.get("accept", ""), NPZ, JSON)
    if as_npz:
        async with turn(request, service.insights):
            found = await service.look(lambda: replay(record, service.models).arrays(parts))
        name = f'attachment; filename="{record.id}.npz"'
        return Response(found, media_type=NPZ, headers={"Content-Disposition": name})
    pixels = [list(record.image[start : start + 28]) for start in range(0, len(record.image), 28)]
    document: dict[str, Any] = {"time": _time(record.time), "pixels": pixels}
    if parts:
        async with turn(request, service.insights):
            document |= await service.look(lambda: replay(record, service.models).document(parts))
    head = to_json(document)
    return Response(head[:-1] + b',"answer":' + record.answer[:-1] + b',"recorded":true}}', media_type=JSON)


@router.delete(
    "/spikes/{id}",
    tags=["spikes"],
    summary="Delete one request",
    status_code=204,
    response_class=Response,
    responses=openapi.refusals(["unknown-request", "records-away"])
    | {204: {"description": "The record is deleted"}},
)
async def forget_request(request: Request, identifier: Identifier) -> Response:
    """Delete the record of a request."""
    if not await service_of(request).forget(identifier):
        raise Problem("unknown-request", "the id of a recent request (see GET /spikes)", quoted(identifier))
    return Response(status_code=204)


@router.get(
    "/spikes/{id}/figure",
    tags=["spikes"],
    summary="A figure of one request",
    response_class=Response,
    responses=openapi.refusals([*_OPTIONS, *_REPLAY, "no-such-figure", "no-figures"])
    | {
        200: {
            "description": "The figure",
            "content": {
                "image/png": {
                    "schema": {"type": "string", "format": "binary"},
                    "example": "(the bytes of the figure)",
                },
                "image/svg+xml": {"schema": {"type": "string"}, "example": "<svg>...</svg>"},
            },
        }
    },
)
async def figure_of_request(
    request: Request, identifier: Identifier, query: Annotated[FigureQuery, Query()]
) -> Response:
    """Draw a stage of the replayed run, as `python -m training figures` does."""
    service = service_of(request)
    record = await _stored(request, identifier)
    same_model(record, service.models)
    if find_spec("matplotlib") is None:
        raise Problem("no-figures", "matplotlib (pip install 'spikehead[figures]')", "none installed")
    async with turn(request, service.insights):
        found = await service.look(_drawer(query, record, service.models))
    media_type = "image/svg+xml" if query.format == "svg" else "image/png"
    return Response(found, media_type=media_type)


def _drawer(query: FigureQuery, record: Record, models: Any) -> Callable[[], bytes]:
    def work() -> bytes:
        # imported here, because matplotlib takes half a second
        from spikehead.insight import figures

        again = replay(record, models)
        try:
            figure = figures.draw(query.kind, again.card, again.run, record.seed)
        except figures.FigureError as error:
            raise Problem("no-such-figure", f"a model that has {query.kind}", str(error)) from error
        return figures.encoded(figure, query.format)

    return work
