"""`teacher`: the convolutional networks that the spiking one learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.options import (
    DataOption,
    DeviceOption,
    ElasticOption,
    PrecisionName,
    PrecisionOption,
    UnipenOption,
    VariationOption,
    one_process,
    unipen_share,
)
from training.commands.progress import console, progress_bar


def teacher(
    run: Annotated[Path, typer.Option(help="folder of the checkpoint")] = Path("runs/teacher"),
    epochs: Annotated[int, typer.Option(min=1)] = 20,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 2e-3,
    start: Annotated[
        Path | None, typer.Option(help="begin with the weights of this teacher, not with random ones")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="so many times as many channels  [default: 1]")
    ] = None,
    members: Annotated[
        int | None, typer.Option(min=1, help="networks that answer together  [default: 1]")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    variation: VariationOption = 1.0,
    elastic: ElasticOption = 0.5,
    final_epochs: Annotated[
        int, typer.Option(min=0, help="so many, at the end, in which handwriting varies half as far")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="train on so many images (for trials)")] = None,
    unipen: UnipenOption = 0.0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = PrecisionName.auto,
    data: DataOption = None,
) -> None:
    """Train the convolutional networks whose answers `train --teacher` learns from."""
    from training.data.mnist import Variation
    from training.fit.compute import choose_device, choose_precision
    from training.fit.loop import FitSettings
    from training.fit.teacher import CHECKPOINT, train_teacher

    one_process()
    where = choose_device(device)
    if start and not start.is_file():
        raise typer.BadParameter(f"expected a teacher's checkpoint to begin with, found no file {start}")
    if start and (width or members):
        raise typer.BadParameter("expected --start alone: that teacher has its width and members already")
    if final_epochs > epochs:
        raise typer.BadParameter(f"expected at most {epochs} final epochs, got {final_epochs}")
    settings = FitSettings(
        epochs=epochs,
        final_epochs=final_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        start=str(start) if start else None,
        variation=Variation(elastic_pixels=elastic).times(variation),
        seed=seed,
        limit=limit,
        unipen=unipen_share(unipen, data),
        precision=choose_precision(precision, where),
    )
    with progress_bar() as bar:
        task = bar.add_task("epoch", total=None, figures="")

        def progress(done: int, total: int, figures: dict[str, float]) -> None:
            bar.update(task, completed=done, total=total, figures=f"loss {figures['loss']:.4f}")

        def report(epoch: int, loss: float, accuracy: float) -> None:
            bar.console.print(
                f"epoch {epoch}/{epochs} loss {loss:.4f} validation accuracy {100 * accuracy:.2f} %"
            )

        train_teacher(settings, run, where, data, progress, report, width or 1, members or 1)
    console.print(f"wrote {run / CHECKPOINT}")
