"""Synapses as memristive cells hold them: no two are alike, and some do not move any more.

A stored weight w comes back as w (1 + sigma n), n normal: conductances scatter in proportion to themselves. A cell
that is stuck holds 0 or the largest weight of either sign, whatever was written. What is read passes a converter of
as many bits as the synapse has, so weights stay whole. Thresholds and biases sit in ordinary memory and stay.

Source of the two faults: Joshi et al., "Accurate deep neural network inference using computational phase-change
memory", 2020 (programming noise); Chen et al., "Accelerator-friendly neural-network training: learning variations and
defects in RRAM crossbar", 2017 (stuck-at faults).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from service.card import CARD_FILE, load_card

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
    card = load_card(model)
    random = np.random.default_rng(seed)
    proto = onnx.load(model / card.graph.file)
    for tensor in proto.graph.initializer:
        if tensor.name.endswith(WEIGHTS):
            weights = perturbed(numpy_helper.to_array(tensor), card.bits, sigma, stuck, random)
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    graph = proto.SerializeToString()
    written = card.model_dump(exclude_none=True)
    written["graph"]["sha256"] = hashlib.sha256(graph).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / card.graph.file).write_bytes(graph)
    (folder / CARD_FILE).write_text(json.dumps(written))
