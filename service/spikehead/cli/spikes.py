"""Prints past requests of a running service, or one of them: `spikehead spikes`."""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import quote

import typer
from rich.text import Text

from spikehead.cli.drawing import drawn, headline, printable, table, text_console, utc
from spikehead.errors import ServiceError
from spikehead.library.answers import PastRequests, StoredRequest, read
from spikehead.library.client import Client, RemoteProblem

TIMEOUT = 10.0
"""Seconds without a byte from the service after which it counts as unreachable."""


def print_requests(url: str, key: str | None, query: dict[str, Any], *, as_json: bool = False) -> None:
    """Print a service's past requests. `query` has options of `GET /spikes`. Raises ServiceError and Problem."""
    document = _get(url, key, "/spikes", query)
    past = read(PastRequests, document)
    if as_json:
        for request in document["requests"]:
            typer.echo(json.dumps(request))
        return
    console = text_console()
    model = query.get("model")
    nothing = "no requests yet" if model is None else f"no requests to a model named {printable(model)} yet"
    console.print(table(past.requests, console) if past.requests else nothing)


def print_request(url: str, key: str | None, identifier: str, *, as_json: bool = False) -> None:
    """Print one of a service's past requests. Raises ServiceError and Problem."""
    document = _get(url, key, f"/spikes/{quote(identifier, safe='')}", {})
    request = read(StoredRequest, document)
    if as_json:
        typer.echo(json.dumps(document))
        return
    console = text_console()
    console.print(headline(identifier, request.answer, console))
    console.print(Text(f"{utc(request.time)} UTC", style="dim"))
    console.print(drawn(request.answer, console, request.pixels))


def _get(url: str, key: str | None, path: str, query: dict[str, Any]) -> dict[str, Any]:
    # one line for each request is for services
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        with Client(url, key=key, timeout=TIMEOUT) as client:
            return client.get(path, **query)
    except RemoteProblem as problem:
        raise ServiceError(f"{url}: {problem}") from None
