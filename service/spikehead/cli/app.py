"""Commands: `python -m service` serves; `spikehead serve` does the same once installed.

Each command imports what it needs, so that `classify` loads no web framework and `--help` starts at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from socket import socket

    from spikehead.settings import Settings

app = typer.Typer(
    name="spikehead",
    help="Handwritten digits read by a spiking neural network. Without a command: serve.",
    pretty_exceptions_enable=False,
    add_completion=False,
)

EXIT_FILE = EXIT_NOT_READY = 1
EXIT_SETTINGS = 2
EXIT_LISTEN = 3
EXIT_MODEL = 4
EXIT_SERVICE = 5

LOST_SECONDS = 1.0
"""Seconds after which SIGTERM ends a process that starts, if its exception was lost."""

NO_SETTINGS = {"SPIKEHEAD_API_KEY", "SPIKEHEAD_DATA", "SPIKEHEAD_TEST_POSTGRES_URL"}
"""Environment variables that only `spikehead spikes`, training and tests read."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from spikehead.version import VERSION

        typer.echo(f"spikehead {VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print it and exit")
    ] = False,
) -> None:
    """Handwritten digits read by a spiking neural network. Without a command: serve."""
    if context.invoked_subcommand is None:
        serve()


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on (SPIKEHEAD_HOST)")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="port to listen on (SPIKEHEAD_PORT)")
    ] = None,
) -> None:
    """Serve over HTTP. Settings come from the environment, see docs/settings.md."""
    # during the start: the first process of a container ignores signals that it does not handle
    signal.signal(signal.SIGTERM, _end)
    from spikehead.records import DatabaseURLError, Store
    from spikehead.settings import PREFIX

    settings = _settings()
    chosen = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update=chosen)
    # until there are models to reload, SIGHUP would end the process
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        # checks the URL without connecting: the database may be unavailable
        Store(settings.database_url).close()
    except DatabaseURLError as error:
        raise _exit(EXIT_SETTINGS, f"{PREFIX}DATABASE_URL: {error}") from None
    from spikehead.server.listening import ListenError, listening

    try:
        with listening(settings) as sockets:
            if settings.workers > 1:
                _serve_with_workers(settings, sockets)
            else:
                _serve_alone(settings, sockets)
    except ListenError as error:
        raise _exit(EXIT_LISTEN, error) from None


def _end(sig: int, frame: FrameType | None) -> None:
    # the exception is lost if it comes while a module is compiled
    late = threading.Timer(LOST_SECONDS, os._exit, (0,))
    late.daemon = True
    late.start()
    raise SystemExit(0)


def _serve_alone(settings: Settings, sockets: list[socket]) -> None:
    from spikehead.model.card import ModelError
    from spikehead.server.worker import Worker, app_of
    from spikehead.telemetry.traces import TracesError

    try:
        app = app_of(settings)
    except ModelError as error:
        raise _exit(EXIT_MODEL, error) from None
    except TracesError as error:
        raise _exit(EXIT_SETTINGS, error) from None
    Worker(settings, app).run(sockets)


def _serve_with_workers(settings: Settings, sockets: list[socket]) -> None:
    from spikehead.server.workers import Workers

    workers = Workers(settings, sockets)
    workers.run()
    if workers.failed:
        raise _exit(EXIT_MODEL, "a worker could not start")


