"""A tiny model whose answers can be worked out by hand, and a client of a service that has it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.inference.simulator import Simulator
from spikehead.model.card import load_card
from spikehead.settings import Settings
from spikehead.telemetry.logs import LINES
from spikehead.web.app import create_app

MAX_STEPS = 4
THRESHOLD = 10
LEVELS = np.array([0.5, 0.5, 0.5, 0.5])


def band(digit: int, value: int = 255) -> np.ndarray:
    """The tiny model's picture of a digit: two rows of 16 pixels. uint8 [28, 28]."""
    image = np.zeros((28, 28), np.uint8)
    image[4 + 2 * digit : 6 + 2 * digit, 6:22] = value
    return image


def tiny_graph() -> onnx.ModelProto:
    """One time step. Hidden neuron k sees rows 4 + 2k and 5 + 2k, and fires from 10 spikes on.

    potential = 8 * hidden - 4 + feedback; feedback = floor(feedback / 2) - 2 * output spikes.
    """
    weights = np.zeros((784, 10), np.float32)
    for digit in range(10):
        weights[(band(digit) > 0).reshape(-1), digit] = 1
    constants = {
        "weights": weights,
        "threshold": np.float32(THRESHOLD),
        "eight": np.float32(8),
        "four": np.float32(4),
        "two": np.float32(2),
        "sixteen": np.float32(16),
        "scale": np.float32(0.25),
        "flat": np.array([-1, 784], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["spikes", "flat"], ["flat_spikes"]),
        helper.make_node("MatMul", ["flat_spikes", "weights"], ["drive"]),
        helper.make_node("GreaterOrEqual", ["drive", "threshold"], ["fires"]),
        helper.make_node("Cast", ["fires"], ["spikes.hidden"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["spikes.hidden", "eight"], ["excited"]),
        helper.make_node("Sub", ["excited", "four"], ["biased"]),
        helper.make_node("Add", ["biased", "state.feedback"], ["potential"]),
        helper.make_node("Mul", ["potential", "scale"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["spike_probability"]),
        helper.make_node("Less", ["uniforms", "spike_probability"], ["emits"]),
        helper.make_node("Cast", ["emits"], ["output_spikes"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["state.feedback", "two"], ["half_feedback"]),
        helper.make_node("Floor", ["half_feedback"], ["old_feedback"]),
        helper.make_node("Mul", ["output_spikes", "two"], ["new_feedback"]),
        helper.make_node("Sub", ["old_feedback", "new_feedback"], ["next_state.feedback"]),
        helper.make_node("Div", ["state.input", "two"], ["half_input"]),
        helper.make_node("Floor", ["half_input"], ["old_input"]),
        helper.make_node("Mul", ["spikes", "sixteen"], ["new_input"]),
        helper.make_node("Add", ["old_input", "new_input"], ["next_state.input"]),
    ]

    def tensor(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])

    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            tensor("spikes", 1, 28, 28),
            tensor("uniforms", 10),
            tensor("state.input", 1, 28, 28),
            tensor("state.feedback", 10),
        ],
        [
            tensor("potential", 10),
            tensor("spike_probability", 10),
            tensor("output_spikes", 10),
            tensor("next_state.input", 1, 28, 28),
            tensor("next_state.feedback", 10),
            tensor("spikes.hidden", 10),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tiny_card(graph: bytes, name: str = "tiny") -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": name,
        "version": "1.2.3",
        "description": "A network that a test can work out by hand.",
        "licence": "Apache-2.0",
        "graph": {"file": "model.onnx", "sha256": hashlib.sha256(graph).hexdigest()},
        "max_steps": MAX_STEPS,
        "layers": [
            {
                "name": "input",
                "shape": [1, 28, 28],
                "fan_out": {"targets": 1, "rows": [1] * 28, "columns": [1] * 28},
            },
            {"name": "hidden", "shape": [10], "fan_out": {"targets": 10}},
            {"name": "output", "shape": [10], "fan_out": {"targets": 10}},
        ],
        "states": [{"name": "state.input", "shape": [1, 28, 28]}, {"name": "state.feedback", "shape": [10]}],
        "kernels": {"A": {"tau": 1.44, "shift": 1, "unit": 16, "use": "input"}},
        "potential_scale": 0.25,
        "calibration": {"scale": LEVELS.tolist(), "confidence": 0.9},
        "parameters": 100,
        "bits": 8,
    }


def write_model(models: Path, name: str = "tiny") -> Path:
    """A tiny model in `models/<name>`."""
    folder = models / name
    folder.mkdir(parents=True)
    graph = tiny_graph().SerializeToString()
    (folder / "model.onnx").write_bytes(graph)
    (folder / "card.json").write_text(json.dumps(tiny_card(graph, name)))
    return folder


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder)
    write_model(folder, "other")
    (folder / "README.md").write_text("no model")
    (folder / "notes").mkdir()
    return folder


@pytest.fixture(scope="session")
def settings(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("records")
    return Settings(
        database_url=f"sqlite:///{folder}/records.db",
        models=models_folder,
        default_model="tiny",
        log_format="json",
        max_body=64 * 1024,
        max_batch_body=1024 * 1024,
        max_batch_images=300,
        max_raster_images=5,
        max_pixels=1_000_000,
    )


@pytest.fixture(scope="session")
def simulator(models_folder: Path) -> Simulator:
    return Simulator(OnnxruntimeEngine(models_folder / "tiny"))


@pytest.fixture(scope="session")
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Lines of the log, as they come."""
    entries: list[Any] = []

    def put(render: Callable[..., str], *about: Any) -> None:
        entries.append(json.loads(render(*about)))

    monkeypatch.setattr(LINES, "put", put)
    return entries


SHIPPED = Path(__file__).resolve().parents[2] / "models" / "spiking-mha"


@pytest.fixture(scope="session")
def shipped() -> Simulator:
    """The shipped model."""
    if not (SHIPPED / "card.json").is_file():
        pytest.skip(f"needs the shipped model in {SHIPPED}")
    load_card(SHIPPED)
    return Simulator(OnnxruntimeEngine(SHIPPED, threads=2))
