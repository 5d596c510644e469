"""Options that several commands have, and checks of what they ask for."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from training.commands.progress import console

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="folder that holds MNIST/raw and unipen (default: $SPIKEHEAD_DATA, else ./data)"
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda")]


class PrecisionName(StrEnum):
    """Values of `--precision`: `training.fit.compute.PRECISIONS` and `auto`."""

    auto = "auto"
    float32 = "float32"
    tf32 = "tf32"
    bfloat16 = "bfloat16"


PrecisionOption = Annotated[
    PrecisionName,
    typer.Option(help="float32, tf32 (on a GPU), bfloat16, or auto: what the machine is fast in"),
]
ModelArgument = Annotated[Path, typer.Argument(help="model folder, such as models/spiking-mha")]
VariationOption = Annotated[
    float, typer.Option(min=0.0, help="how far handwriting varies in training, relatively")
]
ElasticOption = Annotated[
    float, typer.Option(min=0.0, help="pixels by which parts of a digit move in training, before --variation")
]
UnipenOption = Annotated[
    float,
    typer.Option(
        "--unipen",
        min=0.0,
        max=0.9,
        help="share of the images shown that UNIPEN's writers wrote; 0: MNIST alone",
    ),
]


def unipen_share(asked: float, data: Path | None) -> float:
    """Return the share asked for, or print that UNIPEN's data are absent and return 0."""
    from training.data.mnist import data_folder, has_unipen

    if asked == 0.0 or has_unipen(data):
        return asked
    console.print(
        f"found no UNIPEN data in {escape(str(data_folder(data) / 'unipen'))}: learning from MNIST alone"
    )
    return 0.0


def one_process() -> None:
    """Refuse to be one of several processes: all would write the same files."""
    from training.fit.compute import process_count

    count = process_count()
    if count > 1:
        raise typer.BadParameter(f"expected one process, got {count}: `torchrun` spreads `train` alone")
