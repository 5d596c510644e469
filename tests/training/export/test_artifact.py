"""Export: a checkpoint becomes a folder that the service accepts, or nothing."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from spikehead.engine import native
from spikehead.engine.base import Engine, Rule, StepCounts, Stimulus
from spikehead.engine.loading import load_engine
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import Card, ModelError, load_card
from spikehead.model.encoding import encode
from spikehead.model.retina import contrast
from spikehead.settings import EngineName

from tests.training.conftest import (
    EXPORT_STEPS,
    GLM,
    SMALL,
    Exported,
    make_glm,
    make_network,
    write_checkpoint,
)
from training.data import mnist
from training.export import ann_graph, artifact
from training.export.artifact import (
    CALIBRATION_SEED,
    calibration_seeds,
    check_ann,
    check_parity,
    export,
    export_ann,
    v_thresholds,
)
from training.export.graph import ExportError, build
from training.fit.train import TrainingSettings
from training.measure.calibrate import stop
from training.measure.evaluate import SEED_STRIDE, probabilities_of, simulate
from training.network.ann import LeNet5
from training.network.layers import layers_of
from training.network.neurons import tau_of_shift
from training.network.spiking import NetworkConfig, SpikingTransformer

Change = Callable[[NDArray[Any]], NDArray[Any]]
Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]


def same(one: Card, other: Card) -> bool:
    """As JSON, which has no tuples."""
    return one.model_dump(mode="json") == other.model_dump(mode="json")


def test_the_service_accepts_what_export_wrote(exported: Exported) -> None:
    files = {"model.onnx", "card.json", *(["arrays.safetensors"] if native.available() else [])}
    assert {path.name for path in exported.folder.iterdir()} == files
    card = load_card(exported.folder)
    graph = (exported.folder / "model.onnx").read_bytes()
    assert card.graph.file == "model.onnx"
    assert card.graph.sha256 == hashlib.sha256(graph).hexdigest()
    assert graph == build(exported.network, "small").SerializeToString()


def test_card_describes_the_network(exported: Exported) -> None:
    card = exported.card
    assert (card.name, card.version, card.max_steps, card.bits) == ("small", "1.0.0", EXPORT_STEPS, 8)
    described = [(layer.name, layer.shape, layer.fan_out) for layer in layers_of(SMALL).values()]
    assert [(layer.name, layer.shape, layer.fan_out) for layer in card.layers] == described
    assert card.parameters == sum(p.numel() for p in exported.network.parameters())
    assert card.potential_scale == exported.network.readout.constants(integer=True)[3]
    kernels = {name: (kernel.shift, kernel.unit) for name, kernel in card.kernels.items()}
    assert kernels == {"A": (1, 16), "B": (1, -16), "membrane": (1, 1), "readout": (2, 1)}
    assert all(kernel.tau == tau_of_shift(kernel.shift) for kernel in card.kernels.values())


def test_hidden_layers_have_time_constant_and_thresholds_of_each_channel(exported: Exported) -> None:
    for layer in exported.card.layers:
        if layer.name in ("input", "output"):
            assert layer.tau is None and layer.v_threshold is None
            continue
        channels = layer.shape[0] if layer.name.startswith("stem") else layer.shape[-1]
        assert layer.tau == tau_of_shift(SMALL.shift_membrane)
        assert layer.v_threshold is not None and len(layer.v_threshold) == channels
        assert min(layer.v_threshold) >= 1


def test_card_quotes_the_thresholds_of_the_graph(exported: Exported) -> None:
    thresholds = v_thresholds((exported.folder / "model.onnx").read_bytes())
    assert list(thresholds) == exported.card.layer_names[1:-1]
    assert [exported.card.layer(layer).v_threshold for layer in thresholds] == list(thresholds.values())
    residual = exported.network.residual(integer=True).v_threshold
    assert thresholds["block1.mlp_in"] == thresholds["tokens"] == residual.int().tolist()


def test_states_are_the_inputs_of_the_graph(exported: Exported) -> None:
    graph = onnx.load(exported.folder / "model.onnx").graph
    inputs = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim][1:] for value in graph.input
    }
    states = {state.name: state.shape for state in exported.card.states}
    assert inputs == {"spikes": [1, 28, 28], "uniforms": [10], **states}


def test_card_holds_calibration_rates_and_accuracy_on_the_validation_set(
    exported: Exported, drawn: Drawn
) -> None:
    """All from one simulation of the images that export was given."""
    card, labels = exported.card, drawn[1]
    trial = simulate(exported.engine, drawn[0], CALIBRATION_SEED, EXPORT_STEPS)
    scales = card.calibration.scale
    assert len(scales) == EXPORT_STEPS and scales != [1.0 / (t + 1) for t in range(EXPORT_STEPS)]
    assert 0 < card.calibration.confidence <= 1
    assert card.calibration.expected_calibration_error is not None
    validation = card.accuracy["validation"]
    by_step = (probabilities_of(card, trial).argmax(-1) == labels).mean(1)
    assert validation["by_step"] == pytest.approx(by_step.tolist(), abs=1e-6)
    assert validation["images"] == 40
    assert validation["stopping"] >= validation["by_step"][-1] - 0.0002
    assert 1 <= validation["average_steps"] <= EXPORT_STEPS


def test_recalibration_is_what_export_would_have_found(
    exported: Exported, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same card but for version and note; another retina leads to other figures, for the same graph."""
    folder = tmp_path / "small"
    shutil.copytree(exported.folder, folder)
    done: list[int] = []
    card = artifact.recalibrate(folder, "1.0.1", drawn, seeds=1, progress=done.append)
    assert load_card(folder) == card and done[-1] == len(drawn[0])
    (note,) = card.training.pop("recalibrated")
    assert note["from_version"] == "1.0.0" and note["commit"]
    assert card == exported.card.model_copy(update={"version": "1.0.1"})
    before, after = (
        {path.name: path.read_bytes() for path in one.iterdir() if path.name != "card.json"}
        for one in (exported.folder, folder)
    )
    assert before == after
    monkeypatch.setattr(artifact, "simulate", blindfolded)
    other = artifact.recalibrate(folder, "1.0.2", drawn, seeds=1)
    assert [one["from_version"] for one in other.training["recalibrated"]] == ["1.0.0", "1.0.1"]
    assert other.graph == card.graph and other.layers[0].normal_rate == 0.0
    assert other.calibration != card.calibration and other.accuracy != card.accuracy


