"""The fast path: a `POST /classify` that costs next to nothing is answered, or refused, without the framework.

Routing, parameters and responses cost several times what the network costs on a small picture, and a refusal that
costs as much keeps others from being served. `FastPath` decides: by the head of a request, then by its body.
`WireFastPath` asks it before anything is made of the request. `FastPathMiddleware` asks it within the application, for
requests that have to be looked at first: rates, traces, other pages' origins. Either gives the bytes that the route
would give.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spikehead.errors import Problem
from spikehead.inference.classifier import Classified, Query
from spikehead.pictures.decode import TINY
from spikehead.telemetry.request import id_for, note, note_route
from spikehead.telemetry.request_log import RequestLog
from spikehead.web.guard.access import Keys
from spikehead.web.problems import problem_response
from spikehead.web.routes.common import JSON
from spikehead.web.service import Service
from spikehead.web.wire import Headers, answer_bytes, problem_bytes

log = logging.getLogger("spikehead")

CLASSIFY = "/classify"
ROUTES = (CLASSIFY, "/classify/batch")
_DIGITS = len(str(TINY))
_NOT_LIGHT = (b"content-encoding", b"transfer-encoding", b"expect")
_NOT_REFUSED = (b"transfer-encoding", b"expect")


def _fields(headers: Headers) -> dict[bytes, bytes]:
    """Return headers by name; of several with one name the first counts."""
    return dict(reversed(headers))


class Light(NamedTuple):
    """The head of a request whose body may be light."""

    content_type: str
    query: Query
    given_id: bytes


class FastPath:
    """Decides which requests a service answers or refuses without the framework."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._longest = min(TINY, service.settings.max_body)

    def look(self, route: str, query: bytes, fields: Mapping[bytes, bytes]) -> Light | Problem | None:
        """Decide by its head if a POST to one of ROUTES is refused, or may be light; None: the route answers."""
        length = fields.get(b"content-length", b"")
        if (
            route == CLASSIFY
            and length.isdigit()
            and len(length) <= _DIGITS
            and int(length) <= self._longest
            and fields.keys().isdisjoint(_NOT_LIGHT)
            and b"event-stream" not in fields.get(b"accept", b"").lower()
        ):
            options = parse_qsl(query.decode("latin-1"), keep_blank_values=True) if query else []
            content_type = fields.get(b"content-type", b"").decode("latin-1")
            return Light(content_type, options, fields.get(b"x-request-id", b""))
        return self._refusal()

    def answer(self, light: Light, body: bytes) -> Classified | Problem | None:
        """Answer a request by its whole body; None: the route answers."""
        service, (content_type, query, _) = self._service, light
        if not service.is_light(content_type, query, body):
            return self._refusal()
        try:
            service.admission.take_light()
            return service.classifier.classify(content_type, query, body)
        except Problem as problem:
            return problem

    def _refusal(self) -> Problem | None:
        admission = self._service.admission
        return admission.refusal() if admission.full else None


class WireFastPath:
    """The fast path on the wire. What is not as nearly all requests are goes to the application."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._service, self._path = service, FastPath(service)
        self._request_log = RequestLog(service.metrics, settings)
        self._answers = not (settings.rate_limit or settings.traces)
        self._keys = Keys(settings.keys) if settings.keys else None
        self._origins = bool(settings.cors_origins)
        # a proxy leaves the root path in front of a path, or not
        self._routes = {(root + path).encode(): path for path in ROUTES for root in ("", settings.root_path)}

    def look(self, method: bytes, url: bytes, headers: Headers, defaults: Headers) -> Light | bytes | None:
        """Decide as `FastPath.look`; a refusal is the whole answer, with `defaults` among its headers."""
        target, _, query = url.partition(b"?")
        route = self._routes.get(target)
        # at the end the application says that its answer is the last one
        if route is None or method != b"POST" or b"#" in query or self._service.ending:
            return None
        if not self._answers and not self._service.admission.full:
            return None
        if self._origins:  # every answer then says that it varies by origin
            return None
        if self._keys is not None and self._keys.of({"headers": headers}) is None:
            return None
        fields = _fields(headers)
        found = self._path.look(route, query, fields)
        if isinstance(found, Light):
            return found if self._answers else None
        if found is None or not fields.keys().isdisjoint(_NOT_REFUSED):
            return None
        return self._written(found, route, fields.get(b"x-request-id", b""), time.perf_counter(), defaults)

    def answer(self, light: Light, body: bytes, defaults: Headers) -> bytes | None:
        """Return the whole answer to a request by its whole body; None: the application answers."""
        began = time.perf_counter()
        try:
            found = None if self._service.ending else self._path.answer(light, body)
        except Exception:  # answered, and counted, as any other that fails
            log.exception("failed on the fast path")
            return None
        return None if found is None else self._written(found, CLASSIFY, light.given_id, began, defaults)

    def _written(
        self, found: Classified | Problem, route: str, given_id: bytes, began: float, defaults: Headers
    ) -> bytes:
        """Write an answer, and enter its request in metrics and log."""
        if isinstance(found, Problem):
            status, kind, classified = found.status, found.kind, None
            identifier = id_for(given_id)
            answer = problem_bytes(found, identifier, defaults)
        else:
            status, kind, classified = 200, None, (found.summary, 0.0)
            identifier = id_for(given_id, found.summary.record)
            answer = answer_bytes(status, JSON, found.body, identifier, defaults)
        self._request_log.add(
            identifier=identifier,
            method="POST",
            route=route,
            path=route,
            status=status,
            seconds=time.perf_counter() - began,
            problem=kind,
            classified=classified,
        )
        return answer


class FastPathMiddleware:
    """The fast path within the application, inside `RequestMiddleware`, which gives ids and catches errors."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self._path = FastPath(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found: Light | Classified | Problem | None = None
        message: Message | None = None
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in ROUTES:
            note_route(scope, scope["path"])
            found = self._path.look(scope["path"], scope["query_string"], _fields(scope["headers"]))
        if isinstance(found, Light):
            message = await receive()
            body = None if message.get("more_body", False) else message.get("body", b"")
            found = None if body is None else self._path.answer(found, body)
        if found is None:
            await self.app(scope, receive if message is None else _replaying(message, receive), send)
        elif isinstance(found, Problem):
            await problem_response(found, scope)(scope, receive, send)
        else:
            note(scope, found.summary)
            headers = [(b"content-length", b"%d" % len(found.body)), (b"content-type", JSON.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": found.body})


def _replaying(first: Message, receive: Receive) -> Receive:
    """Return `receive` with a message that was taken from it already."""
    waiting = [first]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
