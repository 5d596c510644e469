"""The door: refuses what there is no room for, on the wire, before anything is made of the request.

At several times the load that can be served most requests are refused, and each costs what could be served instead:
through the application half a millisecond, here a fraction of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from spikehead.pictures.decode import TINY
from spikehead.telemetry.request import id_for
from spikehead.telemetry.request_log import RequestLog
from spikehead.web.guard.access import Keys
from spikehead.web.middleware import SECURITY
from spikehead.web.problems import problem_on_the_wire
from spikehead.web.service import Service

PATHS = ("/classify", "/classify/batch")
_DIGITS = len(str(TINY))
_UNUSUAL = (b"expect", b"transfer-encoding", b"x-forwarded-for", b"origin")


class Door:
    """Of one service. Says what a request gets instead of an answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._request_log = RequestLog(service.metrics, service.settings)
        roots = ("", service.settings.root_path)  # a proxy leaves it in front of a path, or not
        self._routes = {(root + path).encode(): path for path in PATHS for root in roots}
        self._keys = Keys(service.settings.keys) if service.settings.keys else None

    def refusal(
        self,
        method: bytes,
        url: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        defaults: Sequence[tuple[bytes, bytes]],
    ) -> bytes | None:
        """The whole answer, `defaults` among its headers; None where the request is let in, or is not a usual one."""
        admission = self._service.admission
        if not admission.full or method != b"POST" or self._service.ending:
            return None  # at the end the application says that its answer is the last one
        route = self._routes.get(url.partition(b"?")[0])
        length = next((value for name, value in headers if name == b"content-length"), b"")
        if route is None or not length.isdigit() or any(name in _UNUSUAL for name, _ in headers):
            return None
        if len(length) <= _DIGITS and int(length) <= TINY and route == "/classify":
            return None  # it may be light, and needs no room then
        if self._keys is not None and self._keys.of({"headers": headers}) is None:
            return None  # it is told that first
        began = time.perf_counter()
        problem = admission.refusal()
        identifier = id_for(headers)
        answer = problem_on_the_wire(problem, identifier, (*SECURITY, *defaults))
        self._request_log.add(
            identifier=identifier,
            method="POST",
            route=route,
            path=route,
            status=problem.status,
            seconds=time.perf_counter() - began,
            problem=problem.kind,
        )
        return answer
