"""Does attention help, and do spikes? Networks side by side: same data, same budget, one table.

`retrain` trains each contender for the same number of epochs on the same varied images with the same teacher,
exports it, and measures it; the shipped model stands beside them. What is measured is stored in
`models/comparison.json`, from which the table, `models/README.md` and the plot are made.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spikehead.engine import native
from spikehead.engine.base import Engine, Rule, Stimulus
from spikehead.engine.loading import load_engine
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import CARD_FILE, Card, load_card, synapses_of
from spikehead.model.synaptic_operations import energy_nj

from training.comparison.contenders import CONTENDERS, Budget, contender_of
from training.comparison.quantised import QuantisedAnn
from training.comparison.train import Report, finished, load_ann, model_folder, train, write_model
from training.data import mnist
from training.data.distortions import DISTORTIONS, distorted
from training.export import ann_graph
from training.export.ann_graph import AnyAnn
from training.fit.train import BEST, TrainingSettings
from training.measure.evaluate import evaluate, handwriting, rewritten, robustness

STORED = "comparison.json"
SHIPPED = "spiking-mha"
HANDWRITING_DRAWS = 3
SHIP_TOO = ("glm", "ann-twin")
"""Contenders whose models are shipped beside the network."""

Drawn = Mapping[str, NDArray[np.uint8]]
"""The test images under each distortion."""


@dataclass(frozen=True)
class Row:
    """A line of the table: means over the images of the test set."""

    name: str
    title: str
    epochs: int
    accuracy: float
    accuracy_std: float  # over encoder seeds
    accuracy_first: float  # after one step
    by_confidence: list[dict[str, float]]  # `training.measure.evaluate`; empty for networks of one step
    parameters: int
    bytes: int  # of the graph file
    steps: float
    firing_rate: float | None  # mean over hidden layers: spikes, or values not 0
    dense_multiply_accumulates: float
    accumulates: float
    multiply_accumulates: float
    energy_fp32_nj: float
    energy_int8_nj: float
    handwriting: float  # accuracy on digits written otherwise, as training varies them
    robustness: float  # mean accuracy under the distortions of `training.data.distortions`
    latency_onnxruntime: float  # of an image, LeNet-5 is 1
    latency_native: float | None


def retrain(
    models: Path,
    runs: Path,
    budget: Budget,
    device: torch.device,
    data_root: Path | None,
    report: Report,
    version: str | None = None,
) -> dict[str, Any]:
    """Train, export and measure all contenders; write `models/comparison.json`; return what it holds.

    A contender whose model is in `runs` already is not trained again. A spiking one that was stopped is resumed, a
    conventional one begins anew.
    """
    for contender in CONTENDERS:
        run = runs / contender.name
        if not finished(contender, run, budget):
            report(f"{contender.name}: training for {budget.epochs} epochs")
            train(contender, run, budget, device, data_root, report)
    return measure(models, runs, budget, data_root, report, version)


def measure(
    models: Path,
    runs: Path,
    budget: Budget,
    data_root: Path | None,
    report: Report,
    version: str | None = None,
) -> dict[str, Any]:
    """Measure the trained contenders and the shipped model on the test set; store and return the figures.

    A contender is exported first if its best checkpoint was not yet, even if its run was stopped. About `version` see
    `write_model`.
    """
    for contender in CONTENDERS:
        run = runs / contender.name
        report(f"{contender.name}: exporting")
        write_model(contender, run, data_root, version)
        if contender.name in SHIP_TOO:
            shutil.copytree(model_folder(run), models / contender.name, dirs_exist_ok=True)
    images, labels = mnist.load("test", data_root)
    images, labels = images[: budget.limit], labels[: budget.limit]
    folders = {contender.name: model_folder(runs / contender.name) for contender in CONTENDERS}
    titles = {contender.name: contender.title for contender in CONTENDERS}
    if (models / SHIPPED / CARD_FILE).exists():
        shipped, retrained = load_card(models / SHIPPED), load_card(folders[SHIPPED])
        if shipped.graph == retrained.graph and shipped.calibration == retrained.calibration:
            titles[SHIPPED] += f": {shipped.version}"
        else:
            # the table outlives the version
            name = f"{SHIPPED} {shipped.version}"
            folders = {name: models / SHIPPED, **folders}
            titles[name] = _title_of_shipped(shipped, retrained)
    report("drawing distortions")
    drawn = {name: distorted(images, name, 1) for name in DISTORTIONS}
    written = [rewritten(images, draw) for draw in range(HANDWRITING_DRAWS)]
    rows = []
    for name, folder in folders.items():
        report(f"{name}: measuring")
        rows.append(_row(name, titles[name], folder, images, labels, drawn, written))
        if name == "ann-twin":
            twin = load_ann(contender_of(name), runs / name / BEST)
            report(f"{name}: quantising")
            rows.append(
                _quantised_row(twin, rows[-1], runs / name, images, labels, drawn, written, data_root)
            )
    rows = _with_latencies(rows, folders, runs, images)
    contents = {
        "command": load_card(folders[CONTENDERS[0].name]).training["command"],
        "date": time.strftime("%Y-%m-%d"),
        "test_images": len(images),
        "rows": [asdict(row) for row in rows],
    }
    (models / STORED).write_text(json.dumps(contents, indent=1) + "\n")
    return contents


def _title_of_shipped(shipped: Card, retrained: Card) -> str:
    """Say in what the shipped model differs from the contender of its name."""
    name = shipped.version
    if shipped.graph == retrained.graph:
        return f"{name}, stops otherwise"
    one, other = (
        TrainingSettings.from_dict(card.training["settings"]).network.as_dict()
        for card in (shipped, retrained)
    )
    shape = [f"{key.replace('_', ' ')} {one[key]}" for key in one if one[key] != other[key]]
    return ", ".join([name, *(shape if len(shape) < 4 else ["another shape"]), "trained otherwise"])


def epochs_of(training: Mapping[str, Any]) -> int:
    """Count the epochs that a card's `training` tells of, with those of the models that it started from."""
    before = training.get("started_from")
    return int(training["epochs_done"]) + (epochs_of(before["training"]) if before else 0)


