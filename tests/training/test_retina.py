"""The retina on tensors: the service's, to the bit, on every device that is here."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service import encoding
from service.encoding import contrast, rates
from tests.training.conftest import Mnist
from training import data, retina

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def pictures(mnist: Mnist) -> dict[str, NDArray[np.uint8]]:
    """Pictures of which each takes another way through the retina."""
    generator = np.random.default_rng(0)
    digits = mnist.images[:40].astype(np.int16)
    ramp = np.linspace(0, 160, 28, dtype=np.int16)
    stripes = (np.arange(28) // 3 % 2 * 120).astype(np.int16)
    specks = np.where(
        generator.random(digits.shape) < 0.1, generator.integers(0, 2, digits.shape) * 255, digits
    )
    varied = data.vary(
        torch.from_numpy(mnist.images[:200].copy()),
        data.Variation().times(2.0),
        torch.Generator().manual_seed(0),
    )
    return {
        "digits": mnist.images[:40],
        "varied": varied.numpy(),
        "lit": np.clip(digits + 90, 0, 255).astype(np.uint8),
        "inverted": (255 - digits).astype(np.uint8),
        "slope": np.clip(digits + ramp[:, None] // 2 + ramp // 2, 0, 255).astype(np.uint8),
        "stripes": np.clip(digits + stripes, 0, 255).astype(np.uint8),
        "specks": specks.astype(np.uint8),
        "noise": generator.integers(0, 256, (60, 28, 28)).astype(np.uint8),
        "faint": (digits // 12).astype(np.uint8),
        "blank": np.full((2, 28, 28), 37, np.uint8),
        "none": np.zeros((0, 28, 28), np.uint8),
    }


@pytest.mark.parametrize("device", DEVICES)
def test_every_picture_is_seen_as_the_service_sees_it(device: str, tiny_mnist: Mnist) -> None:
    for name, images in pictures(tiny_mnist).items():
        found = retina.contrast(torch.from_numpy(images.copy()).to(device))
        assert found.dtype == torch.uint8 and found.device.type == device
        assert np.array_equal(found.cpu().numpy(), contrast(images)), name


def test_the_pictures_take_every_way(tiny_mnist: Mnist) -> None:
    """Even margins and uneven ones; each guess at the background is the best for some picture; noise and none."""
    seen = torch.from_numpy(np.concatenate(list(pictures(tiny_mnist).values()))).int()
    clean, background = retina._despeckle(seen), retina._background(retina._despeckle(seen))
    margin = clean[:, [0] * 28 + [27] * 28, list(range(28)) * 2]
    guesses = {
        "margin": margin.median(1).values[:, None, None].expand_as(clean),
        "continued": retina._continued_margin(clean),
        "local": retina._local_median(clean),
    }
    chosen = {name: (background == guess).all(2).all(1) for name, guess in guesses.items()}
    assert (chosen["continued"] & ~chosen["margin"] & ~chosen["local"]).any()
    assert (chosen["local"] & ~chosen["margin"] & ~chosen["continued"]).any()
    assert chosen["margin"].any()
    assert ((seen - clean).abs() >= 64).sum((1, 2)).max() >= 8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_firing_probabilities_are_the_same_on_a_gpu(tiny_mnist: Mnist) -> None:
    images = tiny_mnist.images[:300]
    found = data.firing_probabilities(torch.from_numpy(images.copy()).cuda())
    assert found.device.type == "cuda" and torch.equal(found.cpu(), data.firing_probabilities(images))
    assert np.array_equal(found.cpu().numpy()[:, 0] * 256, rates(contrast(images)))


def test_of_guesses_that_leave_as_much_ink_the_first_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The margin continued leaves 6 grey levels, which count five times, the local median 5, which count six times."""
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 0] = 255
    continued, local = image.astype(np.int16), image.astype(np.int16)
    continued[0, 5, 5] += 6
    local[0, 6, 6] += 5
    for name, guess in (("_continued_margin", continued), ("_local_median", local)):
        monkeypatch.setattr(f"service.encoding.{name}", lambda images, guess=guess: guess)
        monkeypatch.setattr(retina, name, lambda images, guess=guess: torch.from_numpy(guess).int())
    assert np.array_equal(encoding._background(image), continued)
    assert np.array_equal(retina._background(torch.from_numpy(image).int()).numpy(), continued)
