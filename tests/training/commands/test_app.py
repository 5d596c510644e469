"""All commands: the way from data to figures, and what they say if something is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import load_card

from tests.service.picture_files import png
from tests.training.commands.conftest import Drawn, assert_refused, run, said, succeed
from tests.training.conftest import SMALL, Exported, Mnist, Unipen
from training.data import unipen
from training.fit.train import TrainingSettings
from training.measure.evaluate import stopping_accuracy


def test_help_names_every_command() -> None:
    text = succeed("--help").output
    for command in ("train", "teacher", "export", "evaluate", "compare", "figures"):
        assert re.search(rf"\b{command}\b", text)
        assert succeed(command, "--help").exit_code == 0


@pytest.mark.slow
def test_the_whole_way(tiny_mnist: Mnist, drawn: Drawn, tmp_path: Path, few_held_out: int) -> None:
    """train, export, evaluate and figures, each with what the one before left."""
    data = ("--data", tiny_mnist.folder)
    folder, model = tmp_path / "run", tmp_path / "models" / "tiny"

    short = ("--epochs", 2, "--integer-epochs", 1, "--time-steps", 1, "--final-time-steps", 2, "--limit", 24)
    result = succeed("train", "--run", folder, *short, "--batch-size", 12, "--device", "cpu", *data)
    assert {path.name for path in folder.iterdir()} == {
        "settings.json", "metrics.jsonl", "last.pt", "best.pt", "command.txt"
    }  # fmt: skip
    assert "epoch1/2floatT=1loss" in said(result.stderr) and "epoch2/2integerT=2loss" in said(result.stderr)
    assert result.stdout == ""

    command = "python -m training train --epochs 2"
    (folder / "command.txt").write_text(command + "\n")
    result = succeed(
        "export", folder / "best.pt", "--model", model, "--max-steps", 2, "--version", "0.0.1", *data
    )
    card = load_card(model)
    assert (card.name, card.version, card.max_steps) == ("tiny", "0.0.1", 2)
    assert card.training["command"] == command
    assert card.accuracy["validation"]["images"] == few_held_out
    assert said(f"wrote {model}: validation") in said(result.stderr)

    result = succeed("evaluate", model, "--json", "--limit", 6, "--seeds", 2, *data)
    figures = json.loads(result.stdout)
    assert (figures["model"], figures["images"], figures["seeds"], figures["set"]) == ("tiny", 6, 2, "test")
    assert np.sum(figures["confusion"], axis=1).tolist() == [
        2 * n for n in np.bincount(tiny_mnist.test_labels[:6], minlength=10)
    ]

    pictures = [tmp_path / "one.png", tmp_path / "two.png"]
    for path, image in zip(pictures, drawn[0], strict=False):
        path.write_bytes(png(image))
    out = tmp_path / "figures"
    result = succeed("figures", pictures[0], "--sample", pictures[1], "--model", model, "--out", out)
    assert len(list(out.glob("*.png"))) == 9
    assert all(said(str(path)) in said(result.stderr) for path in out.glob("*.png"))


def test_unipens_writers_are_learned_from_all_the_way(
    tiny_mnist: Mnist,
    made_up_unipen: Unipen,
    tmp_path: Path,
    few_held_out: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A teacher and a network; the card tells the data and their licence, the evaluation figures on unseen writers."""
    monkeypatch.setattr("training.network.spiking.NetworkConfig", lambda **changed: SMALL)
    data = ("--data", made_up_unipen.both(tiny_mnist))
    short = ("--epochs", 1, "--limit", 16, "--unipen", 0.5, "--device", "cpu", *data)
    succeed("teacher", "--run", tmp_path / "teacher", *short)
    checkpoint = tmp_path / "teacher" / "teacher.pt"
    assert torch.load(checkpoint, weights_only=True)["settings"]["unipen"] == 0.5
    folder, model = tmp_path / "run", tmp_path / "model"
    result = succeed("train", "--run", folder, "--teacher", checkpoint, "--integer-epochs", 1, *short)
    assert "UNIPEN's" in result.stderr
    assert TrainingSettings.from_dict(json.loads((folder / "settings.json").read_text())).unipen == 0.5
    succeed("export", folder / "best.pt", "--model", model, "--max-steps", 2, *data)
    card = load_card(model)
    assert card.training["data"] == f"MNIST; {unipen.CREDIT}" and "CC BY 4.0" in unipen.CREDIT

    evaluated = ("evaluate", model, "--limit", 3, "--seeds", 2, "--validation", *data)
    found = json.loads(succeed(*evaluated, "--json").stdout)["unipen"]
    engine = OnnxruntimeEngine(model)
    digits, labels = unipen.pictures(made_up_unipen.folder / "unipen", "validation")
    expected = [stopping_accuracy(engine, digits, labels, seed)[0] for seed in range(2)]
    assert found["digits"]["accuracy"]["mean"] == np.mean(expected)
    assert (found["seeds"], found["digits"]["images"], found["non_digits"]["images"]) == (2, 2, 1)
    assert "UNIPEN'svalidationwriters:" in said(succeed(*evaluated).stdout)


