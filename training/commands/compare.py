"""`compare`: spiking and conventional networks side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.commands.options import DataOption, DeviceOption, ElasticOption, one_process
from training.commands.progress import console


def compare(
    models: Annotated[Path, typer.Option(help="folder of the models and of the stored table")] = Path(
        "models"
    ),
    again: Annotated[
        bool, typer.Option("--retrain", help="train and measure all contenders that --runs lacks")
    ] = False,
    remeasure: Annotated[
        bool,
        typer.Option(
            "--measure", help="measure what --runs has and ship its glm and ann-twin, train nothing"
        ),
    ] = False,
    runs: Annotated[Path, typer.Option(help="folder of the contenders' runs")] = Path("runs/compare"),
    contender: Annotated[
        str | None,
        typer.Option(help="train and export this one alone, in its folder of --runs, and measure nothing"),
    ] = None,
    epochs: Annotated[int, typer.Option(min=2, help="epochs for each contender")] = 8,
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    teacher: Annotated[Path | None, typer.Option(help="teacher of all contenders")] = None,
    elastic: ElasticOption = 0.5,
    limit: Annotated[int | None, typer.Option(min=1, help="only so many images (for trials)")] = None,
    version: Annotated[
        str | None,
        typer.Option(help="version of the contenders' models  [default: as before, or 1.0.0]"),
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="file of the plot, .png or .svg")] = None,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, nothing else")] = False,
    data: DataOption = None,
) -> None:
    """Spiking and conventional networks side by side: print the stored table, or make it again."""
    from training.comparison.contenders import Budget, contender_of
    from training.comparison.measure import STORED, measure, retrain
    from training.comparison.plot import plot
    from training.comparison.table import stored_figures, table, write_readme
    from training.comparison.train import finished, train, write_model
    from training.fit.compute import choose_device

    one_process()
    stored = models / STORED
    if teacher and not teacher.is_file():
        raise typer.BadParameter(f"expected a teacher's checkpoint (see `teacher`), found no file {teacher}")
    budget = Budget(epochs=epochs, teacher=teacher, limit=limit, batch_size=batch_size, elastic=elastic)
    if version and not (again or remeasure):
        raise typer.BadParameter("expected --retrain or --measure with --version: nothing else exports")
    if contender:
        if again or remeasure or figure or as_json:
            raise typer.BadParameter("expected --contender without --retrain, --measure, --figure or --json")
        try:
            one = contender_of(contender)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if finished(one, runs / one.name, budget):
            console.print(f"{one.name} has its {epochs} epochs in {runs / one.name}")
        else:
            train(one, runs / one.name, budget, choose_device(device), data, console.print)
            write_model(one, runs / one.name, data, None)
        return
    if again:
        contents = retrain(models, runs, budget, choose_device(device), data, console.print, version)
    elif remeasure:
        contents = measure(models, runs, budget, data, console.print, version)
    elif stored.is_file():
        contents = stored_figures(stored)
    else:
        raise typer.BadParameter(f"expected a stored table at {stored}: make it with --retrain")
    if again or remeasure:
        write_readme(models, contents)
    if figure:
        figure.parent.mkdir(parents=True, exist_ok=True)
        plot(contents).savefig(figure, dpi=120)
    if as_json:
        print(json.dumps(contents, indent=1))
        return
    header, *lines = table(contents)
    printed = Table(*header, title=f"{contents['test_images']} test images, {contents['date']}")
    for line in lines:
        printed.add_row(*line)
    Console(width=None if sys.stdout.isatty() else 220).print(printed)
