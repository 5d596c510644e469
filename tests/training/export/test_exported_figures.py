"""Figures: what is drawn is what was recorded, and every file is a picture with something on it."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.engine.run import Run, attention_maps, observe
from spikehead.insight import figures
from spikehead.insight.figures import draw_all, kernel_values
from spikehead.model.card import Kernel
from spikehead.model.encoding import input_spikes

from tests.training.conftest import EXPORT_STEPS, Exported, known
from training.network.neurons import tau_of_shift

Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]

NAMES = {
    "spike-trains", "filtered-spike-trains", "decay-kernels", "membrane-potentials", "output-spiking",
    "output-feedback", "attention", "random-spike-trains", "sheet",
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(exported: Exported, drawn: Drawn) -> list[Run]:
    return [observe(exported.engine, image, 5, EXPORT_STEPS) for image in drawn[0][:2]]


@pytest.fixture(scope="module")
def run(runs: list[Run]) -> Run:
    return runs[0]


def events(figure: Figure, axes: int) -> set[tuple[int, int]]:
    """(step, neuron) of every tick of a raster."""
    (ticks,) = [part for part in figure.axes[axes].collections if isinstance(part, PathCollection)]
    return {(int(t), int(neuron)) for t, neuron in np.asarray(ticks.get_offsets())}


def fired(spikes: NDArray[np.uint8]) -> set[tuple[int, int]]:
    """(step, neuron), steps from 1, of spikes [T, ...]."""
    return {(int(t) + 1, int(neuron)) for t, neuron in np.argwhere(spikes.reshape(len(spikes), -1))}


@pytest.mark.parametrize(
    ("shift", "unit", "values"), [(1, 16, [1, 0.5, 0.25, 0.125]), (2, -16, [-1, -0.75, -0.5625])]
)
def test_kernel_is_an_exponential_by_its_shift(shift: int, unit: int, values: list[float]) -> None:
    kernel = Kernel(tau=tau_of_shift(shift), shift=shift, unit=unit, use="test")
    assert kernel_values(kernel, len(values)) == pytest.approx(values, rel=1e-12)


def test_kernels_drawn_are_those_of_the_card(exported: Exported) -> None:
    axes = figures.decay_kernels(exported.card, 4).axes
    for axis, name, values in (
        (axes[0], "A", [1, 0.5, 0.25, 0.125]),
        (axes[1], "B", [-1, -0.5, -0.25, -0.125]),
    ):
        assert axis.get_title().startswith(f"kernel {name}: ")
        assert axis.containers[0].markerline.get_ydata() == pytest.approx(values)  # type: ignore[attr-defined]


def test_raster_of_the_spike_trains_has_a_tick_a_spike(run: Run) -> None:
    figure = figures.spike_trains(run)
    assert events(figure, 1) == fired(run.spikes["input"]) != set()
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None and np.array_equal(shown, run.contrast)


def test_filtered_trains_of_the_pixels_that_spiked(run: Run) -> None:
    figure = figures.filtered_spike_trains(run)
    lit = known(run.filtered).reshape(EXPORT_STEPS, -1)[
        :, run.spikes["input"].reshape(EXPORT_STEPS, -1).any(0)
    ]
    lines = [line.get_ydata() for line in figure.axes[0].lines]
    assert np.array_equal(np.array(lines).T, lit)
    assert figure.axes[0].get_title() == f"kernel A applied to {lit.shape[1]} pixels that spiked"
    for t, axis in enumerate(figure.axes[1:]):
        shown = axis.images[0].get_array()
        assert shown is not None and np.array_equal(shown, known(run.filtered)[t])
    assert len(figure.axes) == 1 + EXPORT_STEPS


def test_potentials_with_a_dot_where_the_neuron_spiked(run: Run) -> None:
    axis = figures.membrane_potentials(run).axes[0]
    for digit in range(10):
        assert np.array_equal(axis.lines[digit].get_ydata(), run.potentials[:, digit])
        dots = np.asarray(axis.collections[digit].get_offsets())
        steps = np.flatnonzero(run.spikes["output"][:, digit])
        assert dots.tolist() == [[t + 1, run.potentials[t, digit]] for t in steps]


def test_output_probabilities_and_spikes(run: Run) -> None:
    figure = figures.output_spiking(run)
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None and np.array_equal(shown, run.spike_probabilities.T)
    assert events(figure, 1) == fired(run.spikes["output"]) != set()


def test_a_row_of_feedback_for_each_digit(run: Run) -> None:
    figure = figures.output_feedback(run)
    assert [axis.get_ylabel() for axis in figure.axes] == [str(digit) for digit in range(10)]
    for digit, axis in enumerate(figure.axes):
        lowest = min(0.0, known(run.feedback)[:, digit].min())
        filled = axis.collections[0].get_paths()[0].vertices
        assert np.asarray(filled)[:, 1].min() == lowest
        low, _ = axis.get_ylim()
        assert low < lowest  # the kernel's sum is at most 2


def test_a_map_for_each_head_says_what_it_received(run: Run, exported: Exported) -> None:
    figure = figures.attention(exported.card, run)
    maps = attention_maps(exported.card, run)["block1"]
    assert len(figure.axes) == len(maps)
    for head, axis in enumerate(figure.axes):
        laid_over = axis.images[1].get_array()
        assert laid_over is not None and np.array_equal(laid_over, maps[head].reshape(7, 7))
        assert axis.get_title() == f"block1, head {head + 1}: {maps[head].sum():.0f}"


def test_a_network_without_attention_says_so(run: Run, exported: Exported) -> None:
    layers = [layer for layer in exported.card.layers if not layer.name.endswith(".query")]
    with pytest.raises(figures.FigureError, match="has no spiking attention"):
        figures.attention(exported.card.model_copy(update={"layers": layers}), run)


@pytest.mark.parametrize("slope", [1, 3])
def test_random_spike_trains_are_the_encoders(slope: int) -> None:
    axis = figures.random_spike_trains(3, steps=50, slope=slope).axes[0]
    levels = np.linspace(0, 255, 11).round().astype(np.uint8)
    picture = np.zeros((28, 28), np.uint8)
    picture[0, :11] = levels
    trains = input_spikes(picture, 3, 50, slope=slope)[:, 0, 0, :11]
    found = {(int(t), int(row)) for t, row in np.asarray(axis.collections[0].get_offsets())}
    assert found == fired(trains)
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[0] == "0.00: 0.00 -> 0.00" and labels[-1] == "1.00: 1.00 -> 1.00"
    assert labels[3].startswith("0.30: 0.30 -> " if slope == 1 else "0.30: 0.00 -> 0.00")
    assert labels[5].endswith(f" -> {trains[:, 5].mean():.2f}")


def test_sheet_has_a_row_for_each_sample(runs: list[Run]) -> None:
    figure = figures.sheet(runs)
    assert len(figure.axes) == 4 * len(runs)
    for row, run in enumerate(runs):
        image, potentials, _, classes = figure.axes[4 * row : 4 * row + 4]
        shown = image.images[0].get_array()
        assert shown is not None and np.array_equal(shown, run.image)
        assert np.array_equal(potentials.lines[4].get_ydata(), run.potentials[:, 4])
        widths = [bar.get_width() for bar in classes.patches]  # type: ignore[attr-defined]
        assert widths == pytest.approx(run.class_probabilities[-1].tolist())
        assert classes.get_title().startswith(f"reads {run.prediction} (")


def assert_pictures(paths: list[Path], folder: Path) -> None:
    """Every figure is there, as a PNG that is not of one colour."""
    assert {path.name for path in folder.iterdir()} == {f"{name}.png" for name in NAMES}
    assert {path.stem for path in paths} == NAMES
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "PNG" and min(picture.size) >= 150
            low, high = (
                np.asarray(picture.convert("L"), int).min(),
                np.asarray(picture.convert("L"), int).max(),
            )
            assert high - low > 100, path.name


def test_every_figure_is_written(runs: list[Run], exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert_pictures(draw_all(exported.card, runs, folder, 5), folder)


def test_a_single_step_of_a_blank_image_can_be_drawn(exported: Exported, tmp_path: Path) -> None:
    blank = observe(exported.engine, np.zeros((28, 28), np.uint8), 5, 1)
    assert not blank.spikes["input"].any()
    assert_pictures(draw_all(exported.card, [blank], tmp_path, 5), tmp_path)


def test_where_the_state_begins_anew_is_drawn(exported: Exported, drawn: Drawn) -> None:
    engine = OnnxruntimeEngine(exported.folder)
    engine.card = engine.card.model_copy(update={"reset_interval": 3})
    run = observe(engine, drawn[0][0], 5, EXPORT_STEPS)
    assert run.resets == [3]
    for figure, axes in ((figures.membrane_potentials(run), 0), (figures.spike_trains(run), 1)):
        dotted = [line for line in figure.axes[axes].lines if line.get_linestyle() == ":"]
        assert [line.get_xdata()[0] for line in dotted] == [3.5]  # type: ignore[index]
