"""Figures of each stage of a run from `spikehead.engine.run`, each drawn by a function that can be called alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spikehead.engine.run import Run, attention_maps
from spikehead.model.card import Card, Kernel
from spikehead.model.encoding import RATE_LEVELS, firing_rates, input_spikes

INK = "#1f77b4"
WARM = "#d62728"
CLASS_COLOURS = [f"C{digit}" for digit in range(10)]
STEP_LABEL = "time step"
MOST_TICKS = 10
IN_A_ROW = 8  # pictures of a time step each

Draw = Callable[[Card, Run, int], Figure]
"""A function that draws a run of a model; the number is the run's seed."""


class FigureError(ValueError):
    """The model has nothing of that kind to draw."""


def _figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _steps(axes: Axes, run: Run) -> None:
    """Label the time steps from left to right, and dot a line at each reset of the network's state."""
    for reset in run.resets:
        axes.axvline(reset + 0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xlim(0.5, run.steps + 0.5)
    axes.set_xticks(range(1, run.steps + 1, -(-run.steps // MOST_TICKS)))
    axes.set_xlabel(STEP_LABEL)


def _raster(axes: Axes, run: Run, layer: str) -> None:
    """Draw one tick for each spike of a layer's neurons."""
    spikes = run.spikes[layer].reshape(run.steps, -1)
    t, neuron = np.nonzero(spikes)
    axes.scatter(
        t + 1, neuron, s=max(1.0, 900 / max(spikes.shape[1], 10)), marker="|", linewidths=1.2, color=INK
    )
    axes.set_ylim(-0.5, spikes.shape[1] - 0.5)
    _steps(axes, run)


def spike_trains(run: Run) -> Figure:
    """Draw the raster of all 784 pixels, next to the image as the network sees it."""
    figure, axes = _figure(9, 5, 1, 2, width_ratios=[1, 2])
    axes[0, 0].imshow(run.contrast, cmap="gray", vmin=0, vmax=255)
    axes[0, 0].set_title("contrast")
    _raster(axes[0, 1], run, "input")
    axes[0, 1].set(ylabel="pixel (row by row)", title="spike trains: x ~ Bernoulli(rate of the contrast)")
    axes[0, 1].invert_yaxis()
    return figure


def filtered_spike_trains(run: Run) -> Figure:
    """Draw the filtered trains of all pixels over time, and as a picture at each step."""
    steps, filtered = run.steps, run.filtered
    assert filtered is not None  # see `_of_kernels`
    rows = -(-steps // IN_A_ROW)
    figure = Figure(figsize=(10, 3.7 + 1.8 * rows), layout="constrained")
    upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[2, rows]))
    axes = upper.subplots()
    lit = np.flatnonzero(filtered.reshape(steps, -1).any(0))
    axes.plot(range(1, steps + 1), filtered.reshape(steps, -1)[:, lit], color=INK, alpha=0.15, linewidth=1)
    axes.set(ylabel="filtered train (spikes)", title=f"kernel A applied to {len(lit)} pixels that spiked")
    _steps(axes, run)
    places = np.ravel(lower.subplots(rows, min(steps, IN_A_ROW)))
    for unused in places[steps:]:
        unused.remove()
    for t, small in enumerate(places[:steps]):
        small.imshow(filtered[t], cmap="gray", vmin=0, vmax=max(filtered.max(), 1e-9))
        small.set(title=f"step {t + 1}", xticks=[], yticks=[])
    return figure


def kernel_values(kernel: Kernel, steps: int) -> NDArray[np.float64]:
    """Compute the trace of one spike at step 0, in spikes: sign * exp(-t / tau), t = 0..steps-1. [steps]."""
    return np.asarray(np.sign(kernel.unit) * np.exp(-np.arange(steps) / kernel.tau))


def decay_kernels(card: Card, steps: int = 12) -> Figure:
    """Draw kernel A (of the inputs) and the negative kernel B (of the output spikes)."""
    figure, axes = _figure(8, 3.5, 1, 2, sharey=True)
    for axis, name in zip(axes[0], ("A", "B"), strict=True):
        kernel = card.kernels[name]
        axis.stem(range(steps), kernel_values(kernel, steps), basefmt="k-")
        axis.set(title=f"kernel {name}: {kernel.use}", xlabel="time steps after the spike")
        axis.annotate(f"tau = {kernel.tau:.2f} steps", (0.5, 0.5), xycoords="axes fraction")
    axes[0, 0].set_ylabel("value (spikes)")
    return figure


def membrane_potentials(run: Run) -> Figure:
    """Draw the potentials of the ten output neurons over time, with a dot for each spike."""
    figure, axes = _figure(8, 4.5)
    axis = axes[0, 0]
    time = np.arange(1, run.steps + 1)
    for digit in range(10):
        values = run.potentials[:, digit]
        axis.plot(time, values, color=CLASS_COLOURS[digit], label=str(digit), linewidth=1.5)
        fired = run.spikes["output"][:, digit] == 1
        axis.scatter(time[fired], values[fired], color=CLASS_COLOURS[digit], zorder=3)
    axis.axhline(0, color="grey", linewidth=0.8)
    axis.set(ylabel="membrane potential u (logits)", title="output neurons: potentials, and spikes as dots")
    axis.legend(title="digit", ncols=2, loc="center left", bbox_to_anchor=(1, 0.5))
    _steps(axis, run)
    return figure


def output_spiking(run: Run) -> Figure:
    """Draw the spike probability of each output neuron, and the spikes sampled from it."""
    figure, axes = _figure(9, 4, 1, 2, sharey=True)
    shown = axes[0, 0].imshow(
        run.spike_probabilities.T, aspect="auto", vmin=0, vmax=1, cmap="viridis", origin="lower",
        extent=(0.5, run.steps + 0.5, -0.5, 9.5),
    )  # fmt: skip
    figure.colorbar(shown, ax=axes[0, 0], label="p = sigmoid(u)")
    axes[0, 0].set(title="spike probability", ylabel="output neuron (digit)", yticks=range(10))
    _steps(axes[0, 0], run)
    _raster(axes[0, 1], run, "output")
    axes[0, 1].set_title("output spikes: y ~ Bernoulli(p)")
    return figure


def output_feedback(run: Run) -> Figure:
    """Draw (B * y): output spikes filtered by the negative kernel, an input of the next step unless that is a reset."""
    figure, axes = _figure(8, 5, 10, 1, sharex=True, sharey=True)
    feedback = run.feedback
    assert feedback is not None  # see `_of_kernels`
    time = np.arange(1, run.steps + 1)
    for digit, axis in enumerate(axes[:, 0]):
        axis.fill_between(time, feedback[:, digit], step="mid", color=WARM, alpha=0.5)
        fired = time[run.spikes["output"][:, digit] == 1]
        axis.vlines(fired, 0, 0.8, color=INK, linewidth=2)
        axis.set(ylabel=str(digit), yticks=[], ylim=(-2.1, 1))
    _steps(axes[-1, 0], run)
    figure.suptitle("output spikes (up) and their feedback through kernel B (down)")
    return figure


def attention(card: Card, run: Run) -> Figure:
    """Draw the attention of each head of each block over the image. Raises FigureError if there is none."""
    maps = attention_maps(card, run)
    if not maps:
        raise FigureError(f"{card.name} has no spiking attention")
    heads = len(next(iter(maps.values())))
    figure, axes = _figure(2.2 * heads, 2.4 * len(maps), len(maps), heads)
    for row, (block, values) in zip(axes, maps.items(), strict=True):
        for head, axis in enumerate(row):
            side = int(np.sqrt(values.shape[1]))
            axis.imshow(run.contrast, cmap="gray", vmin=0, vmax=255, extent=(0, 28, 28, 0))
            received = values[head].reshape(side, side)
            axis.imshow(
                received,
                cmap="inferno",
                alpha=0.55,
                extent=(0, 28, 28, 0),
                vmin=0,
                vmax=max(received.max(), 1),
            )
            axis.set(title=f"{block}, head {head + 1}: {values[head].sum():.0f}", xticks=[], yticks=[])
    figure.suptitle("attention received by each token, coincidences of query and key spikes over all steps")
    return figure


def random_spike_trains(seed: int, steps: int = 100, slope: int = 1) -> Figure:
    """Draw the rate encoder's trains of pixels of given contrast, with the rates that were drawn."""
    wanted = np.linspace(0, 255, 11).round().astype(np.uint8)
    picture = np.zeros((28, 28), np.uint8)
    picture[0, : len(wanted)] = wanted
    trains = input_spikes(picture, seed, steps, slope=slope)[:, 0, 0, : len(wanted)]  # [steps, 11]
    figure, axes = _figure(9, 4)
    t, row = np.nonzero(trains)
    axes[0, 0].scatter(t + 1, row, marker="|", s=90, color=INK)
    asked = firing_rates(wanted, slope) / RATE_LEVELS
    labels = [
        f"{level / 255:.2f}: {rate:.2f} -> {train.mean():.2f}"
        for level, rate, train in zip(wanted, asked, trains.T, strict=True)
    ]
    axes[0, 0].set_yticks(range(len(wanted)), labels)
    axes[0, 0].set(
        xlabel=STEP_LABEL,
        ylabel="contrast: rate asked for -> rate drawn",
        title=f"random spike trains, seed {seed}",
    )
    return figure


def sheet(runs: Sequence[Run]) -> Figure:
    """Draw a row for each of several runs: image, potentials, spike probabilities, prediction."""
    figure, axes = _figure(11, 2.1 * len(runs), len(runs), 4, width_ratios=[1, 2, 2, 1.6])
    for (image, potentials, probabilities, classes), run in zip(axes, runs, strict=True):
        time = range(1, run.steps + 1)
        image.imshow(run.image, cmap="gray", vmin=0, vmax=255)
        image.set(xticks=[], yticks=[])
        for digit in range(10):
            chosen = digit == run.prediction
            style = {"color": CLASS_COLOURS[digit], "linewidth": 2.2 if chosen else 0.9}
            potentials.plot(time, run.potentials[:, digit], **style)
            probabilities.plot(time, run.spike_probabilities[:, digit], **style)
        probabilities.set_ylim(-0.05, 1.05)
        final = run.class_probabilities[-1]
        classes.barh(range(10), final, color=CLASS_COLOURS)
        classes.set(
            xlim=(0, 1), yticks=range(10), title=f"reads {run.prediction} ({100 * final.max():.1f} %)"
        )
        for axis in (potentials, probabilities):
            _steps(axis, run)
    for axis, title in zip(axes[0], ("image", "membrane potentials", "spike probabilities"), strict=False):
        axis.set_title(title)
    return figure


def _of_kernels(draw: Callable[[Run], Figure]) -> Draw:
    """Wrap a figure that only a network with kernels has."""

    def drawn(card: Card, run: Run, seed: int) -> Figure:
        if run.filtered is None or run.feedback is None:
            raise FigureError(f"{card.name} has no decay kernels")
        return draw(run)

    return drawn


def _kernels(card: Card, run: Run, seed: int) -> Figure:
    if not {"A", "B"} <= set(card.kernels):
        raise FigureError(f"{card.name} has no decay kernels")
    return decay_kernels(card)


KINDS: dict[str, Draw] = {
    "spike-trains": lambda card, run, seed: spike_trains(run),
    "filtered-spike-trains": _of_kernels(filtered_spike_trains),
    "decay-kernels": _kernels,
    "membrane-potentials": lambda card, run, seed: membrane_potentials(run),
    "output-spiking": lambda card, run, seed: output_spiking(run),
    "output-feedback": _of_kernels(output_feedback),
    "attention": lambda card, run, seed: attention(card, run),
    "random-spike-trains": lambda card, run, seed: random_spike_trains(seed, slope=card.rate_slope),
    "sheet": lambda card, run, seed: sheet([run]),
}
"""All figures of a run."""


def draw(kind: str, card: Card, run: Run, seed: int) -> Figure:
    """Draw one figure of a run. Raises KeyError for an unknown kind, FigureError if the model has no such figure."""
    return KINDS[kind](card, run, seed)


def encoded(figure: Figure, file_format: Literal["png", "svg"]) -> bytes:
    """Encode a figure as a file; the same figure gives the same bytes."""
    stream = io.BytesIO()
    metadata = {"Date": None} if file_format == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "spikehead"}):
        figure.savefig(stream, format=file_format, dpi=110, metadata=metadata)
    return stream.getvalue()


def draw_all(card: Card, runs: Sequence[Run], folder: Path, seed: int) -> list[Path]:
    """Write every figure of the first run, and the sheet of all, as PNG files, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in KINDS:
        try:
            figure = sheet(runs) if kind == "sheet" else draw(kind, card, runs[0], seed)
        except FigureError:
            continue
        paths.append(folder / f"{kind}.png")
        paths[-1].write_bytes(encoded(figure, "png"))
    return paths
