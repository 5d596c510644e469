"""Hints: the spiking network learns not only what the teacher answers but what it sees, place by place.

A linear projection of the currents into a layer has to foretell the teacher's features at the same place. The labels
say one thing about a whole picture; hints say something of each of its parts. The projections are gone after training.

Source: Romero et al., "FitNets: Hints for Thin Deep Nets", 2015.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from training.fit.teacher import LAST_CHANNELS, MIDDLE_CHANNELS, Explanation
from training.network.spiking import NetworkConfig, Run

NOISE = 1e-3
"""Features that vary less than this are as good as constant."""


class Hints(nn.Module):
    """Projections of the network's currents to the teacher's features, and how far they are from them."""

    def __init__(self, config: NetworkConfig, width: int = 1) -> None:
        """`width` is the teacher's."""
        super().__init__()
        self.stem2 = nn.Linear(config.stem[1], MIDDLE_CHANNELS * width)
        self.tokens = nn.Linear(config.channels, LAST_CHANNELS * width)

    def forward(self, run: Run, explanation: Explanation) -> Tensor:
        """Share of the features' variance that is not foretold, stem and tokens together: 2 where nothing is.

        The currents' means over time are read: of `run.currents` in float arithmetic, "stem2" [T, N, C, 14, 14] and
        "tokens" [T, N, 49, C].
        """
        stem = self.stem2(run.currents["stem2"].mean(0).flatten(2).transpose(1, 2))  # [N, 196, 64]
        tokens = self.tokens(run.currents["tokens"].mean(0))  # [N, 49, 128]
        return F.mse_loss(stem, standardised(explanation.middle)) + F.mse_loss(
            tokens, standardised(explanation.last)
        )


def standardised(features: Tensor) -> Tensor:
    """Mean 0 and deviation 1 of each channel over batch and places. [N, C, H, W] -> [N, H W, C]."""
    places = features.flatten(2).transpose(1, 2)
    return (places - places.mean((0, 1))) / (places.std((0, 1)) + NOISE)
