"""Lesions: layers that never fire, in a copy of a model that any engine loads."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from spikehead.engine import native
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import ModelError, load_card

from tests.training.conftest import EXPORT_STEPS, Exported
from training.export.artifact import export_ann
from training.measure.evaluate import simulate
from training.measure.lesion import silenced, write_lesioned
from training.network.ann import LeNet5

Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]


def test_a_pattern_means_layers_in_their_order(exported: Exported) -> None:
    assert silenced(exported.folder, ["*.attention"]) == ["block1.attention"]
    assert silenced(exported.folder, ["*.value", "block1.query", "stem?"]) == [
        "stem1", "stem2", "block1.query", "block1.value",
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["block9.attention", "attention", "input", "output", ""])
def test_a_pattern_that_means_nothing(exported: Exported, pattern: str) -> None:
    with pytest.raises(ModelError, match=r"expected a layer among stem1, .*, or a pattern, got"):
        silenced(exported.folder, ["stem1", pattern])


def test_conventional_networks_have_no_thresholds(drawn: Drawn, tmp_path: Path) -> None:
    export_ann(LeNet5(), tmp_path / "lenet5", drawn, {})
    with pytest.raises(ModelError, match=r"expected a spiking model, .* got lenet5 of kind ann"):
        silenced(tmp_path / "lenet5", ["layer1"])


def test_only_those_layers_and_what_they_drive_change(
    exported: Exported, drawn: Drawn, tmp_path: Path
) -> None:
    """Attention silenced: what comes before it fires as ever, the potentials are others, the card says so too."""
    assert write_lesioned(exported.folder, tmp_path, ["*.attention"]) == ["block1.attention"]
    whole = simulate(exported.engine, drawn[0], 1, EXPORT_STEPS)
    hurt = simulate(OnnxruntimeEngine(tmp_path), drawn[0], 1, EXPORT_STEPS)
    assert whole.spikes["block1.attention"].any() and not hurt.spikes["block1.attention"].any()
    for layer in ("stem1", "stem2", "block1.attention_in", "block1.query", "block1.key", "block1.value"):
        assert np.array_equal(whole.spikes[layer], hurt.spikes[layer]), layer
    assert not np.array_equal(whole.potentials, hurt.potentials)
    assert load_card(tmp_path).name == "small"


@pytest.mark.skipif(not native.available(), reason="needs the native engine")
@pytest.mark.parametrize(
    "layer", ["stem1", "block1.query", "block1.attention", "block1.mlp_in", "block1.mlp_hidden"]
)
def test_engines_agree_on_a_hurt_network(
    exported: Exported, drawn: Drawn, tmp_path: Path, layer: str
) -> None:
    write_lesioned(exported.folder, tmp_path, [layer])
    one = simulate(OnnxruntimeEngine(tmp_path), drawn[0], 1, EXPORT_STEPS)
    other = simulate(native.NativeEngine(tmp_path), drawn[0], 1, EXPORT_STEPS)
    assert np.array_equal(one.potentials, other.potentials)
    for name, counts in one.spikes.items():
        assert np.array_equal(counts, other.spikes[name]), name
