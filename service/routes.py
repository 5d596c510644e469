"""The routes: what comes in over HTTP goes to the classifier or the records, what they say goes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from service import openapi, schemas
from service.classification import Decoded
from service.errors import KINDS, Problem, example, type_of
from service.options import shown
from service.records import Record
from service.requests import query_of
from service.runtime import Service
from service.schemas import RecentQuery
from service.simulation import Simulator

router = APIRouter()

T = TypeVar("T")
JSON = "application/json"
PORTION = 128
"""Images of a batch that are one job: enough to keep the engine busy, few enough to let others have a turn."""


def _service(request: Request) -> Service:
    return request.app.state.service  # type: ignore[no-any-return]


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type=JSON)


async def _body(request: Request, limit: int) -> bytes:
    """The whole body. Raises Problem as soon as it is known to be over the limit."""
    encoding = request.headers.get("content-encoding", "identity").strip()
    if encoding.lower() not in ("identity", ""):
        raise Problem("unsupported-media-type", "a body without Content-Encoding", shown(encoding))
    announced = request.headers.get("content-length", "")
    # compared by the number of digits first: int() refuses some thousand of them
    digits = announced.lstrip("0")
    if announced.isdecimal() and (len(digits) > len(str(limit)) or int(digits or "0") > limit):
        raise Problem("body-too-large", f"at most {limit} bytes", f"{digits[:40]} bytes")
    chunks, size = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise Problem("body-too-large", f"at most {limit} bytes", "more")
    return b"".join(chunks)


@router.post(
    "/classify",
    tags=["classify"],
    summary="Classify a picture of a digit",
    response_class=Response,
    responses=openapi.answers(
        schemas.Classification,
        schemas.CLASSIFICATION,
        openapi.CLASSIFY_PROBLEMS,
        "What the network made of it",
    ),
    openapi_extra={"parameters": openapi.option_parameters(), "requestBody": openapi.classify_body()},
)
async def classify(request: Request) -> Response:
    """The picture is a PNG, JPEG, WebP, BMP or GIF file (as the body, in a form, or as base64 in JSON), or
    28 x 28 pixels (784 bytes, or an array in JSON). Pictures are brought to MNIST's form: grey, ink bright on
    dark, cropped to the ink, fitted into 20 x 20, centred by mass in 28 x 28. Pixels are taken as they are.

    Options stand in the query, in the JSON body or in form fields.
    """
    # Small pictures do not come here where the native engine runs: see `service.express`.
    service = _service(request)
    classifier = service.classifier
    data = await _body(request, service.settings.max_body)
    content_type = request.headers.get("content-type", "")
    query = query_of(request.scope)
    return Response(await service.work(classifier.classify, content_type, query, data), media_type=JSON)


@router.post(
    "/classify/batch",
    tags=["classify"],
    summary="Classify many pictures",
    response_class=Response,
    responses=openapi.answers(
        schemas.BatchResult, schemas.BATCH, openapi.BATCH_PROBLEMS, "One answer a picture, in order"
    ),
    openapi_extra={"parameters": openapi.option_parameters(), "requestBody": openapi.batch_body()},
)
async def classify_batch(request: Request) -> Response:
    """Pictures are N times 784 bytes, a JSON list, or the files of a form. Image i has the seed s + i (modulo
    2**64), where s is the seed given or drawn; it gets exactly the answer that it gets alone with that seed.
    One picture that cannot be used is an error for all, which names it.
    """
    service = _service(request)
    classifier = service.classifier
    data = await _body(request, service.settings.max_batch_body)
    content_type = request.headers.get("content-type", "")
    batch = await service.work(classifier.open_batch, content_type, query_of(request.scope), data)
    parts: list[Decoded] = []
    done = 0
    while done < len(batch):
        parts.append(await service.work(classifier.decode, batch, done))
        done += len(parts[-1])
        await _still_there(request)
    pictures = Decoded.together(parts)
    portions = [slice(start, start + PORTION) for start in range(0, len(pictures), PORTION)]
    answers = await _in_parallel(
        request, [partial(classifier.simulate, batch, pictures, part) for part in portions]
    )
    return Response(b'{"results":[' + b",".join(answers) + b"]}", media_type=JSON)


async def _still_there(request: Request) -> None:
    """Raises ClientDisconnect where nobody waits for the answer any more."""
    if await request.is_disconnected():
        raise ClientDisconnect


async def _in_parallel(request: Request, jobs: list[Callable[[], T]]) -> list[T]:
    """Results of jobs, in order. At most one job a worker waits at a time, so that others get their turn."""
    service = _service(request)
    results: dict[int, T] = {}
    waiting = iter(enumerate(jobs))

    async def work_off() -> None:
        for index, job in waiting:
            results[index] = await service.work(job)
            await _still_there(request)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(service.workers, len(jobs))):
                group.create_task(work_off())
    except* ClientDisconnect:
        raise ClientDisconnect from None
    return [results[index] for index in range(len(jobs))]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _summary(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "time": _time(record.time),
        "model": record.model,
        "model_version": record.model_version,
        "prediction": record.prediction,
        "confidence": record.confidence,
        "steps_used": record.steps_used,
        "stopped_by": record.stopped_by,
        "seed": record.seed,
    }


@router.get(
    "/spikes",
    tags=["spikes"],
    summary="Recent requests",
    response_class=Response,
    responses=openapi.answers(
        schemas.RequestList, schemas.REQUESTS, ["unknown-option", "invalid-option"], "A page, newest first"
    ),
)
async def recent_requests(request: Request, query: Annotated[RecentQuery, Query()]) -> Response:
    """What was classified lately, newest first. The service keeps a bounded number in memory."""
    records = _service(request).records.recent(query.limit + 1, query.before)
    page = records[: query.limit]
    following = page[-1].id if len(records) > query.limit else None
    return _json({"requests": [_summary(record) for record in page], "next": following})


@router.get(
    "/spikes/{id}",
    tags=["spikes"],
    summary="One recent request",
    response_class=Response,
    responses=openapi.answers(
        schemas.StoredRequest,
        schemas.STORED,
        ["unknown-request"],
        "The picture as the network saw it, and its answer",
    ),
)
async def stored_request(
    request: Request, identifier: Annotated[str, Path(alias="id", examples=[schemas.ID])]
) -> Response:
    """One of the recent requests with everything it returned."""
    try:
        record = _service(request).records.get(identifier)
    except KeyError:
        raise Problem(
            "unknown-request", "the id of a recent request (see GET /spikes)", shown(identifier)
        ) from None
    pixels = [list(record.image[start : start + 28]) for start in range(0, len(record.image), 28)]
    head = to_json({"time": _time(record.time), "pixels": pixels})
    return Response(head[:-1] + b',"answer":' + record.answer + b"}", media_type=JSON)


def _model_summary(simulator: Simulator) -> dict[str, Any]:
    card = simulator.card
    return {
        "name": card.name,
        "version": card.version,
        "description": card.description,
        "engine": simulator.engine.name,
        "max_steps": card.max_steps,
        "confidence": card.calibration.confidence,
        "layers": card.layer_names,
    }


@router.get(
    "/models",
    tags=["models"],
    summary="Models",
    response_class=Response,
    responses=openapi.answers(schemas.ModelList, schemas.MODELS, ["not-ready"], "What can be asked for"),
)
async def models(request: Request) -> Response:
    """The models that the service answers with, and which one is the default."""
    loaded = _service(request).models
    return _json({"default": loaded.default, "models": [_model_summary(simulator) for simulator in loaded]})


@router.get(
    "/models/{name}",
    tags=["models"],
    summary="One model",
    response_class=Response,
    responses=openapi.answers(
        schemas.ModelCard,
        schemas.MODEL_CARD,
        ["unknown-model", "not-ready"],
        "Its card, and what simulates it",
    ),
)
async def model(request: Request, name: Annotated[str, Path(examples=["spiking-mha"])]) -> Response:
    """A model's card: layers, time constants, calibration, accuracy, how it was trained."""
    simulator = _service(request).models.get(name)
    return _json({"engine": simulator.engine.name, "card": simulator.card})


