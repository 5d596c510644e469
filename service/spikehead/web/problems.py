"""Problems as HTTP answers: `application/problem+json` and its headers."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Scope

from spikehead.errors import MEDIA_TYPE, Problem
from spikehead.telemetry.request import note_problem, request_id

CHALLENGE = 'Bearer realm="spikehead", Basic realm="spikehead", charset="UTF-8"'
"""Basic makes browsers ask for a key: it is the password, with any name."""


def problem_response(problem: Problem, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """Answer a request with a problem."""
    named = dict(headers or {})
    if problem.retry_after is not None:
        named["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        named["WWW-Authenticate"] = CHALLENGE
    body = problem_document(problem, request_id(scope))
    note_problem(scope, problem.kind)
    return Response(body, problem.status, headers=named, media_type=MEDIA_TYPE)


def problem_document(problem: Problem, identifier: str) -> bytes:
    """Encode a problem as JSON."""
    return problem.json(identifier)
