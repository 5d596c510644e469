"""`spikehead.load()`: a network in this process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spikehead
from spikehead.inference.simulator import Simulator
from spikehead.library import local
from spikehead.model.encoding import MAX_SEED

from tests.service.conftest import SHIPPED, band
from tests.service.serving import LONG


def test_an_answer(network: spikehead.Network, simulator: Simulator) -> None:
    answer = network.classify(band(4), seed=7, max_steps=2)
    assert (answer.prediction, answer.steps_used, answer.seed, answer.raster) == (4, 2, 7, None)
    assert (answer.spike_counts.input, answer.spike_counts.layers) == (64, {"hidden": 2})
    assert (network.engine, network.card.name) == ("onnxruntime", "tiny")
    with pytest.raises(AttributeError):
        answer.seed = 8  # type: ignore[misc]


def test_pictures_have_the_answers_that_they_have_alone(
    monkeypatch: pytest.MonkeyPatch, network: spikehead.Network
) -> None:
    monkeypatch.setattr(local, "_PORTION", 3)
    images = np.stack([band(digit) for digit in range(8)])
    seeds = [MAX_SEED - 1, MAX_SEED, *range(6)]
    alone = [network.classify(image, seed=seed) for image, seed in zip(images, seeds, strict=True)]
    assert network.classify_many(images, seed=seeds[0]) == alone
    assert network.classify_many(iter(images), seed=seeds[0]) == alone
    assert network.classify_many([]) == []


def test_a_seed_is_drawn(network: spikehead.Network) -> None:
    answers = [network.classify(band(4)) for _ in range(3)]
    assert len({answer.seed for answer in answers}) == 3
    assert network.classify(band(4), seed=answers[0].seed) == answers[0]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"seed": -1}, "invalid-option"),
        ({"confidence": True}, "invalid-option"),
        ({"raster": ["input", "stem9"]}, "unknown-layer"),
        ({"steps": 3}, "unknown-option"),
        ({"record": "yes"}, "unknown-option"),
    ],
)
def test_wrong_options(network: spikehead.Network, options: Any, kind: str) -> None:
    with pytest.raises(spikehead.Problem) as caught:
        network.classify(band(4), **options)
    assert caught.value.kind == kind


def test_the_models_that_come_along_are_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (SHIPPED / "card.json").is_file():
        pytest.skip(f"needs the shipped model in {SHIPPED}")
    monkeypatch.setenv("SPIKEHEAD_MODELS", "/nowhere")  # settings of a service do not matter
    assert spikehead.load().card.name == "spiking-mha"
    assert spikehead.load("ann-twin").card.kind == "ann"
    with pytest.raises(
        spikehead.ModelError, match=r"a model named resnet in .*, found ann-twin, glm, spiking-mha"
    ):
        spikehead.load("resnet")


def test_what_cannot_be_loaded(models_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(spikehead.ModelError, match="expected a model card at"):
        spikehead.load(tmp_path)
    with pytest.raises(spikehead.ModelError, match="among auto, native, onnxruntime, got 'gpu'"):
        spikehead.load(str(models_folder / "tiny"), engine="gpu")  # type: ignore[arg-type]


def test_large_pictures_are_refused(models_folder: Path) -> None:
    network = spikehead.load(models_folder / "tiny", max_pixels=1000)
    with pytest.raises(spikehead.Problem, match="expected at most 1000 pixels, got 60 x 90 pixels"):
        network.classify(np.eye(90, 60))


def test_importing_loads_nothing() -> None:
    script = (
        "import sys; before = set(sys.modules); import spikehead; dir(spikehead)\n"
        "new = set(sys.modules) - before\n"
        "print(sorted(name for name in new if name.split('.')[0] not in sys.stdlib_module_names))\n"
        "spikehead.load, spikehead.Client\n"
        "print([name for name in ('fastapi', 'starlette', 'uvicorn', 'onnxruntime', 'sqlalchemy')"
        " if name in sys.modules])"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=True)
    assert result.stdout == "['spikehead', 'spikehead.version']\n[]\n"


def test_every_name_is_there() -> None:
    assert dir(spikehead) == sorted(spikehead.__all__)
    for name in spikehead.__all__:
        assert getattr(spikehead, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        spikehead.unknown  # noqa: B018
