"""The express lane: light `POST /classify` requests are answered before the framework looks at them.

Routing, parsing of parameters and responses cost several times what the network costs on a small picture. Such a
request is one whose whole body has arrived and that the classifier calls light; its answer is the same bytes that
the route gives. Every other request goes on to the application, untouched, or is refused where too many wait.
`spikehead.server.shortcut` does the same before there is an application at all, where nothing stands between.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spikehead.errors import Problem
from spikehead.telemetry.request import note, note_route, query_of
from spikehead.web.problems import problem_response
from spikehead.web.service import Service

_PATH = "/classify"
JSON = b"application/json"
_PATHS = (_PATH, "/classify/batch")
_DIGITS = 4  # of the length that a light body announces
_UNUSUAL = (b"content-encoding", b"transfer-encoding", b"expect")


def announced(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, int] | None:
    """Content type and length of a body that may be light, by the head of its request; None where it cannot be."""
    content_type, length = "", b""
    for name, value in headers:
        if name == b"content-type":
            content_type = content_type or value.decode("latin-1")  # the first one counts
        elif name == b"content-length":
            length = value
        elif name in _UNUSUAL or (name == b"accept" and b"event-stream" in value.lower()):
            return None
    return (content_type, int(length)) if length.isdigit() and len(length) <= _DIGITS else None


class ExpressLane:
    """ASGI middleware around the application; inside `RequestMiddleware`, which gives ids and catches errors."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in _PATHS:
            await self.app(scope, receive, send)
            return
        note_route(scope, scope["path"])
        if scope["path"] != _PATH:
            await self._go_on(scope, receive, send)
            return
        head = announced(scope["headers"])
        if head is None or head[1] > self.service.settings.max_body:
            await self._go_on(scope, receive, send)  # it may have to be refused before its body comes
            return
        content_type, message = head[0], await receive()
        body: bytes = message.get("body", b"")
        query = query_of(scope)
        if message.get("more_body", False) or not self.service.is_light(content_type, query, body):
            await self._go_on(scope, _replaying(message, receive), send)
            return
        try:
            self.service.admission.take_light()
            answer, summary, _ = self.service.classifier.classify(content_type, query, body)
        except Problem as problem:
            await problem_response(problem, scope)(scope, receive, send)
            return
        note(scope, summary)
        headers = [(b"content-length", b"%d" % len(answer)), (b"content-type", JSON)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _go_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """To the application, unless it would only find that there is no room: to say so must cost next to nothing."""
        admission = self.service.admission
        if admission.full:
            await problem_response(admission.refusal(), scope)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _replaying(first: Message, receive: Receive) -> Receive:
    """`receive` with a message that was taken from it already."""
    waiting: list[Message] = [first]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
