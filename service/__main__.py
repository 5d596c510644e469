"""Commands: `python -m service` serves; `spikehead serve` does the same once installed."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="spikehead",
    help="Handwritten digits read by a spiking neural network. Without a command: serve.",
    pretty_exceptions_enable=False,
    add_completion=False,
)

EXIT_SETTINGS = 2
EXIT_MODEL = 4  # 3 is uvicorn's, where it cannot listen

SHUTDOWN_SECONDS = 8
"""What is in flight has so long to finish after SIGTERM: less than the 10 that Docker waits."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from service.app import VERSION

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
    """Serve over HTTP. Settings come from the environment, see the README."""
    import logging

    import uvicorn
    from pydantic import ValidationError

    from service.app import create_app
    from service.card import ModelError
    from service.protocol import ProblemProtocol
    from service.registry import load_models
    from service.settings import PREFIX, load_settings

    try:
        settings = load_settings()
    except ValidationError as error:
        for fault in error.errors():
            name = PREFIX + "_".join(str(part) for part in fault["loc"]).upper()
            typer.echo(f"spikehead: {name}: {fault['msg']}, got {fault['input']!r}", err=True)
        raise typer.Exit(EXIT_SETTINGS) from None
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s:     %(message)s")
    try:
        models = load_models(settings)
    except ModelError as error:
        typer.echo(f"spikehead: {error}", err=True)
        raise typer.Exit(EXIT_MODEL) from None
    uvicorn.run(
        create_app(settings, models),
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
        log_level=settings.log_level,
        http=ProblemProtocol,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ws="none",
    )


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
