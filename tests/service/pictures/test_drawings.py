"""The shipped model reads drawings, and MNIST through the service."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from spikehead.inference.options import Options
from spikehead.inference.simulator import Simulator, seeds_of_batch
from spikehead.pictures.normalise import prepare
from spikehead.settings import Settings
from spikehead.web.app import create_app

from tests.service.conftest import SHIPPED
from tests.service.drawings import SHAPES, Drawing, drawing
from tests.service.picture_files import png

DRAWINGS = 400
LEAST = 0.95


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    return [drawing(seed) for seed in range(DRAWINGS)]


def test_drawings_cover_every_shape(drawings: list[Drawing]) -> None:
    drawn = {(one.digit, one.style.shape) for one in drawings}
    assert drawn == {(digit, shape) for digit, shapes in SHAPES.items() for shape in shapes}


def test_drawings_are_read(shipped: Simulator, drawings: list[Drawing]) -> None:
    images = np.stack([prepare(one.data, max_pixels=16_000_000) for one in drawings])
    card = shipped.card
    options = Options(card.max_steps, card.calibration.confidence, seed=0)
    right = []
    for start in range(0, DRAWINGS, 100):
        some = images[start : start + 100]
        answers = shipped.classify(some, seeds_of_batch(start, len(some)), options, [0.0] * len(some))
        right += [
            answer["prediction"] == one.digit for answer, one in zip(answers, drawings[start:], strict=False)
        ]
    assert np.mean(right) >= LEAST


@pytest.fixture(scope="module")
def mnist() -> tuple[np.ndarray, np.ndarray]:
    """MNIST's test set."""
    folder = Path(os.environ.get("SPIKEHEAD_DATA", "data")) / "MNIST" / "raw"
    if not (folder / "t10k-images-idx3-ubyte").is_file():
        pytest.skip("needs MNIST: set SPIKEHEAD_DATA to the folder that holds MNIST/raw")
    images = (folder / "t10k-images-idx3-ubyte").read_bytes()
    labels = (folder / "t10k-labels-idx1-ubyte").read_bytes()
    assert struct.unpack(">4I", images[:16]) == (2051, 10_000, 28, 28)
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return pixels, np.frombuffer(labels, np.uint8, offset=8)


def test_mnist_as_png_passes_unchanged(mnist: tuple[np.ndarray, np.ndarray]) -> None:
    for image in mnist[0][:1000]:
        assert (prepare(png(image), max_pixels=784) == image).all()


@pytest.mark.slow
def test_mnist_through_the_service(shipped: Simulator, mnist: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = mnist
    right = []
    with TestClient(create_app(Settings(models=SHIPPED.parent))) as client:
        for start in range(0, len(images), 500):
            response = client.post(
                f"/classify/batch?seed={start}",
                content=images[start : start + 500].tobytes(),
                headers={"Content-Type": "application/octet-stream"},
            )
            right += [result["prediction"] for result in response.json()["results"]]
    assert np.mean(np.array(right) == labels) >= 0.99
