"""The fast path within the application gives the answers of the route, and leaves to it what is not light."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from spikehead.errors import Problem
from spikehead.inference.classifier import Classified
from spikehead.inference.summary import Summary
from spikehead.settings import Settings
from spikehead.web.fast_path import FastPathMiddleware
from spikehead.web.guard.admission import Admission
from starlette.types import Message, Receive, Scope, Send

ACCOUNT = Summary("tiny", 1, 2, 0.1, 0.2, 0.3, 3, 0.9)


class Classifying:
    """Stands for a `Service`: everything of 784 bytes is light."""

    def __init__(self, most_at_once: int = 1) -> None:
        self.admission = Admission(most_at_once, 0)
        self.settings = Settings(max_body=1024)
        self.content_types: list[str] = []

    def is_light(self, content_type: str, query: list[tuple[str, str]], body: bytes) -> bool:
        self.content_types.append(content_type)
        return len(body) == 784

    @property
    def classifier(self) -> Classifying:
        return self

    def classify(self, content_type: str, query: list[tuple[str, str]], body: bytes) -> Classified:
        if query:
            raise Problem("unknown-option", "one of none", query[0][0])
        return Classified(b'{"prediction":3}', ACCOUNT)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Says how much body reached it."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "application", "size": size})


async def asked(
    fast_path: FastPathMiddleware,
    headers: dict[str, str],
    chunks: list[bytes],
    query: bytes = b"",
    scope: Any = None,
) -> list[Message]:
    """What a request gets."""
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": i + 1 < len(chunks)}
        for i, chunk in enumerate(chunks)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    whole = {
        "type": "http",
        "state": {},
        "method": "POST",
        "path": "/classify",
        "query_string": query,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        **(scope or {}),
    }
    await fast_path(whole, receive, send)
    return sent


def ask(
    headers: dict[str, str], chunks: list[bytes], query: bytes = b"", *, scope: Any = None
) -> list[Message]:
    fast_path = FastPathMiddleware(application, Classifying())  # type: ignore[arg-type]
    return asyncio.run(asked(fast_path, headers, chunks, query, scope))


LIGHT = {"content-type": "application/octet-stream", "content-length": "784"}


def test_light_requests_are_answered() -> None:
    start, body = ask(LIGHT, [bytes(784)])
    assert start == {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-length", b"16"), (b"content-type", b"application/json")],
    }
    assert body == {"type": "http.response.body", "body": b'{"prediction":3}'}


def test_the_first_content_type_counts() -> None:
    service = Classifying()
    fast_path = FastPathMiddleware(application, service)  # type: ignore[arg-type]
    headers = [(b"content-type", b"text/csv"), (b"content-length", b"784"), (b"content-type", b"image/png")]
    asyncio.run(asked(fast_path, {}, [bytes(784)], scope={"headers": headers}))
    assert service.content_types == ["text/csv"]


def test_too_many_at_once_are_refused() -> None:
    """Those that arrive together are answered in one turn of the event loop, as many as may work and wait."""
    fast_path = FastPathMiddleware(application, Classifying(most_at_once=2))  # type: ignore[arg-type]

    async def statuses(count: int) -> list[int]:
        found = await asyncio.gather(*(asked(fast_path, LIGHT, [bytes(784)]) for _ in range(count)))
        return [start["status"] for start, _ in found]

    async def run() -> tuple[list[int], list[int]]:
        return await statuses(3), await statuses(2)

    assert asyncio.run(run()) == ([200, 200, 429], [200, 200])


@pytest.mark.parametrize("path", ["/classify", "/classify/batch"])
def test_a_request_without_room_is_refused_and_its_body_is_not_read(path: str) -> None:
    service = Classifying()
    service.admission.working = 1
    fast_path = FastPathMiddleware(application, service)  # type: ignore[arg-type]
    start, body = asyncio.run(asked(fast_path, {"content-length": "99999"}, [], scope={"path": path}))
    assert start["status"] == 429
    assert b"/problems/overloaded" in body["body"]


def test_problems_are_answered() -> None:
    start, body = ask(LIGHT, [bytes(784)], b"steps=3")
    assert start["status"] == 422
    assert b"/problems/unknown-option" in body["body"]


@pytest.mark.parametrize(
    ("headers", "chunks", "scope"),
    [
        (LIGHT, [bytes(700)], {}),  # not light
        (LIGHT, [bytes(784), b""], {}),  # not whole yet
        ({}, [bytes(784)], {}),  # of unknown length
        ({"content-length": "12345"}, [bytes(784)], {}),  # announced as long: it may never come
        ({"content-length": "1025"}, [bytes(784)], {}),  # more than the setting lets in
        (LIGHT | {"accept": "Text/Event-Stream"}, [bytes(784)], {}),
        (LIGHT | {"content-encoding": "gzip"}, [bytes(784)], {}),
        (LIGHT | {"transfer-encoding": "chunked"}, [bytes(784)], {}),
        (LIGHT, [bytes(784)], {"method": "GET"}),
        (LIGHT, [bytes(784)], {"path": "/classify/batch"}),
    ],
)
def test_everything_else_goes_on_untouched(
    headers: dict[str, str], chunks: list[bytes], scope: dict[str, str]
) -> None:
    assert ask(headers, chunks, scope=scope) == [{"type": "application", "size": sum(map(len, chunks))}]
