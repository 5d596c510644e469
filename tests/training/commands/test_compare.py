"""`compare`: the stored table, printed, drawn, or made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.commands.conftest import assert_refused, said, succeed
from tests.training.comparison.conftest import contents_of, row
from training.comparison.contenders import Budget, contender_of
from training.comparison.table import markdown
from training.fit.compute import choose_device
from training.fit.teacher import Teacher

STORED_TABLE = contents_of(row(title="one network"), row("spiking-mha", title="another", latency_native=None))


@pytest.fixture
def stored_table(tmp_path: Path) -> Path:
    """A folder of models with a table that was measured before."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "comparison.json").write_text(json.dumps(STORED_TABLE))
    return folder


def test_a_table_of_an_older_version_is_refused(stored_table: Path) -> None:
    path = stored_table / "comparison.json"
    older = json.loads(path.read_text())
    for line in older["rows"]:
        del line["handwriting"], line["accuracy_first"]
    path.write_text(json.dumps(older))
    assert_refused("without accuracy_first, handwriting: make it again", "compare", "--models", stored_table)


def test_the_stored_table_is_printed(stored_table: Path) -> None:
    text = said(succeed("compare", "--models", stored_table).stdout)
    assert "10000testimages,2026-01-02" in text
    for part in ("network", "robustness%", "onenetwork", "another", "98.77±0.04", "12,345"):
        assert part in text
    assert json.loads(succeed("compare", "--models", stored_table, "--json").stdout) == STORED_TABLE
    assert {path.name for path in stored_table.iterdir()} == {"comparison.json"}  # nothing is made anew


def test_the_stored_table_as_a_plot(stored_table: Path, tmp_path: Path) -> None:
    for name, begin in (("plots/plot.png", b"\x89PNG"), ("plots/plot.svg", b"<?xml")):
        succeed("compare", "--models", stored_table, "--figure", tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(begin)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    assert_refused(
        f"expected a stored table at {tmp_path / 'comparison.json'}: make it with --retrain",
        "compare", "--models", tmp_path,
    )  # fmt: skip


def test_the_comparison_stays_mnist_alone(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pt"
    torch.save({"settings": {"unipen": 0.3}, "network": Teacher().state_dict()}, teacher)
    message = f"expected a teacher that learned from MNIST alone, as all contenders do, got {teacher}"
    runs = tmp_path / "runs"
    assert_refused(message, "compare", "--contender", "spiking-mha", "--teacher", teacher, "--runs", runs)
    assert not runs.exists()


def test_a_comparison_with_a_teacher_that_is_not_there(tmp_path: Path) -> None:
    absent = tmp_path / "absent.pt"
    assert_refused(
        f"expected a teacher's checkpoint (see `teacher`), found no file {absent}",
        "compare", "--models", tmp_path, "--retrain", "--teacher", absent,
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--retrain", "--measure"])
def test_a_table_is_made_again(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def make(*arguments: Any) -> dict[str, Any]:
        *most, report, version = arguments
        calls.append((*most, version))
        report("glm: measuring")
        return STORED_TABLE

    (tmp_path / "teacher.pt").touch()
    monkeypatch.setattr(
        "training.comparison.measure.retrain"
        if flag == "--retrain"
        else "training.comparison.measure.measure",
        make,
    )
    result = succeed(
        "compare", flag, "--models", tmp_path, "--runs", tmp_path / "runs", "--epochs", 3, "--limit", 7,
        "--batch-size", 5, "--elastic", 0.75, "--version", "1.2.3",
        "--teacher", tmp_path / "teacher.pt", "--device", "cpu", "--data", "here",
    )  # fmt: skip
    budget = Budget(epochs=3, teacher=tmp_path / "teacher.pt", limit=7, batch_size=5, elastic=0.75)
    where = (choose_device("cpu"),) if flag == "--retrain" else ()
    assert calls == [(tmp_path, tmp_path / "runs", budget, *where, Path("here"), "1.2.3")]
    assert "glm:measuring" in said(result.stderr) and "onenetwork" in said(result.stdout)
    assert markdown(STORED_TABLE) in (tmp_path / "README.md").read_text()


def test_one_contender_is_trained_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So that several machines, or processes of a GPU, share the work. It is exported, for `evaluate`, not measured."""
    calls: list[Any] = []
    monkeypatch.setattr("training.comparison.train.train", lambda *arguments: calls.append(arguments[:-1]))
    monkeypatch.setattr("training.comparison.train.write_model", lambda *arguments: calls.append(arguments))
    succeed(
        "compare", "--contender", "lenet5", "--runs", tmp_path / "runs", "--epochs", 3, "--limit", 7,
        "--device", "cpu", "--data", "here",
    )  # fmt: skip
    budget = Budget(epochs=3, limit=7)
    run = contender_of("lenet5"), tmp_path / "runs" / "lenet5"
    assert calls == [(*run, budget, choose_device("cpu"), Path("here")), (*run, Path("here"), None)]
    assert_refused(
        "expected a contender among spiking-mha, no-attention, glm, ann-twin, lenet5, mnist-cnn, got 'lenet'",
        "compare", "--contender", "lenet",
    )  # fmt: skip


@pytest.mark.parametrize("more", [(), ("--contender", "glm")])
def test_a_version_of_what_is_not_exported_is_refused(more: tuple[str, ...]) -> None:
    expected = "expected --retrain or --measure with --version: nothing else exports"
    assert_refused(expected, "compare", "--version", "1.2.3", *more)


def test_a_contender_is_not_measured_at_once(tmp_path: Path) -> None:
    for other in ("--retrain", "--measure", "--json"):
        assert_refused(
            "expected --contender without --retrain, --measure, --figure or --json",
            "compare", "--contender", "lenet5", other, "--runs", tmp_path,
        )  # fmt: skip
