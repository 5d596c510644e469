"""Pictures for benchmarks: MNIST images that the shipped model has not learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spikehead.model.card import load_card

from training.data import mnist

SHIPPED = Path("models/spiking-mha")


def validation_images(model: Path = SHIPPED) -> NDArray[np.uint8]:
    """The images that a model's training held out. uint8 [N, 28, 28]."""
    return mnist.load("validation", None, mnist.held_out_by(load_card(model).training))[0]
