"""Commands of the offline package: `python -m training COMMAND --help`."""

from __future__ import annotations

import signal
import threading
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from training.commands.compare import compare
from training.commands.evaluate import evaluate
from training.commands.export import add_arrays, export, recalibrate
from training.commands.figures import figures, retina
from training.commands.progress import console
from training.commands.teacher import teacher
from training.commands.train import train


class Commands(TyperGroup):
    """Prints errors that say what was expected and what came without a traceback, and exits with 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except ModuleNotFoundError as error:
            needed = "make setup, or pip install -e '.[train]'"
            console.print(
                f"expected {error.name}, which training needs ({escape(needed)}), found it not installed"
            )
            raise typer.Exit(1) from None
        except (RuntimeError, OSError, ValueError) as error:
            from spikehead.model.card import ModelError
            from spikehead.pictures.pixels import ImageError

            from training.data.mnist import DataError
            from training.export.graph import ExportError

            if not isinstance(error, DataError | ExportError | ImageError | ModelError):
                raise
            console.print(f"[red]{type(error).__name__}[/red]: {escape(str(error))}")
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    help="Train, evaluate, export and draw the spiking network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (train, teacher, export, add_arrays, recalibrate, evaluate, compare, figures, retina):
    app.command()(command)


def main() -> None:
    """Entry point. A second Ctrl-C ends at once."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    app()
