"""Conventional networks: shapes, sizes, and the twin's layers by hand."""

import math

import pytest
import torch
from torch import nn

from tests.training.conftest import SMALL
from training.export.ann_graph import AnyAnn
from training.network.ann import AnnTwin, LeNet5, MnistCnn, Normalised, TwinBlock
from training.network.spiking import NetworkConfig, SpikingTransformer

IMAGES = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "network", [LeNet5(), MnistCnn(), AnnTwin(SMALL)], ids=lambda one: type(one).__name__
)
def test_ten_logits_an_image_whatever_its_company(network: AnyAnn) -> None:
    network.eval()
    logits = network(IMAGES)
    assert logits.shape == (3, 10)
    assert torch.allclose(logits[1:2], network(IMAGES[1:2]), atol=1e-5)


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_sizes_by_hand() -> None:
    lenet = (25 * 6 + 6) + (25 * 6 * 16 + 16) + (400 * 120 + 120) + (120 * 84 + 84) + (84 * 10 + 10)
    assert size(LeNet5()) == lenet == 61_706
    cnn = (9 * 32 + 32) + (9 * 32 * 64 + 64) + (9216 * 128 + 128) + (128 * 10 + 10)
    assert size(MnistCnn()) == cnn == 1_199_882


def test_the_twin_has_the_spiking_networks_synapses() -> None:
    """What the spiking network has beside: thresholds of attention, and the feedback of its output neurons."""
    for config in (SMALL, NetworkConfig()):
        more = config.blocks * config.channels + 10
        assert size(SpikingTransformer(config)) - size(AnnTwin(config)) == more
    assert AnnTwin().config == NetworkConfig()


def known(normalised: Normalised, factor: float, shift: float) -> Normalised:
    """Normalisation that multiplies by `factor` and adds `shift`."""
    norm = normalised.norm
    with torch.no_grad():
        norm.weight.fill_(factor * math.sqrt(4 + norm.eps))
        norm.bias.fill_(shift + 3 * factor)
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.fill_(3.0)
        norm.running_var.fill_(4.0)
    return normalised.eval()


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 3, 4, 4)], ids=["tokens", "maps"])
def test_normalisation_by_hand(shape: tuple[int, ...]) -> None:
    """(x - 3) / 2 * 2 f + s + 3 f = f x + s."""
    weight = nn.Linear(3, 3, bias=False) if len(shape) == 3 else nn.Conv2d(3, 3, 1, bias=False)
    layer = known(Normalised(weight), 5.0, -1.0)
    with torch.no_grad():
        weight.weight.copy_(2 * torch.eye(3).view(weight.weight.shape))
    x = torch.arange(float(math.prod(shape))).view(shape)
    assert torch.allclose(layer(x), 10 * x - 1)
    folded, bias = layer.folded()
    assert torch.allclose(folded.view(3, 3), 10 * torch.eye(3)) and torch.allclose(
        bias, torch.full((3,), -1.0)
    )


@pytest.mark.parametrize("layer", [nn.Linear(4, 6, bias=False), nn.Conv2d(4, 6, 3, 2, 1, bias=False)])
def test_folded_normalisation_computes_the_same(layer: nn.Linear | nn.Conv2d) -> None:
    normalised = Normalised(layer)
    shape = (8, 5, 4) if isinstance(layer, nn.Linear) else (8, 4, 6, 6)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):  # statistics of its own
        normalised(torch.randn(shape, generator=generator) * 3 + 1)
    normalised.eval()
    x = torch.randn(shape, generator=generator)
    weight, bias = normalised.folded()
    if isinstance(layer, nn.Linear):
        expected = nn.functional.linear(x, weight, bias)
    else:
        expected = nn.functional.conv2d(x, weight, bias, 2, 1)
    assert torch.allclose(normalised(x), expected, atol=1e-5)


def test_a_block_by_hand() -> None:
    """One channel, one head, two tokens: 1 and -3, of which ReLU leaves 1 and 0.

    Softmax of q k: the first token looks at both as e to 1, the second alike. Onto the stream come e / (e + 1) and
    1 / 2; then twice what ReLU leaves of it.
    """
    block = TwinBlock(NetworkConfig(channels=1, heads=1, mlp_ratio=1, neighbours=False)).eval()
    for part in (block.query, block.key, block.value, block.projection, block.expand, block.contract):
        known(part, 1.0, 0.0)
        nn.init.ones_(part.weight.weight)
    known(block.contract, 2.0, 0.0)
    found = block(torch.tensor([[[1.0], [-3.0]]]))
    e = math.e
    assert found.flatten().tolist() == pytest.approx([3 * (1 + e / (e + 1)), -2.5], rel=1e-5)


def test_heads_do_not_see_each_other() -> None:
    """Channel 0 is the head that changes: nothing of it reaches channel 1."""
    block = TwinBlock(NetworkConfig(channels=2, heads=2, mlp_ratio=1)).eval()
    for part in (block.query, block.key, block.value, block.projection):
        known(part, 1.0, 0.0)
        nn.init.eye_(part.weight.weight)
    known(block.contract, 0.0, 0.0)
    stream = torch.rand(1, 4, 2, generator=torch.Generator().manual_seed(2))
    other = stream.clone()
    other[..., 0] *= 3
    one, two = block(stream), block(other)
    assert torch.equal(one[..., 1], two[..., 1])
    assert not torch.allclose(one[..., 0] * 3, two[..., 0], rtol=1e-3)


def test_dropout_is_for_learning_alone() -> None:
    network = MnistCnn()
    assert not torch.equal(network(IMAGES), network(IMAGES))
    network.eval()
    assert torch.equal(network(IMAGES), network(IMAGES))
