"""Lesions: some layers of a trained network never fire, the rest stays as it is. What is a part good for?

A network that was trained without a part may do as well as one with it; one that was trained with it and does no
worse once it is silent does not use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spikehead.model.card import ModelError, load_card

from training.measure.model_folder import write_changed

OUT_OF_REACH = 2.0**24 - 1
"""A threshold that no potential reaches: all are below 2**24 (`training.export.graph`)."""


def silenced(model: Path, patterns: Sequence[str]) -> list[str]:
    """Hidden layers that patterns such as `*.attention` mean, in layer order.

    Raises ModelError if a pattern means none, or the model has no neurons that could be silent.
    """
    card = load_card(model)
    if card.kind != "spiking":
        raise ModelError(
            f"expected a spiking model, whose neurons have thresholds, got {card.name} of kind {card.kind}"
        )
    hidden = card.layer_names[1:-1]
    for pattern in patterns:
        if not any(fnmatchcase(layer, pattern) for layer in hidden):
            raise ModelError(
                f"expected a layer among {', '.join(hidden) or 'none'}, or a pattern, got {pattern!r}"
            )
    return [layer for layer in hidden if any(fnmatchcase(layer, pattern) for pattern in patterns)]


def write_lesioned(model: Path, folder: Path, patterns: Sequence[str]) -> list[str]:
    """Write a copy of the model to `folder` in which those layers never fire; returns their names. See `silenced`."""
    layers = silenced(model, patterns)
    thresholds = {f"{layer}.v_threshold" for layer in layers}

    def change(name: str, values: NDArray[Any]) -> NDArray[Any]:
        return np.full_like(values, OUT_OF_REACH) if name in thresholds else values

    write_changed(model, folder, change)
    return layers
