"""Synaptic operations, counted exactly: they are what the spikes of a run cost.

An *accumulate* is an addition that a spike causes at one synapse. A *multiply-accumulate* is a product of a
nonzero filtered pixel with a weight: only the input convolution's values are not spikes. Operations on zeros are not
counted ("effective" operations, as NeuroBench counts them). In a conventional network every operation is a
multiply-accumulate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spikehead.model.card import Card, fan_out_map

PICOJOULES = {
    "fp32": {"accumulates": 0.9, "multiply_accumulates": 4.6},
    "int8": {"accumulates": 0.03, "multiply_accumulates": 0.23},
}
"""Energy of an operation at 45 nm. Source: Horowitz, "Computing's Energy Problem", 2014."""

EXACT_LIMIT = 2**24
"""Whole numbers below it are exact in float32."""


def energy_nj(accumulates: float, multiply_accumulates: float, precision: Literal["fp32", "int8"]) -> float:
    """Estimate the energy of operations, in nanojoules, without memory and control."""
    cost = PICOJOULES[precision]
    spent = accumulates * cost["accumulates"] + multiply_accumulates * cost["multiply_accumulates"]
    return spent / 1000


class SynapticOperations:
    """Counts the synaptic operations of one model."""

    def __init__(self, card: Card) -> None:
        self._fan_out = {
            layer.name: _exact(fan_out_map(layer))
            for layer in card.layers[1:-1]
            # Keys and values have no targets: they are counted by coincidences.
            if layer.fan_out.targets
        }
        self._input = _exact(fan_out_map(card.layers[0]))
        self._card = card
        self._heads = {}
        for layer in card.layers:
            block, _, role = layer.name.rpartition(".")
            if role == "query" and card.kind == "spiking":
                self._heads[block] = layer.shape[-1] // layer.fan_out.targets

    def step(self, spikes: Mapping[str, NDArray[Any]], traces: NDArray[Any]) -> NDArray[np.int64]:
        """Count the operations that each layer's spikes cause in one time step of N images.

        Additions of `key` spikes that meet `value` spikes count under `key`, and operations that no layer causes (an
        ann's attention) under `output`.

        Shapes: spikes, layer -> {0, 1} [N, ...] for the hidden layers; traces [N, 1, 28, 28], filtered spike trains or
        an ann's intensities -> int64 [layers, N], in the card's order.
        """
        count, names = len(traces), self._card.layer_names
        found = np.zeros((len(names), count), np.int64)
        found[0] = np.rint((traces != 0).reshape(count, -1) @ self._input)
        for name, fan_out in self._fan_out.items():
            found[names.index(name)] = np.rint(spikes[name].reshape(count, -1) @ fan_out)
        for block, heads in self._heads.items():
            key, value = spikes[f"{block}.key"], spikes[f"{block}.value"]
            found[names.index(f"{block}.key")] = coincidences(key, value, heads)
        found[-1] = self._card.fixed_multiply_accumulates
        return found

    def by_kind(self, operations: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Add up operations [layers, ...] by their kind: accumulates [...], multiply-accumulates [...]."""
        if self._card.kind == "ann":
            return np.zeros_like(operations[0]), operations.sum(0)
        return operations[1:].sum(0), operations[0]


def _exact(fan_out: NDArray[np.float32]) -> NDArray[Any]:
    """Flatten the map, in a type whose sums are exact: float32 if all spikes together stay below 2**24."""
    most = fan_out.sum(dtype=np.float64)
    return fan_out.reshape(-1).astype(np.float32 if most < EXACT_LIMIT else np.float64)


def coincidences(key: NDArray[Any], value: NDArray[Any], heads: int) -> NDArray[np.int64]:
    """Count the additions in K^T V: for each token and head, key spikes times value spikes. [N, L, C] -> [N]."""
    keys = key.reshape(*key.shape[:2], heads, -1).sum(-1)  # [N, L, heads]
    values = value.reshape(*value.shape[:2], heads, -1).sum(-1)
    # Exact in float32: K^T V has far fewer than 2**24 additions.
    found: NDArray[np.int64] = np.rint((keys * values).sum((1, 2))).astype(np.int64)
    return found
