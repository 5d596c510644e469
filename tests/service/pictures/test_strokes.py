"""Widths of strokes: measured, and brought to MNIST's."""

from __future__ import annotations

import numpy as np
import pytest
from spikehead.pictures.strokes import stroke_width, with_usual_strokes

from tests.service.pictures.conftest import REFERENCE, close, ready, seven


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_hairlines_do_not_vanish(width: int) -> None:
    prepared = ready(seven(1000, width=width))
    assert prepared.max() == 255
    assert stroke_width(np.kron(prepared, np.ones((4, 4))).astype(np.float32)) / 4 >= 1.7
    assert close(prepared, REFERENCE, 16)


def test_markers_are_thinned() -> None:
    def width(prepared: np.ndarray) -> float:
        return stroke_width(np.kron(prepared, np.ones((4, 4))).astype(np.float32)) / 4

    assert width(ready(seven(200, width=44))) < 5.5


def test_at_most_three_fifths_of_a_stroke_are_thinned_away() -> None:
    """A square of 80 x 80 counts as a stroke 40 wide, in quarters of a pixel: 12 go from each side, 13.4 would make it
    as thin as other strokes. A bar of 80 x 28 is not so thick: it is thinned to what others are.
    """
    assert with_usual_strokes(np.full((80, 80), 255, np.float32)).shape == (56, 56)
    bar = with_usual_strokes(np.full((80, 28), 255, np.float32))
    width = (4 * sum((80 - 2 * k) * (28 - 2 * k) for k in range(14)) / (80 * 28) - 2) / 4
    assert 3.6 < width < 8.25
    assert bar.shape == tuple(round(side - (width - 3.3) * 4) for side in (80, 28))


@pytest.mark.parametrize("width", [2, 4, 6, 10])
def test_stroke_width_of_a_bar(width: int) -> None:
    bar = np.zeros((80, 80), np.float32)
    bar[5:75, 30 : 30 + width] = 255
    assert stroke_width(bar) == pytest.approx(width, abs=0.8)
    assert stroke_width(np.zeros((9, 9), np.float32)) == 0