def dense_operations(card: Card) -> int:
    """Count the multiply-accumulates of a step if no value were 0. Attention in the order K^T V, then Q (K^T V)."""
    total = sum(synapses_of(layer) for layer in card.layers[:-1])
    # a query's fan-out is Q (K^T V); K^T V costs as much
    total += sum(synapses_of(layer) for layer in card.layers if layer.name.endswith(".query"))
    return total + card.fixed_multiply_accumulates


def _row(
    name: str,
    title: str,
    folder: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    drawn: Drawn,
    written: Sequence[NDArray[np.uint8]],
) -> Row:
    engine = load_engine(folder)
    card = engine.card
    found = evaluate(engine, images, labels, seeds=1 if card.kind == "ann" else 5)
    cost = found["synaptic_operations"]
    steps = found["stopping"]["steps"]["mean"]
    return Row(
        name=name,
        title=title,
        epochs=epochs_of(card.training),
        accuracy=found["stopping"]["accuracy"]["mean"],
        accuracy_std=found["stopping"]["accuracy"]["std"],
        accuracy_first=found["accuracy_by_step"][0]["mean"],
        by_confidence=found["by_confidence"],
        parameters=card.parameters,
        bytes=(folder / card.graph.file).stat().st_size,
        steps=steps,
        firing_rate=found["mean_firing_rate"]["over_layers"] if found["mean_firing_rate"] else None,
        dense_multiply_accumulates=dense_operations(card) * steps,
        accumulates=cost["accumulates"],
        multiply_accumulates=cost["multiply_accumulates"],
        energy_fp32_nj=energy_nj(**cost, precision="fp32"),
        energy_int8_nj=energy_nj(**cost, precision="int8"),
        handwriting=handwriting(engine, images, labels, len(written), drawn=written)["accuracy"]["mean"],
        robustness=robustness(engine, images, labels, drawn=drawn)["mean_accuracy"],
        latency_onnxruntime=0.0,
        latency_native=None,
    )


def _quantised_row(
    twin: AnyAnn,
    row: Row,
    run: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    drawn: Drawn,
    written: Sequence[NDArray[np.uint8]],
    data_root: Path | None,
) -> Row:
    """Measure the twin after onnxruntime's static quantisation to 8 bits, calibrated on training images."""
    graph = ann_graph.build(twin, "ann-twin", counting=False)[0]
    quantised = QuantisedAnn.of(graph, run / "int8.onnx", mnist.load("train", data_root)[0][:500])
    accuracy = quantised.accuracy(images, labels)
    return replace(
        row,
        name="ann-twin-int8",
        title="ANN twin in 8 bits",
        accuracy=accuracy,
        accuracy_std=0.0,
        accuracy_first=accuracy,
        bytes=quantised.path.stat().st_size,
        handwriting=float(np.mean([quantised.accuracy(one, labels) for one in written])),
        robustness=quantised.robustness(drawn, labels),
    )


def _with_latencies(
    rows: list[Row], folders: dict[str, Path], runs: Path, images: NDArray[np.uint8]
) -> list[Row]:
    """Add the time of an image to each row, relative to LeNet-5's: medians, on one thread, contenders alternating."""
    some = images[np.random.default_rng(0).permutation(len(images))[:200]]
    runners: dict[tuple[str, str], Callable[[NDArray[np.uint8]], object]] = {}
    for row in rows:
        if row.name == "ann-twin-int8":
            runners[row.name, "onnxruntime"] = QuantisedAnn(runs / "ann-twin" / "int8.onnx").run
            continue
        card = load_card(folders[row.name])
        if card.kind == "ann":
            contender = contender_of(row.name)
            graph = ann_graph.build(load_ann(contender, runs / row.name / BEST), row.name, counting=False)[0]
            runners[row.name, "onnxruntime"] = QuantisedAnn.plain(graph).run
            continue
        runners[row.name, "onnxruntime"] = _runner(OnnxruntimeEngine(folders[row.name]))
        if native.available():
            runners[row.name, "native"] = _runner(native.NativeEngine(folders[row.name]))
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runners}
    for image in some:
        for key, run in runners.items():
            began = time.perf_counter()
            run(image[None])
            times[key].append(time.perf_counter() - began)
    unit = statistics.median(times["lenet5", "onnxruntime"])
    ratio = {key: statistics.median(values) / unit for key, values in times.items()}
    return [
        replace(
            row,
            latency_onnxruntime=ratio[row.name, "onnxruntime"],
            latency_native=ratio.get((row.name, "native")),
        )
        for row in rows
    ]


def _runner(engine: Engine) -> Callable[[NDArray[np.uint8]], None]:
    rule = Rule(engine.card.max_steps, engine.card.calibration.confidence)

    def run(image: NDArray[np.uint8]) -> None:
        engine.classify(Stimulus(image, [0]), rule)

    return run
