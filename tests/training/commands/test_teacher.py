"""`teacher`: its options, what is learned from it, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.commands.conftest import assert_refused, begun, said, succeed
from tests.training.conftest import SMALL, Mnist
from training.data.mnist import Variation
from training.fit.compute import choose_precision
from training.fit.loop import FitSettings
from training.fit.train import load_network


def test_defaults_of_teacher_are_those_of_the_settings(captured: dict[str, Any]) -> None:
    settings, folder, device, data, *_ = begun(captured, "teacher")
    assert settings == FitSettings(precision=choose_precision("auto", device))
    assert (folder, data) == (Path("runs/teacher"), None)


def test_every_option_of_a_new_teacher_arrives(captured: dict[str, Any], tmp_path: Path) -> None:
    options = {
        "run": tmp_path, "epochs": 9, "final-epochs": 3, "learning-rate": 0.5, "width": 2, "members": 3,
        "batch-size": 11, "variation": 0.5, "elastic": 0.75, "seed": 13, "limit": 17, "device": "cpu",
        "precision": "bfloat16", "data": tmp_path / "data",
    }  # fmt: skip
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    settings, folder, device, data, _, _, width, members = begun(captured, "teacher", *given)
    assert settings == FitSettings(
        epochs=9,
        final_epochs=3,
        learning_rate=0.5,
        batch_size=11,
        variation=Variation(elastic_pixels=0.75).times(0.5),
        seed=13,
        limit=17,
        precision="bfloat16",
    )
    assert (folder, device.type, data, width, members) == (tmp_path, "cpu", tmp_path / "data", 2, 3)


def test_every_option_of_teacher_arrives(captured: dict[str, Any], tmp_path: Path) -> None:
    start = tmp_path / "older.pt"
    start.touch()
    given = ("--run", tmp_path, "--epochs", 3, "--seed", 5, "--limit", 7, "--device", "cpu", "--data", "here")
    more = (
        "--precision", "bfloat16", "--learning-rate", 0.25, "--start", start, "--variation", 0.5, "--elastic", 0.75,
    )  # fmt: skip
    settings, folder, device, data, *_ = begun(captured, "teacher", *given, *more)
    assert settings == FitSettings(
        epochs=3,
        seed=5,
        limit=7,
        precision="bfloat16",
        learning_rate=0.25,
        start=str(start),
        variation=Variation(elastic_pixels=0.75).times(0.5),
    )
    assert (folder, device.type, data) == (tmp_path, "cpu", Path("here"))


def test_a_teacher_is_trained_and_learned_from(
    tiny_mnist: Mnist, tmp_path: Path, few_held_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--device", "cpu", "--data", tiny_mnist.folder)
    result = succeed("teacher", "--run", tmp_path / "teacher", "--epochs", 1, "--limit", 16, *data)
    checkpoint = tmp_path / "teacher" / "teacher.pt"
    assert said(f"wrote {checkpoint}") in said(result.stderr)
    monkeypatch.setattr("training.network.spiking.NetworkConfig", lambda **changed: SMALL)
    short = ("--epochs", 1, "--integer-epochs", 1, "--limit", 16)
    succeed("train", "--run", tmp_path / "run", "--teacher", checkpoint, *short, *data)
    assert load_network(tmp_path / "run" / "best.pt")[1].teacher == str(checkpoint)


def test_a_teacher_to_begin_with_that_is_not_there(tmp_path: Path) -> None:
    absent = tmp_path / "absent.pt"
    assert_refused(f"begin with, found no file {absent}", "teacher", "--start", absent, "--run", tmp_path)


def test_a_teacher_to_begin_with_has_its_size(tmp_path: Path) -> None:
    (tmp_path / "teacher.pt").touch()
    for size in ("--width", "--members"):
        assert_refused(
            "expected --start alone: that teacher has its width and members already",
            "teacher", "--run", tmp_path / "run", "--start", tmp_path / "teacher.pt", size, 2,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_more_final_epochs_than_epochs(tmp_path: Path) -> None:
    assert_refused(
        "expected at most 3 final epochs, got 4",
        "teacher", "--run", tmp_path / "run", "--epochs", 3, "--final-epochs", 4,
    )  # fmt: skip