ModelOption = Annotated[str | None, typer.Option(metavar="NAME", help="model (SPIKEHEAD_DEFAULT_MODEL)")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, one document a line")]


@app.command(
    epilog="Exit codes: 0 all classified; 1 a file could not be read or classified; 2 wrong usage or settings; "
    "4 the model is missing or cannot be used; 130 interrupted."
)
def classify(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE", help="PNG, JPEG, WebP, BMP, GIF or 784 bytes of pixels; - is standard input"
        ),
    ],
    model: ModelOption = None,
    max_steps: Annotated[str | None, typer.Option(metavar="N", help="most time steps (the model's)")] = None,
    confidence: Annotated[
        str | None, typer.Option(metavar="P", help="probability to stop at (the model's)")
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="N", help="seed of each file's run (one drawn for each)")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="bernoulli or regular (bernoulli)")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Classify pictures of digits here, without a service. Nothing is recorded.

    Options and answers are those of POST /classify, settings those of the service.

    A file that cannot be used is reported on standard error and does not stop the others.
    """
    from spikehead.cli.classify import classify_files

    options = {
        "model": model,
        "max_steps": max_steps,
        "confidence": confidence,
        "seed": seed,
        "encoder": encoder,
    }
    settings = _settings()
    with _faults_as_exits():
        complete = classify_files(files, options, settings, as_json)
    if not complete:
        raise typer.Exit(EXIT_FILE)


@app.command(
    epilog="Exit codes: 0 listed; 2 wrong usage; 5 the service cannot be reached or answers with a problem; "
    "130 interrupted."
)
def spikes(
    identifier: Annotated[
        str | None, typer.Argument(metavar="ID", help="one request: its picture and its answer")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="address of the service (that of SPIKEHEAD_HOST and SPIKEHEAD_PORT)")
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar="SPIKEHEAD_API_KEY", help="API key, if the service requires one")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=1000, help="most requests (20)")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="only those to this model")] = None,
    low_confidence: Annotated[
        bool, typer.Option("--low-confidence", help="least confident first (newest first)")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List recent requests of a running service, or show one of them."""
    from spikehead.cli.probe import address_of
    from spikehead.cli.spikes import print_request, print_requests, service_at

    with _faults_as_exits(), service_at(address_of(_settings()) if url is None else url, key) as client:
        if identifier is None:
            print_requests(
                client, limit=limit or 20, model=model, low_confidence=low_confidence, as_json=as_json
            )
        elif limit is None and model is None and not low_confidence:
            print_request(client, identifier, as_json=as_json)
        else:
            raise typer.BadParameter("--limit, --model and --low-confidence apply to the list, not to one ID")


@app.command(epilog="Exit codes: 0 it is ready; 1 it is not, or cannot be reached; 2 wrong settings.")
def health() -> None:
    """Ask the service on this machine, at the address in the settings, if it is ready."""
    from spikehead.cli import probe

    settings = _settings()
    try:
        typer.echo(probe.status(settings))
    except probe.NotReadyError as error:
        raise _exit(EXIT_NOT_READY, error) from None


def _settings() -> Settings:
    """Read the settings from the environment and configure logging. Exits if one is wrong."""
    import os

    from pydantic import ValidationError

    from spikehead.settings import PREFIX, is_service_link, is_set_by_kubernetes, load_settings
    from spikehead.telemetry import logs

    try:
        settings = load_settings()
    except ValidationError as error:
        for fault in error.errors():
            words = fault["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ", 1)
            if fault["loc"]:
                name = PREFIX + "_".join(str(part) for part in fault["loc"]).upper()
                typer.echo(f"spikehead: {name}: {words}, got {fault['input']!r}", err=True)
            else:  # a fault of several settings together
                typer.echo(f"spikehead: {words}", err=True)
        raise typer.Exit(EXIT_SETTINGS) from None
    logs.configure(settings.log_level, settings.log_format)
    given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    if is_service_link(link := given.get(f"{PREFIX}PORT")):
        words = "which Kubernetes sets for a Service named spikehead: it is ignored"
        typer.echo(f"spikehead: {PREFIX}PORT: expected a port, got {link}, {words}", err=True)
    known = {PREFIX + name.upper() for name in type(settings).model_fields} | NO_SETTINGS
    for name, value in sorted(given.items()):
        if name not in known and not is_set_by_kubernetes(name, value):
            typer.echo(f"spikehead: {name} is not a setting of the service: it is ignored", err=True)
    return settings


@contextmanager
def _faults_as_exits() -> Iterator[None]:
    """Print an expected kind of error and exit with its code."""
    from spikehead.errors import Problem, ServiceError
    from spikehead.model.card import ModelError

    try:
        yield
    except Problem as error:
        raise _exit(EXIT_SETTINGS, error) from None
    except ModelError as error:
        raise _exit(EXIT_MODEL, error) from None
    except ServiceError as error:
        from spikehead.cli.drawing import printable

        raise _exit(EXIT_SERVICE, printable(str(error))) from None


def _exit(code: int, error: Exception | str) -> typer.Exit:
    """Print what is wrong and return the exit, to be raised."""
    typer.echo(f"spikehead: {error}", err=True)
    return typer.Exit(code)


def main() -> None:
    """Run the console script."""
    app()
