"""`export`, `add-arrays` and `recalibrate`: from a checkpoint to a model folder, its arrays, its calibration anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.options import DataOption, ModelArgument
from training.commands.progress import console, counted

if TYPE_CHECKING:
    from spikehead.model.card import Card


def export(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint of a run")] = Path(
        "runs/spiking-mha/best.pt"
    ),
    model: Annotated[Path, typer.Option(help="model folder to write")] = Path("models/spiking-mha"),
    max_steps: Annotated[int, typer.Option(min=1, max=64, help="time steps at the most")] = 16,
    reset_interval: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=64,
            help="steps after which its state begins anew, 0 for never  [default: as many as training ended with]",
        ),
    ] = None,
    version: Annotated[str, typer.Option(help="version of the model, for its card")] = "1.0.0",
    data: DataOption = None,
) -> None:
    """Write graph, arrays and card, after checking that both engines give the same spikes."""
    from training.data import mnist
    from training.export import artifact
    from training.fit.restore import START
    from training.fit.train import load_network

    if not checkpoint.is_file():
        raise typer.BadParameter(f"expected a checkpoint of a run, found no file {checkpoint}")
    validation = mnist.load("validation", data, load_network(checkpoint)[1].held_out)
    stored = checkpoint.parent / "command.txt"
    command = stored.read_text().strip() if stored.is_file() else ""
    start = checkpoint.parent / START
    simulations = artifact.calibration_seeds(len(validation[0]), max_steps) * len(validation[0])
    with counted("simulations", simulations) as progress:
        card = artifact.export(
            checkpoint,
            model,
            validation,
            mnist.load("test", data)[0][: artifact.SELF_CHECK_IMAGES],
            max_steps=max_steps,
            reset_interval=reset_interval,
            version=version,
            command=command,
            started_from=json.loads(start.read_text()) if start.is_file() else None,
            progress=progress,
        )
    _say_written(model, card)


def add_arrays(model: ModelArgument) -> None:
    """Write what the native engine reads beside the graph of a model that was exported without it."""
    from training.export import arrays

    card = arrays.add_arrays(model)
    assert card.arrays
    console.print(f"wrote {model / card.arrays.file}: both engines give the same spikes")


def recalibrate(
    model: ModelArgument,
    version: Annotated[str, typer.Option(help="version that the model has from now on")],
    data: DataOption = None,
) -> None:
    """Fit a model's probabilities and stopping rule anew: what it reads has changed, as where the retina has."""
    from spikehead.model.card import ModelError, load_card

    from training.data import mnist
    from training.export import artifact

    try:
        card = load_card(model)
        validation = mnist.load("validation", data, mnist.held_out_by(card.training))
        runs = artifact.calibration_seeds_of(card, len(validation[0])) * len(validation[0])
        with counted("simulations", runs) as progress:
            card = artifact.recalibrate(model, version, validation, progress=progress)
    except ModelError as error:
        raise typer.BadParameter(str(error)) from None
    _say_written(model, card)


def _say_written(model: Path, card: Card) -> None:
    figures = card.accuracy["validation"]
    console.print(
        f"wrote {model}: validation {100 * figures['stopping']:.2f} % in {figures['average_steps']} steps on average, "
        f"stops at confidence {card.calibration.confidence}"
    )
