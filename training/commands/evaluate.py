"""`evaluate`: an exported model, measured."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from training.commands.options import DataOption, ModelArgument
from training.commands.progress import counted, unipen_is_read


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
        with counted("simulations", seeds * len(images)) as progress:
            result = measure(engine, images, labels, seeds, progress)
        result["set"] = "validation" if validation else "test"
        if silent:
            result["silent_layers"] = silent
        if distorted:
            with counted("distortions", len(DISTORTIONS)) as progress:
                result["robustness"] = robustness(engine, images, labels, progress=progress)
        if rewritten:
            with counted("draws of handwriting", rewritten) as progress:
                result["handwriting"] = handwriting(engine, images, labels, rewritten, progress)
        if mnist.has_unipen(data):
            with unipen_is_read():
                digits, shown = mnist.unipen_pictures("validation", data)
                others = mnist.unipen_pictures("validation", data, NON_DIGITS)[0]
            result["unipen"] = unseen_writers(engine, (digits[:limit], shown[:limit]), others[:limit], seeds)
        if sigma is not None or stuck:
            with counted("draws of synapses", draws) as progress:
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
