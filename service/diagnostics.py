"""What can be said about a run from its spikes: address events."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.card import Layer


def events(spikes: NDArray[Any]) -> list[list[int]]:
    """Address events of a raster: [t, index] pairs, ordered by time; index counts over the flat layer. [T, ...]."""
    return np.argwhere(spikes.reshape(len(spikes), -1)).tolist()


def raster(layer: Layer, spikes: NDArray[Any]) -> dict[str, Any]:
    """A layer's raster: the layer's shape, and its events. {0, 1} [T, *shape]."""
    return {"shape": layer.shape, "events": events(spikes)}
