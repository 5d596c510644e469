"""What of a request is read the same way wherever it is answered."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.types import Scope


def query_of(scope: Scope) -> list[tuple[str, str]]:
    """The options in the query, in order."""
    query_string: bytes = scope["query_string"]
    return parse_qsl(query_string.decode("latin-1"), keep_blank_values=True) if query_string else []
