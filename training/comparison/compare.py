"""Does attention help, and do spikes? Networks side by side: same data, same budget, one table.

`retrain` trains each contender for the same number of epochs on the same varied images with the same teacher,
exports it, and measures it; the shipped model stands beside them. What is measured is stored in
`models/comparison.json`, from which `table`, `models/README.md` and the plot are made.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from spikehead.engine import native
from spikehead.engine.base import Engine, Rule, Stimulus
from spikehead.engine.loading import load_engine
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import CARD_FILE, Card, ModelError, load_card, synapses_of
from spikehead.model.synaptic_operations import energy_nj

from training.comparison.quantised import QuantisedAnn
from training.data import mnist as data
from training.data.distortions import DISTORTIONS, distorted
from training.export import ann_graph
from training.export.ann_graph import AnyAnn
from training.export.artifact import MAX_STEPS, calibration_seeds, export, export_ann, reset_interval_of
from training.fit.compute import Precision, choose_precision
from training.fit.loop import FitSettings, fit, load_fitted
from training.fit.teacher import load_teacher
from training.fit.train import BEST, CHECKPOINT, Trainer, TrainingSettings
from training.measure.evaluate import evaluate, handwriting, rewritten, robustness
from training.network.ann import AnnTwin, LeNet5, MnistCnn
from training.network.spiking import NetworkConfig

STORED = "comparison.json"
SHIPPED = "spiking-mha"
HANDWRITING_DRAWS = 3
SHIP_TOO = ("glm", "ann-twin")
"""Contenders whose models are shipped beside the network."""


@dataclass(frozen=True)
class Contender:
    """A network in the comparison. Spiking ones have a configuration, conventional ones a class."""

    name: str
    title: str
    network: NetworkConfig | None = None
    ann: type[AnyAnn] | None = None


CONTENDERS = (
    Contender("spiking-mha", "spiking, with attention", NetworkConfig()),
    Contender("no-attention", "the same without attention", NetworkConfig(attention=False)),
    Contender("glm", "GLM output neurons alone", NetworkConfig(kind="glm")),
    Contender("ann-twin", "ANN twin (ReLU, softmax attention)", ann=AnnTwin),
    Contender("lenet5", "LeNet-5", ann=LeNet5),
    Contender("mnist-cnn", "PyTorch's MNIST example CNN", ann=MnistCnn),
)


@dataclass(frozen=True)
class Row:
    """A line of the table; an image on average, on the test set."""

    name: str
    title: str
    epochs: int
    accuracy: float
    accuracy_std: float  # over encoder seeds
    accuracy_first: float  # after one step
    by_confidence: list[dict[str, float]]  # `training.measure.evaluate`; empty where there is one step alone
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


@dataclass(frozen=True)
class Budget:
    """What every contender gets."""

    epochs: int = 8
    teacher: Path | None = None
    limit: int | None = None
    batch_size: int = 128
    elastic: float = data.Variation.elastic_pixels
    seed: int = 1
    held_out: int | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Budget:
        """The budget that a training's stored settings tell of."""
        teacher = settings.get("teacher")
        return cls(
            epochs=settings["epochs"],
            teacher=Path(teacher) if teacher else None,
            limit=settings["limit"],
            batch_size=settings["batch_size"],
            elastic=settings["variation"]["elastic_pixels"],
            seed=settings["seed"],
            held_out=settings.get("held_out"),
        )

    @property
    def final_epochs(self) -> int:
        """At the end: in integers for spiking networks, and with less variation for all."""
        return max(1, min(self.epochs // 4, 20))

    @property
    def command(self) -> str:
        """What trains every contender within this budget."""
        command = f"python -m training compare --retrain --epochs {self.epochs}"
        if self.batch_size != Budget.batch_size:
            command += f" --batch-size {self.batch_size}"
        if self.elastic != Budget.elastic:
            command += f" --elastic {self.elastic}"
        return command + (f" --teacher {self.teacher}" if self.teacher else "")

    def spiking(self, network: NetworkConfig, precision: Precision) -> TrainingSettings:
        """The budget as settings of a spiking network's training."""
        return TrainingSettings(
            epochs=self.epochs,
            integer_epochs=self.final_epochs,
            batch_size=self.batch_size,
            teacher=str(self.teacher) if self.teacher else None,
            precision=precision,
            limit=self.limit,
            seed=self.seed,
            network=network,
            variation=data.Variation(elastic_pixels=self.elastic),
        )

    def conventional(self, precision: Precision) -> FitSettings:
        """The budget as settings of a conventional network's training."""
        return FitSettings(
            epochs=self.epochs,
            final_epochs=self.final_epochs,
            batch_size=self.batch_size,
            teacher=str(self.teacher) if self.teacher else None,
            precision=precision,
            limit=self.limit,
            seed=self.seed,
            variation=data.Variation(elastic_pixels=self.elastic),
        )


Report = Callable[[str], None]
Drawn = Mapping[str, NDArray[np.uint8]]
"""The test images under each distortion."""


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

    A contender whose model stands in `runs` already is not trained again; a spiking one that was stopped is gone on
    with, a conventional one begins anew.
    """
    for contender in CONTENDERS:
        run = runs / contender.name
        if not finished(contender, run, budget):
            report(f"{contender.name}: training for {budget.epochs} epochs")
            train(contender, run, budget, device, data_root, report)
    return measure(models, runs, budget, data_root, report, version)


def _model(run: Path) -> Path:
    """Where the model of a run is written: a model is called what its folder is."""
    return run / run.name


def contender_of(name: str) -> Contender:
    """The contender of that name. Raises ValueError for any other."""
    for contender in CONTENDERS:
        if contender.name == name:
            return contender
    names = ", ".join(contender.name for contender in CONTENDERS)
    raise ValueError(f"expected a contender among {names}, got {name!r}")


def finished(contender: Contender, run: Path, budget: Budget) -> bool:
    """Whether a contender's run has all of its epochs; where its checkpoints are gone, whether its model is there.

    Raises ModelError where the run had another budget: it can neither be gone on with nor be compared.
    """
    last = run / (CHECKPOINT if contender.network else BEST)
    if not last.is_file():
        return (_model(run) / CARD_FILE).is_file()
    contents = torch.load(last, map_location="cpu", weights_only=True)
    found = Budget.of(contents["settings"])
    if found != budget:
        raise ModelError(f"expected a run of {budget} in {run}, found one of {found}")
    return bool(contents["epoch"] >= budget.epochs)


def train(
    contender: Contender,
    run: Path,
    budget: Budget,
    device: torch.device,
    data_root: Path | None,
    report: Report,
) -> None:
    """Train one contender in `run`; a spiking one goes on with what is there.

    Raises DataError for a teacher that learned from more than MNIST.
    """
    precision = choose_precision("auto", device)
    teacher, taught_by = load_teacher(budget.teacher, device) if budget.teacher else (None, {})
    if taught_by.get("settings", {}).get("unipen"):
        raise data.DataError(
            f"expected a teacher that learned from MNIST alone, as all contenders do, got {budget.teacher}, "
            "which learned from UNIPEN's writers too"
        )
    if contender.network is not None:
        compiled = contender.network.kind != "glm" and budget.limit is None
        trainer = Trainer(budget.spiking(contender.network, precision), run, device, data_root, compiled)
        if (run / CHECKPOINT).is_file():
            trainer.resume()
        trainer.run(
            lambda done, total, figures: None,
            lambda epoch: report(
                f"{contender.name}: epoch {epoch.epoch}, {epoch.validation_accuracy}, {epoch.seconds:.1f} s"
            ),
        )
        return
    assert contender.ann is not None
    torch.manual_seed(budget.seed)
    fit(
        contender.ann(),
        budget.conventional(precision),
        run / BEST,
        device,
        data_root,
        lambda done, total, figures: None,
        lambda epoch, loss, accuracy: report(f"{contender.name}: epoch {epoch}, {accuracy}"),
        teacher,
    )


def write_model(contender: Contender, run: Path, data_root: Path | None, version: str | None) -> None:
    """The model folder of a trained contender, in its run's folder, as of that `version`.

    None: that of the model before it, or 1.0.0. Nothing is written where that model is there already.
    """
    best = run / BEST
    if not best.is_file():
        return  # its checkpoints are gone
    contents = torch.load(best, map_location="cpu", weights_only=True)
    folder, budget = _model(run), Budget.of(contents["settings"])
    held_out = data.load("validation", data_root, budget.held_out)
    if budget.limit:
        held_out = held_out[0][: budget.limit], held_out[1][: budget.limit]
    if (folder / CARD_FILE).is_file():
        card = load_card(folder)
        version = version or card.version
        same = card.version == version and card.training["epochs_done"] == contents["epoch"]
        if same and (
            contender.ann is not None
            or _rule(card) == _rule_of_export(contents["settings"], len(held_out[0]))
        ):
            return
        if same:  # its records would replay otherwise than they were answered
            raise ModelError(
                f"expected another --version than {version}: {contender.name} would stop by another rule"
            )
    version = version or "1.0.0"
    if contender.network is not None:
        export(best, folder, held_out, held_out[0][:100], command=budget.command, version=version)
        return
    assert contender.ann is not None
    network = contender.ann()
    load_fitted(network, best)
    trained = {
        "command": budget.command,
        "settings": contents["settings"],
        "epochs_done": contents["epoch"],
        "data_sha256": contents["data_sha256"],
    }
    export_ann(
        network, folder, held_out, trained, version=version, description=f"{contender.title}; reads a digit."
    )


def _title_of_shipped(shipped: Card, retrained: Card) -> str:
    """In what the shipped model differs from the contender of its name."""
    name = shipped.version
    if shipped.graph == retrained.graph:
        return f"{name}, stops otherwise"
    one, other = (
        TrainingSettings.from_dict(card.training["settings"]).network.as_dict()
        for card in (shipped, retrained)
    )
    shape = [f"{key.replace('_', ' ')} {one[key]}" for key in one if one[key] != other[key]]
    return ", ".join([name, *(shape if len(shape) < 4 else ["another shape"]), "trained otherwise"])


def _rule(card: Card) -> tuple[int, int | None, int | None]:
    """How long a model's runs may be, how long a look of them is, and of how many seeds it learned when to stop."""
    return card.max_steps, card.reset_interval, card.accuracy.get("validation", {}).get("seeds")


def _rule_of_export(settings: dict[str, Any], images: int) -> tuple[int, int | None, int | None]:
    """The same, as `export` would write it for a run of these settings and so many validation images."""
    interval = reset_interval_of(TrainingSettings.from_dict(settings))
    return MAX_STEPS, interval, calibration_seeds(images)


def load_ann(contender: Contender, checkpoint: Path) -> AnyAnn:
    """A trained conventional contender."""
    assert contender.ann is not None
    network = contender.ann()
    load_fitted(network, checkpoint)
    return network


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in ("model.onnx", "card.json"):
        (target / file).write_bytes((source / file).read_bytes())


def measure(
    models: Path,
    runs: Path,
    budget: Budget,
    data_root: Path | None,
    report: Report,
    version: str | None = None,
) -> dict[str, Any]:
    """Measure the trained contenders and the shipped model on the test set; store and return the figures.

    A contender is exported first where its best checkpoint was not yet, and be it one of a run that was stopped. About
    `version` see `write_model`.
    """
    for contender in CONTENDERS:
        run = runs / contender.name
        report(f"{contender.name}: exporting")
        write_model(contender, run, data_root, version)
        if contender.name in SHIP_TOO:
            _copy(_model(run), models / contender.name)
    images, labels = data.load("test", data_root)
    images, labels = images[: budget.limit], labels[: budget.limit]
    folders = {contender.name: _model(runs / contender.name) for contender in CONTENDERS}
    titles = {contender.name: contender.title for contender in CONTENDERS}
    if (models / SHIPPED / CARD_FILE).exists():
        shipped, retrained = load_card(models / SHIPPED), load_card(folders[SHIPPED])
        if shipped.graph == retrained.graph and shipped.calibration == retrained.calibration:
            titles[SHIPPED] += f": {shipped.version}"
        else:
            name = f"{SHIPPED} {shipped.version}"  # the table outlives the version
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


def epochs_of(training: Mapping[str, Any]) -> int:
    """All epochs that a card's `training` tells of, those of the models that it went on from among them."""
    before = training.get("started_from")
    return int(training["epochs_done"]) + (epochs_of(before["training"]) if before else 0)


def dense_operations(card: Card) -> int:
    """Multiply-accumulates of one step if every value were there. Attention in the order K^T V, then Q (K^T V)."""
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
    """The twin after onnxruntime's static quantisation to 8 bits, calibrated on training images."""
    graph = ann_graph.build(twin, "ann-twin", counting=False)[0]
    quantised = QuantisedAnn.of(graph, run / "int8.onnx", data.load("train", data_root)[0][:500])
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
    """Each row with the time that an image takes, LeNet-5's being 1. Contenders alternate, one thread, medians."""
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


COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("network", lambda row: row["title"]),
    ("epochs", lambda row: str(row["epochs"])),
    ("accuracy %", lambda row: f"{100 * row['accuracy']:.2f} ± {100 * row['accuracy_std']:.2f}"),
    ("after 1 step %", lambda row: f"{100 * row['accuracy_first']:.2f}"),
    ("written otherwise %", lambda row: f"{100 * row['handwriting']:.2f}"),
    ("robustness %", lambda row: f"{100 * row['robustness']:.1f}"),
    ("parameters", lambda row: f"{row['parameters']:,}"),
    ("bytes", lambda row: f"{row['bytes']:,}"),
    ("steps", lambda row: f"{row['steps']:.2f}"),
    ("active %", lambda row: "-" if row["firing_rate"] is None else f"{100 * row['firing_rate']:.1f}"),
    ("dense MACs", lambda row: f"{row['dense_multiply_accumulates']:,.0f}"),
    ("ACs", lambda row: f"{row['accumulates']:,.0f}"),
    ("MACs", lambda row: f"{row['multiply_accumulates']:,.0f}"),
    ("nJ, FP32", lambda row: f"{row['energy_fp32_nj']:,.0f}"),
    ("nJ, INT8", lambda row: f"{row['energy_int8_nj']:,.1f}"),
    ("time, onnxruntime", lambda row: f"{row['latency_onnxruntime']:.2f}"),
    ("time, native", lambda row: "-" if row["latency_native"] is None else f"{row['latency_native']:.2f}"),
)


def stored(path: Path) -> dict[str, Any]:
    """The table that `measure` stored. Raises ModelError where an older version did, which measured less."""
    contents: dict[str, Any] = json.loads(path.read_text())
    lacking = {one.name for one in fields(Row)} - set(contents["rows"][0])
    if lacking:
        raise ModelError(
            f"expected a table of this version in {path}, found one without {', '.join(sorted(lacking))}: "
            "make it again with --measure"
        )
    return contents


def table(contents: dict[str, Any]) -> list[list[str]]:
    """Header and lines, as text."""
    return [[title for title, _ in COLUMNS]] + [
        [show(row) for _, show in COLUMNS] for row in contents["rows"]
    ]


def markdown(contents: dict[str, Any]) -> str:
    """The table for `models/README.md`."""
    lines = table(contents)
    lines.insert(1, ["---"] * len(COLUMNS))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def plot(contents: dict[str, Any]) -> Figure:
    """Accuracy, and robustness, against the energy of an image; accuracy against the steps that it may take.

    Heights go by errors, in logarithms.
    """
    figure = Figure(figsize=(14, 4.5), layout="constrained")
    rows = contents["rows"]
    most = max(row["energy_int8_nj"] for row in rows)
    *by_energy, by_steps = figure.subplots(1, 3)
    for axes, key, label in zip(
        by_energy,
        ("accuracy", "robustness"),
        ("accuracy (%)", "under distortions (%)"),
        strict=True,
    ):
        for row in rows:
            spiking = row["accumulates"] > 0 or row["name"] == "glm"
            colour = "#d62728" if spiking else "#1f77b4"
            axes.scatter(row["energy_int8_nj"], 100 * row[key], color=colour, s=40)
            # Names do not meet: of those of about the same energy, spiking ones stand one above the other, from the
            # worst to the best; of the others the best has its name above it.
            around = [one for one in rows if 1 / 3 < one["energy_int8_nj"] / row["energy_int8_nj"] < 3]
            below = [one for one in around if one["accumulates"] > 0 and one[key] < row[key]]
            above = spiking or row[key] == max(one[key] for one in around)
            leftwards = spiking or 3 * row["energy_int8_nj"] > most
            axes.annotate(
                row["name"],
                (row["energy_int8_nj"], 100 * row[key]),
                xytext=(-4 if leftwards else 4, 5 + 10 * len(below) * spiking if above else -11),
                textcoords="offset points",
                horizontalalignment="right" if leftwards else "left",
                fontsize=8,
            )
        axes.set(xscale="log", xlabel="energy of an image (nJ, 45 nm, INT8 operations alone)", ylabel=label)
        _by_errors(axes, TICKS)
    # Output neurons alone err ten times as often as the others.
    adaptive = [row for row in rows if row["by_confidence"] and row["firing_rate"] is not None]
    for row, colour in zip(adaptive, itertools.cycle(REDS), strict=False):
        steps, accuracy = ([one[key] for one in row["by_confidence"]] for key in ("steps", "accuracy"))
        by_steps.plot(steps, 100 * np.array(accuracy), marker=".", color=colour, label=row["name"])
        by_steps.scatter(row["steps"], 100 * row["accuracy"], color=colour, s=60, zorder=3)
    by_steps.set(xscale="log", xlabel="steps of an image, on average", ylabel="accuracy (%)")
    by_steps.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    by_steps.set_xticks([], minor=True)
    if by_steps.get_lines():
        by_steps.legend(
            title="at several confidences; circles: the model's own", fontsize=8, title_fontsize=8
        )
    _by_errors(by_steps, FINE_TICKS)
    figure.suptitle(f"spiking (red) and conventional (blue) networks on the test set, {contents['date']}")
    return figure


REDS = ("#d62728", "#ff9896", "#7f1d1d")
TICKS = (50, 60, 70, 80, 85, 88, 90, 92, 94, 95, 96, 97, 98, 99, 99.5, 99.7, 99.9)
FINE_TICKS = (*TICKS[:-3], 99.2, 99.3, 99.4, 99.5, 99.6, 99.7, 99.8, 99.9)


def _by_errors(axes: Axes, ticks: Sequence[float]) -> None:
    """Between 99.0 and 99.5 % half of the errors go: a linear axis would show them as one."""
    axes.margins(0.15)
    axes.set_yscale("function", functions=(_falling_errors, _accuracy_of))
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in ticks if low <= tick <= high], minor=False)
    axes.set_yticklabels([f"{tick:g}" for tick in ticks if low <= tick <= high])


def _falling_errors(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the errors left (%), negative, so that better is higher. At least 0.01 % are."""
    return -np.log10(np.maximum(100.0 - np.asarray(accuracy), 0.01))


def _accuracy_of(height: NDArray[np.float64]) -> NDArray[np.float64]:
    return 100.0 - 10.0 ** -np.asarray(height)


BEGIN, END = "<!-- table: python -m training compare -->", "<!-- end of table -->"


def write_readme(models: Path, contents: dict[str, Any]) -> None:
    """Put the table into `models/README.md`, between its marks."""
    path = models / "README.md"
    text = path.read_text() if path.is_file() else f"# Models\n\n{BEGIN}\n{END}\n"
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{markdown(contents)}{END}{after}")
