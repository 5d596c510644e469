"""Training of conventional networks: the teacher, and those that the spiking network is compared with.

They read what the retina sees as intensities, vary it as the spiking network's training does, and may learn from
a teacher as it does. What is kept is a moving average of the weights.
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

from training.data import mnist
from training.data.batches import generator_of, presented
from training.fit.compute import Precision, Refresh, allow_tf32, averaged_copy, mixed, teacher_precision


@dataclass(frozen=True)
class FitSettings:
    """Everything that decides how a conventional network turns out, but for its shape."""

    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    averaging: float = 0.998  # weights are a moving average over about 1 / (1 - averaging) batches
    precision: Precision = "float32"
    start: str | None = None  # a checkpoint whose weights the fit begins with; None: random ones
    teacher: str | None = None  # a checkpoint of `training.fit.teacher`; None learns from the labels alone
    distillation: float = 0.7  # weight of the teacher's answers; the labels have the rest
    temperature: float = 2.0  # by which teacher and student are softened when they are compared
    seed: int = 1
    limit: int | None = None
    unipen: float = 0.0  # share of the images shown that is of UNIPEN's writers; 0 is MNIST alone
    variation: mnist.Variation = field(default_factory=mnist.Variation)
    final_epochs: int = 0  # so many, at the end, in which handwriting varies less
    final_variation: float = 0.5  # so many times as far as before


def distance(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened answers [..., 10] from the teacher's, of the same shape: [...].

    Times the square of the temperature, so that its gradients weigh as much as those of the labels.
    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """
    wanted = F.softmax(taught / temperature, -1)
    found = F.log_softmax(logits / temperature, -1)
    return F.kl_div(found, wanted, reduction="none").sum(-1) * temperature**2


def fit(
    network: nn.Module,
    settings: FitSettings,
    checkpoint: Path,
    device: torch.device,
    data_root: Path | None,
    progress: Callable[[int, int, dict[str, float]], None],
    report: Callable[[int, float, float], None],
    teacher: nn.Module | None = None,
) -> float:
    """Train on the training images, varied; write `checkpoint` after each epoch; return validation accuracy.

    `report` gets epoch, loss, validation accuracy. The network maps intensities [N, 1, 28, 28] to logits [N, 10];
    one without a teacher may, while it trains, give [members N, 10], the answers of each member of an ensemble.
    """
    pixels, truth = mnist.load("train", data_root)
    held_out = mnist.load("validation", data_root)
    if settings.limit:
        held_out = held_out[0][: settings.limit], held_out[1][: settings.limit]
    pixels, truth = mnist.with_unipen(
        pixels[: settings.limit], truth[: settings.limit], settings.unipen, data_root
    )
    unseen = mnist.unipen_pictures("validation", data_root) if settings.unipen else None
    images, labels = torch.from_numpy(pixels).to(device), torch.from_numpy(truth).to(device)
    network = network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    allow_tf32(settings.precision)
    averaged = averaged_copy(network, settings.averaging)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True if device.type == "cuda" else None,
    )
    batches = math.ceil(len(images) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=max(11, settings.epochs * batches), pct_start=0.1
    )
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    score = 0.0
    for epoch in range(settings.epochs):
        generator = generator_of(device, settings.seed, epoch)
        final = epoch >= settings.epochs - settings.final_epochs
        variation = settings.variation.times(settings.final_variation if final else 1.0)
        network.train()
        total, refresh = torch.zeros((), dtype=torch.float64, device=device), Refresh()
        for number, (intensities, answers) in enumerate(
            presented(images, labels, settings.batch_size, variation, generator)
        ):
            with mixed(settings.precision, device):
                logits = network(intensities)
            with torch.no_grad(), mixed(teacher_precision(settings.precision), device):
                taught = teacher(intensities).float() if teacher else None
            # An ensemble answers as often as it has members.
            loss = F.cross_entropy(logits.float(), answers.repeat(len(logits) // len(answers)))
            if taught is not None:
                apart = distance(logits.float(), taught, settings.temperature).mean()
                loss = torch.lerp(loss, apart, settings.distillation)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            averaged.update_parameters(network)
            total += loss.detach() * (len(answers) / len(images))
            if refresh.due(device) or number + 1 == batches:
                progress(number + 1, batches, {"loss": float(loss.detach())})
        score = accuracy(averaged, *held_out)
        contents = {
            "settings": asdict(settings),
            "network": averaged.module.state_dict(),
            "epoch": epoch + 1,
            "validation_accuracy": score,
            "unipen_accuracy": accuracy(averaged, *unseen) if unseen else None,
            "data_sha256": mnist.sha256(images.cpu().numpy(), labels.cpu().numpy()),
        }
        partial = checkpoint.with_name(checkpoint.name + ".partial")
        torch.save(contents, partial)
        partial.replace(checkpoint)
        report(epoch + 1, float(total), score)
    return score


@torch.no_grad()
def accuracy(network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """Share of right answers. images uint8 [N, 28, 28], labels [N]."""
    network.eval()
    device = next(network.parameters()).device
    right = 0
    for start in range(0, len(images), 500):
        pixels = torch.from_numpy(images[start : start + 500].copy()).to(device)
        logits = network(mnist.firing_probabilities(pixels))
        right += int((logits.argmax(-1).cpu() == torch.from_numpy(labels[start : start + 500])).sum())
    return right / len(images)


def load_fitted(network: nn.Module, checkpoint: Path) -> dict[str, Any]:
    """Fill a network from a checkpoint, ready to be asked; returns what the checkpoint says besides.

    Raises FileNotFoundError.
    """
    contents: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network.load_state_dict(contents.pop("network"))
    network.eval().requires_grad_(False)
    return contents
