"""The retina on tensors: what it makes of arrays, to the bit, on every device that is here."""

import array_api_compat.torch
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from spikehead.model import retina
from spikehead.model.encoding import firing_rates
from spikehead.model.retina import contrast

from tests.service.retina_pictures import edge_cases
from tests.training.conftest import Mnist
from training.data import mnist

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def box(generator: np.random.Generator, hollow: bool = False) -> NDArray[np.uint8]:
    """A stroke of any width somewhere, or its edges alone."""
    image = np.zeros((28, 28), np.uint8)
    top, left, height, width = generator.integers((0, 0, 8, 3), (10, 20, 19, 9))
    image[top : top + height, left : left + width] = generator.integers(40, 256)
    if hollow:
        image[top + 1 : top + height - 1, left + 1 : left + width - 1] = 0
    return image


def pictures(tiny: Mnist) -> dict[str, NDArray[np.uint8]]:
    """Pictures of which each takes another way through the retina."""
    generator = np.random.default_rng(0)
    digits = tiny.images[:40].astype(np.int16)
    ramp = np.linspace(0, 160, 28, dtype=np.int16)
    stripes = (np.arange(28) // 3 % 2 * 120).astype(np.int16)
    specks = np.where(
        generator.random(digits.shape) < 0.1, generator.integers(0, 2, digits.shape) * 255, digits
    )
    varied = mnist.vary(
        torch.from_numpy(tiny.images[:200].copy()),
        mnist.Variation().times(2.0),
        torch.Generator().manual_seed(0),
    )
    return {
        "digits": tiny.images[:40],
        "varied": varied.numpy(),
        "lit": np.clip(digits + 90, 0, 255).astype(np.uint8),
        "inverted": (255 - digits).astype(np.uint8),
        "slope": np.clip(digits + ramp[:, None] // 2 + ramp // 2, 0, 255).astype(np.uint8),
        "stripes": np.clip(digits + stripes, 0, 255).astype(np.uint8),
        "specks": specks.astype(np.uint8),
        "noise": generator.integers(0, 256, (60, 28, 28)).astype(np.uint8),
        "faint": (digits // 12).astype(np.uint8),
        "blank": np.full((2, 28, 28), 37, np.uint8),
        "crossed": np.maximum(digits, np.eye(28, dtype=np.int16) * 200).astype(np.uint8),
        "blurred": np.mean([np.roll(digits, i, (1, 2)) for i in range(-3, 4)], axis=0).astype(np.uint8),
        "thick": np.kron(tiny.images[:40, 7:21, 7:21], np.ones((2, 2))).astype(np.uint8),
        "boxes": np.stack([box(generator) for _ in range(60)]),
        "outlines": np.stack([box(generator, hollow=True) for _ in range(60)]),
        "edge cases": edge_cases(),
        "none": np.zeros((0, 28, 28), np.uint8),
    }


@pytest.mark.parametrize("device", DEVICES)
def test_every_picture_is_seen_as_an_array_is(device: str, tiny_mnist: Mnist) -> None:
    for name, images in pictures(tiny_mnist).items():
        found = contrast(torch.from_numpy(images.copy()).to(device))
        assert found.dtype == torch.uint8 and found.device.type == device
        assert np.array_equal(found.cpu().numpy(), contrast(images)), name


def test_the_pictures_take_every_way(tiny_mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even margins and uneven ones; each guess at the background is the best for some picture; every operation."""
    clean, noisy = retina._despeckled(np, np.concatenate(list(pictures(tiny_mnist).values())))
    background, even = retina._background(np, clean)
    ways = {"noisy": noisy, "even": even}
    with monkeypatch.context() as patched:
        patched.setattr(retina, "_between_strokes", lambda xp, images, guess: guess)
        guessed, _ = retina._background(np, clean)
    rows, columns = ((guessed == one).all((1, 2)) for one in retina._continued_margin(np, clean))
    ways |= {"rows": ~even & rows & ~columns, "columns": ~even & columns & ~rows}
    ways["median"] = ~even & (guessed == guessed[:, :1, :1]).all((1, 2))
    ways["between"] = (background != guessed).any((1, 2))
    distance = retina._difference(np, clean, background)
    for name, after in {
        "lines": retina._without_lines(np, distance, even & ~noisy),
        "outlines": retina._filled(np, distance),
        "width": retina._thinned(np, distance),
        "focus": retina._sharpened(np, distance),
    }.items():
        ways[name] = (after != distance).any((1, 2))
    for name, those in ways.items():
        assert 0 < those.sum() < len(clean), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_firing_probabilities_are_the_same_on_a_gpu(tiny_mnist: Mnist) -> None:
    images = tiny_mnist.images[:300]
    found = mnist.firing_probabilities(torch.from_numpy(images.copy()).cuda())
    assert found.device.type == "cuda" and torch.equal(found.cpu(), mnist.firing_probabilities(images))
    assert np.array_equal(found.cpu().numpy()[:, 0] * 256, firing_rates(contrast(images)))


@pytest.mark.parametrize(("missed", "chosen"), [((28, 28), 0), ((27, 28), 1), ((27, 27), 1), ((28, 27), 2)])
def test_of_guesses_that_leave_as_much_ink_the_first_wins(
    missed: tuple[int, int], chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """35 pixels of the margin are lit: the median misses all, which count four times; what others miss, five times."""
    image = np.zeros((1, 28, 28), np.uint8)
    image.reshape(-1)[:35] = 255
    guesses = [image.copy() for _ in missed]
    for guess, count in zip(guesses, missed, strict=True):
        guess.reshape(-1)[:count] = 0
    monkeypatch.setattr(retina, "_between_strokes", lambda xp, images, guess: guess)
    wanted = [np.zeros_like(image), *guesses][chosen]
    for xp, given in (np, guesses), (array_api_compat.torch, [torch.from_numpy(one) for one in guesses]):
        monkeypatch.setattr(retina, "_continued_margin", lambda xp, images, given=given: given)
        found, _ = retina._background(xp, xp.asarray(image))
        assert np.array_equal(np.asarray(found), wanted)
