"""The teacher: an ordinary convolutional network whose soft answers the spiking network learns from.

It sees what the spiking network sees before it is turned into spikes: the image's contrast. It is used in
training alone; nothing of it is exported. Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural
Network", 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training import data

CHECKPOINT = "teacher.pt"


@dataclass(frozen=True)
class TeacherSettings:
    """Everything that decides how a teacher turns out."""

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    seed: int = 1
    limit: int | None = None
    variation: data.Variation = field(default_factory=data.Variation)


class Teacher(nn.Module):
    """Five convolutions with batch normalisation. Firing probabilities [N, 1, 28, 28] -> logits [N, 10]."""

    def __init__(self) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

        self.features = nn.Sequential(
            *layer(1, 32),  # [N, 32, 28, 28]
            *layer(32, 64, stride=2),  # [N, 64, 14, 14]
            *layer(64, 64),
            *layer(64, 128, stride=2),  # [N, 128, 7, 7]
            *layer(128, 128),
        )
        self.dropout = nn.Dropout(0.3)
        self.classes = nn.Linear(128 * 7 * 7, 10)

    def forward(self, probability: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.dropout(self.features(probability).flatten(1)))
        return logits


def train_teacher(
    settings: TeacherSettings,
    folder: Path,
    device: torch.device,
    data_root: Path | None,
    progress: Callable[[int, int, dict[str, float]], None],
    report: Callable[[int, float, float], None],
) -> None:
    """Train on the training images, varied; write `folder/teacher.pt`. `report` gets epoch, loss, accuracy."""
    torch.manual_seed(settings.seed)
    pixels, answers = data.load("train", data_root)
    held_out = data.load("validation", data_root)
    images, labels = (
        torch.from_numpy(pixels[: settings.limit].copy()),
        torch.from_numpy(answers[: settings.limit].copy()),
    )
    network = Teacher().to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    batches = math.ceil(len(images) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=max(11, settings.epochs * batches), pct_start=0.1
    )
    folder.mkdir(parents=True, exist_ok=True)
    for epoch in range(settings.epochs):
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
        network.train()
        total = 0.0
        for number, chosen in enumerate(
            torch.randperm(len(images), generator=generator).split(settings.batch_size)
        ):
            varied = data.vary(images[chosen], settings.variation, generator)
            probability = data.firing_probabilities(varied.numpy()).to(
                device, memory_format=torch.channels_last
            )
            loss = F.cross_entropy(network(probability), labels[chosen].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen) / len(images)
            progress(number + 1, batches, {"loss": float(loss.detach())})
        score = accuracy(network, *held_out)
        contents = {
            "settings": asdict(settings),
            "network": network.state_dict(),
            "validation_accuracy": score,
        }
        partial = folder / (CHECKPOINT + ".partial")
        torch.save(contents, partial)
        partial.replace(folder / CHECKPOINT)
        report(epoch + 1, total, score)


@torch.no_grad()
def accuracy(network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """Share of right answers. images uint8 [N, 28, 28], labels [N]."""
    network.eval()
    device = next(network.parameters()).device
    right = 0
    for start in range(0, len(images), 500):
        logits = network(data.firing_probabilities(images[start : start + 500]).to(device))
        right += int((logits.argmax(-1).cpu() == torch.from_numpy(labels[start : start + 500])).sum())
    return right / len(images)


def load_teacher(path: Path, device: torch.device) -> tuple[Teacher, dict[str, Any]]:
    """A trained teacher, ready to be asked, and what its checkpoint says of it. Raises FileNotFoundError."""
    contents: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    network = Teacher().to(device)
    network.load_state_dict(contents.pop("network"))
    return network.eval().requires_grad_(False), contents
