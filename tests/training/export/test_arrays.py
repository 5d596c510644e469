"""The arrays of a model: the integers of its graph, checked on both engines before they are written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import load, save
from spikehead.engine import native
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import ModelError, load_card

from tests.service.conftest import write_model
from tests.training.conftest import GLM, SMALL, Exported, make_glm, make_network, write_checkpoint
from training.export import arrays as module
from training.export.arrays import ARRAYS_FILE, add_arrays, arrays_of, check_engines
from training.export.artifact import export, export_ann
from training.export.graph import ExportError, build
from training.measure.model_folder import hashed
from training.network.ann import LeNet5
from training.network.neurons import table_shift
from training.network.spiking import NetworkConfig

Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]
needs_native = pytest.mark.skipif(not native.available(), reason="needs the native engine")


def tensors(graph: bytes) -> dict[str, NDArray[Any]]:
    model = onnx.load_from_string(graph)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_arrays_are_the_integers_of_the_graph() -> None:
    graph = build(make_network(), "small").SerializeToString()
    stored, arrays = tensors(graph), load(arrays_of(graph))
    assert arrays.keys() - {"heads", "sides", "sigmoid.shift"} == {
        name.removesuffix(".int8")
        for name in stored
        if name.endswith(
            (".int8", ".bias", ".v_threshold", "readout.feedback", ".gamma", "position", "sigmoid")
        )
    }
    for name, values in arrays.items():
        if name not in ("heads", "sides", "sigmoid.shift"):
            assert np.array_equal(values, stored[f"{name}.int8" if f"{name}.int8" in stored else name]), name
            wanted = np.float32 if name == "sigmoid" else np.int8 if name.endswith(".weight") else np.int32
            assert values.dtype == wanted, name
    assert arrays["heads"].tolist() == SMALL.heads
    assert arrays["sides"].tolist() == [0, 0, 0, 0, 1, 2, 3, 4]  # of 8 channels


def test_what_a_network_has_not_is_not_there() -> None:
    config = NetworkConfig(
        stem=(4, 4), channels=8, blocks=1, attention=False, position=False, neighbours=False
    )
    names = load(arrays_of(build(make_network(config), "small").SerializeToString())).keys()
    assert not names & {"heads", "sides", "position", "block1.query.weight"}
    assert {"stem1.weight", "block1.expand.bias", "tokens.v_threshold"} <= names


def test_a_coarse_table_tells_its_shift() -> None:
    network = make_glm(GLM)
    scale = float(network.readout.constants(integer=True)[3])
    arrays = load(arrays_of(build(network, "glm").SerializeToString()))
    assert arrays["sigmoid.shift"].tolist() == table_shift(scale) > 0
    assert arrays.keys() == {
        "readout.weight", "readout.feedback", "readout.gamma", "sigmoid", "sigmoid.shift",
    }  # fmt: skip


@needs_native
def test_export_writes_arrays_and_their_hash(exported: Exported) -> None:
    content = (exported.folder / ARRAYS_FILE).read_bytes()
    assert content == arrays_of((exported.folder / "model.onnx").read_bytes())
    assert json.loads((exported.folder / "card.json").read_text())["arrays"] == hashed(ARRAYS_FILE, content)


@needs_native
@pytest.mark.parametrize(
    ("name", "what"),
    [("block1.key.bias", r"block1\.key"), ("readout.gamma", "potential"), ("sigmoid", "potential")],
)
def test_arrays_that_disagree_with_the_graph_are_refused_and_nothing_is_written(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    def wrong(graph: bytes) -> bytes:
        arrays = {key: values.copy() for key, values in load(arrays_of(graph)).items()}
        arrays[name] = 1 - arrays[name] if name == "sigmoid" else arrays[name] + 40
        return save(arrays)

    monkeypatch.setattr("training.export.artifact.arrays_of", wrong)
    checkpoint = write_checkpoint(tmp_path / "best.pt", make_network(seed=4))
    message = (
        f"^expected the same {what} from onnxruntime and native, got [0-9]+ differences in images 0 to 9$"
    )
    with pytest.raises(ExportError, match=message):
        export(checkpoint, tmp_path / "small", drawn, drawn[0][:10], max_steps=4, seeds=1)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_without_the_native_engine_there_are_no_arrays(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They could not be checked."""
    monkeypatch.setattr(native, "_core", None)
    checkpoint = write_checkpoint(tmp_path / "best.pt", make_network(seed=4))
    card = export(checkpoint, tmp_path / "small", drawn, drawn[0][:2], max_steps=2, seeds=1)
    assert card.arrays is None and "arrays" not in json.loads((tmp_path / "small/card.json").read_text())
    assert {path.name for path in (tmp_path / "small").iterdir()} == {"card.json", "model.onnx"}
    with pytest.raises(ModelError, match="expected the native engine, found that it was not built"):
        add_arrays(tmp_path / "small")


