"""Routes that classify: one picture, many, or one step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial, reduce
from itertools import chain
from operator import add
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from spikehead.errors import Problem
from spikehead.inference.classifier import Decoded, Event
from spikehead.inference.options import quoted
from spikehead.telemetry.request import name_by_record, note, prefers, query_of, request_id
from spikehead.web.documents import examples, openapi, schemas
from spikehead.web.problems import problem_document
from spikehead.web.routes.common import JSON, service_of, turn

router = APIRouter()

T = TypeVar("T")
EVENTS = "text/event-stream"
UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
PORTION = 256
"""Images of a batch in one job: enough to keep the engine busy, few enough to give others a turn."""


async def _body(request: Request, limit: int) -> bytes:
    """Read the whole body. Raises Problem as soon as it is known to be over the limit."""
    encoding = request.headers.get("content-encoding", "identity").strip()
    if encoding.lower() not in ("identity", ""):
        raise Problem("unsupported-media-type", "a body without Content-Encoding", quoted(encoding))
    announced = request.headers.get("content-length", "")
    # the number of digits is compared first, because int() refuses thousands of them
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
        examples.CLASSIFICATION,
        openapi.CLASSIFY_PROBLEMS,
        "The answer",
        {EVENTS: {"schema": {"type": "string"}, "example": openapi.STREAM}},
    ),
    openapi_extra={"parameters": openapi.option_parameters(), "requestBody": openapi.classify_body()},
)
async def classify(request: Request) -> Response:
    """Classify a PNG, JPEG, WebP, BMP or GIF file (as the body, in a form, or as base64 in JSON), or 28 x 28 pixels
    (784 bytes, or an array in JSON). Pictures are converted to MNIST's form: grey, ink bright on dark, cropped to the
    ink, fitted into 20 x 20, centred by mass in 28 x 28. Pixels are used unchanged.

    Options are in the query, in the JSON body or in form fields.

    With `Accept: text/event-stream`, each time step is sent as an event `step` as it is simulated, and the last event,
    `result`, is the answer.
    """
    # small pictures for the native engine are answered by `spikehead.web.fast_path`
    service = service_of(request)
    service.admission.check()
    classifier = service.classifier
    data = await _body(request, service.settings.max_body)
    content_type = request.headers.get("content-type", "")
    query = query_of(request.scope)
    if prefers(request.headers.get("accept", ""), EVENTS, JSON):
        async with turn(request):
            record, events = await service.work(classifier.open_stream, content_type, query, data)
        name_by_record(request.scope, record)
        return StreamingResponse(_as_events(request, events), media_type=EVENTS, headers=UNBUFFERED)
    async with turn(request) as mine:
        answered = await service.work(classifier.classify, content_type, query, data)
    note(request.scope, answered.summary, mine.waited_ms)
    await service.kept(answered.promise)
    return Response(answered.body, media_type=JSON)


async def _as_events(request: Request, events: Iterator[Event]) -> AsyncIterator[bytes]:
    """Yield server-sent events as they are made. A problem is the last one."""
    service = service_of(request)
    while True:
        try:
            async with turn(request) as mine:
                event = await service.work(next, events, None)
            if event is not None:
                await service.kept(event.promise)
        except Problem as problem:
            event = Event("problem", problem_document(problem, request_id(request.scope)))
        if event is None:
            return
        yield b"event: %b\ndata: %b\n\n" % (event.name.encode(), event.data)
        if event.summary is not None:
            note(request.scope, event.summary, mine.waited_ms)
        if event.name == "problem":
            return


@router.post(
    "/classify/batch",
    tags=["classify"],
    summary="Classify many pictures",
    response_class=Response,
    responses=openapi.answers(
        schemas.BatchResult, examples.BATCH, openapi.BATCH_PROBLEMS, "One answer for each picture, in order"
    ),
    openapi_extra={
        "parameters": openapi.option_parameters(schemas.BatchOptions),
        "requestBody": openapi.batch_body(),
    },
)
async def classify_batch(request: Request) -> Response:
    """Classify pictures sent as N times 784 bytes, as a JSON list, or as the files of a form. Image i gets exactly the
    answer that it gets alone with the seed s + i (modulo 2**64), where s is the seed given or drawn. A picture that
    cannot be used is an error for the whole batch; with `on_error=report` the others are answered, and its result is
    the problem document. Results of files have their `filename`.
    """
    service = service_of(request)
    service.admission.check()
    classifier = service.classifier
    data = await _body(request, service.settings.max_batch_body)
    content_type = request.headers.get("content-type", "")
    async with turn(request) as mine:
        batch = await service.work(classifier.open_batch, content_type, query_of(request.scope), data)
        name_by_record(request.scope, batch.ids[0])
        parts: list[Decoded] = []
        done = 0
        while done < len(batch):
            parts.append(await service.work(classifier.decode, batch, done))
            done += len(parts[-1])
            await _still_there(request)
        pictures = Decoded.together(parts)
        portions = [range(len(batch))[start : start + PORTION] for start in range(0, len(batch), PORTION)]
        identifier = request_id(request.scope)
        jobs = [partial(classifier.simulate, batch, pictures, part, identifier) for part in portions]
        answers = await _in_parallel(request, jobs)
    summary = reduce(add, [one.summary for one in answers])
    if summary.images:
        note(request.scope, summary, mine.waited_ms)
    for one in answers:
        await service.kept(one.promise)
    worded = [b'{"results":[', *chain.from_iterable((one.body, b",") for one in answers)]
    return Parts([*worded[:-1], b"]}"], JSON)


class Parts(Response):
    """A body sent in parts: joining a megabyte takes as long as simulating a dozen images."""

    def __init__(self, parts: Sequence[bytes], media_type: str) -> None:
        super().__init__(
            media_type=media_type, headers={"Content-Length": str(sum(len(part) for part in parts))}
        )
        self.parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for number, part in enumerate(self.parts, 1):
            more = number < len(self.parts)
            await send({"type": "http.response.body", "body": part, "more_body": more})


async def _still_there(request: Request) -> None:
    """Raise ClientDisconnect if the client has gone."""
    if await request.is_disconnected():
        raise ClientDisconnect


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one


async def _in_parallel(request: Request, jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of jobs, in order. One job for each worker is queued at most, to give others a turn."""
    service = service_of(request)
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
    # of several problems, the answer names one
    except* Problem as problems:
        raise next(_leaves(problems)) from None
    return [results[index] for index in range(len(jobs))]
