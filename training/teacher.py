"""The teacher: a plain convolutional network whose soft answers the spiking network learns from.

It is trained on the same varied training images, as intensities. It is used while training and is not shipped.
Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from training.fit import FitSettings, fit, load_fitted

CHECKPOINT = "teacher.pt"

MIDDLE_CHANNELS, LAST_CHANNELS = 64, 128
MIDDLE = 9
"""After so many modules, three layers, the map is as fine as the spiking network's stem."""


class Explanation(NamedTuple):
    """What the teacher answers, and why."""

    logits: Tensor  # [N, 10]
    middle: Tensor  # [N, 64, 14, 14]
    last: Tensor  # [N, 128, 7, 7]


class Teacher(nn.Module):
    """Five convolutions with batch normalisation. Intensities [N, 1, 28, 28] -> logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

        self.features = nn.Sequential(
            *layer(1, 32),  # [N, 32, 28, 28]
            *layer(32, MIDDLE_CHANNELS, stride=2),  # [N, 64, 14, 14]
            *layer(MIDDLE_CHANNELS, MIDDLE_CHANNELS),
            *layer(MIDDLE_CHANNELS, LAST_CHANNELS, stride=2),  # [N, 128, 7, 7]
            *layer(LAST_CHANNELS, LAST_CHANNELS),
        )
        self.dropout = nn.Dropout(0.3)
        self.classes = nn.Linear(LAST_CHANNELS * 7 * 7, 10)

    def forward(self, intensities: Tensor) -> Tensor:
        return self.explain(intensities).logits

    def explain(self, intensities: Tensor) -> Explanation:
        """Logits, and the features that they come from. Intensities [N, 1, 28, 28]."""
        middle = self.features[:MIDDLE](intensities)
        last = self.features[MIDDLE:](middle)
        return Explanation(self.classes(self.dropout(last.flatten(1))), middle, last)


def train_teacher(
    settings: FitSettings,
    folder: Path,
    device: torch.device,
    data_root: Path | None,
    progress: Callable[[int, int, dict[str, float]], None],
    report: Callable[[int, float, float], None],
) -> None:
    """Train a teacher; write `folder/teacher.pt`. See `training.fit.fit`. Raises FileNotFoundError without a start."""
    torch.manual_seed(settings.seed)
    network = Teacher()
    if settings.start:
        load_fitted(network, Path(settings.start))
        network.requires_grad_()
    fit(network, settings, folder / CHECKPOINT, device, data_root, progress, report)


def load_teacher(path: Path, device: torch.device) -> tuple[Teacher, dict[str, Any]]:
    """A trained teacher, ready to be asked, and what its checkpoint says of it. Raises FileNotFoundError."""
    network = Teacher()
    contents = load_fitted(network, path)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU
    return network.to(device), contents
