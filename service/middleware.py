"""What happens to every request: an id, HEAD where there is GET, and an answer even where the code is wrong."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import MEDIA_TYPE, Problem

log = logging.getLogger("spikehead")

REQUEST_ID = "X-Request-ID"
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def request_id(scope: Scope) -> str:
    """The request's id: the client's own where it sent a usable one, else a new one."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        state["request_id"] = given.decode() if _ACCEPTABLE_ID.fullmatch(given) else os.urandom(8).hex()
    return str(state["request_id"])


def problem_response(problem: Problem, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as `application/problem+json`."""
    body = problem_document(problem, request_id(scope))
    return Response(body, problem.status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def problem_document(problem: Problem, identifier: str) -> bytes:
    """The problem as JSON. In ASCII: what a client sent may hold lone surrogates, which UTF-8 has not."""
    return json.dumps(problem.document(identifier)).encode("ascii")


class RequestMiddleware:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identifier = request_id(scope)
        head = scope["method"] == "HEAD"
        if head:
            scope = {**scope, "method": "GET"}
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[REQUEST_ID] = identifier
            elif head:
                message = {**message, "body": b""}
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s: %s %s failed", identifier, scope["method"], scope["path"])
            if started:
                raise
            problem = Problem(
                "internal-error", "an answer", "an unexpected error, logged under the request's id"
            )
            await problem_response(problem, scope)(scope, receive, send_with_id)
