"""Everything that the native engine is built from: the arrays of a model folder, and the numbers of its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from spikehead.model.card import Card, Layer, ModelError, fan_out_map, read_checked

Arrays = dict[str, NDArray[Any]]

_MOST = np.iinfo(np.int32).max


class ForeignModelError(ModelError):
    """The model is sound, as far as its card says, but has no arrays that this engine can run."""


def load_arrays(folder: Path, card: Card) -> Arrays:
    """Read all that `_core.Engine` takes. Raises ForeignModelError if the model has no arrays, else ModelError."""
    if card.arrays is None:
        raise ForeignModelError(
            f"expected arrays for the native engine in {folder}, found that its card names none: "
            f"`python -m training add-arrays {folder}` in a checkout adds them"
        )
    try:
        stored = load(read_checked(folder, card.arrays))
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"expected arrays at {folder / card.arrays.file}, got: {error}") from error
    return stored | arrays_of_card(card)


def arrays_of_card(card: Card) -> Arrays:
    """Collect shift and unit of each kernel, the fan-out of each layer, and the numbers of the whole network."""
    numbers = {"rate_slope": card.rate_slope, "reset_interval": card.reset_interval or 0}
    for name, kernel in card.kernels.items():
        numbers |= {f"{name}.shift": kernel.shift, f"{name}.unit": kernel.unit}
    arrays: Arrays = {
        name: np.array(max(-_MOST, min(value, _MOST)), np.int32) for name, value in numbers.items()
    }
    return arrays | {f"{layer.name}.fan_out": _fan_out(layer) for layer in card.layers[:-1]}


def _fan_out(layer: Layer) -> NDArray[np.int32]:
    """Count the synapses that a spike drives, for each place of a map or each token."""
    synapses = fan_out_map(layer).clip(0, 2**30).astype(np.int32)
    places = synapses[0] if synapses.ndim == 3 else synapses.reshape(len(synapses), -1)[:, 0]
    return np.ascontiguousarray(places.reshape(-1))
