"""Commands of the offline package: `python -m training COMMAND --help`."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spikehead.model.card import Card

    from training.fit.train import EpochReport


class Commands(TyperGroup):
    """Errors that say what was expected and what came need no traceback."""

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
console = Console(stderr=True)

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="folder that holds MNIST/raw and unipen (default: $SPIKEHEAD_DATA, else ./data)"
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda")]


class PrecisionName(StrEnum):
    """What `--precision` takes; `training.fit.compute.PRECISIONS` and `auto`."""

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


def _unipen_share(asked: float, data: Path | None) -> float:
    """The share asked for, or 0 if UNIPEN's data are absent, which is said."""
    from training.data.mnist import data_folder, has_unipen

    if asked == 0.0 or has_unipen(data):
        return asked
    console.print(
        f"found no UNIPEN data in {escape(str(data_folder(data) / 'unipen'))}: learning from MNIST alone"
    )
    return 0.0


def _unipen_is_read() -> AbstractContextManager[object]:
    """Say why nothing seems to happen."""
    return console.status("reading UNIPEN's characters: the first time they are drawn, which takes minutes")


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)


def _alone() -> None:
    """Refuse to be one of several processes: all would write the same files."""
    from training.fit.compute import process_count

    count = process_count()
    if count > 1:
        raise typer.BadParameter(f"expected one process, got {count}: `torchrun` spreads `train` alone")