@router.get(
    "/health/live",
    tags=["health"],
    summary="Is the process alive?",
    response_class=Response,
    responses=openapi.answers(schemas.Live, schemas.LIVE, [], "It is"),
)
async def live() -> Response:
    """Answers as long as the process does. Restart it where it does not."""
    return _json(schemas.LIVE)


@router.get(
    "/health/ready",
    tags=["health"],
    summary="Can it take requests?",
    response_class=Response,
    responses=openapi.answers(schemas.Ready, schemas.READY, ["not-ready"], "It can, with these models"),
)
async def ready(request: Request) -> Response:
    """Only once all models are loaded and warmed up."""
    loaded = [
        {"name": simulator.card.name, "version": simulator.card.version, "engine": simulator.engine.name}
        for simulator in _service(request).models
    ]
    return _json({"status": "ready", "models": loaded})


@router.get(
    "/problems/{kind}",
    tags=["problems"],
    summary="What a kind of problem means",
    response_class=Response,
    responses=openapi.answers(
        schemas.ProblemType,
        {
            "type": type_of("empty-body"),
            "title": KINDS["empty-body"].title,
            "status": 400,
            "example": example("empty-body"),
        },
        ["not-found"],
        "Its title and status, and an example",
    ),
)
async def problem(kind: Annotated[str, Path(examples=["empty-body"])]) -> Response:
    """The `type` of every problem document leads here."""
    if kind not in KINDS:
        raise Problem("not-found", f"one of {', '.join(KINDS)}", shown(kind))
    about = KINDS[kind]
    return _json(
        {"type": type_of(kind), "title": about.title, "status": about.status, "example": example(kind)}
    )
