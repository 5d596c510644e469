"""Spikes as documents: address events of a raster, and one time step as it is streamed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikehead.engine.base import TimeStep
from spikehead.model.card import Card, Layer


def events(spikes: NDArray[Any]) -> list[list[int]]:
    """List the spikes of a raster [T, ...] as [t, index] pairs, ordered by time; index counts over the flat layer."""
    return np.argwhere(spikes.reshape(len(spikes), -1)).tolist()


def raster(layer: Layer, spikes: NDArray[Any]) -> dict[str, Any]:
    """Describe a layer's spikes {0, 1} [T, *shape] by the layer's shape and its events."""
    return {"shape": layer.shape, "events": events(spikes)}


def step_document(
    card: Card, number: int, time_step: TimeStep, probabilities: NDArray[np.float64]
) -> dict[str, Any]:
    """Describe time step `number` (from 1) as it is sent while it is simulated. probabilities [10] after it."""
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
