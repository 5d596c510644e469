"""The door: refuses what there is no room for, on the wire, before anything is made of the request.

At several times the load that can be served most requests are refused, and each costs what could be served instead:
through the application half a millisecond, here a fraction of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from service.errors import MEDIA_TYPE
from service.images import TINY
from service.middleware import REFUSALS, SECURITY
from service.problems import problem_document
from service.requests import REQUEST_ID, request_id
from service.runtime import Service

log = structlog.get_logger("spikehead")

PATHS = {b"/classify": "/classify", b"/classify/batch": "/classify/batch"}
_DIGITS = len(str(TINY))
_UNUSUAL = (b"expect", b"transfer-encoding", b"x-forwarded-for")


class Door:
    """Of one service. Says what a request gets instead of an answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._logged = service.settings.log_level in ("debug", "info")
        fixed = b"".join(b"%b: %b\r\n" % pair for pair in SECURITY)
        self._head = b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: %b\r\n%b" % (
            MEDIA_TYPE.encode(),
            fixed,
        )

    def refusal(
        self, method: bytes, url: bytes, headers: Sequence[tuple[bytes, bytes]], defaults: bytes
    ) -> bytes | None:
        """The whole answer, `defaults` among its headers; None where the request is let in, or is not a usual one."""
        admission = self._service.admission
        if not admission.full or method != b"POST":
            return None
        route = PATHS.get(url.partition(b"?")[0])
        length = next((value for name, value in headers if name == b"content-length"), b"")
        if route is None or not length.isdigit() or any(name in _UNUSUAL for name, _ in headers):
            return None
        if len(length) <= _DIGITS and int(length) <= TINY and route == "/classify":
            return None  # it may be light, and needs no room then
        began = time.perf_counter()
        problem = admission.refusal()
        identifier = request_id({"headers": headers})
        body = problem_document(problem, identifier)
        answer = b"%b%bretry-after: %d\r\ncontent-length: %d\r\n%b: %b\r\n\r\n%b" % (
            self._head,
            defaults,
            problem.retry_after or 0,
            len(body),
            REQUEST_ID.lower().encode(),
            identifier.encode(),
            body,
        )
        seconds = time.perf_counter() - began
        metrics = self._service.metrics
        metrics.answered(route, "POST", problem.status, seconds)
        metrics.refused(REFUSALS[problem.kind])
        if self._logged:
            log.info(
                "request", id=identifier, method="POST", route=route, path=route, status=problem.status,
                ms=round(seconds * 1000, 3), problem=problem.kind,
            )  # fmt: skip
        return answer
