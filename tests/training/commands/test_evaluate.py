"""`evaluate`: the images that it reads, what it measures, and how it prints that."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spikehead.model.card import load_card

from tests.training.commands.conftest import Drawn, assert_refused, said, succeed
from tests.training.conftest import Exported, Mnist, make_network, write_checkpoint
from training.data.distortions import DISTORTIONS


def test_evaluation_as_a_table(exported: Exported, tiny_mnist: Mnist, few_held_out: int) -> None:
    arguments = (exported.folder, "--limit", 5, "--seeds", 1, "--data", tiny_mnist.folder)
    text = said(succeed("evaluate", *arguments, "--validation").stdout)
    assert "small1.0.0:5validationimages,1seeds" in text
    for part in ("timesteps", "firingrate%", "block1.query", "confusion", "synapticoperationsanimage:"):
        assert part in text
    assert "small1.0.0:5testimages,1seeds" in said(succeed("evaluate", *arguments).stdout)


@pytest.mark.parametrize(("flag", "first"), [((), 0), (("--validation",), 1)])
def test_evaluation_reads_the_set_asked_for(
    flag: tuple[str, ...], first: int, exported: Exported, tiny_mnist: Mnist, few_held_out: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[Any] = []

    def measure(
        engine: object, images: object, labels: object, seeds: int, progress: object
    ) -> dict[str, Any]:
        seen.extend([images, labels, seeds])
        return {}

    monkeypatch.setattr("training.measure.evaluate.evaluate", measure)
    result = succeed("evaluate", exported.folder, "--json", *flag, "--data", tiny_mnist.folder)
    held_out = tiny_mnist.images[-few_held_out:], tiny_mnist.labels[-few_held_out:]
    images, labels = [(tiny_mnist.test_images, tiny_mnist.test_labels), held_out][first]
    assert np.array_equal(seen[0], images) and np.array_equal(seen[1], labels) and seen[2] == 5
    assert json.loads(result.stdout) == {"set": ["test", "validation"][first]}


def test_fewer_images_are_held_out_all_the_way(
    tiny_mnist: Mnist, drawn: Drawn, tmp_path: Path, few_held_out: int
) -> None:
    """A model is calibrated, evaluated and trained further with the images that its training held out."""
    data = ("--data", tiny_mnist.folder)
    network = make_network(seed=4)
    checkpoint = write_checkpoint(tmp_path / "run" / "best.pt", network, held_out=20)
    succeed("export", checkpoint, "--model", tmp_path / "model", "--max-steps", 1, *data)
    assert load_card(tmp_path / "model").accuracy["validation"]["images"] == 20
    assert (
        load_card(tmp_path / "model").accuracy["validation"]["set"]
        == "validation: the last 20 training images"
    )
    result = succeed("evaluate", tmp_path / "model", "--validation", "--json", "--seeds", 1, *data)
    assert json.loads(result.stdout)["images"] == 20
    fewer = succeed(
        "evaluate", tmp_path / "model", "--validation", "--held-out", 7, "--json", "--seeds", 1, *data
    )
    assert json.loads(fewer.stdout)["images"] == 7
    assert_refused("ModelError", "evaluate", tmp_path / "model", "--validation", "--held-out", 21, *data)
    assert_refused(
        "expected --validation with --held-out", "evaluate", tmp_path / "model", "--held-out", 7, *data
    )
    begin = ("train", "--start", tmp_path / "model", "--run", tmp_path / "next", "--epochs", 1)
    short = ("--integer-epochs", 1, "--limit", 16, *data)
    assert_refused("ModelError", *begin, *short, "--held-out", few_held_out)
    succeed(*begin, *short)
    assert json.loads((tmp_path / "next" / "settings.json").read_text())["held_out"] == 20


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `evaluate` measures beside the usual, in the order in which it does; it finds that out here."""
    calls: list[tuple[Any, ...]] = []

    def robustness(engine: Any, images: Any, labels: Any, progress: Any) -> str:
        calls.append(("robustness", engine.card.name, len(images), len(labels)))
        return "robust"

    def synapse_noise(
        model: Any, load: Any, images: Any, labels: Any, sigma: float, stuck: float, draws: int, progress: Any
    ) -> str:
        calls.append(("synapse_noise", load(model).card.name, len(images), sigma, stuck, draws))
        return "noisy"

    monkeypatch.setattr("training.measure.evaluate.evaluate", lambda *arguments: {})

    def handwriting(engine: Any, images: Any, labels: Any, draws: int, progress: Any) -> str:
        calls.append(("handwriting", engine.card.name, len(images), len(labels), draws))
        return "written"

    monkeypatch.setattr("training.measure.evaluate.robustness", robustness)
    monkeypatch.setattr("training.measure.evaluate.handwriting", handwriting)
    monkeypatch.setattr("training.measure.evaluate.synapse_noise", synapse_noise)
    return calls


