"""The stored figures as a plot."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

REDS = ("#d62728", "#ff9896", "#7f1d1d")
TICKS = (50, 60, 70, 80, 85, 88, 90, 92, 94, 95, 96, 97, 98, 99, 99.5, 99.7, 99.9)
FINE_TICKS = (*TICKS[:-3], 99.2, 99.3, 99.4, 99.5, 99.6, 99.7, 99.8, 99.9)


def plot(contents: dict[str, Any]) -> Figure:
    """Plot accuracy and robustness against the energy of an image, and accuracy against its steps.

    Heights go by errors, in logarithms.
    """
    figure = Figure(figsize=(14, 4.5), layout="constrained")
    rows = contents["rows"]
    most = max(row["energy_int8_nj"] for row in rows)
    *by_energy, by_steps = figure.subplots(1, 3)
    for axes, key, label in zip(
        by_energy,
        ("accuracy", "robustness"),
        ("accuracy (%)", "under distortions (%)"),
        strict=True,
    ):
        for row in rows:
            spiking = row["accumulates"] > 0 or row["name"] == "glm"
            colour = "#d62728" if spiking else "#1f77b4"
            axes.scatter(row["energy_int8_nj"], 100 * row[key], color=colour, s=40)
            # Names do not meet: of those of about the same energy, spiking ones stand one above the other, from the
            # worst to the best; of the others the best has its name above it.
            around = [one for one in rows if 1 / 3 < one["energy_int8_nj"] / row["energy_int8_nj"] < 3]
            below = [one for one in around if one["accumulates"] > 0 and one[key] < row[key]]
            above = spiking or row[key] == max(one[key] for one in around)
            leftwards = spiking or 3 * row["energy_int8_nj"] > most
            axes.annotate(
                row["name"],
                (row["energy_int8_nj"], 100 * row[key]),
                xytext=(-4 if leftwards else 4, 5 + 10 * len(below) * spiking if above else -11),
                textcoords="offset points",
                horizontalalignment="right" if leftwards else "left",
                fontsize=8,
            )
        axes.set(xscale="log", xlabel="energy of an image (nJ, 45 nm, INT8 operations alone)", ylabel=label)
        _by_errors(axes, TICKS)
    # Output neurons alone err ten times as often as the others.
    adaptive = [row for row in rows if row["by_confidence"] and row["firing_rate"] is not None]
    for row, colour in zip(adaptive, itertools.cycle(REDS), strict=False):
        steps, accuracy = ([one[key] for one in row["by_confidence"]] for key in ("steps", "accuracy"))
        by_steps.plot(steps, 100 * np.array(accuracy), marker=".", color=colour, label=row["name"])
        by_steps.scatter(row["steps"], 100 * row["accuracy"], color=colour, s=60, zorder=3)
    by_steps.set(xscale="log", xlabel="steps of an image, on average", ylabel="accuracy (%)")
    by_steps.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    by_steps.set_xticks([], minor=True)
    if by_steps.get_lines():
        by_steps.legend(
            title="at several confidences; circles: the model's own", fontsize=8, title_fontsize=8
        )
    _by_errors(by_steps, FINE_TICKS)
    figure.suptitle(f"spiking (red) and conventional (blue) networks on the test set, {contents['date']}")
    return figure


def _by_errors(axes: Axes, ticks: Sequence[float]) -> None:
    """Scale an axis by errors: half of them go between 99.0 and 99.5 %, which a linear axis would show as one."""
    axes.margins(0.15)
    axes.set_yscale("function", functions=(_falling_errors, _accuracy_of))
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in ticks if low <= tick <= high], minor=False)
    axes.set_yticklabels([f"{tick:g}" for tick in ticks if low <= tick <= high])


def _falling_errors(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the negative logarithm of the errors left (%), at least 0.01 %, so that better is higher."""
    return -np.log10(np.maximum(100.0 - np.asarray(accuracy), 0.01))


def _accuracy_of(height: NDArray[np.float64]) -> NDArray[np.float64]:
    return 100.0 - 10.0 ** -np.asarray(height)
