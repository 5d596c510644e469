"""Decision: from the potentials of the output neurons so far to class probabilities, and when to stop.

Evidence is the sum of each output neuron's membrane potential over the steps simulated so far: an integer,
so it is the same on every engine. Calibration, fitted on the validation set, turns it into probabilities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.card import Card


def class_probabilities(card: Card, evidence: NDArray[np.int64], step: int) -> NDArray[np.float64]:
    """Calibrated class probabilities after `step` + 1 steps.

    softmax(scale_t * unit * sum_{s <= t} u_s), with u in integer units of `card.potential_scale` logits.

    Shapes: evidence int [..., 10] -> float64 [..., 10], each row sums to 1. `step` counts from 0.
    Raises IndexError where the card has no calibration for that step.
    """
    scale = card.calibration.scale[step] * card.potential_scale
    logits = evidence * scale
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), np.float64)
