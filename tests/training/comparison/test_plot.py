"""The plot: a point for each network, and a line for those that may stop sooner."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from tests.training.comparison.conftest import contents_of, row
from training.comparison.plot import plot


def test_the_plot_has_a_point_for_each_network_in_both_pictures_of_energy() -> None:
    """Spiking ones in red: those with additions, and the GLM network, which has none."""
    rows = [
        row("glm", energy_int8_nj=1.0, accuracy=0.9, robustness=0.5),
        row("spiking-mha", accumulates=5.0, energy_int8_nj=2.0, accuracy=0.99, robustness=0.6),
        row("lenet5", energy_int8_nj=90.0, accuracy=0.98, robustness=0.7),
    ]
    figure = plot(contents_of(*rows))
    assert len(figure.axes) == 3
    for axes, heights in zip(figure.axes[:2], ([90.0, 99.0, 98.0], [50.0, 60.0, 70.0]), strict=True):
        points = [part for part in axes.collections if isinstance(part, PathCollection)]
        places = [np.asarray(point.get_offsets())[0].tolist() for point in points]
        assert places == [[1.0, pytest.approx(heights[0])], [2.0, pytest.approx(heights[1])], [
            90.0, pytest.approx(heights[2])
        ]]  # fmt: skip
        colours = [to_hex(np.asarray(point.get_facecolor())[0]) for point in points]
        assert colours == ["#d62728", "#d62728", "#1f77b4"]
        assert [text.get_text() for text in axes.texts] == ["glm", "spiking-mha", "lenet5"]
        assert axes.get_xscale() == "log"


def test_the_plot_has_a_line_for_each_network_that_may_stop_sooner() -> None:
    """Accuracy against steps, with the model's own rule on it; not of output neurons alone, which err far more."""
    traded = [
        {"confidence": 0.5, "accuracy": 0.97, "steps": 1.1, "accumulates": 5.0},
        {"confidence": 0.9, "accuracy": 0.99, "steps": 1.9, "accumulates": 9.0},
    ]
    rows = [
        row("glm", by_confidence=traded),
        row("spiking-mha", by_confidence=traded, firing_rate=0.1, steps=1.5, accuracy=0.98),
        row("lenet5", firing_rate=0.5),
    ]
    axes = plot(contents_of(*rows)).axes[2]
    (line,) = axes.get_lines()
    assert line.get_label() == "spiking-mha"
    assert np.asarray(line.get_xydata()).tolist() == [[1.1, pytest.approx(97)], [1.9, pytest.approx(99)]]
    (own,) = [part for part in axes.collections if isinstance(part, PathCollection)]
    assert np.asarray(own.get_offsets()).tolist() == [[1.5, pytest.approx(98)]]
