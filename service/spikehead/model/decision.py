"""Decision: from the potentials of the output neurons so far to class probabilities, and when to stop.

Evidence is the sum of each output neuron's membrane potential over the steps simulated so far: an integer, so that
every engine finds the same. Calibration, fitted on the validation set, turns it into probabilities. They decide when a
run stops, so they too must be the same to the last bit everywhere. That is why the exponential is computed here, from
additions and multiplications alone, which every machine rounds alike: a library's differs from machine to machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikehead.model.card import Card

_LOG2_E = 1.4426950408889634
# ln 2 in two parts: whole multiples of the first are exact.
_LN2_HIGH = 0.693147180369123816490
_LN2_LOW = 1.90821492927058770002e-10
_TERMS = 13
# exp of less would leave the range of normal numbers.
_LEAST = -700.0


def exponential(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute exp(x) for x <= 0, any shape, to about one unit in the last place; below -700 as at -700.

    exp(x) = 2**k exp(r), k = round(x / ln 2), |r| <= ln(2) / 2, and exp(r) by its power series.
    """
    x = np.maximum(x, _LEAST)
    k = np.rint(x * _LOG2_E)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    total = np.ones_like(r)
    for n in range(_TERMS, 0, -1):
        total = total * (r / n) + 1.0
    return np.asarray(np.ldexp(total, k.astype(np.int32)), np.float64)


def class_probabilities(card: Card, evidence: NDArray[np.int64], step: int) -> NDArray[np.float64]:
    """Turn evidence into calibrated class probabilities after `step` + 1 steps.

    softmax(scale_t * unit * sum_{s <= t} u_s), with u in integer units of `card.potential_scale` logits.

    Shapes: evidence int [..., 10] -> float64 [..., 10], each row sums to 1. `step` counts from 0.
    Raises IndexError if the card has no calibration for that step.
    """
    logits = evidence * evidence_scale(card, step)
    weights = exponential(logits - logits.max(axis=-1, keepdims=True))
    total = weights[..., 0].copy()
    # One after the other: numpy's own sum takes another order.
    for k in range(1, weights.shape[-1]):
        total = total + weights[..., k]
    return weights / total[..., None]


def evidence_scale(card: Card, step: int) -> float:
    """Return the logits of one integer unit of evidence after `step` + 1 steps. Raises IndexError as above."""
    return card.calibration.scale[step] * card.potential_scale
