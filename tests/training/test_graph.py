"""The step graph gives the same spikes as torch, and says so when it could not."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from service.engine.onnxruntime import OnnxruntimeEngine
from tests.training.conftest import SMALL, make_network
from training.export import _draft_card, check_parity, write
from training.graph import ExportError, build
from training.network import NetworkConfig

CONFIGS = {
    "small": SMALL,
    "no attention": NetworkConfig(stem=(4, 8), channels=8, blocks=2, heads=2, attention=False),
    "4 bits": NetworkConfig(stem=(4, 4), channels=16, blocks=1, heads=4, bits=4, mlp_ratio=1),
    "other time constants": NetworkConfig(
        stem=(4, 4), channels=8, blocks=1, heads=1, shift_membrane=2, shift_readout=3
    ),
}


def images(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize("name", CONFIGS)
def test_torch_and_onnxruntime_give_identical_spikes(name: str, tmp_path: Path) -> None:
    network = make_network(CONFIGS[name], seed=4)
    graph = build(network, "small").SerializeToString()
    write(tmp_path, graph, _draft_card(network, "small", "1.0.0", graph, 6))
    check_parity(network, OnnxruntimeEngine(tmp_path), images(12), 6)


def test_parity_check_notices_one_changed_weight(tmp_path: Path) -> None:
    network = make_network(seed=4)
    graph = build(network, "small").SerializeToString()
    write(tmp_path, graph, _draft_card(network, "small", "1.0.0", graph, 6))
    with torch.no_grad():
        network.readout[0] += network.readout_parameters()[3]
    with pytest.raises(ExportError, match="expected the same potential from torch and onnxruntime"):
        check_parity(network, OnnxruntimeEngine(tmp_path), images(4), 6)


def test_graph_uses_plain_operators_only() -> None:
    graph = build(make_network(), "small")
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
        network.stem2.norm.bias.add_(1e6)
    with pytest.raises(ExportError, match=r"expected all values of stem2 below 2\*\*24"):
        build(network, "small")
