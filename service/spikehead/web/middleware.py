"""What happens to every request: an id, HEAD where there is GET, headers of security, an answer even where the code is
wrong, and that it is counted and logged. A deadline for those that wait for something."""

from __future__ import annotations

import asyncio
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spikehead.errors import KINDS, Problem
from spikehead.telemetry.request import (
    GONE,
    REQUEST_ID,
    below,
    note_problem,
    noted,
    problem_of,
    request_id,
    route_of,
)
from spikehead.telemetry.request_log import RequestLog
from spikehead.web.problems import problem_document, problem_response
from spikehead.web.service import Service
from spikehead.web.wire import SECURITY

log = structlog.get_logger("spikehead")

EVENTS = b"text/event-stream"

CLIENT_CLOSED = 499
"""Status of requests whose client has gone, in logs and metrics: nobody else ever sees it."""

_CUT_OFF = {
    GONE: CLIENT_CLOSED,
    **{kind: KINDS[kind].status for kind in ("too-slow", "malformed-request", "head-too-large")},
}
"""Status of requests that the application has not answered, by what is noted of them."""

_ID = REQUEST_ID.lower().encode()


class RequestMiddleware:
    """The outermost layer of the application. What is inside knows nothing of a root path."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self._service = service
        self._request_log = RequestLog(service.metrics, service.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        scope.setdefault("state", {})
        method = scope["method"]
        head = method == "HEAD"
        if head:
            scope = {**scope, "method": "GET"}
        service = self._service
        if root_path := service.settings.root_path:
            scope = {**scope, "path": below(root_path, scope["path"]), "root_path": ""}
        status = 0

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = list(message.get("headers", ()))
                names = {name for name, _ in headers}
                headers.extend(pair for pair in SECURITY if pair[0] not in names)
                headers.append((_ID, request_id(scope).encode()))
                if service.ending:
                    headers.append((b"connection", b"close"))
            elif head:
                message = {**message, "body": b""}
            await send(message)

        service.in_flight += 1
        try:
            await self.app(scope, receive, send_more)
        except asyncio.CancelledError:
            if not service.ending:
                raise
            log.warning("given up at the end", id=request_id(scope), method=method, path=scope["path"])
            if not status:
                about = KINDS["shutting-down"]
                problem = Problem("shutting-down", about.expected, about.received)
                await problem_response(problem, scope)(scope, receive, send_more)
        except Exception:
            log.exception("failed", id=request_id(scope), method=method, path=scope["path"])
            if status:  # too late to say so
                raise
            received = "an unexpected error, logged under the request's id"
            problem = Problem("internal-error", "an answer", received)
            await problem_response(problem, scope)(scope, receive, send_more)
        finally:
            service.in_flight -= 1
            kind = problem_of(scope)
            self._request_log.add(
                identifier=request_id(scope),
                method=method,
                route=route_of(scope),
                path=scope["path"],
                status=_CUT_OFF.get(kind, status) if kind else status,
                seconds=time.perf_counter() - began,
                problem=kind,
                classified=noted(scope),
            )


class DeadlineMiddleware:
    """A request that takes too long is answered with a problem. Inside `FastPathMiddleware`, where nothing waits."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = events = False

        async def note_start(message: Message) -> None:
            nonlocal started, events
            if message["type"] == "http.response.start":
                started = True
                events = any(
                    name == b"content-type" and value.startswith(EVENTS) for name, value in message["headers"]
                )
            await send(message)

        try:
            async with asyncio.timeout(self._seconds) as deadline:
                await self.app(scope, receive, note_start)
        except TimeoutError:
            if not deadline.expired():
                raise
            problem = Problem("timed-out", f"an answer within {self._seconds:g} seconds", "none yet")
            if not started:
                await problem_response(problem, scope)(scope, receive, send)
                return
            note_problem(scope, problem.kind)
            if events:
                last = b"event: problem\ndata: %b\n\n" % problem_document(problem, request_id(scope))
                await send({"type": "http.response.body", "body": last})
