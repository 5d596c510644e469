"""Prints recent requests of a running service, or one of them: `spikehead spikes`."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

import typer
from rich.text import Text

from spikehead.cli.documents import RequestList, StoredRequest
from spikehead.cli.drawing import drawn, headline, printable, table, text_console, utc
from spikehead.cli.remote import Remote, get


def print_requests(
    remote: Remote,
    *,
    limit: int,
    model: str | None = None,
    low_confidence: bool = False,
    as_json: bool = False,
) -> None:
    """Print a service's recent requests, newest first, or least confident first.

    Raises ServiceError, and Problem for a wrong address.
    """
    query = {"limit": str(limit)}
    if model is not None:
        query["model"] = model
    if low_confidence:
        query["order"] = "confidence"
    recent, document = get(remote, f"/spikes?{urlencode(query)}", RequestList)
    if as_json:
        for request in document["requests"]:
            typer.echo(json.dumps(request))
        return
    console = text_console()
    nothing = "no requests yet" if model is None else f"no requests to a model named {printable(model)} yet"
    console.print(table(recent.requests, console) if recent.requests else nothing)


def print_request(remote: Remote, identifier: str, *, as_json: bool = False) -> None:
    """Print one of a service's requests. Raises ServiceError, and Problem for a wrong address."""
    request, document = get(remote, f"/spikes/{quote(identifier, safe='')}", StoredRequest)
    if as_json:
        typer.echo(json.dumps(document))
        return
    console = text_console()
    console.print(headline(identifier, request.answer, console))
    console.print(Text(f"{utc(request.time)} UTC", style="dim"))
    console.print(drawn(request.answer, console, request.pixels))
