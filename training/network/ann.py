"""Conventional networks that the spiking network is compared with. Intensities [N, 1, 28, 28] -> logits [N, 10].

`AnnTwin` has the spiking network's shape, with ReLU instead of spikes, softmax attention instead of counts of
coincidences, and one pass instead of time steps. `LeNet5` and `MnistCnn` are the two that everyone knows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.network.spiking import CLASSES, NetworkConfig, fold, with_neighbours


class LeNet5(nn.Module):
    """LeNet-5 with ReLU and max pooling. Source: LeCun, Bottou, Bengio, Haffner, 1998."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [N, 6, 14, 14]
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [N, 16, 5, 5]
            nn.Flatten(),
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, CLASSES),
        )

    def forward(self, intensities: Tensor) -> Tensor:
        logits: Tensor = self.layers(intensities)
        return logits


class MnistCnn(nn.Module):
    """The network of PyTorch's MNIST example: two convolutions, two linear layers, dropout while it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [N, 64, 12, 12]
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(9216, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, CLASSES),
        )

    def forward(self, intensities: Tensor) -> Tensor:
        logits: Tensor = self.layers(intensities)
        return logits


class Normalised(nn.Module):
    """A convolution or matrix with batch normalisation, as `training.network.spiking.Synapses` has them."""

    def __init__(self, weight: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.weight = weight
        self.norm = nn.BatchNorm1d(weight.weight.shape[0])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.weight(x)
        matrix = y.dim() == 3  # [N, L, C], else [N, C, H, W]
        normalised: Tensor = self.norm(y.flatten(0, 1) if matrix else y.flatten(2))
        return normalised.reshape(y.shape)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias with batch normalisation folded in."""
        return fold(self.weight.weight, self.norm)


class TwinBlock(nn.Module):
    """Softmax attention, unless `config` wants none in the block of this number, and an MLP, off the stream."""

    def __init__(self, config: NetworkConfig, number: int = 1) -> None:
        super().__init__()
        channels, hidden = config.channels, config.channels * config.mlp_ratio

        def matrix(inputs: int, outputs: int) -> Normalised:
            return Normalised(nn.Linear(inputs, outputs, bias=False))

        self.heads, self.neighbours = config.heads, config.neighbours
        self.attends = config.attends(number)
        if self.attends:
            self.query, self.key = matrix(channels, channels), matrix(channels, channels)
            self.value, self.projection = matrix(channels, channels), matrix(channels, channels)
        self.expand, self.contract = matrix(channels, hidden), matrix(hidden, channels)

    def forward(self, stream: Tensor) -> Tensor:
        def read(stream: Tensor) -> Tensor:
            x = F.relu(stream)  # [N, L, C]
            return with_neighbours(x) if self.neighbours else x

        if self.attends:
            x = read(stream)

            def split(role: Normalised) -> Tensor:
                return role(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-any-return]

            attended = F.scaled_dot_product_attention(split(self.query), split(self.key), split(self.value))
            stream = stream + self.projection(attended.transpose(1, 2).flatten(2))
        result: Tensor = stream + self.contract(F.relu(self.expand(read(stream))))
        return result


class AnnTwin(nn.Module):
    """The spiking network's shape as a conventional network."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        config = config or NetworkConfig()
        self.config = config
        first, second = config.stem
        self.stem1 = Normalised(nn.Conv2d(1, first, 5, 2, 2, bias=False))
        self.stem2 = Normalised(nn.Conv2d(first, second, 3, 1, 1, bias=False))
        self.stem3 = Normalised(nn.Conv2d(second, config.channels, 3, 2, 1, bias=False))
        if config.position:
            self.position = nn.Parameter(torch.zeros(config.tokens, config.channels))
        self.blocks = nn.ModuleList(TwinBlock(config, 1 + i) for i in range(config.blocks))
        self.readout = nn.Linear(config.tokens * config.channels, CLASSES)

    def forward(self, intensities: Tensor) -> Tensor:
        x = F.relu(self.stem1(intensities))  # [N, C1, 14, 14]
        x = F.relu(self.stem2(x))  # [N, C2, 14, 14]
        stream = self.stem3(x).flatten(2).transpose(1, 2)  # [N, L, C]
        if self.config.position:
            stream = stream + self.position
        for block in self.blocks:
            stream = block(stream)
        logits: Tensor = self.readout(F.relu(stream).flatten(1))
        return logits
