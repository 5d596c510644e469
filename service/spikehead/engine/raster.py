"""What can be said about a run from its spikes: address events, and what a time step was like."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikehead.engine.base import TimeStep
from spikehead.model.card import Card, Layer


def events(spikes: NDArray[Any]) -> list[list[int]]:
    """Address events of a raster: [t, index] pairs, ordered by time; index counts over the flat layer. [T, ...]."""
    return np.argwhere(spikes.reshape(len(spikes), -1)).tolist()


def raster(layer: Layer, spikes: NDArray[Any]) -> dict[str, Any]:
    """A layer's raster: the layer's shape, and its events. {0, 1} [T, *shape]."""
    return {"shape": layer.shape, "events": events(spikes)}


def step_document(
    card: Card, number: int, time_step: TimeStep, probabilities: NDArray[np.float64]
) -> dict[str, Any]:
    """One time step, from 1, as it is sent while it is simulated. probabilities [10] after it."""
    document: dict[str, Any] = {
        "step": number,
        "class_probabilities": probabilities.tolist(),
        "potentials": (time_step.potential * card.potential_scale).tolist(),
        "spike_probabilities": time_step.spike_probability.tolist(),
        "output_spikes": np.flatnonzero(time_step.spikes["output"]).tolist(),
        "spikes": {name: np.flatnonzero(spikes).tolist() for name, spikes in time_step.spikes.items()},
    }
    if time_step.feedback is not None and "B" in card.kernels:
        document["feedback"] = (time_step.feedback / abs(card.kernels["B"].unit)).tolist()
    return document
