"""Prints recent requests of a running service, or one of them: `spikehead spikes`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.text import Text

from spikehead.cli.drawing import drawn, headline, printable, table, text_console, utc
from spikehead.errors import ServiceError
from spikehead.library.answers import RequestList, StoredRequest, read
from spikehead.library.client import Client, RemoteProblem, path_of

TIMEOUT = 10.0
"""Seconds without a byte from the service after which it counts as unreachable."""


@contextmanager
def service_at(url: str, key: str | None) -> Iterator[Client]:
    """Open a client. A refused request raises ServiceError; a wrong address or key raises Problem."""
    with Client(url, key=key or None, timeout=TIMEOUT) as client:
        try:
            yield client
        except RemoteProblem as problem:
            raise ServiceError(f"{url}: {problem}") from None


def print_requests(
    client: Client,
    *,
    limit: int,
    model: str | None = None,
    low_confidence: bool = False,
    as_json: bool = False,
) -> None:
    """Print a service's recent requests, newest first, or least confident first. Raises ServiceError."""
    query: dict[str, Any] = {"limit": limit}
    if model is not None:
        query["model"] = model
    if low_confidence:
        query["order"] = "confidence"
    document = client.get("/spikes", **query)
    recent = read(RequestList, document, f"the service at {client.url}")
    if as_json:
        for request in document["requests"]:
            typer.echo(json.dumps(request))
        return
    console = text_console()
    nothing = "no requests yet" if model is None else f"no requests to a model named {printable(model)} yet"
    console.print(table(recent.requests, console) if recent.requests else nothing)


def print_request(client: Client, identifier: str, *, as_json: bool = False) -> None:
    """Print one of a service's requests. Raises ServiceError."""
    document = client.get(path_of(identifier))
    request = read(StoredRequest, document, f"the service at {client.url}")
    if as_json:
        typer.echo(json.dumps(document))
        return
    console = text_console()
    console.print(headline(identifier, request.answer, console))
    console.print(Text(f"{utc(request.time)} UTC", style="dim"))
    console.print(drawn(request.answer, console, request.pixels))
