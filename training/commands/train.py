"""`train`: the spiking network."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from training.commands.options import (
    DataOption,
    DeviceOption,
    ElasticOption,
    PrecisionName,
    PrecisionOption,
    UnipenOption,
    VariationOption,
    unipen_share,
)
from training.commands.progress import console, progress_bar, unipen_is_read

if TYPE_CHECKING:
    from training.fit.train import EpochReport, Trainer


def train(
    run: Annotated[Path, typer.Option(help="run folder: settings, metrics and checkpoints")] = Path(
        "runs/spiking-mha"
    ),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="60; with --resume, as many as the run began with")
    ] = None,
    integer_epochs: Annotated[
        int, typer.Option(min=1, help="so many, at the end, in integer arithmetic")
    ] = 6,
    time_steps: Annotated[int, typer.Option(min=1, help="steps simulated in the first epochs")] = 2,
    final_time_steps: Annotated[int, typer.Option(min=1, help="steps simulated in the last epochs")] = 4,
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 2e-3,
    activity_target: Annotated[
        float, typer.Option(help="share of synaptic operations that costs nothing")
    ] = 0.05,
    activity_price: Annotated[float, typer.Option(help="price of operations above that")] = 2.0,
    variation: VariationOption = 1.0,
    elastic: ElasticOption = 0.5,
    final_variation: Annotated[
        float, typer.Option(min=0.0, help="how far of that it varies in the integer epochs")
    ] = 0.5,
    bits: Annotated[int, typer.Option(min=2, max=8, help="bits of a synapse")] = 8,
    attention: Annotated[
        bool | None,
        typer.Option(
            "--attention/--no-attention",
            help="with multi-head attention, or the same without  [default: with, or as --start]",
            show_default=False,
        ),
    ] = None,
    attention_from: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="first block that has attention; those before are MLPs alone  [default: 1, or that of --start]",
        ),
    ] = None,
    neighbours: Annotated[
        bool, typer.Option(help="tokens see those around them, or themselves alone")
    ] = True,
    rate_slope: Annotated[
        int | None,
        typer.Option(
            min=1, max=16, help="slope of the encoder's tuning curve  [default: 1, or that of --start]"
        ),
    ] = None,
    stem: Annotated[
        tuple[int, int] | None, typer.Option(help="channels of the two stem layers  [default: 32 32]")
    ] = None,
    blocks: Annotated[
        int | None, typer.Option(min=1, help="blocks of attention and MLP  [default: 2, or as --start]")
    ] = None,
    mlp_ratio: Annotated[
        int | None, typer.Option(min=1, help="hidden neurons of an MLP a channel  [default: 2]")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="model folder to begin with, its weights, and its shape but for what is asked for"),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="learn from this teacher's answers too (`teacher`)")
    ] = None,
    hint: Annotated[
        float, typer.Option(min=0.0, help="weight of what the teacher sees, place by place; falls to 0")
    ] = 0.0,
    focus: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="share of the images shown that is drawn by hardness")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="train on so many images (for trials)")] = None,
    held_out: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=59_999,
            help="the last so many of the 60,000 training images are for validation  [default: 10000, or as --start]",
        ),
    ] = None,
    unipen: UnipenOption = 0.0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = PrecisionName.auto,
    compiled: Annotated[
        bool, typer.Option("--compile", help="compile the network first: up to twice as fast")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on from the run folder's last checkpoint")
    ] = False,
    data: DataOption = None,
) -> None:
    """Train a network. A checkpoint an epoch; Ctrl-C stops after saving one."""
    from training.data.mnist import VALIDATION_IMAGES, Variation
    from training.fit.compute import choose_device, choose_precision
    from training.fit.restore import START, held_out_of, origin, restore_from
    from training.fit.train import CHECKPOINT, SETTINGS, Trainer, TrainingSettings
    from training.network.spiking import NetworkConfig

    where = choose_device(device)
    if attention_from and attention is False:
        raise typer.BadParameter("expected --attention-from or --no-attention, got both")
    asked = {"stem": stem, "blocks": blocks, "mlp_ratio": mlp_ratio, "rate_slope": rate_slope}
    if attention_from:
        attention = True
    elif attention is not None:
        attention_from = 1  # in all blocks or in none, whatever the model to begin with has
    asked |= {"attention": attention, "attention_from": attention_from}
    sizes: dict[str, Any] = {name: size for name, size in asked.items() if size is not None}
    try:  # with `start`, sizes are the model's but for those asked for; with `resume`, the run's
        network_config = NetworkConfig(bits=bits, neighbours=neighbours, **({} if start or resume else sizes))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    settings = TrainingSettings(
        epochs=epochs or TrainingSettings.epochs,
        integer_epochs=integer_epochs,
        time_steps=time_steps,
        final_time_steps=final_time_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        activity_target=activity_target,
        activity_price=activity_price,
        variation=Variation(elastic_pixels=elastic).times(variation),
        final_variation=final_variation,
        start=str(start) if start else None,
        teacher=str(teacher) if teacher else None,
        hint=hint,
        focus=focus,
        precision=choose_precision(precision, where),
        seed=seed,
        limit=limit,
        held_out=held_out_of(start, held_out) if start and not resume else held_out,
        unipen=0.0 if resume else unipen_share(unipen, data),
        network=network_config,
    )
    if not resume and (run / CHECKPOINT).exists():
        raise typer.BadParameter(f"expected a new folder, found a run in {run}: go on with it by --resume")
    if resume:
        stored = run / SETTINGS
        if not stored.is_file():
            raise typer.BadParameter(f"expected a run to resume in {run}, found no {SETTINGS} there")
        settings = TrainingSettings.from_dict(json.loads(stored.read_text()))
        settings = replace(settings, epochs=epochs or settings.epochs)
    if settings.integer_epochs > settings.epochs:
        raise typer.BadParameter(
            f"expected at most {settings.epochs} integer epochs, got {settings.integer_epochs}"
        )
    if settings.hint and not settings.teacher and not resume:
        raise typer.BadParameter("expected a teacher to take hints from, got --hint without --teacher")
    if settings.teacher and (settings.held_out or 0) > VALIDATION_IMAGES:
        raise typer.BadParameter(
            f"expected at most {VALIDATION_IMAGES:,} images held out, because teachers have learned from the others, "
            f"got {settings.held_out:,}"
        )
    if settings.teacher and not Path(settings.teacher).is_file():
        raise typer.BadParameter(
            f"expected a teacher's checkpoint (see `teacher`), found no file {settings.teacher}"
        )
    if start and not resume:
        network = restore_from(start, settings, data, sizes)
        # It is sparse already: nothing to be gained by letting it grow busy first.
        settings = replace(settings, network=network.config, activity_start=activity_target)
    else:
        network = None
    with unipen_is_read() if settings.unipen else nullcontext():
        trainer = Trainer(settings, run, where, data, compiled, network)
    if resume:
        trainer.resume()
    if trainer.processes.first:
        run.mkdir(parents=True, exist_ok=True)
        with (run / "command.txt").open("a") as file:  # a resumed run took more than one
            file.write(f"python -m training {shlex.join(sys.argv[1:])}\n")
        if start and not resume:  # the card is likely to be replaced by that of this run
            (run / START).write_text(json.dumps(origin(start), indent=1) + "\n")
    _run(trainer)


def _run(trainer: Trainer) -> None:
    """Train with a progress bar and a line an epoch. Ctrl-C saves a checkpoint and exits with 130."""
    with progress_bar() as bar:
        task = bar.add_task("epoch", total=trainer.batches, figures="")

        def progress(done: int, total: int, figures: dict[str, float]) -> None:
            text = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            bar.update(
                task, completed=done, total=total, figures=text, description=f"epoch {trainer.epoch + 1}"
            )

        def report(epoch: EpochReport) -> None:
            def percent(accuracy: list[float]) -> str:
                return " ".join(f"{100 * a:.2f}" for a in accuracy)

            unseen = f"UNIPEN's {percent(epoch.unipen_accuracy)} % " if epoch.unipen_accuracy else ""
            bar.console.print(
                f"epoch {epoch.epoch}/{trainer.settings.epochs} {epoch.arithmetic} T={epoch.time_steps} "
                f"loss {epoch.loss:.4f} activity {100 * epoch.activity:.2f} % "
                f"validation accuracy by step {percent(epoch.validation_accuracy)} % {unseen}({epoch.seconds:.0f} s)"
            )
            bar.reset(task, total=trainer.batches, figures="")

        try:
            trainer.run(progress, report)
        except KeyboardInterrupt:
            trainer.save_interrupted()
            console.print(
                f"stopped in epoch {trainer.epoch + 1}; go on with: train --run {trainer.folder} --resume"
            )
            raise typer.Exit(130) from None
