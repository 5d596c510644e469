"""The step graph gives the same spikes as torch, and says so when it could not."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from spikehead.engine.onnxruntime import OnnxruntimeEngine

from tests.training.conftest import GLM, SMALL, make_glm, make_network
from training.export.artifact import _draft_card, check_parity
from training.export.graph import Builder, ExportError, build
from training.fit.restore import restore
from training.measure.model_folder import write
from training.network.neurons import LIFNeurons
from training.network.spiking import NetworkConfig, SpikingNetwork

ROOT = Path(__file__).resolve().parents[3]

CONFIGS = {
    "small": SMALL,
    "no attention": NetworkConfig(stem=(4, 8), channels=8, blocks=2, heads=2, attention=False),
    "no neighbours": NetworkConfig(stem=(4, 4), channels=8, blocks=1, heads=2, neighbours=False),
    "no position": NetworkConfig(stem=(4, 4), channels=8, blocks=1, heads=2, position=False),
    "4 bits": NetworkConfig(stem=(4, 4), channels=16, blocks=1, heads=4, bits=4, mlp_ratio=1),
    "other time constants": NetworkConfig(
        stem=(4, 4), channels=8, blocks=1, heads=1, shift_membrane=2, shift_readout=3
    ),
    "output neurons alone": GLM,
    "output neurons alone, 4 bits": NetworkConfig(kind="glm", bits=4, shift_input=2, shift_feedback=2),
}


def network_of(name: str) -> SpikingNetwork:
    config = CONFIGS[name]
    return make_glm(config, seed=4) if config.kind == "glm" else make_network(config, seed=4)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize(
    "folder", ["models/spiking-mha", "models/glm", "training/checkpoints/spiking-mha-unipen"]
)
def test_the_graph_of_a_kept_model_is_built_again_to_the_byte(folder: str) -> None:
    model = ROOT / folder
    network = restore(model, images(20)).eval()
    network.integer = True
    assert build(network, model.name).SerializeToString() == (model / "model.onnx").read_bytes()


@pytest.mark.parametrize("name", CONFIGS)
def test_torch_and_onnxruntime_give_identical_spikes(name: str, tmp_path: Path) -> None:
    network = network_of(name)
    graph = build(network, "small").SerializeToString()
    write(tmp_path, graph, _draft_card(network, "small", "1.0.0", graph, 6))
    check_parity(network, OnnxruntimeEngine(tmp_path), images(12), 6)


@pytest.mark.parametrize("name", ["small", "output neurons alone"])
def test_parity_check_notices_one_changed_weight(name: str, tmp_path: Path) -> None:
    network = network_of(name)
    graph = build(network, "small").SerializeToString()
    write(tmp_path, graph, _draft_card(network, "small", "1.0.0", graph, 6))
    with torch.no_grad():
        network.readout.weight[0] += network.readout.constants(integer=True)[3] * network.readout.unit
    with pytest.raises(ExportError, match="expected the same potential from torch and onnxruntime"):
        check_parity(network, OnnxruntimeEngine(tmp_path), images(4), 6)


@pytest.mark.parametrize("name", ["small", "output neurons alone"])
def test_graph_uses_plain_operators_only(name: str) -> None:
    graph = build(network_of(name), "small")
    operators = {node.op_type for node in graph.graph.node}
    assert operators <= {
        "Add", "Cast", "Clip", "Conv", "Floor", "Gather", "GreaterOrEqual",
        "Less", "MatMul", "Mul", "Reshape", "Sub", "Transpose",
    }  # fmt: skip
    assert {opset.domain for opset in graph.opset_import} == {""}


def test_weights_are_stored_in_one_byte_each() -> None:
    graph = build(make_network(), "small")
    types = {t.name: t.data_type for t in graph.graph.initializer if "weight" in t.name}
    assert set(types.values()) == {onnx.TensorProto.INT8}


def test_a_network_that_could_leave_exact_integers_is_refused() -> None:
    network = make_network()
    with torch.no_grad():
        network.stem.stem2.norm.bias.add_(1e6)
    with pytest.raises(ExportError, match=r"expected all values of stem2 below 2\*\*24"):
        build(network, "small")


def test_output_neurons_that_could_leave_exact_integers_are_refused() -> None:
    """784 weights of 127, traces of 32: 3,186,176, and what is missing to 2**24 as gamma."""
    network = make_glm()
    with torch.no_grad():
        network.readout.weight.fill_(127 * 16.0)  # one integer is one logit
        network.readout.feedback.zero_()
        network.readout.gamma.fill_(2**24 - 784 * 127 * 32 - 1)
    build(network, "glm")
    with torch.no_grad():
        network.readout.gamma.add_(1.0)
    with pytest.raises(ExportError, match=r"expected all values of potential below 2\*\*24, got a bound of"):
        build(network, "glm")


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_the_bound_of_a_potential_is_what_a_neuron_reaches_that_never_fires(shift: int) -> None:
    """A leak of one in 2**shift holds a potential at 2**shift times the current that drives it."""
    graph, never = Builder({"hidden": [1]}), LIFNeurons(torch.tensor([torch.inf]), shift, integer=True)
    graph.lif("hidden", ("current", 1000.0), never)
    v, current, largest = torch.zeros(2), torch.tensor([1000.0, -1000.0]), 0.0
    for _ in range(200):
        v = never.step(v, current)[1]
        largest = max(largest, float(v.abs().max()))
    assert graph.bounds == {"hidden": largest} == {"hidden": 1000.0 * 2**shift}


def test_neurons_that_could_leave_exact_integers_are_refused_at_the_first_integer_that_does() -> None:
    """With a leak of a half, currents of 2**23 - 1 sum up to 2**24 - 2, and of 2**23 to 2**24."""
    graph, neurons = Builder({"hidden": [1]}), LIFNeurons(torch.ones(1), 1, integer=True)
    graph.lif("hidden", ("current", 2.0**23 - 1), neurons)
    with pytest.raises(ExportError, match=r"expected all values of hidden below 2\*\*24, got a bound of"):
        graph.lif("hidden", ("current", 2.0**23), neurons)


def test_a_filtered_readout_that_could_leave_exact_integers_is_refused() -> None:
    """49 tokens of 8 channels with weights of 127, and a gamma; a leak of a quarter sums up to four times as much."""
    network = make_network()
    with torch.no_grad():
        network.readout.weight.fill_(127.0)  # one integer is one logit
        network.readout.feedback.zero_()
        network.readout.gamma.fill_(2**22 - 49 * 8 * 127 - 1)
    build(network, "small")
    with torch.no_grad():
        network.readout.gamma.add_(1.0)
    with pytest.raises(ExportError, match=r"expected all values of potential below 2\*\*24, got a bound of"):
        build(network, "small")
