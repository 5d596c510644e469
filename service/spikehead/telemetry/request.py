"""Readers of requests that all routes and lanes share, and notes in a request for outer layers."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.types import Scope

from spikehead.inference.summary import Summary

REQUEST_ID = "X-Request-ID"
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
GONE = "gone"
"""In place of a kind of problem, if the client has gone."""

OTHER = "other"
"""Route of requests that no route answers, whose paths could be anything."""

_ID, _SUMMARY, _WAITED, _PROBLEM, _ROUTE = "request_id", "summary", "queue_ms", "problem", "route"


def query_of(scope: Scope) -> list[tuple[str, str]]:
    """Return the options in the query, in order."""
    query_string: bytes = scope["query_string"]
    return parse_qsl(query_string.decode("latin-1"), keep_blank_values=True) if query_string else []


def below(root_path: str, path: str) -> str:
    """Remove the root path that a proxy has left in front of a path; return `/` if nothing remains."""
    rest = path.removeprefix(root_path)
    return rest or "/" if rest == "" or rest.startswith("/") else path


def prefers(accept: str, one: str, other: str) -> bool:
    """Tell if an Accept header names media type `one`, and does not prefer `other`. Source: RFC 9110, 12.5.1."""
    weights: dict[str, float] = {}
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        weights[name] = weight
    return weights.get(one, 0.0) > 0.0 and weights[one] >= weights.get(other, 0.0)


def request_id(scope: Scope) -> str:
    """Return the request's id: the client's own if it is valid, else that of its record, else a new one."""
    state = scope.setdefault("state", {})
    if _ID not in state:
        state[_ID] = id_for(given_id(scope["headers"]))
    return str(state[_ID])


def name_by_record(scope: Scope, record: str) -> None:
    """Use the id of a record as the request's id, unless the client sent one."""
    state = scope["state"]
    if _ID not in state:
        state[_ID] = id_for(given_id(scope["headers"]), record)


def given_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the id that a request brings, valid or not."""
    return next((value for name, value in headers if name == b"x-request-id"), b"")


def id_for(given: bytes, record: str | None = None) -> str:
    """Return the id of a request that brings this one and has that record."""
    if _ACCEPTABLE_ID.fullmatch(given):
        return given.decode()
    return record or f"{random.getrandbits(64):016x}"


def note(scope: Scope, summary: Summary, queue_ms: float = 0.0) -> None:
    """Note in the request what was classified, and how long it waited for its turn."""
    name_by_record(scope, summary.record)
    state = scope["state"]
    state[_SUMMARY], state[_WAITED] = summary, queue_ms


def noted(scope: Scope) -> tuple[Summary, float] | None:
    """Return the noted summary and wait; None if nothing was classified."""
    state = scope["state"]
    return (state[_SUMMARY], state[_WAITED]) if _SUMMARY in state else None


def note_route(scope: Scope, template: str) -> None:
    """Note in the request which route answers it, if the framework does not know it."""
    scope["state"][_ROUTE] = template


def route_of(scope: Scope) -> str:
    """Return the path of the route that answered the request, such as `/spikes/{id}`, or OTHER."""
    template: str | None = scope["state"].get(_ROUTE)
    return template or str(getattr(scope.get("route"), "path", OTHER))


def note_problem(scope: Scope, kind: str) -> None:
    """Note in the request the kind of problem that answers it, or GONE."""
    scope["state"][_PROBLEM] = kind


def problem_of(scope: Scope) -> str | None:
    """Return the kind of problem that answers the request."""
    kind: str | None = scope["state"].get(_PROBLEM)
    return kind
