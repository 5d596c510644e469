"""Synapses as memristive cells hold them: no two are alike, and some do not move any more.

A stored weight w comes back as w (1 + sigma n), n normal: conductances scatter in proportion to themselves. A cell
that is stuck holds 0 or the largest weight of either sign, whatever was written. What is read passes a converter of
as many bits as the synapse has, so weights stay whole. Thresholds and biases sit in ordinary memory and stay.

Source of the two faults: Joshi et al., "Accurate deep neural network inference using computational phase-change
memory", 2020 (programming noise); Chen et al., "Accelerator-friendly neural-network training: learning variations and
defects in RRAM crossbar", 2017 (stuck-at faults).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spikehead.model.card import load_card

from training.measure.model_folder import write_changed

WEIGHTS = ".int8"
"""Ends the name of every tensor of synapses in a step graph."""


def perturbed(
    weights: NDArray[np.int8], bits: int, sigma: float, stuck: float, random: np.random.Generator
) -> NDArray[np.int8]:
    """Weights as they are read back. `sigma`: relative spread; `stuck`: share of cells that do not move."""
    largest = 2 ** (bits - 1) - 1
    read = weights * (1 + sigma * random.standard_normal(weights.shape))
    dead = random.random(weights.shape) < stuck
    held = random.integers(-1, 2, weights.shape) * largest
    return np.clip(np.rint(np.where(dead, held, read)), -largest, largest).astype(np.int8)


def write_perturbed(model: Path, folder: Path, sigma: float, stuck: float, seed: int) -> None:
    """Write a copy of the model in `model` to `folder`, its synapses read back from cells drawn by `seed`."""
    bits, random = load_card(model).bits, np.random.default_rng(seed)

    def change(name: str, values: NDArray[Any]) -> NDArray[Any]:
        return perturbed(values, bits, sigma, stuck, random) if name.endswith(WEIGHTS) else values

    write_changed(model, folder, change)