@pytest.mark.parametrize(
    "command", [("train", "--integer-epochs", 1), ("teacher",)], ids=lambda given: given[0]
)
def test_where_unipen_is_absent_training_goes_on_and_says_so(
    command: tuple[object, ...],
    tiny_mnist: Mnist,
    tmp_path: Path,
    few_held_out: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.network.spiking.NetworkConfig", lambda **changed: SMALL)
    short = ("--epochs", 1, "--limit", 16, "--device", "cpu", "--data", tiny_mnist.folder)
    result = succeed(*command, "--run", tmp_path / "mixed", "--unipen", 0.5, *short)
    expected = f"found no UNIPEN data in {tiny_mnist.folder / 'unipen'}: learning from MNIST alone"
    assert said(expected) in said(result.stderr)
    result = succeed(*command, "--run", tmp_path / "alone", "--unipen", 0, *short)
    assert "UNIPEN" not in result.stderr
    checkpoints = [next((tmp_path / name).glob("*t*.pt")) for name in ("mixed", "alone")]
    mixed, alone = (torch.load(path, weights_only=True) for path in checkpoints)
    assert mixed["settings"] == alone["settings"] and mixed["settings"]["unipen"] == 0.0
    assert mixed["data_sha256"] == alone["data_sha256"]


@pytest.mark.parametrize("command", ["teacher", "compare"])
def test_what_one_process_does_is_refused_to_several(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would write the same files at once."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert_refused("expected one process, got 2: `torchrun` spreads `train` alone", command)


@pytest.mark.parametrize("command", ["train", "teacher"])
def test_a_precision_that_is_not_there(command: str, tmp_path: Path) -> None:
    assert_refused(
        "'float16' is not one of 'auto', 'float32', 'tf32', 'bfloat16'",
        command, "--run", tmp_path / "run", "--precision", "float16",
    )  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--epochs", "0"), ("train", "--bits", "9"), ("train", "--bits", "1"), ("train", "--limit", "0"),
        ("train", "--seed", "-1"), ("train", "--unipen", "-0.1"),
        ("teacher", "--unipen", "0.95"), ("teacher", "--epochs", "0"), ("export", "--max-steps", "65"),
        ("evaluate", "model", "--seeds", "0"), ("figures", "image", "--steps", "0"),
        ("evaluate", "model", "--synapse-noise", "-1"), ("evaluate", "model", "--stuck-at", "1.5"),
        ("evaluate", "model", "--draws", "0"), ("compare", "--epochs", "1"), ("compare", "--limit", "0"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_numbers_out_of_range(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # what should not be taken after all finds nothing to replace
    result = run(*arguments)
    assert result.exit_code == 2
    assert f"Invalidvaluefor'{arguments[-2]}'" in said(result.output)


def test_a_model_that_is_not_there(tiny_mnist: Mnist, drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_bytes(png(drawn[0][0]))
    message = f"expected a model card at {tmp_path / 'absent' / 'card.json'}"
    assert_refused(message, "evaluate", tmp_path / "absent", "--data", tiny_mnist.folder)
    assert_refused(
        message, "figures", tmp_path / "digit.png", "--model", tmp_path / "absent", "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["checkpoint", "model", "picture"])
def test_what_cannot_be_used_is_told_without_a_traceback(
    missing: str, exported: Exported, tiny_mnist: Mnist, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    arguments: dict[str, tuple[object, ...]] = {
        "checkpoint": (
            "export",
            tmp_path / "absent.pt",
            "--model",
            tmp_path / "out",
            "--data",
            tiny_mnist.folder,
        ),
        "model": ("evaluate", tmp_path / "absent", "--data", tiny_mnist.folder),
        "picture": (
            "figures",
            tmp_path / "broken.png",
            "--model",
            exported.folder,
            "--out",
            tmp_path / "out",
        ),
    }
    result = run(*arguments[missing])
    assert isinstance(result.exception, SystemExit)
    assert "expected" in result.stderr


def without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command where only the service is installed."""
    script = "import sys; sys.modules['torch'] = None; from training.commands.app import main; main()"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_needs_no_torch() -> None:
    for command in ("evaluate", "figures", "train"):
        result = without_torch(command, "--help")
        assert result.returncode == 0 and "Usage" in result.stdout, result.stderr


def test_missing_torch_is_said_in_one_line() -> None:
    result = without_torch("evaluate", "models/spiking-mha")
    assert result.returncode == 1
    assert result.stderr.startswith("expected torch, which training needs (make setup, or pip install -e")
    assert "Traceback" not in result.stderr
