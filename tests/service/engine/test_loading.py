"""The onnxruntime engine and what it refuses."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from spikehead.engine.loading import load_engine
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import Card, ModelError
from spikehead.settings import EngineName

from tests.service.conftest import band, tiny_card, tiny_graph, write_model


def test_one_step_by_hand(models_folder: Path) -> None:
    engine = OnnxruntimeEngine(models_folder / "tiny")
    state = engine.initial_state(2)
    assert {name: values.shape for name, values in state.items()} == {
        "state.input": (2, 1, 28, 28),
        "state.feedback": (2, 10),
    }
    trains = np.stack([band(3, 1), band(8, 1)])[:, None].astype(np.float32)
    uniforms = np.full((2, 10), 0.5, np.float32)
    first = engine.step(state, trains, uniforms)
    expected = np.full((2, 10), -4.0)
    expected[0, 3] = expected[1, 8] = 4.0
    assert (first.potential == expected).all()
    assert (first.output_spikes == (expected > 0)).all()
    assert (first.spikes["hidden"] == (expected > 0)).all()
    assert set(first.spikes) == {"hidden"}
    assert first.spike_probability[0, 3] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-6)
    assert (first.state["state.input"] == 16 * trains).all()
    assert not state["state.input"].any()  # the state that went in stays as it was
    second = engine.step(first.state, trains, uniforms)
    assert second.potential[0, 3] == 4 - 2  # fed back
    assert second.potential[0, 0] == -4
    assert (second.state["state.input"] == 24 * trains).all()
    assert second.state["state.feedback"][0, 3] == -1 - 2


def test_exactly_at_the_threshold(models_folder: Path) -> None:
    engine = OnnxruntimeEngine(models_folder / "tiny")
    trains = np.zeros((2, 1, 28, 28), np.float32)
    trains[0, 0, 4, 6:16] = 1  # 10 spikes
    trains[1, 0, 4, 6:15] = 1  # 9 spikes
    step = engine.step(engine.initial_state(2), trains, np.ones((2, 10), np.float32))
    assert step.spikes["hidden"].sum(axis=1).tolist() == [1, 0]


@pytest.mark.parametrize("name", ["auto", "onnxruntime"])
def test_load_engine(models_folder: Path, name: EngineName) -> None:
    engine = load_engine(models_folder / "tiny", engine=name)
    assert (engine.name, engine.card.name) == ("onnxruntime", "tiny")


def test_wrong_hash_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(
        ModelError, match=r"expected .*model\.onnx with sha256 [0-9a-f]{64} .*, found [0-9a-f]{64}"
    ):
        OnnxruntimeEngine(folder)


def test_missing_graph_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"expected the graph at .*, got: No such file"):
        OnnxruntimeEngine(folder)


def _replace_graph(folder: Path, graph: bytes) -> None:
    (folder / "model.onnx").write_bytes(graph)
    (folder / "card.json").write_text(json.dumps(tiny_card(graph)))


def test_graph_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    _replace_graph(folder, b"no graph at all")
    with pytest.raises(ModelError, match="expected a graph that onnxruntime can run"):
        OnnxruntimeEngine(folder)


def test_graph_that_does_not_fit_its_card_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    model = tiny_graph()
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = {"state.feedback": "state.other", "spikes.hidden": "spikes.else"}.get(name, name)
    model.graph.input[3].name = "state.other"
    model.graph.output[5].name = "spikes.else"
    onnx.checker.check_model(model)
    _replace_graph(folder, model.SerializeToString())
    with pytest.raises(ModelError, match=r"expected inputs .*state\.feedback.* found .*state\.other"):
        OnnxruntimeEngine(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "expected schema_version 1, got 2"),
        ({"calibration": {"scale": [1.0], "confidence": 0.5}}, "expected 4 calibration scales"),
        ({"layers": []}, "expected layers from 'input' to 'output'"),
        ({"rate_slope": 0}, "greater than or equal to 1"),
        ({"reset_interval": 0}, "greater than or equal to 1"),
        ({"reset_interval": 65}, "less than or equal to 64"),
        ({"rate_slope": 17}, "less than or equal to 16"),
        ({"kind": "ann", "rate_slope": 3}, "expected rate_slope 1 of a conventional network, .* got 3"),
        (
            {"arrays": {"file": "arrays.safetensors", "sha256": "no hash"}},
            "arrays.sha256: String should match",
        ),
        ({"surprise": 1}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_cards_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    folder = write_model(tmp_path)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **change}))
    with pytest.raises(ModelError, match=message):
        OnnxruntimeEngine(folder)


@pytest.mark.parametrize(
    ("interval", "steps"), [(None, [0]), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [0, 3]), (5, [0])]
)
def test_when_the_state_begins_anew(interval: int | None, steps: list[int]) -> None:
    card = Card.model_validate({**tiny_card(b""), "reset_interval": interval})
    assert [t for t in range(5) if card.begins_anew(t)] == steps
