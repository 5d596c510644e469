"""`export`, `add-arrays` and `recalibrate`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from spikehead.engine import native
from spikehead.model.card import ModelError, load_card

from tests.training.commands.conftest import assert_refused, said, succeed
from tests.training.conftest import Exported, Mnist, write_checkpoint


def test_a_model_is_calibrated_anew(
    exported: Exported, tiny_mnist: Mnist, few_held_out: int, tmp_path: Path
) -> None:
    model = tmp_path / "small"
    shutil.copytree(exported.folder, model)
    data = ("--data", tiny_mnist.folder)
    result = succeed("recalibrate", model, "--version", "1.1.0", *data)
    before, after = load_card(exported.folder), load_card(model)
    assert (before.version, after.version, after.graph) == ("1.0.0", "1.1.0", before.graph)
    assert after.accuracy["validation"]["images"] == few_held_out
    assert said(f"wrote {model}: validation") in said(result.stderr)
    message = "expected another version than 1.1.0, which small has"
    assert_refused(message, "recalibrate", model, "--version", "1.1.0", *data)


@pytest.mark.skipif(not native.available(), reason="needs the native engine")
def test_arrays_are_added_to_a_model(exported: Exported, tmp_path: Path) -> None:
    """By the command that the native engine names when it refuses a model without them."""
    model = tmp_path / "small"
    shutil.copytree(exported.folder, model)
    card = json.loads((model / "card.json").read_text())
    del card["arrays"]
    (model / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError) as refusal:
        native.NativeEngine(model)
    command = re.findall("`python -m training (.*?)`", str(refusal.value))[0].split()
    assert command == ["add-arrays", str(model)]
    result = succeed(*command)
    assert said(f"wrote {model / 'arrays.safetensors'}: both engines") in said(result.stderr)
    assert native.NativeEngine(model).card == exported.card


def test_a_checkpoint_that_is_not_there(tiny_mnist: Mnist, tmp_path: Path) -> None:
    absent = tmp_path / "absent.pt"
    assert_refused(str(absent), "export", absent, "--model", tmp_path / "model", "--data", tiny_mnist.folder)
    assert not (tmp_path / "model").exists()


def test_a_refused_export_says_where_the_engines_differ(
    tiny_mnist: Mnist, exported: Exported, tmp_path: Path, few_held_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*arguments: object) -> None:
        from training.export.graph import ExportError

        raise ExportError("expected the same tokens from torch and onnxruntime, got 1 differences")

    monkeypatch.setattr("training.export.artifact.check_parity", wrong)
    checkpoint = write_checkpoint(tmp_path / "best.pt", exported.network)
    assert_refused(
        "expected the same tokens from torch and onnxruntime",
        "export", checkpoint, "--model", tmp_path / "model", "--data", tiny_mnist.folder,
    )  # fmt: skip
    assert not (tmp_path / "model").exists()
