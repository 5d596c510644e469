"""Layers of spikes: shape and fan-out."""

import torch

from tests.training.conftest import GLM, SMALL
from training.network.layers import layers_of


def test_output_neurons_alone_have_no_hidden_layer() -> None:
    layers = [(one.name, one.shape, one.fan_out.targets) for one in layers_of(GLM).values()]
    assert layers == [("input", [1, 28, 28], 10), ("output", [10], 1)]


def test_fan_out_counts_the_windows_that_see_a_pixel() -> None:
    """5 x 5 windows at stride 2 with padding 2: rows 0, 1, 2 are seen by 2, 2 (rows 0-3 of window...) windows."""
    fan = layers_of(SMALL)["input"].fan_out
    seen = torch.nn.functional.conv_transpose2d(
        torch.ones(1, 1, 14, 14), torch.ones(1, 1, 5, 5), stride=2, padding=2, output_padding=1
    )[0, 0]
    assert torch.equal(seen, torch.outer(torch.tensor(fan.rows), torch.tensor(fan.columns)).float())
