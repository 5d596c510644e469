"""Small networks that need no training data."""

import pytest
import torch

from training.network import NetworkConfig, SpikingTransformer

SMALL = NetworkConfig(stem=(4, 4), channels=8, blocks=1, heads=2)


def make_network(config: NetworkConfig = SMALL, seed: int = 0) -> SpikingTransformer:
    """Random weights, and normalisation that has seen random spikes, so that every layer is alive."""
    torch.manual_seed(seed)
    network = SpikingTransformer(config)
    with torch.no_grad():
        for _ in range(20):
            network((torch.rand(2, 16, 1, 28, 28) < 0.3).float(), torch.rand(2, 16, 10))
    network.integer = True
    return network.eval()


@pytest.fixture
def small_network() -> SpikingTransformer:
    return make_network()