@contextmanager
def _counted(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar as a function of what is done."""
    with _bar() as bar:
        task = bar.add_task(description, total=total, figures="")
        yield lambda done: bar.update(task, completed=done)


@app.command()
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
        unipen=0.0 if resume else _unipen_share(unipen, data),
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
    with _unipen_is_read() if settings.unipen else nullcontext():
        trainer = Trainer(settings, run, where, data, compiled, network)
    if resume:
        trainer.resume()
    if trainer.processes.first:
        run.mkdir(parents=True, exist_ok=True)
        with (run / "command.txt").open("a") as file:  # a resumed run took more than one
            file.write(f"python -m training {shlex.join(sys.argv[1:])}\n")
        if start and not resume:  # the card is likely to be replaced by that of this run
            (run / START).write_text(json.dumps(origin(start), indent=1) + "\n")
    with _bar() as bar:
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
                f"epoch {epoch.epoch}/{settings.epochs} {epoch.arithmetic} T={epoch.time_steps} "
                f"loss {epoch.loss:.4f} activity {100 * epoch.activity:.2f} % "
                f"validation accuracy by step {percent(epoch.validation_accuracy)} % {unseen}({epoch.seconds:.0f} s)"
            )
            bar.reset(task, total=trainer.batches, figures="")

        try:
            trainer.run(progress, report)
        except KeyboardInterrupt:
            trainer.save_interrupted()
            console.print(f"stopped in epoch {trainer.epoch + 1}; go on with: train --run {run} --resume")
            raise typer.Exit(130) from None


@app.command()
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

    _alone()
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
        unipen=_unipen_share(unipen, data),
        precision=choose_precision(precision, where),
    )
    with _bar() as bar:
        task = bar.add_task("epoch", total=None, figures="")

        def progress(done: int, total: int, figures: dict[str, float]) -> None:
            bar.update(task, completed=done, total=total, figures=f"loss {figures['loss']:.4f}")

        def report(epoch: int, loss: float, accuracy: float) -> None:
            bar.console.print(
                f"epoch {epoch}/{epochs} loss {loss:.4f} validation accuracy {100 * accuracy:.2f} %"
            )

        train_teacher(settings, run, where, data, progress, report, width or 1, members or 1)
    console.print(f"wrote {run / CHECKPOINT}")


@app.command()
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
    """Write the step graph and the card, after checking that both engines give the same spikes."""
    from training.data import mnist
    from training.export.artifact import SELF_CHECK_IMAGES, calibration_seeds
    from training.export.artifact import export as export_model
    from training.fit.restore import START
    from training.fit.train import load_network

    if not checkpoint.is_file():
        raise typer.BadParameter(f"expected a checkpoint of a run, found no file {checkpoint}")
    validation = mnist.load("validation", data, load_network(checkpoint)[1].held_out)
    stored = checkpoint.parent / "command.txt"
    command = stored.read_text().strip() if stored.is_file() else ""
    start = checkpoint.parent / START
    simulations = calibration_seeds(len(validation[0]), max_steps) * len(validation[0])
    with _counted("simulations", simulations) as progress:
        card = export_model(
            checkpoint,
            model,
            validation,
            mnist.load("test", data)[0][:SELF_CHECK_IMAGES],
            max_steps=max_steps,
            reset_interval=reset_interval,
            version=version,
            command=command,
            started_from=json.loads(start.read_text()) if start.is_file() else None,
            progress=progress,
        )
    _say_written(model, card)


def _say_written(model: Path, card: Card) -> None:
    figures = card.accuracy["validation"]
    console.print(
        f"wrote {model}: validation {100 * figures['stopping']:.2f} % in {figures['average_steps']} steps on average, "
        f"stops at confidence {card.calibration.confidence}"
    )


@app.command()
def recalibrate(
    model: ModelArgument,
    version: Annotated[str, typer.Option(help="version that the model has from now on")],
    data: DataOption = None,
) -> None:
    """Fit a model's probabilities and stopping rule anew: what it reads has changed, as where the retina has."""
    from spikehead.model.card import ModelError, load_card

    from training.data import mnist
    from training.export.artifact import calibration_seeds_of
    from training.export.artifact import recalibrate as recalibrate_model

    try:
        card = load_card(model)
        validation = mnist.load("validation", data, mnist.held_out_by(card.training))
        runs = calibration_seeds_of(card, len(validation[0])) * len(validation[0])
        with _counted("simulations", runs) as progress:
            card = recalibrate_model(model, version, validation, progress=progress)
    except ModelError as error:
        raise typer.BadParameter(str(error)) from None
    _say_written(model, card)


@app.command()
def evaluate(
    model: ModelArgument,
    seeds: Annotated[int, typer.Option(min=1, help="encoder seeds to average over")] = 5,
    validation: Annotated[
        bool, typer.Option("--validation", help="on the validation set, not the test set")
    ] = False,
    held_out: Annotated[
        int | None,
        typer.Option(
            min=1, help="on the last so many training images  [default: as many as training held out]"
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="only so many images")] = None,
    distorted: Annotated[
        bool, typer.Option("--robustness", help="also under distortions that training has never seen")
    ] = False,
    rewritten: Annotated[
        int,
        typer.Option(min=0, help="also on digits written otherwise, as training varies them: so many draws"),
    ] = 0,
    sigma: Annotated[
        float | None,
        typer.Option("--synapse-noise", min=0.0, help="also with weights that scatter so much, relatively"),
    ] = None,
    stuck: Annotated[
        float, typer.Option("--stuck-at", min=0.0, max=1.0, help="with that share of stuck synapses")
    ] = 0.0,
    draws: Annotated[int, typer.Option(min=1, help="draws of imperfect synapses")] = 5,
    lesion: Annotated[
        list[str] | None,
        typer.Option(help="measure it with these layers silent; `*.attention` means those of all blocks"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, nothing else")] = False,
    data: DataOption = None,
) -> None:
    """Measure an exported model on the test set: accuracy, steps, rates, calibration, cost.

    Simulated by the engine that the service would take (SPIKEHEAD_ENGINE).
    """
    from spikehead.engine.loading import load_engine
    from spikehead.settings import load_settings

    from training.data import mnist
    from training.data.distortions import DISTORTIONS
    from training.data.unipen import NON_DIGITS
    from training.fit.restore import held_out_of
    from training.measure.evaluate import evaluate as measure
    from training.measure.evaluate import handwriting, robustness, synapse_noise, unseen_writers
    from training.measure.lesion import write_lesioned

    if held_out is not None and not validation:
        raise typer.BadParameter(
            "expected --validation with --held-out, got it without: the test set is read whole"
        )
    images, labels = mnist.load("validation" if validation else "test", data, held_out_of(model, held_out))
    images, labels = images[:limit], labels[:limit]
    settings = load_settings()
    with TemporaryDirectory() as temporary:
        silent = write_lesioned(model, Path(temporary), lesion) if lesion else []
        model = Path(temporary) if lesion else model
        engine = load_engine(model, *settings.simulation)
        with _counted("simulations", seeds * len(images)) as progress:
            result = measure(engine, images, labels, seeds, progress)
        result["set"] = "validation" if validation else "test"
        if silent:
            result["silent_layers"] = silent
        if distorted:
            with _counted("distortions", len(DISTORTIONS)) as progress:
                result["robustness"] = robustness(engine, images, labels, progress=progress)
        if rewritten:
            with _counted("draws of handwriting", rewritten) as progress:
                result["handwriting"] = handwriting(engine, images, labels, rewritten, progress)
        if mnist.has_unipen(data):
            with _unipen_is_read():
                digits, shown = mnist.unipen_pictures("validation", data)
                others = mnist.unipen_pictures("validation", data, NON_DIGITS)[0]
            result["unipen"] = unseen_writers(engine, (digits[:limit], shown[:limit]), others[:limit], seeds)
        if sigma is not None or stuck:
            with _counted("draws of synapses", draws) as progress:
                result["synapse_noise"] = synapse_noise(
                    model,
                    lambda folder: load_engine(folder, *settings.simulation),
                    images,
                    labels,
                    sigma or 0.0,
                    stuck,
                    draws,
                    progress,
                )
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        _print_evaluation(result)


def _print_evaluation(result: dict[str, Any]) -> None:
    out = Console()
    title = f"{result['model']} {result['version']}: {result['images']} {result['set']} images, {result['seeds']} seeds"
    if "silent_layers" in result:
        title += f"; silent: {', '.join(result['silent_layers'])}"
    table = Table("time steps", "accuracy %", "std", title=title)
    for row in result["accuracy_by_step"]:
        table.add_row(str(row["steps"]), f"{100 * row['mean']:.3f}", f"{100 * row['std']:.3f}")
    rule = result["stopping"]
    used = f"{rule['steps']['mean']:.3f} (confidence {rule['confidence']})"
    table.add_row(used, f"{100 * rule['accuracy']['mean']:.3f}", f"{100 * rule['accuracy']['std']:.3f}")
    out.print(table)
    if result["by_confidence"]:
        table = Table("confidence", "accuracy %", "steps", "additions", title="stopping at other confidences")
        for row in result["by_confidence"]:
            accuracy, steps = f"{100 * row['accuracy']:.3f}", f"{row['steps']:.3f}"
            table.add_row(f"{row['confidence']:g}", accuracy, steps, f"{row['accumulates']:,.0f}")
        out.print(table)
    rates = Table("layer", "firing rate %", title="spikes a neuron and step")
    for name, rate in result["firing_rate"].items():
        rates.add_row(name, f"{100 * rate:.2f}")
    for name, rate in (result["mean_firing_rate"] or {}).items():
        rates.add_row(f"mean {name.replace('_', ' ')}", f"{100 * rate:.2f}")
    out.print(rates)
    confusion = Table("true", *map(str, range(10)), title="confusion, all seeds, under the stopping rule")
    for digit, row in enumerate(result["confusion"]):
        confusion.add_row(str(digit), *map(str, row))
    out.print(confusion)
    if "robustness" in result:
        table = Table("distortion", "accuracy %", "steps", title="distortions that training has never seen")
        for name, row in result["robustness"]["distortions"].items():
            table.add_row(name.replace("_", " "), f"{100 * row['accuracy']:.2f}", f"{row['steps']:.2f}")
        table.add_row("mean", f"{100 * result['robustness']['mean_accuracy']:.2f}", "")
        out.print(table)
    if "handwriting" in result:
        found = result["handwriting"]
        out.print(
            f"digits written otherwise, {found['draws']} draws: {100 * found['accuracy']['mean']:.2f} % "
            f"(std {100 * found['accuracy']['std']:.2f}) in {found['steps']['mean']:.2f} steps"
        )
    if "unipen" in result:
        found = result["unipen"]
        digits, others, sure = found["digits"], found["non_digits"], 100 * found["sure"]
        out.print(
            f"UNIPEN's validation writers: {100 * digits['accuracy']['mean']:.2f} % of {digits['images']:,} digits "
            f"(std {100 * digits['accuracy']['std']:.2f}) in {digits['steps']['mean']:.2f} steps; {sure:g} % sure of "
            f"{100 * digits['above']:.1f} % of them, and of {100 * others['above']:.1f} % of "
            f"{others['images']:,} letters and symbols"
        )
    if "synapse_noise" in result:
        noise = result["synapse_noise"]
        out.print(
            f"synapses that scatter by {100 * noise['sigma']:g} %, {100 * noise['stuck_at']:g} % of them stuck, "
            f"{noise['draws']} draws: {100 * noise['accuracy']['mean']:.2f} % "
            f"(std {100 * noise['accuracy']['std']:.2f})"
        )
    cost = result["synaptic_operations"]
    out.print(f"expected calibration error {rule['expected_calibration_error']['mean']:.5f}")
    out.print(
        f"synaptic operations an image: {cost['accumulates']:,.0f} additions, "
        f"{cost['multiply_accumulates']:,.0f} multiply-accumulates"
    )


@app.command()
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
    from training.comparison import compare as comparison
    from training.fit.compute import choose_device

    _alone()
    stored = models / comparison.STORED
    if teacher and not teacher.is_file():
        raise typer.BadParameter(f"expected a teacher's checkpoint (see `teacher`), found no file {teacher}")
    budget = comparison.Budget(
        epochs=epochs, teacher=teacher, limit=limit, batch_size=batch_size, elastic=elastic
    )
    if version and not (again or remeasure):
        raise typer.BadParameter("expected --retrain or --measure with --version: nothing else exports")
    if contender:
        if again or remeasure or figure or as_json:
            raise typer.BadParameter("expected --contender without --retrain, --measure, --figure or --json")
        try:
            one = comparison.contender_of(contender)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if comparison.finished(one, runs / one.name, budget):
            console.print(f"{one.name} has its {epochs} epochs in {runs / one.name}")
        else:
            comparison.train(one, runs / one.name, budget, choose_device(device), data, console.print)
            comparison.write_model(one, runs / one.name, data, None)
        return
    if again:
        contents = comparison.retrain(
            models, runs, budget, choose_device(device), data, console.print, version
        )
    elif remeasure:
        contents = comparison.measure(models, runs, budget, data, console.print, version)
    elif stored.is_file():
        contents = comparison.stored(stored)
    else:
        raise typer.BadParameter(f"expected a stored table at {stored}: make it with --retrain")
    if again or remeasure:
        comparison.write_readme(models, contents)
    if figure:
        figure.parent.mkdir(parents=True, exist_ok=True)
        comparison.plot(contents).savefig(figure, dpi=120)
    if as_json:
        print(json.dumps(contents, indent=1))
        return
    header, *lines = comparison.table(contents)
    table = Table(*header, title=f"{contents['test_images']} test images, {contents['date']}")
    for line in lines:
        table.add_row(*line)
    Console(width=None if sys.stdout.isatty() else 220).print(table)


@app.command()
def figures(
    image: Annotated[Path, typer.Argument(help="picture of a digit, prepared as the service does")],
    model: Annotated[Path, typer.Option(help="model folder")] = Path("models/spiking-mha"),
    out: Annotated[Path, typer.Option(help="folder for the PNG files")] = Path("figures"),
    more: Annotated[
        list[Path] | None, typer.Option("--sample", help="further pictures for the sheet")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="time steps (default: the model's)")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 7,
) -> None:
    """Draw what happens to an image: one PNG for each stage, and one sheet."""
    from spikehead.engine.onnxruntime import OnnxruntimeEngine
    from spikehead.engine.run import observe
    from spikehead.insight.figures import draw_all
    from spikehead.pictures.normalise import prepare

    engine = OnnxruntimeEngine(model)
    limit = engine.card.max_steps
    if steps is not None and steps > limit:
        raise typer.BadParameter(f"expected at most {limit} steps, got {steps}")
    runs = []
    for path in [image, *(more or [])]:
        if not path.is_file():
            raise typer.BadParameter(f"expected a picture, found no file {path}")
        pixels = prepare(path.read_bytes(), max_pixels=50_000_000)
        runs.append(observe(engine, pixels, seed, steps or limit))
    for written in draw_all(engine.card, runs, out, seed):
        console.print(written)


@app.command()
def retina(
    image: Annotated[Path, typer.Argument(help="picture of a digit, prepared as the service does")],
    out: Annotated[Path, typer.Option(help="file of the picture, .png or .svg")] = Path("retina.png"),
    seed: Annotated[int, typer.Option(min=0, help="of the distortions")] = 1,
) -> None:
    """Draw a digit under every distortion, and what the retina makes of each."""
    from spikehead.pictures.normalise import prepare

    from training.comparison.retina_figure import draw

    if not image.is_file():
        raise typer.BadParameter(f"expected a picture, found no file {image}")
    pixels = prepare(image.read_bytes(), max_pixels=50_000_000)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(pixels, seed).savefig(out, dpi=120)
    console.print(out)


def main() -> None:
    """Entry point. A second Ctrl-C ends at once."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    app()
