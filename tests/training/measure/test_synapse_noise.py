"""Imperfect synapses: what is read back, and a model folder that any engine loads."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from spikehead.engine import native
from spikehead.engine.base import Engine
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import load_card

from tests.training.conftest import EXPORT_STEPS, Exported
from training.measure.synapse_noise import perturbed, write_perturbed

LEVELS = np.arange(-127, 128).astype(np.int8)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Weights


def test_perfect_cells_hold_what_was_written() -> None:
    found = perturbed(LEVELS, 8, 0.0, 0.0, generator())
    assert found.dtype == np.int8
    assert found.tolist() == LEVELS.tolist()


def test_weights_scatter_in_proportion_to_themselves() -> None:
    """A tenth, and a little for rounding to whole weights; a weight of 0 stays."""
    for weight in (-60, 0, 20, 60):
        found = perturbed(np.full(100_000, weight, np.int8), 8, 0.1, 0.0, generator()).astype(float)
        assert found.mean() == pytest.approx(weight, abs=0.1)
        assert found.std() == pytest.approx(
            np.sqrt((0.1 * weight) ** 2 + 1 / 12) if weight else 0.0, rel=0.02
        )


@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (4, 7), (2, 1)])
def test_what_is_read_has_the_bits_of_a_synapse(bits: int, largest: int) -> None:
    written = np.full(1000, largest, np.int8)
    found = perturbed(np.concatenate([written, -written]), bits, 1.0, 0.0, generator())
    assert (found.min(), found.max()) == (-largest, largest)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_stuck_cell_holds_nothing_or_the_most(bits: int) -> None:
    """Whatever was written: 0 and the largest weight of either sign, a third of the cells each."""
    largest = 2 ** (bits - 1) - 1
    found = perturbed(np.full(90_000, 3, np.int8), bits, 0.5, 1.0, generator())
    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == [-largest, 0, largest]
    assert counts.tolist() == pytest.approx([30_000] * 3, rel=0.02)


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_share_of_stuck_cells(share: float) -> None:
    found = perturbed(np.full(200_000, 5, np.int8), 8, 0.0, share, generator())
    assert (found != 5).mean() == pytest.approx(share, rel=0.05)


def test_cells_follow_from_the_generator() -> None:
    one, again, other = (perturbed(LEVELS, 8, 0.2, 0.1, generator(seed)).tolist() for seed in (1, 1, 2))
    assert one == again
    assert one != other


# Models


def tensors(folder: Path) -> dict[str, NDArray[Any]]:
    graph = onnx.load(folder / "model.onnx").graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def potentials(engine: Engine, images: NDArray[np.uint8]) -> list[Any]:
    found = engine.by_step(images, range(len(images)), EXPORT_STEPS, "bernoulli")
    return [found.potentials.tolist(), {name: counts.tolist() for name, counts in found.spikes.items()}]


@pytest.fixture(scope="module")
def images(drawn: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> NDArray[np.uint8]:
    return drawn[0][:4]


def test_a_model_with_perfect_cells_is_the_same(
    exported: Exported, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    write_perturbed(exported.folder, tmp_path, 0.0, 0.0, 7)
    before, after = tensors(exported.folder), tensors(tmp_path)
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert potentials(OnnxruntimeEngine(tmp_path), images) == potentials(exported.engine, images)


def test_synapses_alone_change(exported: Exported, images: NDArray[np.uint8], tmp_path: Path) -> None:
    """Thresholds, biases and tables sit in ordinary memory."""
    original = {path.name: path.read_bytes() for path in exported.folder.iterdir()}
    write_perturbed(exported.folder, tmp_path / "noisy", 0.3, 0.05, 7)
    before, after = tensors(exported.folder), tensors(tmp_path / "noisy")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("weight.int8")}
    assert len(changed) == 3 + 4 + 2 + 1  # stem, attention, MLP, readout
    assert all(before[name].shape == after[name].shape for name in before)
    assert {after[name].dtype for name in changed} == {np.dtype(np.int8)}
    assert potentials(OnnxruntimeEngine(tmp_path / "noisy"), images) != potentials(exported.engine, images)
    assert {path.name: path.read_bytes() for path in exported.folder.iterdir()} == original


def test_the_card_quotes_the_graph_and_nothing_else_of_it_changes(exported: Exported, tmp_path: Path) -> None:
    write_perturbed(exported.folder, tmp_path, 0.3, 0.0, 7)
    card = load_card(tmp_path)
    assert card.graph.sha256 == hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    assert card.graph.sha256 != exported.card.graph.sha256
    if card.arrays:
        assert card.arrays.sha256 == hashlib.sha256((tmp_path / card.arrays.file).read_bytes()).hexdigest()
    files = {"graph": None, "arrays": None}
    one, other = (found.model_dump(mode="json") | files for found in (card, exported.card))
    assert one == other


def test_a_draw_of_cells_follows_from_its_seed(exported: Exported, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write_perturbed(exported.folder, tmp_path / name, 0.1, 0.0, seed)
    graphs = [(tmp_path / name / "model.onnx").read_bytes() for name in ("one", "again", "other")]
    assert graphs[0] == graphs[1] != graphs[2]


def test_the_native_engine_reads_the_same_cells(
    exported: Exported, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    if not native.available():
        pytest.skip("needs the native engine")
    write_perturbed(exported.folder, tmp_path, 0.3, 0.05, 7)
    found = [potentials(engine(tmp_path), images) for engine in (native.NativeEngine, OnnxruntimeEngine)]
    assert found[0] == found[1]