@pytest.mark.parametrize(
    ("options", "calls", "more"),
    [
        ((), [], {}),
        (("--robustness",), [("robustness", "small", 5, 5)], {"robustness": "robust"}),
        (
            ("--synapse-noise", 0.1, "--stuck-at", 0.02, "--draws", 3),
            [("synapse_noise", "small", 5, 0.1, 0.02, 3)],
            {"synapse_noise": "noisy"},
        ),
        (("--rewritten", 3), [("handwriting", "small", 5, 5, 3)], {"handwriting": "written"}),
        (("--stuck-at", 0.02), [("synapse_noise", "small", 5, 0.0, 0.02, 5)], {"synapse_noise": "noisy"}),
        (("--synapse-noise", 0), [("synapse_noise", "small", 5, 0.0, 0.0, 5)], {"synapse_noise": "noisy"}),
    ],
    ids=["nothing", "robustness", "noise", "rewritten", "stuck", "no noise"],
)
def test_evaluation_measures_what_it_is_asked_for(
    options: tuple[object, ...], calls: list[tuple[Any, ...]], more: dict[str, str],
    asked: list[tuple[Any, ...]], exported: Exported, tiny_mnist: Mnist,
) -> None:  # fmt: skip
    result = succeed(
        "evaluate", exported.folder, "--json", "--limit", 5, *options, "--data", tiny_mnist.folder
    )
    assert asked == calls
    assert json.loads(result.stdout) == {"set": "test", **more}


def test_evaluation_under_distortions_and_noise_as_a_table(
    exported: Exported, tiny_mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: DISTORTIONS[name] for name in ("bright_background", "fog")}
    monkeypatch.setattr("training.measure.evaluate.DISTORTIONS", few)
    options = ("--robustness", "--synapse-noise", 0.1, "--stuck-at", 0.05, "--draws", 2, "--rewritten", 3)
    text = said(
        succeed(
            "evaluate", exported.folder, "--limit", 4, "--seeds", 1, *options, "--data", tiny_mnist.folder
        ).stdout
    )
    assert "distortionsthattraininghasneverseen" in text
    assert re.search(r"brightbackground┃?\D*\d+\.\d\d", text) and re.search(r"fog\D*\d+\.\d\d", text)
    assert "synapsesthatscatterby10%,5%ofthemstuck,2draws:" in text
    assert re.search(r"digitswrittenotherwise,3draws:\d+\.\d\d%\(std\d+\.\d\d\)in\d\.\d\dsteps", text)
    assert "stoppingatotherconfidences" in text


def test_evaluation_of_a_hurt_network(exported: Exported, tiny_mnist: Mnist) -> None:
    options = ("--limit", 20, "--seeds", 1, "--data", tiny_mnist.folder, "--lesion", "*.attention")
    hurt = json.loads(succeed("evaluate", exported.folder, *options, "--json").stdout)
    assert hurt["silent_layers"] == ["block1.attention"]
    assert hurt["firing_rate"]["block1.attention"] == 0.0 < hurt["firing_rate"]["block1.query"]
    assert "silent:block1.attention" in said(succeed("evaluate", exported.folder, *options).stdout)
    assert_refused("expected a layer among stem1,", "evaluate", exported.folder, *options[:-1], "nothing")
