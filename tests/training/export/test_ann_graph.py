"""Conventional networks as graphs: the logits of torch, operations by hand and by brute force; served as models."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from spikehead.engine import native
from spikehead.engine.base import Outcome, Rule, Stimulus
from spikehead.engine.loading import load_engine
from spikehead.engine.native.arrays import ForeignModelError
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.engine.stepping import stimulate
from spikehead.model.retina import contrast
from torch import Tensor, nn
from torch.nn import functional as F

from training.data import mnist
from training.export.ann_graph import POTENTIAL_UNIT, AnyAnn, build
from training.export.artifact import export_ann
from training.network.ann import AnnTwin, LeNet5, MnistCnn
from training.network.spiking import NetworkConfig

Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]

TINY = NetworkConfig(stem=(2, 3), channels=4, blocks=1, heads=2)
LATE = replace(TINY, blocks=2, attention_from=2)
LEVELS = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def make(name: str) -> AnyAnn:
    """Random weights, and normalisation that has seen random pictures."""
    torch.manual_seed(3)
    if name == "lenet5":
        return LeNet5().eval()
    if name == "mnist-cnn":
        return MnistCnn().eval()
    network = AnnTwin(LATE if name == "late-twin" else TINY)
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(16, 1, 28, 28))
        network.position.copy_(torch.randn_like(network.position))
    return network.eval()


NAMES = ("lenet5", "mnist-cnn", "twin", "late-twin")


@dataclass(frozen=True)
class Served:
    """A network, and the model folder that `export_ann` made of it."""

    network: AnyAnn
    folder: Path
    engine: OnnxruntimeEngine


@pytest.fixture(scope="module")
def served(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    found = {}
    for name in ("lenet5", "twin"):
        folder, network = tmp_path_factory.mktemp("ann") / name, make(name)
        export_ann(network, folder, drawn, {"command": "test"})
        found[name] = Served(network, folder, OnnxruntimeEngine(folder))
    return found


def ran(model: onnx.ModelProto, **inputs: Tensor) -> dict[str, NDArray[Any]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {name: values.numpy() for name, values in inputs.items()}
    return dict(zip(names, session.run(None, given), strict=True))


# Graphs


@pytest.mark.parametrize("name", NAMES)
def test_graph_equals_torch(name: str) -> None:
    network = make(name)
    with torch.no_grad():
        logits = network(LEVELS).numpy()
    assert logits.std() > 0.01
    found = ran(build(network, name, counting=False)[0], intensities=LEVELS)
    assert list(found) == ["potential"]
    assert np.abs(found["potential"] - logits).max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_counting_graph_has_the_interface_of_a_spiking_one(name: str) -> None:
    """Logits in whole units, probabilities, output spikes, and which values of each layer are not 0."""
    network = make(name)
    model, described = build(network, name)
    uniforms = torch.rand(4, 10, generator=torch.Generator().manual_seed(1))
    found = ran(model, intensities=LEVELS, uniforms=uniforms)
    with torch.no_grad():
        logits = network(LEVELS).numpy()
    assert POTENTIAL_UNIT == 2.0**-12
    assert (found["potential"] == np.round(found["potential"])).all()
    assert np.abs(found["potential"] * POTENTIAL_UNIT - logits).max() < 2.0**-13 + 1e-5
    p = 1 / (1 + np.exp(-found["potential"] * POTENTIAL_UNIT))
    assert np.abs(found["spike_probability"] - p).max() < 1e-6
    assert np.array_equal(found["output_spikes"], uniforms.numpy() < found["spike_probability"])
    layers = list(described.shapes)[1:-1]
    assert [name for name in found if name.startswith("spikes.")] == [f"spikes.{layer}" for layer in layers]
    for layer in layers:
        values = found[f"spikes.{layer}"]
        assert list(values.shape[1:]) == described.shapes[layer]
        assert set(np.unique(values)) <= {0.0, 1.0}
    assert {*described.fan_outs} == {*described.shapes}


@pytest.mark.parametrize("neighbours", [False, True])
def test_a_twin_sees_neighbours_as_the_spiking_network_does(neighbours: bool) -> None:
    torch.manual_seed(3)
    config = NetworkConfig(stem=(2, 3), channels=8, blocks=2, heads=2, neighbours=neighbours)
    twin = AnnTwin(config)
    with torch.no_grad():
        twin(torch.rand(16, 1, 28, 28))
        logits = twin.eval()(LEVELS).numpy()
    model, _ = build(twin, "twin", counting=False)
    assert np.abs(ran(model, intensities=LEVELS)["potential"] - logits).max() < 1e-4
    assert sum(node.op_type == "Gather" for node in model.graph.node) == (4 if neighbours else 0)


def test_layers_are_what_the_next_weights_read() -> None:
    """After the pooling, where there is one."""
    assert build(make("lenet5"), "lenet5")[1].shapes == {
        "input": [1, 28, 28], "layer1": [6, 14, 14], "layer2": [16, 5, 5], "layer3": [120], "layer4": [84],
        "output": [10],
    }  # fmt: skip
    assert build(make("mnist-cnn"), "cnn")[1].shapes == {
        "input": [1, 28, 28], "layer1": [32, 26, 26], "layer2": [64, 12, 12], "layer3": [128], "output": [10],
    }  # fmt: skip
    assert build(make("twin"), "twin")[1].shapes == {
        "input": [1, 28, 28], "stem1": [2, 14, 14], "stem2": [3, 14, 14], "block1.attention_in": [49, 4],
        "block1.mlp_in": [49, 4], "block1.mlp_hidden": [49, 8], "tokens": [49, 4], "output": [10],
    }  # fmt: skip


def test_values_that_are_not_zero_by_hand() -> None:
    """A network whose first layer passes the picture on, pooled: one bright pixel, one value."""
    network = make("lenet5")
    assert isinstance(network, LeNet5)
    first = network.layers[0]
    assert isinstance(first, nn.Conv2d) and first.bias is not None
    with torch.no_grad():
        first.weight.zero_()
        first.weight[0, 0, 2, 2] = 1.0
        first.bias.copy_(torch.tensor([0.0, 1.0, 0.0, -1.0, 0.0, 0.0]))
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 9, 5] = 0.5
    found = ran(build(network, "lenet5")[0], intensities=image, uniforms=torch.zeros(1, 10))["spikes.layer1"][
        0
    ]
    assert np.argwhere(found[0]).tolist() == [[4, 2]]
    assert found[1].all() and not found[2:].any()


# Operations


def test_dense_operations_of_lenet5_by_hand() -> None:
    """5 x 5 windows that reach 2 pixels over the border: 28 * 5 - 2 * (1 + 2) = 134 of 140 rows are there."""
    by_hand = 6 * 134**2 + 16 * 6 * 10**2 * 5**2 + 400 * 120 + 120 * 84 + 84 * 10
    assert build(make("lenet5"), "lenet5")[1].dense_multiply_accumulates == by_hand == 406_656


def test_dense_operations_of_the_example_cnn_by_hand() -> None:
    by_hand = 32 * 26**2 * 3**2 + 64 * 32 * 24**2 * 3**2 + 9216 * 128 + 128 * 10
    assert build(make("mnist-cnn"), "cnn")[1].dense_multiply_accumulates == by_hand == 11_992_448


def test_dense_operations_of_the_twin_by_hand() -> None:
    """Rows that are there: 67 of 14 windows of 5 at stride 2, 40 of 14 of 3, 20 of 7 of 3 at stride 2."""
    stem = 2 * 67**2 + 3 * 2 * 40**2 + 4 * 3 * 20**2
    attention = 2 * 49 * 49 * 4 + 49 * 4 * 4  # Q K^T, its product with V, projection
    rest = 49 * 4 * (3 * 4) + 49 * 4 * 8 + 49 * 8 * 4 + 49 * 4 * 10
    described = build(make("twin"), "twin")[1]
    assert described.fixed_multiply_accumulates == attention
    assert described.dense_multiply_accumulates == stem + attention + rest == 50_818


def brute_force(network: AnyAnn, intensities: Tensor) -> list[int]:
    """Products of weights with values that are not 0, at each layer of weights as torch runs it."""
    counts = torch.zeros(len(intensities), dtype=torch.float64)

    def count(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        there = (inputs[0] != 0).double()
        if isinstance(layer, nn.Conv2d):
            every = torch.ones_like(layer.weight, dtype=torch.float64)
            products = F.conv2d(there, every, None, layer.stride, layer.padding)
        else:
            assert isinstance(layer, nn.Linear)
            products = there.sum(-1) * layer.out_features
        counts.add_(products.reshape(len(products), -1).sum(1))

    hooks = [
        part.register_forward_pre_hook(count)
        for part in network.modules()
        if isinstance(part, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad():
            network(intensities)
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(network, AnnTwin):
        counts += 2 * 49 * 49 * 4  # of attention's two products of matrices, no factor is 0
    return [int(number) for number in counts.tolist()]


@pytest.mark.parametrize("name", ["lenet5", "twin"])
def test_operations_of_pictures_by_brute_force(name: str, served: dict[str, Served], drawn: Drawn) -> None:
    one = served[name]
    images = np.concatenate([drawn[0][:5], np.zeros((1, 28, 28), np.uint8)])
    trial = one.engine.by_step(images, range(6), 1, "bernoulli")
    expected = brute_force(one.network, mnist.firing_probabilities(images))
    assert trial.multiply_accumulates.tolist() == [expected]
    assert trial.accumulates.tolist() == [[0] * 6]
    dense = build(one.network, name)[1].dense_multiply_accumulates
    assert all(number < dense for number in expected) and len(set(expected)) > 3


# Served


def outcome(found: Outcome) -> tuple[object, ...]:
    """Everything but timings."""
    return (
        found.steps,
        found.stopped_by,
        found.probabilities.tolist(),
        found.output_counts.tolist(),
        found.counts,
        found.accumulates,
        found.multiply_accumulates,
    )


@pytest.mark.parametrize("name", ["lenet5", "twin"])
def test_an_image_has_the_same_answer_alone_and_in_a_batch(
    name: str, served: dict[str, Served], drawn: Drawn
) -> None:
    """To the last bit; one step, multiply-accumulates alone."""
    engine = served[name].engine
    images, seeds = drawn[0][:7], [5, 5, 0, 2**64 - 1, 7, 8, 9]
    rule = Rule(1, engine.card.calibration.confidence)
    together = engine.classify(Stimulus(images, seeds), rule)
    alone = [
        engine.classify(Stimulus(images[i : i + 1], seeds[i : i + 1], "regular"), rule)[0] for i in range(7)
    ]
    assert [outcome(found) for found in together] == [outcome(found) for found in alone]
    for found in together:
        assert (found.steps, found.accumulates) == (1, 0)
        assert found.multiply_accumulates > engine.card.fixed_multiply_accumulates
        assert found.probabilities.sum() == pytest.approx(1.0)


def test_the_answer_is_that_of_the_network(served: dict[str, Served], drawn: Drawn) -> None:
    """Softmax of its logits, in units and calibrated; input counts are the pixels that are not dark."""
    one = served["lenet5"]
    images = drawn[0][:4]
    with torch.no_grad():
        logits = one.network(mnist.firing_probabilities(images)).double()
    expected = torch.softmax(logits * one.engine.card.calibration.scale[0], -1).numpy()
    found = one.engine.classify(Stimulus(images, range(4)), Rule(1, 1.0))
    for image, answer in enumerate(found):
        assert np.abs(answer.probabilities - expected[image]).max() < 1e-3
        assert answer.counts["input"] == np.count_nonzero(contrast(images[image]))
        assert list(answer.counts) == one.engine.card.layer_names


def test_which_values_are_not_zero_can_be_recorded(served: dict[str, Served], drawn: Drawn) -> None:
    found = served["lenet5"].engine.classify(
        Stimulus(drawn[0][:3], range(3)), Rule(1, 1.0), ["layer1", "layer4"]
    )
    for answer in found:
        assert answer.recorded["layer1"].shape == (1, 6, 14, 14)
        assert np.count_nonzero(answer.recorded["layer1"]) == answer.counts["layer1"]
        assert np.count_nonzero(answer.recorded["layer4"]) == answer.counts["layer4"] > 0


def test_intensities_are_shown_and_not_spikes(served: dict[str, Served]) -> None:
    """The same at every step and for every seed: 0, 128 / 255 and white are 0, 129 / 256 and 1."""
    seen = np.zeros((1, 28, 28), np.uint8)
    seen[0, 0, :3] = [0, 128, 255]
    card = served["lenet5"].engine.card
    for seed in (1, 2):
        shown, uniforms = stimulate(card, seen, [seed], 2, "bernoulli")
        assert shown.dtype == np.float32 and shown.shape == (2, 1, 1, 28, 28)
        assert shown[:, 0, 0, 0, :3].tolist() == [[0.0, 129 / 256, 1.0]] * 2
        assert uniforms.shape == (2, 1, 10)


@pytest.mark.parametrize("engine", ["auto", "native", "onnxruntime"])
def test_a_conventional_network_always_runs_on_onnxruntime(engine: Any, served: dict[str, Served]) -> None:
    assert load_engine(served["twin"].folder, engine=engine).name == "onnxruntime"
    if engine == "native" and native.available():
        with pytest.raises(ForeignModelError, match="expected arrays for the native engine"):
            native.NativeEngine(served["twin"].folder)
