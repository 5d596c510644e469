"""The express lane gives the answers of the route, and leaves to the application what is not light."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.errors import Problem
from service.express import ExpressLane


class Classifying:
    """Stands for a `Service`: everything of 784 bytes is light."""

    def is_light(self, content_type: str, query: list[tuple[str, str]], body: bytes) -> bool:
        return len(body) == 784

    @property
    def classifier(self) -> Classifying:
        return self

    def classify(self, content_type: str, query: list[tuple[str, str]], body: bytes) -> bytes:
        if query:
            raise Problem("unknown-option", "one of none", query[0][0])
        return b'{"prediction":3}'


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Says how much body reached it."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "application", "size": size})


def ask(
    headers: dict[str, str], chunks: list[bytes], query: bytes = b"", *, scope: Any = None
) -> list[Message]:
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
        "method": "POST",
        "path": "/classify",
        "query_string": query,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        **(scope or {}),
    }
    lane = ExpressLane(application, Classifying())  # type: ignore[arg-type]
    asyncio.run(lane(whole, receive, send))
    return sent


LIGHT = {"content-type": "application/octet-stream", "content-length": "784"}


def test_light_requests_are_answered() -> None:
    start, body = ask(LIGHT, [bytes(784)])
    assert start == {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-length", b"16"), (b"content-type", b"application/json")],
    }
    assert body == {"type": "http.response.body", "body": b'{"prediction":3}'}


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
