"""Answers for clients of HTTP/1.0, which know no chunks."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


def without_chunks(app: ASGIApp, cycle: Any) -> ASGIApp:
    """The application, for one request: a body whose length it does not tell ends with the connection.

    cycle: uvicorn's, which would send such a body in chunks. Source: RFC 9112, 6.3 and 7.1.
    """

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        endless = False

        async def send_plain(message: Message) -> None:
            nonlocal endless
            if message["type"] == "http.response.start":
                endless = not any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
                if endless:
                    cycle.chunked_encoding = False
            elif endless:
                cycle.expected_content_length += len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_plain)

    return plain
