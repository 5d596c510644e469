"""Batches of an epoch: training images in some order, each varied, as the retina sees them.

All of it happens where the generator draws, so that a GPU hardly waits for the processor.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from training.data import mnist

AT_ONCE = 16_384
"""Images that a GPU varies in one go: a batch alone is too little work for it, all would need gigabytes."""


def generator_of(device: torch.device, seed: int, epoch: int) -> torch.Generator:
    """The randomness of one epoch, the same however a run got there."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + epoch)


def presented(
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    variation: mnist.Variation,
    generator: torch.Generator,
    at_once: int | None = None,
    order: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of firing probabilities [N, 1, 28, 28] and labels [N], on the generator's device.

    images uint8 [M, 28, 28] and labels [M], there too. The last batch may be smaller. At most `at_once` images are
    varied in one go, in whole batches and at least one: by default `AT_ONCE` on a GPU, one batch on a CPU.
    `order` are the indices of the images to show; by default each once, as the generator draws.
    """
    if at_once is None:
        at_once = AT_ONCE if generator.device.type == "cuda" else batch_size
    if order is None:
        order = torch.randperm(len(images), generator=generator, device=generator.device)
    for some in order.split(max(1, at_once // batch_size) * batch_size):
        probability = mnist.firing_probabilities(mnist.vary(images[some], variation, generator))
        yield from zip(probability.split(batch_size), labels[some].split(batch_size), strict=True)