def blindfolded(
    engine: Engine, images: NDArray[np.uint8], seed: int, steps: int, **options: Any
) -> StepCounts:
    """As if the retina saw nothing."""
    return simulate(engine, np.zeros_like(images), seed, steps, **options)


def test_a_model_does_not_change_under_the_version_that_it_has(
    exported: Exported, drawn: Drawn, tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    shutil.copytree(exported.folder, folder)
    with pytest.raises(ModelError, match=r"expected another version than 1\.0\.0, which small has"):
        artifact.recalibrate(folder, "1.0.0", drawn, seeds=1)
    with pytest.raises(ModelError, match=r"expected a version such as 1\.2\.0, got ' '"):
        artifact.recalibrate(folder, " ", drawn, seeds=1)
    assert load_card(folder) == exported.card


def test_calibration_makes_the_labels_likeliest(exported: Exported, drawn: Drawn, tmp_path: Path) -> None:
    """With labels that the network half knows, no scale near the fitted one is better, at any step."""
    labels = simulate(exported.engine, drawn[0], CALIBRATION_SEED, EXPORT_STEPS).potentials.sum(0).argmax(-1)
    labels[::4] = drawn[1][::4]
    checkpoint = exported.folder.parent / "best.pt"
    card = export(
        checkpoint, tmp_path / "small", (drawn[0], labels), drawn[0][:1], max_steps=EXPORT_STEPS, seeds=1
    )
    trial = simulate(exported.engine, drawn[0], CALIBRATION_SEED, EXPORT_STEPS)
    evidence = trial.potentials.cumsum(0) * card.potential_scale

    def loss(t: int, scale: float) -> float:
        logits = evidence[t] * scale
        own = logits[np.arange(len(labels)), labels]
        return float((np.log(np.exp(logits).sum(-1)) - own).mean())

    for t, scale in enumerate(card.calibration.scale):
        assert loss(t, scale) < min(loss(t, scale * 1.05), loss(t, scale / 1.05))


def test_normal_rates_are_those_until_an_image_stops(
    exported: Exported, drawn: Drawn, tmp_path: Path
) -> None:
    """With labels that the network knows, so that some images stop before the last step."""
    trial = simulate(exported.engine, drawn[0], CALIBRATION_SEED, EXPORT_STEPS)
    labels = trial.potentials.sum(0).argmax(-1)
    checkpoint = exported.folder.parent / "best.pt"
    card = export(
        checkpoint, tmp_path / "small", (drawn[0], labels), drawn[0][:1], max_steps=EXPORT_STEPS, seeds=1
    )
    steps = stop(probabilities_of(card, trial), card.calibration.confidence).steps
    assert len(set(steps.tolist())) > 1
    for layer in card.layers:
        spikes = [trial.spikes[layer.name][:used, image].mean() for image, used in enumerate(steps)]
        rate = np.array(spikes) / np.prod(layer.shape)
        assert layer.normal_rate == pytest.approx(rate.mean(), abs=1e-6)
        assert layer.normal_rate_std == pytest.approx(rate.std(), abs=1e-6)
    assert card.accuracy["validation"]["average_steps"] == pytest.approx(steps.mean(), abs=1e-4)


def test_card_says_how_the_network_was_trained(drawn: Drawn, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pt", make_network())
    done: list[int] = []
    card = export(
        checkpoint,
        tmp_path / "named",
        drawn,
        drawn[0][:2],
        max_steps=2,
        version="2.3.4",
        command="python -m training train",
        progress=done.append,
    )
    assert same(load_card(tmp_path / "named"), card)
    assert (card.name, card.version, card.max_steps) == ("named", "2.3.4", 2)
    trained = card.training
    assert trained["command"] == "python -m training train"
    assert TrainingSettings.from_dict(trained["settings"]).network == SMALL
    assert (trained["epochs_done"], trained["data_sha256"]) == (3, "0" * 64)
    assert trained["torch"] == torch.__version__
    assert done == [*range(40, 40 * 40 + 1, 40)]  # with as many encoder seeds as so few images get
    assert (card.accuracy["validation"]["images"], card.accuracy["validation"]["seeds"]) == (40, 40)


def test_the_stopping_rule_is_chosen_by_as_many_runs_whatever_is_held_out() -> None:
    assert [calibration_seeds(images) for images in (10_000, 6_001, 3_000, 2_500, 20)] == [10, 17, 34, 40, 40]
    assert [calibration_seeds(10_000, steps) for steps in (1, 16, 32, 64)] == [
        10,
        10,
        5,
        3,
    ]  # they fit into memory


def test_the_same_checkpoint_gives_the_same_files(exported: Exported, drawn: Drawn, tmp_path: Path) -> None:
    checkpoint = exported.folder.parent / "best.pt"
    export(checkpoint, tmp_path / "small", drawn, drawn[0][:10], max_steps=EXPORT_STEPS, seeds=1)
    for path in exported.folder.iterdir():
        assert (tmp_path / "small" / path.name).read_bytes() == path.read_bytes()


def test_card_leaves_out_what_it_does_not_know(exported: Exported) -> None:
    stored = json.loads((exported.folder / "card.json").read_text())
    assert set(stored["layers"][0]) == {"name", "shape", "fan_out", "normal_rate", "normal_rate_std"}


def test_output_neurons_alone_export_too(drawn: Drawn, tmp_path: Path) -> None:
    """No hidden layers: no thresholds, no membrane to leak, no filter after the weights."""
    network = make_glm(seed=4)
    checkpoint = write_checkpoint(tmp_path / "best.pt", network)
    card = export(checkpoint, tmp_path / "glm", drawn, drawn[0][:10], max_steps=2, seeds=1)
    assert same(load_card(tmp_path / "glm"), card)
    assert card.description.startswith("Probabilistic output neurons on filtered pixels alone (GLM)")
    assert (card.kind, card.parameters, card.bits) == ("spiking", 7860, 8)
    assert [(layer.name, layer.shape, layer.fan_out.targets) for layer in card.layers] == [
        ("input", [1, 28, 28], 10),
        ("output", [10], 1),
    ]
    assert {state.name: state.shape for state in card.states} == {
        "state.input": [1, 28, 28],
        "state.feedback": [10],
    }
    assert {name: (kernel.shift, kernel.unit) for name, kernel in card.kernels.items()} == {
        "A": (1, 16),
        "B": (1, -16),
    }
    assert TrainingSettings.from_dict(card.training["settings"]).network == GLM


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(stem=(4, 8), channels=8, blocks=2, heads=2, attention=False),
        NetworkConfig(stem=(4, 4), channels=16, blocks=1, heads=4, bits=4, mlp_ratio=1),
    ],
    ids=["no attention", "4 bits"],
)
def test_other_networks_export_too(config: NetworkConfig, drawn: Drawn, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pt", make_network(config))
    card = export(checkpoint, tmp_path / "model", drawn, drawn[0][:2], max_steps=2, seeds=1)
    assert same(load_card(tmp_path / "model"), card)
    assert card.bits == config.bits
    assert any(layer.name.endswith(".query") for layer in card.layers) == config.attention


def spoiled(tensor: str, change: Change) -> Callable[[SpikingTransformer, str], onnx.ModelProto]:
    """`build`, with a mistake in one tensor."""

    def build_wrongly(network: SpikingTransformer, name: str) -> onnx.ModelProto:
        proto = build(network, name)
        (found,) = [initializer for initializer in proto.graph.initializer if initializer.name == tensor]
        values = numpy_helper.to_array(found).copy()
        found.CopyFrom(numpy_helper.from_array(change(values), tensor))
        return proto

    return build_wrongly


def one_weight(values: NDArray[Any]) -> NDArray[Any]:
    """One unit off, from the neuron of `tokens` that spikes most, to class 0. [L C, 10]."""
    trains = (torch.rand(1, 40, 1, 28, 28, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    with torch.no_grad():
        tokens = make_network(seed=4)(trains, torch.rand(1, 40, 10)).layers["tokens"]
    busiest = int(tokens[0].flatten(1).sum(0).argmax())
    values[busiest, 0] += 1 if values[busiest, 0] < 127 else -1
    return values


def one_bias(values: NDArray[Any]) -> NDArray[Any]:
    values[3] += 1
    return values


def halved(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values / 2, values.dtype)


@pytest.mark.parametrize(
    ("tensor", "change", "where"),
    [
        ("readout.weight.int8", one_weight, "potential"),
        ("readout.gamma", one_bias, "potential"),
        ("stem1.v_threshold", lambda values: values // 2, "stem1"),
        ("sigmoid", halved, "spike_probability"),
    ],
)
def test_a_graph_that_disagrees_is_refused_and_nothing_is_written(
    tensor: str, change: Change, where: str, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pt", make_network(seed=4))
    monkeypatch.setattr(artifact, "build", spoiled(tensor, change))
    said = rf"^expected the same {where} from torch and onnxruntime, got \d+ differences at step \d in images 0 to 39$"
    with pytest.raises(ExportError, match=said):
        export(checkpoint, tmp_path / "model", drawn, drawn[0], max_steps=3, seeds=1)
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt"}


def test_a_model_that_stood_there_survives_a_refused_export(
    exported: Exported, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pt", make_network(seed=4))
    folder = tmp_path / "model"
    card = export(checkpoint, folder, drawn, drawn[0][:2], max_steps=2, seeds=1)
    monkeypatch.setattr(artifact, "build", spoiled("readout.gamma", one_bias))
    with pytest.raises(ExportError):
        export(checkpoint, folder, drawn, drawn[0][:10], max_steps=2, seeds=1)
    assert same(load_card(folder), card)


def test_parity_is_checked_in_every_image_and_step(exported: Exported, drawn: Drawn) -> None:
    """An engine that is wrong in the last step of the last image alone is found out, and the message says where."""

    class Wrong(OnnxruntimeEngine):
        def __init__(self) -> None:
            super().__init__(exported.folder)
            self.steps = 0

        def step(self, state, spikes, uniforms):  # type: ignore[no-untyped-def]
            result = super().step(state, spikes, uniforms)
            self.steps += 1
            if self.steps == 6:
                result.spikes["tokens"][-1, -1, -1] = 1 - result.spikes["tokens"][-1, -1, -1]
            return result

    images = np.concatenate([drawn[0]] * 4)[:136]  # as many at once as make 400 steps, then three
    check_parity(exported.network, exported.engine, images, 3)
    message = "expected the same tokens from torch and onnxruntime, got 1 differences at step 3 in images 133 to 135"
    with pytest.raises(ExportError, match=message):
        check_parity(exported.network, Wrong(), images, 3)


def test_exported_potentials_are_those_of_torch(exported: Exported, drawn: Drawn) -> None:
    """Not by way of export's own check: potentials of the trained network, step by step."""
    trains, uniforms = encode(contrast(drawn[0][:3]), [5, 6, 7], 3)
    with torch.no_grad():
        run = exported.network(torch.from_numpy(trains), torch.from_numpy(uniforms))
    state = exported.engine.initial_state(3)
    for t in range(3):
        step = exported.engine.step(state, trains[t], uniforms[t])
        state = step.state
        assert step.potential.tolist() == run.integer_potentials[t].tolist()


@pytest.mark.parametrize(("asked", "interval"), [(None, 2), (0, None), (3, 3)])
def test_state_begins_anew_after_as_many_steps_as_training_simulated(
    asked: int | None, interval: int | None, drawn: Drawn, tmp_path: Path
) -> None:
    """Or as many as are asked for, 0 for never. Calibration is for that: `by_step` is of a network that is reset."""
    network = make_network(seed=4)
    checkpoint = write_checkpoint(tmp_path / "best.pt", network, final_time_steps=2)
    images, labels = drawn
    card = export(
        checkpoint, tmp_path / "it", drawn, images[:2], max_steps=EXPORT_STEPS, reset_interval=asked, seeds=1
    )
    assert card.reset_interval == load_card(tmp_path / "it").reset_interval == interval
    seeds = range(CALIBRATION_SEED * SEED_STRIDE, CALIBRATION_SEED * SEED_STRIDE + len(images))
    trains, uniforms = (torch.from_numpy(part) for part in encode(contrast(images), seeds, EXPORT_STEPS))
    length = interval or EXPORT_STEPS
    with torch.no_grad():  # torch begins anew where it is called anew
        runs = [
            network(trains[t : t + length], uniforms[t : t + length]).integer_potentials
            for t in range(0, EXPORT_STEPS, length)
        ]
    right = torch.cat(runs).cumsum(0).argmax(-1) == torch.from_numpy(labels)
    assert card.accuracy["validation"]["by_step"] == pytest.approx(right.float().mean(1).tolist(), abs=1e-6)


def test_a_model_is_shown_what_it_was_trained_on(drawn: Drawn, tmp_path: Path) -> None:
    """The card tells the slope of the tuning curve, and every engine goes by it, recording or not."""
    network = make_network(dataclasses.replace(SMALL, rate_slope=3), seed=4)
    checkpoint = write_checkpoint(tmp_path / "best.pt", network)
    card = export(checkpoint, tmp_path / "steep", drawn, drawn[0][:5], max_steps=EXPORT_STEPS)
    assert card.rate_slope == 3 and load_card(tmp_path / "steep").rate_slope == 3
    images, seeds = drawn[0][:6], list(range(6))
    trains, uniforms = encode(contrast(images), seeds, EXPORT_STEPS, slope=3)
    assert not np.array_equal(trains, encode(contrast(images), seeds, EXPORT_STEPS)[0])
    with torch.no_grad():
        run = network(torch.from_numpy(trains), torch.from_numpy(uniforms))
    fired = trains.sum((0, 2, 3, 4)).astype(int).tolist()
    answered = run.output_spikes.sum(0).long().tolist()
    rule = Rule(EXPORT_STEPS, 1.0)
    names: list[EngineName] = ["onnxruntime", "native"] if native.available() else ["onnxruntime"]
    for name in names:
        engine = load_engine(tmp_path / "steep", engine=name)
        for recorded in ((), ("input",)):
            found = engine.classify(Stimulus(images, seeds), rule, recorded)
            assert [outcome.output_counts.tolist() for outcome in found] == answered, (name, recorded)
            assert [outcome.counts["input"] for outcome in found] == fired, (name, recorded)
            if recorded:
                assert np.array_equal(np.stack([one.recorded["input"] for one in found], 1), trains), name
        shown = engine.by_step(images, seeds, EXPORT_STEPS, "bernoulli")
        assert shown.spikes["input"].sum(0).tolist() == fired, name
        moments = list(engine.course(images[2], 2, EXPORT_STEPS, "bernoulli"))
        assert np.array_equal(np.stack([moment.spikes["input"] for moment in moments]), trains[:, 2]), name


# Conventional networks


@pytest.fixture(scope="module")
def lenet() -> LeNet5:
    torch.manual_seed(5)
    return LeNet5()


def test_a_conventional_network_becomes_a_model_of_one_step(
    lenet: LeNet5, drawn: Drawn, tmp_path: Path
) -> None:
    trained = {"command": "python -m training compare --retrain", "epochs_done": 3}
    card = export_ann(
        lenet, tmp_path / "lenet", drawn, trained, version="2.3.4", description="Reads a digit."
    )
    assert same(load_card(tmp_path / "lenet"), card)
    assert {path.name for path in (tmp_path / "lenet").iterdir()} == {"model.onnx", "card.json"}
    assert (card.name, card.version, card.description) == ("lenet", "2.3.4", "Reads a digit.")
    assert (card.kind, card.max_steps, card.bits, card.parameters) == ("ann", 1, 32, 61_706)
    assert (card.states, card.kernels, card.fixed_multiply_accumulates) == ([], {}, 0)
    assert card.potential_scale == 2.0**-12
    assert [(layer.name, layer.fan_out.targets) for layer in card.layers] == [
        ("input", 6), ("layer1", 16), ("layer2", 120), ("layer3", 84), ("layer4", 10), ("output", 1),
    ]  # fmt: skip
    assert card.training == {**trained, "commit": artifact._commit(), "torch": torch.__version__}
    trial = simulate(OnnxruntimeEngine(tmp_path / "lenet"), drawn[0], CALIBRATION_SEED, 1)
    for layer in card.layers:
        rate = trial.spikes[layer.name][0] / np.prod(layer.shape)
        assert layer.normal_rate == pytest.approx(rate.mean(), abs=1e-6)
    right = (trial.potentials[0].argmax(-1) == drawn[1]).mean()
    assert card.accuracy["validation"]["by_step"] == pytest.approx([right])
    assert (card.accuracy["validation"]["images"], card.accuracy["validation"]["average_steps"]) == (40, 1.0)


def test_a_conventional_graph_that_disagrees_is_refused_and_nothing_is_written(
    lenet: LeNet5, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a hundredth on one logit is too much; where the limit is, see below."""

    def wrong(network: LeNet5, name: str) -> tuple[onnx.ModelProto, ann_graph.Description]:
        proto, described = build_rightly(network, name)
        (found,) = [tensor for tensor in proto.graph.initializer if tensor.name == "layer5.bias"]
        values = numpy_helper.to_array(found).copy()
        values[3] += 0.005
        found.CopyFrom(numpy_helper.from_array(values, found.name))
        return proto, described

    build_rightly = ann_graph.build
    monkeypatch.setattr("training.export.ann_graph.build", wrong)
    with pytest.raises(
        ExportError, match=r"^expected the same logits from torch and onnxruntime, got 0\.005\d* apart$"
    ):
        export_ann(lenet, tmp_path / "lenet", drawn, {})
    assert list(tmp_path.iterdir()) == []


def test_logits_may_differ_by_less_than_a_thousandth(lenet: LeNet5, drawn: Drawn) -> None:
    class Other:
        """An engine whose every logit is off by so many units of 2**-12."""

        name = "other"

        def __init__(self, units: int) -> None:
            with torch.no_grad():
                logits = lenet.eval()(mnist.firing_probabilities(drawn[0][:2])).numpy()
            self.potentials = (np.round(logits * 2**12) + units)[None].astype(np.int64)

        def by_step(self, *arguments: object) -> Any:
            return self

    engine: Any = Other(3)
    check_ann(lenet, engine, drawn[0][:2])
    engine = Other(5)
    with pytest.raises(ExportError, match=r"expected the same logits from torch and other, got 0\.001"):
        check_ann(lenet, engine, drawn[0][:2])


def test_commit_is_unknown_where_there_is_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert artifact._commit() == "unknown"


def test_commit_is_that_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = artifact._commit()
    if here == "unknown":
        pytest.skip("needs a checkout")
    monkeypatch.chdir(tmp_path)
    assert artifact._commit() == here
