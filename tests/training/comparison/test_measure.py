"""A small comparison from training to figures, and every figure that is worked out by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikehead.engine import native
from spikehead.engine.loading import load_engine
from spikehead.model.card import ModelError, load_card
from spikehead.model.synaptic_operations import energy_nj

from tests.training.comparison.conftest import row
from tests.training.conftest import Exported, Mnist, make_network, write_checkpoint
from training.comparison.contenders import Budget, Contender
from training.comparison.measure import (
    STORED,
    Row,
    _title_of_shipped,
    dense_operations,
    epochs_of,
    measure,
    retrain,
)
from training.comparison.quantised import QuantisedAnn
from training.comparison.train import finished, load_ann, train, write_model
from training.data.distortions import DISTORTIONS, distorted
from training.export.ann_graph import build
from training.fit.teacher import Teacher
from training.fit.train import TrainingSettings, load_network
from training.measure.evaluate import evaluate, robustness
from training.network.ann import AnnTwin, LeNet5
from training.network.spiking import NetworkConfig

MEASURE = "training.comparison.measure"
CPU = torch.device("cpu")


TINY = NetworkConfig(stem=(2, 3), channels=4, blocks=1, heads=2)


class TinyTwin(AnnTwin):
    """The twin of the tiny network."""

    def __init__(self) -> None:
        super().__init__(TINY)


FEW = (
    Contender("spiking-mha", "tiny, spiking", TINY),
    Contender("glm", "output neurons alone", NetworkConfig(kind="glm")),
    Contender("ann-twin", "tiny, conventional", ann=TinyTwin),
    Contender("lenet5", "LeNet-5", ann=LeNet5),
)


NAMES = ["spiking-mha", "glm", "ann-twin", "ann-twin-int8", "lenet5"]


def test_epochs_are_those_of_the_models_before_too() -> None:
    before = {"epochs_done": 5, "started_from": {"name": "older", "training": {"epochs_done": 7}}}
    assert epochs_of({"epochs_done": 3}) == 3
    assert epochs_of({"epochs_done": 3, "started_from": {"name": "old", "training": before}}) == 15


@dataclass(frozen=True)
class Compared:
    """A small comparison: its folders, and what it gave and said."""

    models: Path
    runs: Path
    contents: dict[str, Any]
    said: list[str]
    test_images: np.ndarray
    test_labels: np.ndarray

    def row(self, name: str) -> dict[str, Any]:
        (found,) = [one for one in self.contents["rows"] if one["name"] == name]
        return found  # type: ignore[no-any-return]

    def folder(self, name: str) -> Path:
        return self.runs / name / name


@pytest.fixture(scope="module")
def compared(tiny_mnist: Mnist, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compared]:
    """Four contenders, two epochs, 24 images, a teacher that knows nothing, two distortions."""
    folder = tmp_path_factory.mktemp("compare")
    teacher = folder / "teacher.pt"
    torch.manual_seed(0)
    torch.save({"network": Teacher().state_dict()}, teacher)
    few = {name: DISTORTIONS[name] for name in ("gaussian_noise", "inverted")}
    (folder / "models").mkdir()
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.comparison.contenders.CONTENDERS", FEW)
        patch.setattr(f"{MEASURE}.CONTENDERS", FEW)
        patch.setattr("training.measure.evaluate.DISTORTIONS", few)
        patch.setattr(f"{MEASURE}.DISTORTIONS", few)
        patch.setattr("training.data.mnist.VALIDATION_IMAGES", 50)
        budget = Budget(epochs=2, teacher=teacher, limit=24)
        contents = retrain(folder / "models", folder / "runs", budget, CPU, tiny_mnist.folder, said.append)
        yield Compared(
            folder / "models",
            folder / "runs",
            contents,
            said,
            tiny_mnist.test_images[:24],
            tiny_mnist.test_labels[:24],
        )


def test_every_contender_is_trained_for_the_same_budget(compared: Compared) -> None:
    spiking, settings, _ = load_network(compared.runs / "spiking-mha" / "best.pt")
    assert (settings.epochs, settings.integer_epochs, settings.limit, settings.seed) == (2, 1, 24, 1)
    assert spiking.config == TINY
    teachers = set()
    for contender in FEW:
        trained = load_card(compared.folder(contender.name)).training
        assert trained["epochs_done"] == 2
        assert trained["settings"]["epochs"] == 2 and trained["settings"]["limit"] == 24
        teachers.add(trained["settings"]["teacher"])
        assert trained["command"].startswith("python -m training compare --retrain --epochs 2 --teacher ")
    assert len(teachers) == 1 and teachers.pop().endswith("teacher.pt")
    hashes = {load_card(compared.folder(one.name)).training["data_sha256"] for one in FEW}
    assert len(hashes) == 1  # the same images


STOPPED_BUDGET = Budget(epochs=3, limit=16)


def stop_after_two_epochs(contender: Contender, run: Path, mnist: Mnist) -> None:
    """Train, and stop as Ctrl-C does."""
    said: list[str] = []

    def report(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(contender, run, STOPPED_BUDGET, CPU, mnist.folder, report)


def test_a_contender_that_was_stopped_is_gone_on_with(
    compared: Compared, tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.mnist.VALIDATION_IMAGES", 50)
    for contender in (FEW[0], next(one for one in FEW if one.ann)):
        run = tmp_path / contender.name
        assert not finished(contender, run, STOPPED_BUDGET)
        stop_after_two_epochs(contender, run, tiny_mnist)
        assert not finished(contender, run, STOPPED_BUDGET)
        said: list[str] = []
        train(contender, run, STOPPED_BUDGET, CPU, tiny_mnist.folder, said.append)
        assert finished(contender, run, STOPPED_BUDGET)
        # A conventional one takes minutes, and begins anew.
        assert len(said) == (1 if contender.network else 3)
        with pytest.raises(
            ModelError, match=r"expected a run of Budget\(epochs=9, .*, found one of Budget\(epochs=3"
        ):
            finished(contender, run, replace(STOPPED_BUDGET, epochs=9))


def test_what_was_stopped_can_be_measured_and_gone_on_with(
    compared: Compared, tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model is written from the best checkpoint there is; the card tells the epochs that it had."""
    conventional = next(one for one in FEW if one.ann)
    monkeypatch.setattr("training.data.mnist.VALIDATION_IMAGES", 50)
    monkeypatch.setattr("training.comparison.contenders.CONTENDERS", (conventional,))
    monkeypatch.setattr(f"{MEASURE}.CONTENDERS", (conventional,))
    monkeypatch.setattr(f"{MEASURE}.SHIP_TOO", (conventional.name,))
    monkeypatch.setattr(f"{MEASURE}.DISTORTIONS", {})
    monkeypatch.setattr(f"{MEASURE}._row", lambda name, title, folder, *arguments: row(name, title=title))
    monkeypatch.setattr(f"{MEASURE}._quantised_row", lambda twin, row, *arguments: row)
    monkeypatch.setattr(f"{MEASURE}._with_latencies", lambda rows, *arguments: rows)
    models, runs = tmp_path / "models", tmp_path / "runs"
    models.mkdir()
    stop_after_two_epochs(conventional, runs / conventional.name, tiny_mnist)
    for again, version, epochs, expected in (
        (False, None, 2, "1.0.0"),
        (True, "1.2.3", 3, "1.2.3"),
        (False, None, 3, "1.2.3"),
        (False, "1.2.4", 3, "1.2.4"),
    ):
        if again:
            retrain(models, runs, STOPPED_BUDGET, CPU, tiny_mnist.folder, print, version)
        else:
            measure(models, runs, Budget(limit=4), tiny_mnist.folder, print, version)
        card = load_card(models / conventional.name)
        assert (card.version, card.training["epochs_done"]) == (expected, epochs)
        # With which it began.
        assert card.training["command"] == "python -m training compare --retrain --epochs 3"


