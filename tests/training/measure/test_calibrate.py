"""Calibration and stopping, on numbers small enough to check by hand."""

import numpy as np
import pytest

from training.measure.calibrate import choose_confidence, expected_calibration_error, fit_scale, softmax, stop


def test_softmax_rows_sum_to_one_even_when_large() -> None:
    result = softmax(np.array([[1e4, 0.0], [0.0, 0.0]]))
    assert result.tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_fit_scale_finds_the_temperature_that_made_the_labels() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 10)) * 2
    cumulative = softmax(logits).cumsum(1)
    labels = (generator.random((20_000, 1)) < cumulative).argmax(1)
    assert fit_scale(logits * 5, labels) == pytest.approx(0.2, rel=0.03)


def test_calibration_error_by_hand() -> None:
    """Four answers at confidence 0.75, two right: a gap of 0.25."""
    probabilities = np.tile([0.75, 0.25], (4, 1))
    assert expected_calibration_error(probabilities, np.array([0, 0, 1, 1])) == pytest.approx(0.25)
    assert expected_calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0.0)


def test_stop_takes_the_first_step_with_enough_confidence_else_the_last() -> None:
    confident = np.array([[0.5, 0.9, 0.2], [0.8, 0.9, 0.3], [0.99, 0.9, 0.4]])  # [T, N]
    probabilities = np.stack([confident, 1 - confident], -1)
    probabilities[:, 2] = [[0.55, 0.45], [0.6, 0.4], [0.45, 0.55]]
    stopped = stop(probabilities, 0.8)
    assert stopped.steps.tolist() == [2, 1, 3]
    assert stopped.probabilities[:, 0].tolist() == [0.8, 0.9, 0.45]


def test_chosen_confidence_stops_early_without_costing_accuracy() -> None:
    first = np.array([[0.9, 0.1], [0.6, 0.4]])
    last = np.array([[0.99, 0.01], [0.1, 0.9]])  # the second image changes its mind, rightly
    probabilities = np.stack([first, last])
    confidence = choose_confidence(probabilities, np.array([0, 1]))
    assert 0.6 < confidence <= 0.9
    assert stop(probabilities, confidence).steps.tolist() == [1, 2]


def test_a_confidence_that_does_well_by_luck_is_not_chosen() -> None:
    """Stopping at 0.6 is right both times, at 0.8 and 0.9 wrong once: what holds from somewhere on is all steps."""
    first = [[0.7, 0.3], [0.85, 0.15]]
    second = [[0.95, 0.05], [0.2, 0.8]]
    last = [[0.99, 0.01], [0.999, 0.001]]
    probabilities = np.array([first, second, last])
    labels = np.array([0, 0])
    assert stop(probabilities, 0.6).accuracy(labels) == 1.0
    swapped = probabilities.copy()
    swapped[1, 1] = [0.04, 0.96]  # what the second image says after two steps, surely, and wrongly
    assert stop(swapped, 0.6).accuracy(labels) == 1.0
    assert stop(swapped, 0.9).accuracy(labels) == 0.5
    assert choose_confidence(swapped, labels) > 0.96
