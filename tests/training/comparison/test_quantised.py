"""Conventional networks in 8 bits: what they read, how right they are, and what is in the file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from training.comparison.quantised import QuantisedAnn, intensities
from training.data import mnist
from training.data.distortions import distorted
from training.export.ann_graph import build
from training.network.ann import LeNet5

Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture(scope="module")
def network() -> LeNet5:
    """Without biases, and with large weights: its answers differ from picture to picture."""
    torch.manual_seed(2)
    network = LeNet5()
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(3 if p.dim() > 1 else 0)
    return network.eval()


@pytest.fixture(scope="module")
def graph(network: LeNet5) -> onnx.ModelProto:
    return build(network, "lenet5", counting=False)[0]


@pytest.fixture(scope="module")
def plain(graph: onnx.ModelProto) -> QuantisedAnn:
    return QuantisedAnn.plain(graph)


@pytest.fixture(scope="module")
def quantised(graph: onnx.ModelProto, drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> QuantisedAnn:
    return QuantisedAnn.of(graph, tmp_path_factory.mktemp("int8") / "int8.onnx", drawn[0][:20])


def logits(network: LeNet5, x: torch.Tensor) -> NDArray[np.float32]:
    with torch.no_grad():
        return np.asarray(network(x).numpy())


def test_the_network_reads_what_the_retina_sees(drawn: Drawn) -> None:
    found = intensities(drawn[0][:3])
    assert found.shape == (3, 1, 28, 28) and found.dtype == np.float32
    assert np.array_equal(found, mnist.firing_probabilities(drawn[0][:3]).numpy())


def test_a_timed_run_takes_pictures_as_they_come(plain: QuantisedAnn, network: LeNet5, drawn: Drawn) -> None:
    found = plain.run(drawn[0][:3])
    assert found.shape == (3, 10)
    expected = logits(network, torch.from_numpy(drawn[0][:3, None].astype(np.float32) / 255))
    assert np.abs(found - expected).max() < 1e-5


def test_accuracy_is_that_of_torch(plain: QuantisedAnn, network: LeNet5, drawn: Drawn) -> None:
    """130 pictures in two batches, a tenth of whose labels are wrong."""
    images = np.concatenate([drawn[0]] * 4)[:130]
    labels = logits(network, mnist.firing_probabilities(images)).argmax(-1).astype(np.int64)
    assert len(set(labels.tolist())) > 1
    assert plain.accuracy(images, labels) == 1.0
    labels[::10] = (labels[::10] + 1) % 10
    assert plain.accuracy(images, labels) == pytest.approx(0.9)


def test_robustness_is_the_mean_over_all_distortions(
    plain: QuantisedAnn, network: LeNet5, drawn: Drawn
) -> None:
    sets = {name: distorted(drawn[0], name, 4) for name in ("gaussian_noise", "inverted", "thicker")}
    labels = logits(network, mnist.firing_probabilities(drawn[0])).argmax(-1).astype(np.int64)
    expected = [
        (logits(network, mnist.firing_probabilities(seen)).argmax(-1) == labels).mean()
        for seen in sets.values()
    ]
    assert plain.robustness(sets, labels) == pytest.approx(np.mean(expected))
    assert min(expected) < 1.0


def test_eight_bits_give_nearly_the_same_logits(
    quantised: QuantisedAnn, plain: QuantisedAnn, drawn: Drawn
) -> None:
    """On pictures that the ranges were not taken from."""
    images = drawn[0][20:]
    found, expected = quantised.run(images), plain.run(images)
    assert not np.array_equal(found, expected)
    assert np.abs(found - expected).mean() < 0.02 * np.ptp(expected)
    assert np.abs(found - expected).max() < 0.2 * np.ptp(expected)


def test_weights_are_one_byte_each_with_a_scale_a_channel(quantised: QuantisedAnn) -> None:
    path = quantised.path
    assert [other.name for other in path.parent.iterdir()] == [path.name]  # nothing is left beside it
    stored = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    small = [tensor for tensor in stored.values() if tensor.data_type == TensorProto.INT8]
    sizes = sorted(int(np.prod(tensor.dims)) for tensor in small)
    assert sizes[-5:] == sorted([150, 2400, 48_000, 10_080, 840])
    scales = [list(tensor.dims) for name, tensor in stored.items() if name.endswith("weight_scale")]
    assert sorted(scales) == [[6], [10], [16], [84], [120]]
    assert path.stat().st_size < 100_000 < 4 * 61_470


def test_a_stored_graph_is_read_again(quantised: QuantisedAnn, drawn: Drawn) -> None:
    again = QuantisedAnn(Path(quantised.path))
    assert np.array_equal(again.run(drawn[0][:5]), quantised.run(drawn[0][:5]))