def test_a_model_whose_state_begins_anew_otherwise_is_written_again(
    tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All spiking networks of a table run by one rule, found in one way, also those that an older version exported."""
    monkeypatch.setattr("training.data.mnist.VALIDATION_IMAGES", 50)
    contender = next(one for one in FEW if one.network)
    run = tmp_path / contender.name
    write_checkpoint(run / "best.pt", make_network())
    write_model(contender, run, tiny_mnist.folder, None)
    path = run / contender.name / "card.json"
    written = path.read_text()
    assert load_card(path.parent).reset_interval == TrainingSettings.final_time_steps
    few = json.loads(written)
    few["accuracy"]["validation"]["seeds"] = 5
    for older in ({**json.loads(written), "reset_interval": 2}, few):
        path.write_text(json.dumps(older))
        for version in (None, "1.0.0"):  # records of that model could not be replayed any more
            with pytest.raises(ModelError, match=r"expected another --version than 1\.0\.0: spiking-mha"):
                write_model(contender, run, tiny_mnist.folder, version)
        write_model(contender, run, tiny_mnist.folder, "1.0.1")
        assert path.read_text() == written.replace('"1.0.0"', '"1.0.1"', 1)
    path.write_text(json.dumps({**json.loads(written), "description": "not written again"}))
    write_model(contender, run, tiny_mnist.folder, None)
    assert load_card(path.parent).description == "not written again"


def test_what_the_shipped_model_has_otherwise_is_said(compared: Compared) -> None:
    card = load_card(compared.folder("spiking-mha"))
    assert _title_of_shipped(card, card) == "1.0.0, stops otherwise"
    settings = card.training["settings"]
    late = {**settings, "network": {**settings["network"], "attention": False, "mlp_ratio": 5}}
    graph = card.graph.model_copy(update={"sha256": "0" * 64})
    for changed, title in (
        (settings, "1.0.0, trained otherwise"),
        (late, "1.0.0, mlp ratio 5, attention False, trained otherwise"),
    ):
        other = card.model_copy(update={"graph": graph, "training": {**card.training, "settings": changed}})
        assert _title_of_shipped(other, card) == title


def test_what_was_measured_is_stored(compared: Compared) -> None:
    assert json.loads((compared.models / STORED).read_text()) == compared.contents
    command = load_card(compared.folder("spiking-mha")).training["command"]
    assert compared.contents["command"] == command  # the whole of it, teacher too
    assert command.startswith("python -m training compare --retrain --epochs 2 --teacher ")
    assert compared.contents["test_images"] == 24
    assert [one["name"] for one in compared.contents["rows"]] == NAMES
    assert [text for text in compared.said if text.endswith("measuring")] == [
        f"{one.name}: measuring" for one in FEW
    ]


def test_some_contenders_are_shipped(compared: Compared) -> None:
    assert {path.name for path in compared.models.iterdir()} == {STORED, "glm", "ann-twin"}
    for name in ("glm", "ann-twin"):
        shipped, measured = (
            {path.name: path.read_bytes() for path in folder.iterdir()}
            for folder in (compared.models / name, compared.folder(name))
        )
        assert shipped == measured


@pytest.mark.parametrize("name", [one.name for one in FEW])
def test_a_row_is_what_its_model_does(name: str, compared: Compared) -> None:
    """Measured once more: accuracy, steps, operations, robustness."""
    engine = load_engine(compared.folder(name))
    conventional = engine.card.kind == "ann"
    images, labels = compared.test_images, compared.test_labels
    found, line = evaluate(engine, images, labels, seeds=1 if conventional else 5), compared.row(name)
    rule, cost = found["stopping"], found["synaptic_operations"]
    assert (line["accuracy"], line["accuracy_std"]) == (rule["accuracy"]["mean"], rule["accuracy"]["std"])
    assert line["steps"] == rule["steps"]["mean"]
    assert line["robustness"] == robustness(engine, images, labels)["mean_accuracy"]
    additions, products = cost["accumulates"], cost["multiply_accumulates"]
    assert (line["accumulates"], line["multiply_accumulates"]) == (additions, products)
    assert line["energy_fp32_nj"] == pytest.approx((0.9 * additions + 4.6 * products) / 1000)
    assert line["energy_int8_nj"] == pytest.approx((0.03 * additions + 0.23 * products) / 1000)
    assert line["dense_multiply_accumulates"] == dense_operations(engine.card) * line["steps"]
    assert line["parameters"] == engine.card.parameters
    assert line["bytes"] == (compared.folder(name) / "model.onnx").stat().st_size
    assert line["epochs"] == 2


def test_conventional_rows_have_one_step_and_no_additions(compared: Compared) -> None:
    for name in ("ann-twin", "ann-twin-int8", "lenet5"):
        line = compared.row(name)
        assert (line["steps"], line["accumulates"], line["accuracy_std"]) == (1.0, 0.0, 0.0)
        assert 0 < line["multiply_accumulates"] < line["dense_multiply_accumulates"]
    assert compared.row("spiking-mha")["accumulates"] > 0
    assert compared.row("glm")["firing_rate"] is None


def test_times_are_those_of_lenet5_and_every_engine(compared: Compared) -> None:
    assert compared.row("lenet5")["latency_onnxruntime"] == 1.0
    for name in NAMES:
        line = compared.row(name)
        assert line["latency_onnxruntime"] > 0
        spiking = name in ("spiking-mha", "glm")
        assert (line["latency_native"] is not None) == (spiking and native.available())
        assert line["latency_native"] is None or line["latency_native"] > 0


def test_the_twin_in_eight_bits_differs_in_what_bits_change(compared: Compared) -> None:
    plain, small = compared.row("ann-twin"), compared.row("ann-twin-int8")
    assert small["title"] == "ANN twin in 8 bits"
    assert small["bytes"] == (compared.runs / "ann-twin" / "int8.onnx").stat().st_size
    bits = {"name", "title", "accuracy", "bytes", "robustness", "latency_onnxruntime"}
    assert {key for key in plain if plain[key] != small[key]} <= bits
    assert plain["bytes"] != small["bytes"]
    quantised = QuantisedAnn(compared.runs / "ann-twin" / "int8.onnx")
    images, labels = compared.test_images, compared.test_labels
    assert small["accuracy"] == quantised.accuracy(images, labels)
    seen = [distorted(images, name, 1) for name in ("gaussian_noise", "inverted")]
    assert small["robustness"] == np.mean([quantised.accuracy(one, labels) for one in seen])


@pytest.mark.parametrize("contender_is_shipped", [True, False])
def test_a_contender_that_stands_there_is_not_trained_again(
    contender_is_shipped: bool,
    compared: Compared,
    tiny_mnist: Mnist,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the model that is shipped stands beside the contenders, first, unless it is one of them."""

    def measured(name: str, title: str, folder: Path, *arguments: object) -> Row:
        return row(name, title=f"{title}: {load_card(folder).name}")

    trained: list[str] = []
    monkeypatch.setattr(f"{MEASURE}.train", lambda contender, *arguments: trained.append(contender.name))
    monkeypatch.setattr(f"{MEASURE}._row", measured)
    monkeypatch.setattr(f"{MEASURE}._quantised_row", lambda twin, row, *arguments: replace(row, name="int8"))
    monkeypatch.setattr(f"{MEASURE}._with_latencies", lambda rows, *arguments: rows)
    models = tmp_path / "models"
    shutil.copytree(compared.folder("spiking-mha" if contender_is_shipped else "glm"), models / "spiking-mha")
    said: list[str] = []
    monkeypatch.setattr("training.data.mnist.VALIDATION_IMAGES", 50)
    budget = Budget(epochs=2, teacher=compared.runs.parent / "teacher.pt", limit=24)
    contents = retrain(models, compared.runs, budget, CPU, tiny_mnist.folder, said.append)
    assert trained == []
    shipped = ("spiking-mha 1.0.0", "1.0.0, another shape, trained otherwise: glm")
    assert [(one["name"], one["title"]) for one in contents["rows"]] == [
        *([] if contender_is_shipped else [shipped]),
        ("spiking-mha", f"tiny, spiking{': 1.0.0' if contender_is_shipped else ''}: spiking-mha"),
        ("glm", "output neurons alone: glm"),
        ("ann-twin", "tiny, conventional: ann-twin"),
        ("int8", "tiny, conventional: ann-twin"),
        ("lenet5", "LeNet-5: lenet5"),
    ]
    assert not any("training" in text for text in said)
    assert (contents["test_images"], json.loads((models / STORED).read_text())) == (24, contents)


def test_energy_by_hand() -> None:
    """1000 additions and 100 products: 0.9 and 4.6 pJ each in float, 0.03 and 0.23 in 8 bits."""
    assert energy_nj(1000, 100, "fp32") == pytest.approx(0.9 + 0.46)
    assert energy_nj(1000, 100, "int8") == pytest.approx(0.03 + 0.023)


def test_dense_operations_of_a_spiking_network_by_hand(exported: Exported) -> None:
    """4 and 4 maps, 8 channels, 2 heads, 16 hidden; see `test_ann_graph` for the rows of windows that are there."""
    stem = 4 * 67**2 + 4 * 4 * 40**2 + 8 * 4 * 20**2
    attention = 49 * 8 * 24 + 2 * 49 * 8 * 4 + 49 * 8 * 8  # Q, K and V; K^T V and Q (K^T V); projection
    rest = 49 * 8 * 16 + 49 * 16 * 8 + 49 * 8 * 10
    assert dense_operations(exported.card) == stem + attention + rest == 88_500


def test_dense_operations_of_conventional_networks_are_those_of_their_graphs(compared: Compared) -> None:
    for contender in FEW[2:]:
        network = load_ann(contender, compared.runs / contender.name / "best.pt")
        assert not network.training
        described = build(network, contender.name)[1]
        card = load_card(compared.folder(contender.name))
        assert dense_operations(card) == described.dense_multiply_accumulates
    assert dense_operations(load_card(compared.folder("lenet5"))) == 406_656
    assert dense_operations(load_card(compared.folder("glm"))) == 7840
