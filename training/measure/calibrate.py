"""Calibration: from integer evidence to honest probabilities, and the confidence to stop at.

Both are fitted on the validation set. Evidence after t steps is the sum of the output potentials so far
(`spikehead.model.decision`); one scale a step turns it into logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCES = [1 - 10 ** (-exponent) for exponent in np.arange(0.3, 5.01, 0.1)]
TOLERANCE = 0.00005
"""A stopping rule may cost so much accuracy on the validation set: 0.005 points. It costs more on other images."""


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


def fit_scale(evidence: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The factor that makes softmax(factor * evidence) most likely: temperature scaling.

    evidence [N, 10] in logits. The loss is convex in the factor; a golden-section search on its logarithm
    finds it to 4 digits. Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """

    def loss(log_factor: float) -> float:
        logits = evidence * np.exp(log_factor)
        top = logits.max(-1, keepdims=True)
        log_total = top[:, 0] + np.log(np.exp(logits - top).sum(-1))
        return float((log_total - logits[np.arange(len(labels)), labels]).mean())

    low, high, golden = -7.0, 4.0, (np.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        width = golden * (high - low)
        if loss(high - width) <= loss(low + width):
            high = low + width
        else:
            low = high - width
    return float(np.exp((low + high) / 2))


def expected_calibration_error(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins of confidence. probabilities [N, 10]."""
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[which == b].sum() - right[which == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(labels))


@dataclass(frozen=True)
class Stopped:
    """The step at which each image stops under a rule, and its answer there."""

    steps: NDArray[np.int64]  # [N] steps used, 1..T
    probabilities: NDArray[np.float64]  # [N, 10] at that step

    def accuracy(self, labels: NDArray[np.int64]) -> float:
        return float((self.probabilities.argmax(-1) == labels).mean())


def stop(probabilities: NDArray[np.float64], confidence: float) -> Stopped:
    """The stopping rule of the service: the first step with enough confidence, else the last. [T, N, 10]."""
    enough = probabilities.max(-1) >= confidence  # [T, N]
    enough[-1] = True
    first = enough.argmax(0)
    return Stopped(first + 1, probabilities[first, np.arange(probabilities.shape[1])])


def choose_confidence(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The lowest confidence from which on no higher one costs more than `TOLERANCE` of accuracy. [T, N, 10].

    One that happens to do well between others that do not would not do so on other images.
    """
    everything = float((probabilities[-1].argmax(-1) == labels).mean())
    chosen = 1.0
    for confidence in reversed(CONFIDENCES):
        if stop(probabilities, confidence).accuracy(labels) < everything - TOLERANCE - 1e-12:
            break
        chosen = float(confidence)
    return round(chosen, 6)
