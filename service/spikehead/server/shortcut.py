"""The shortcut: a light `POST /classify` that has come whole is answered on the wire, without the application.

A task, a scope and some layers of middleware cost twice what the network costs. Whatever is not as nearly all such
requests are is left to the application, and so is everything where something has to look at requests first: keys,
rates, other pages' origins, traces. The answer is the one that `spikehead.web.fast_path.ExpressLane` gives.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from urllib.parse import parse_qsl

from spikehead.errors import Problem
from spikehead.inference.summary import Summary
from spikehead.settings import Settings
from spikehead.telemetry.request import REQUEST_ID, id_for
from spikehead.telemetry.request_log import RequestLog
from spikehead.web.fast_path import JSON, announced
from spikehead.web.middleware import SECURITY
from spikehead.web.problems import problem_on_the_wire
from spikehead.web.service import Service

log = logging.getLogger("spikehead")

Headers = Sequence[tuple[bytes, bytes]]

PATH = "/classify"
_SECURITY = b"".join(b"%b: %b\r\n" % pair for pair in SECURITY)
_BEGIN = b"HTTP/1.1 200 OK\r\n%bcontent-type: %b\r\n" % (_SECURITY, JSON)


def is_free(settings: Settings) -> bool:
    """Whether nothing has to look at a request before it is answered."""
    return not (settings.keys or settings.rate_limit or settings.cors_origins or settings.traces)


class Shortcut:
    """Of one service, whose settings leave the way free."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._request_log = RequestLog(service.metrics, service.settings)
        # with the root path, where a proxy leaves that in front, and without it
        self._targets = {PATH.encode(), (service.settings.root_path + PATH).encode()}

    def may_take(self, method: bytes, url: bytes, headers: Headers) -> bool:
        """Whether a request may be light, by its head."""
        if method != b"POST" or url.partition(b"?")[0] not in self._targets:
            return False
        head = None if b"#" in url or self._service.ending else announced(headers)
        return head is not None and head[1] <= self._service.settings.max_body

    def answer(self, url: bytes, headers: Headers, body: bytes, defaults: Headers) -> bytes | None:
        """The whole answer, `defaults` among its headers; None where the application has to answer."""
        service = self._service
        head = announced(headers)
        asked = url.partition(b"?")[2]
        query = parse_qsl(asked.decode("latin-1"), keep_blank_values=True) if asked else []
        if head is None or service.ending or not service.is_light(head[0], query, body):
            return None
        began = time.perf_counter()
        try:
            service.admission.take_light()
            answered = service.classifier.classify(head[0], query, body)
        except Problem as problem:
            identifier = id_for(headers)
            self._enter(identifier, problem.status, began, problem=problem.kind)
            return problem_on_the_wire(problem, identifier, (*SECURITY, *defaults))
        except Exception:  # answered, and counted, as any other that fails
            log.exception("failed on the shortcut")
            return None
        identifier = id_for(headers, answered.summary.record)
        self._enter(identifier, 200, began, classified=(answered.summary, 0.0))
        own = b"".join(b"%b: %b\r\n" % pair for pair in defaults)
        return b"%b%bcontent-length: %d\r\n%b: %b\r\n\r\n%b" % (
            _BEGIN,
            own,
            len(answered.body),
            REQUEST_ID.encode(),
            identifier.encode(),
            answered.body,
        )

    def _enter(
        self,
        identifier: str,
        status: int,
        began: float,
        problem: str | None = None,
        classified: tuple[Summary, float] | None = None,
    ) -> None:
        self._request_log.add(
            identifier=identifier,
            method="POST",
            route=PATH,
            path=PATH,
            status=status,
            seconds=time.perf_counter() - began,
            problem=problem,
            classified=classified,
        )
