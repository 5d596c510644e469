"""What routes share: the running service, and JSON."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json

from service.runtime import Service

JSON = "application/json"


def service_of(request: Request) -> Service:
    """The service that this application runs."""
    return request.app.state.service  # type: ignore[no-any-return]


def json(content: Any) -> Response:
    """An answer."""
    return Response(to_json(content), media_type=JSON)
