"""What can be said about a run from its spikes: counts and address events."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.card import Layer


def spike_counts(spikes: NDArray[Any]) -> NDArray[np.int64]:
    """Spikes of each image in one time step. {0, 1} [N, ...] -> [N]."""
    # float32 is exact: no layer has 2**24 neurons
    counts: NDArray[np.int64] = spikes.reshape(len(spikes), -1).sum(axis=1).astype(np.int64)
    return counts


def firing_rate(count: int, layer: Layer, steps: int) -> float:
    """Spikes a neuron and time step."""
    return count / (int(np.prod(layer.shape)) * steps)


def events(spikes: NDArray[Any]) -> list[list[int]]:
    """Address events of a raster: [t, index] pairs, ordered by time; index counts over the flat layer. [T, ...]."""
    return np.argwhere(spikes.reshape(len(spikes), -1)).tolist()


def raster(layer: Layer, spikes: NDArray[Any]) -> dict[str, Any]:
    """A layer's raster: the layer's shape, and its events. {0, 1} [T, *shape]."""
    return {"shape": layer.shape, "events": events(spikes)}
