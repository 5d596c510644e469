"""What an epoch shows: every image once, varied and seen, in batches, however many are varied in one go."""

import numpy as np
import pytest
import torch

from training.data import mnist
from training.data.batches import generator_of, presented

CPU = torch.device("cpu")
NONE = mnist.Variation().times(0.0)


def numbered(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that differ, and labels that say which they are."""
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    for i in range(count):
        images[i, 5 : 7 + i, 8:12] = 255
    return images, torch.arange(count)


@pytest.mark.parametrize("at_once", [None, 1, 8, 100])
def test_every_image_is_shown_once_with_its_label(at_once: int | None) -> None:
    images, labels = numbered(18)
    batches = list(presented(images, labels, 4, NONE, generator_of(CPU, 1, 0), at_once))
    assert [len(truth) for _, truth in batches] == [4, 4, 4, 4, 2]
    truth = torch.cat([truth for _, truth in batches])
    assert sorted(truth.tolist()) == list(range(18)) and truth.tolist() != list(range(18))
    seen = torch.cat([probability for probability, _ in batches])
    assert torch.equal(seen, mnist.firing_probabilities(images.numpy())[truth])


def test_images_are_varied_as_one_go_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch on a CPU, so that random numbers come as they did; whole batches otherwise, at least one."""
    goes: list[int] = []

    def vary(images: torch.Tensor, variation: mnist.Variation, generator: torch.Generator) -> torch.Tensor:
        goes.append(len(images))
        return images

    monkeypatch.setattr("training.data.mnist.vary", vary)
    images, labels = numbered(18)
    for at_once, expected in ((None, [4, 4, 4, 4, 2]), (3, [4, 4, 4, 4, 2]), (11, [8, 8, 2]), (64, [18])):
        goes.clear()
        list(presented(images, labels, 4, NONE, generator_of(CPU, 1, 0), at_once))
        assert goes == expected, at_once


def test_epochs_and_seeds_have_randomness_of_their_own() -> None:
    drawn = {
        (seed, epoch): torch.rand(3, generator=generator_of(CPU, seed, epoch)).tolist()
        for seed in (1, 2)
        for epoch in (0, 1)
    }
    assert len({tuple(values) for values in drawn.values()}) == 4
    assert drawn[1, 1] == torch.rand(3, generator=generator_of(CPU, 1, 1)).tolist()


def test_variation_reaches_what_is_shown() -> None:
    images, labels = numbered(6)
    still, moved = (
        torch.cat([seen for seen, _ in presented(images, labels, 4, variation, generator_of(CPU, 1, 0))])
        for variation in (NONE, mnist.Variation())
    )
    assert not np.array_equal(still.numpy(), moved.numpy())
