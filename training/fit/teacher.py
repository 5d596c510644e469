"""The teacher: plain convolutional networks whose soft answers the spiking network learns from.

It is trained on the same varied training images, as intensities. It is used while training and is not shipped.
Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from training.fit.loop import FitSettings, fit

CHECKPOINT = "teacher.pt"

MIDDLE_CHANNELS, LAST_CHANNELS = 64, 128
"""Of a member of width 1."""

MIDDLE = 9
"""After so many modules, three layers, the map is as fine as the spiking network's stem."""


class Explanation(NamedTuple):
    """A teacher's answer and its reasons."""

    logits: Tensor  # [N, 10]
    middle: Tensor  # [N, 64 width, 14, 14]
    last: Tensor  # [N, 128 width, 7, 7]


class Member(nn.Module):
    """Five convolutions with batch normalisation. Intensities [N, 1, 28, 28] -> logits [N, 10]."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

        first, middle, last = 32 * width, MIDDLE_CHANNELS * width, LAST_CHANNELS * width
        self.features = nn.Sequential(
            *layer(1, first),  # [N, 32 width, 28, 28]
            *layer(first, middle, stride=2),  # [N, 64 width, 14, 14]
            *layer(middle, middle),
            *layer(middle, last, stride=2),  # [N, 128 width, 7, 7]
            *layer(last, last),
        )
        self.dropout = nn.Dropout(0.3)
        self.classes = nn.Linear(last * 7 * 7, 10)

    def forward(self, intensities: Tensor) -> Tensor:
        return self.explain(intensities).logits

    def explain(self, intensities: Tensor) -> Explanation:
        """Logits, and the features that they come from. Intensities [N, 1, 28, 28]."""
        middle = self.features[:MIDDLE](intensities)
        last = self.features[MIDDLE:](middle)
        return Explanation(self.classes(self.dropout(last.flatten(1))), middle, last)


class Teacher(nn.Module):
    """Convolutional networks that answer together: the mean of their logits. [N, 1, 28, 28] -> [N, 10].

    While they learn, each answers for itself, [members N, 10], so that each makes its own mistakes.
    Source: Lakshminarayanan, Pritzel, Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles", 2017.
    """

    def __init__(self, width: int = 1, members: int = 1) -> None:
        super().__init__()
        self.width = width
        self.members = nn.ModuleList(Member(width) for _ in range(members))

    def forward(self, intensities: Tensor) -> Tensor:
        if self.training:
            return torch.cat([member(intensities) for member in self.members])
        return self.explain(intensities).logits

    def explain(self, intensities: Tensor) -> Explanation:
        """Logits of all, and what the first of them sees. Intensities [N, 1, 28, 28]."""
        first, *others = self.members
        assert isinstance(first, Member)
        logits, middle, last = first.explain(intensities)
        answers = torch.stack([logits, *(member(intensities) for member in others)])
        return Explanation(answers.mean(0), middle, last)


def train_teacher(
    settings: FitSettings,
    folder: Path,
    device: torch.device,
    data_root: Path | None,
    progress: Callable[[int, int, dict[str, float]], None],
    report: Callable[[int, float, float], None],
    width: int = 1,
    members: int = 1,
) -> None:
    """Train a teacher; write `folder/teacher.pt`. See `training.fit.loop.fit`.

    Raises FileNotFoundError without a start.

    It has the width and the members of the teacher that it begins with, where it does.
    """
    torch.manual_seed(settings.seed)
    if settings.start:
        network = load_teacher(Path(settings.start), device)[0]
        network.requires_grad_()
    else:
        network = Teacher(width, members)
    fit(network, settings, folder / CHECKPOINT, device, data_root, progress, report)


def load_teacher(path: Path, device: torch.device) -> tuple[Teacher, dict[str, Any]]:
    """A trained teacher, ready to be asked, and what its checkpoint says of it. Raises FileNotFoundError."""
    contents: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    weights = contents.pop("network")
    if "classes.weight" in weights:  # from when there was one member
        weights = {f"members.0.{name}": values for name, values in weights.items()}
    network = Teacher(
        width=weights["members.0.classes.weight"].shape[1] // (49 * LAST_CHANNELS),
        members=len({name.split(".")[1] for name in weights}),
    )
    network.load_state_dict(weights)
    network.eval().requires_grad_(False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU
    return network.to(device), contents
