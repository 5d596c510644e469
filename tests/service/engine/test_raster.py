"""Address events."""

import numpy as np
from spikehead.engine.raster import events, raster
from spikehead.model.card import Layer

LAYER = Layer.model_validate({"name": "tokens", "shape": [2, 3], "fan_out": {"targets": 1}})


def spikes() -> np.ndarray:
    values = np.zeros((3, 2, 3), bool)  # [T, L, C]
    values[0, 1, 2] = values[2, 0, 0] = values[2, 1, 0] = True
    return values


def test_events_are_ordered_by_time_and_count_over_the_flat_layer() -> None:
    assert events(spikes()) == [[0, 5], [2, 0], [2, 3]]
    assert events(np.zeros((4, 10))) == []


def test_raster_has_the_layers_shape() -> None:
    assert raster(LAYER, spikes()) == {"shape": [2, 3], "events": [[0, 5], [2, 0], [2, 3]]}
