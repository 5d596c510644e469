"""Synaptic operations, counted exactly: what the spikes of a run cost.

An *accumulate* is an addition that a spike causes at one synapse. A *multiply-accumulate* is a product of a
nonzero filtered pixel with a weight: the input convolution is the one place where values are not spikes.
Operations on zeros are not counted ("effective" operations, as NeuroBench counts them).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.card import Card, fan_out_map


class SynapticOperations:
    """Counts for one model. `step` takes what one time step of N images gave."""

    def __init__(self, card: Card) -> None:
        self._fan_out = {
            layer.name: fan_out_map(layer).reshape(-1)
            for layer in card.layers[1:-1]
            if layer.fan_out.targets  # keys and values have none: they are counted by coincidences
        }
        self._input = fan_out_map(card.layers[0]).reshape(-1)
        self._heads = {}
        for layer in card.layers:
            block, _, role = layer.name.rpartition(".")
            if role == "query":
                self._heads[block] = layer.shape[-1] // layer.fan_out.targets

    def step(
        self, spikes: Mapping[str, NDArray[Any]], traces: NDArray[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(accumulates [N], multiply-accumulates [N]) of one time step.

        spikes: layer -> {0, 1} [N, ...] for the hidden layers; traces: filtered spike trains [N, 1, 28, 28].
        """
        count = len(traces)
        accumulates = np.zeros(count, np.int64)
        for name, fan_out in self._fan_out.items():
            # float32 is exact: a layer's operations stay below 2**24
            accumulates += np.rint(spikes[name].reshape(count, -1) @ fan_out).astype(np.int64)
        for block, heads in self._heads.items():
            accumulates += coincidences(spikes[f"{block}.key"], spikes[f"{block}.value"], heads)
        products = np.rint((traces != 0).reshape(count, -1) @ self._input).astype(np.int64)
        return accumulates, products


def coincidences(key: NDArray[Any], value: NDArray[Any], heads: int) -> NDArray[np.int64]:
    """Additions in K^T V: for each token and head, key spikes times value spikes. [N, L, C] -> [N]."""
    keys = key.reshape(*key.shape[:2], heads, -1).sum(-1)  # [N, L, heads]
    values = value.reshape(*value.shape[:2], heads, -1).sum(-1)
    return np.rint((keys * values).sum((1, 2))).astype(np.int64)