def without_arrays(model: Path, folder: Path) -> Path:
    """A copy of a model as it was exported before there were arrays."""
    shutil.copytree(model, folder)
    (folder / ARRAYS_FILE).unlink()
    card = json.loads((folder / "card.json").read_text())
    del card["arrays"]
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def with_constant(folder: Path, name: str, value: float) -> None:
    """Change a constant of a model's graph, and the hash in its card."""
    graph = onnx.load(folder / "model.onnx")
    (tensor,) = [one for one in graph.graph.initializer if one.name == name]
    tensor.CopyFrom(numpy_helper.from_array(np.array(value, np.float32), name))
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    card = json.loads((folder / "card.json").read_text())
    card["graph"] = hashed("model.onnx", graph.SerializeToString())
    (folder / "card.json").write_text(json.dumps(card))


@needs_native
def test_arrays_are_added_as_export_would_have_written_them(exported: Exported, tmp_path: Path) -> None:
    folder = without_arrays(exported.folder, tmp_path / "small")
    assert add_arrays(folder) == exported.card
    files = [{path.name: path.read_bytes() for path in one.iterdir()} for one in (folder, exported.folder)]
    assert files[0] == files[1]


@needs_native
def test_arrays_of_a_graph_that_computes_otherwise_are_not_added(exported: Exported, tmp_path: Path) -> None:
    """Its neurons leak a quarter of their potential a step, and not half of it as the card says."""
    folder = without_arrays(exported.folder, tmp_path / "small")
    with_constant(folder, "number.0.5", 0.25)
    with pytest.raises(ExportError, match="expected the same stem1 from onnxruntime and native"):
        add_arrays(folder)
    assert not (folder / ARRAYS_FILE).exists() and load_card(folder).arrays is None


def test_models_that_have_no_arrays_are_refused(drawn: Drawn, tmp_path: Path) -> None:
    export_ann(LeNet5(), tmp_path / "lenet5", drawn, {})
    with pytest.raises(
        ModelError, match="expected a spiking model, got lenet5 of kind ann: onnxruntime runs it"
    ):
        add_arrays(tmp_path / "lenet5")
    with pytest.raises(ExportError, match="expected whole numbers in scale, got others"):
        add_arrays(write_model(tmp_path))
    folder = write_model(tmp_path, "whole")
    with_constant(folder, "scale", 1.0)
    with pytest.raises(
        ModelError, match=r"expected a graph that `export` wrote in .*, got one without: 'sig"
    ):
        add_arrays(folder)


def test_every_picture_of_the_check_is_compared(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of the last portion, and a difference in a single potential."""

    class Other:
        name, card = "other", exported.card
        classify = exported.engine.classify

        def by_step(self, images: Any, *arguments: Any) -> Any:
            found = exported.engine.by_step(images, *arguments)
            found.potentials[-1, -1, 9] += len(images) == 2
            return found

    other: Any = Other()
    images = module._pictures()[:22]
    check_engines(exported.engine, other, images[:20], 2)
    with pytest.raises(
        ExportError, match=r"expected the same potential .* got 1 differences in images 20 to 21"
    ):
        check_engines(exported.engine, other, images, 2)


def test_the_pictures_of_the_check_excite_the_network(exported: Exported) -> None:
    found = OnnxruntimeEngine(exported.folder).by_step(module._pictures(), range(100), 4, "bernoulli")
    assert all(counts.any(axis=0).sum() > 50 for counts in found.spikes.values())
