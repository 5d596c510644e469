"""Answers as bytes of HTTP/1.1, for where no application is asked: header by header what it would send."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from spikehead.errors import MEDIA_TYPE, Problem

Headers = Iterable[tuple[bytes, bytes]]

SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""On every answer that says nothing else of it; the page has a policy of its own."""

_SECURITY_LINES = b"".join([b"%b: %b\r\n" % pair for pair in SECURITY])
_STATUS_LINES = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}


def answer_bytes(
    status: int, media_type: str, body: bytes, identifier: str, defaults: Headers, more: bytes = b""
) -> bytes:
    """Give a whole answer. `defaults` are the server's own headers, `more` are lines of others."""
    return b"%b%bcontent-length: %d\r\ncontent-type: %b\r\n%bx-request-id: %b\r\n%b\r\n%b" % (
        _STATUS_LINES[status],
        b"".join([b"%b: %b\r\n" % pair for pair in defaults]),
        len(body),
        media_type.encode(),
        _SECURITY_LINES,
        identifier.encode(),
        more,
        body,
    )


def problem_bytes(problem: Problem, identifier: str, defaults: Headers, more: bytes = b"") -> bytes:
    """Give a problem as a whole answer."""
    if problem.retry_after is not None:
        defaults = (*defaults, (b"retry-after", b"%d" % problem.retry_after))
    return answer_bytes(problem.status, MEDIA_TYPE, problem.json(identifier), identifier, defaults, more)
