"""`train`: its options, models to begin with, stopping and going on, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spikehead.model.card import load_card

from tests.training.commands.conftest import Drawn, assert_refused, begun, run, said, succeed
from tests.training.conftest import SMALL, Exported, Mnist, make_network, write_checkpoint
from training.data.mnist import Variation, _torchvision_mnist
from training.export.artifact import export
from training.fit.compute import choose_device, choose_precision
from training.fit.train import Trainer, TrainingSettings, load_network
from training.network.spiking import NetworkConfig


def test_defaults_of_train_are_those_of_the_settings(captured: dict[str, Any]) -> None:
    """But for the precision: it is what the machine multiplies in."""
    settings, folder, device, data, compiled, network = begun(captured, "train")
    assert settings == TrainingSettings(precision=choose_precision("auto", device))
    assert device == choose_device("auto")
    assert (folder, data, compiled, network) == (Path("runs/spiking-mha"), None, False, None)


def test_every_option_of_train_arrives(captured: dict[str, Any], tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pt"
    teacher.touch()
    options = {
        "run": tmp_path, "epochs": 9, "integer-epochs": 3, "time-steps": 5, "final-time-steps": 7,
        "batch-size": 11, "learning-rate": 0.5, "activity-target": 0.25, "activity-price": 4.5, "bits": 4,
        "variation": 0.5, "elastic": 0.75, "focus": 0.75, "final-variation": 0.25, "blocks": 3, "mlp-ratio": 4,
        "rate-slope": 3, "teacher": teacher, "hint": 0.75, "seed": 13, "limit": 17, "held-out": 19, "device": "cpu",
        "precision": "bfloat16", "data": tmp_path / "data",
    }  # fmt: skip
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    settings, folder, device, data, compiled, _ = begun(
        captured, "train", "--no-attention", "--no-neighbours", "--compile", "--stem", 16, 24, *given
    )
    assert settings == TrainingSettings(
        epochs=9,
        integer_epochs=3,
        time_steps=5,
        final_time_steps=7,
        batch_size=11,
        learning_rate=0.5,
        activity_target=0.25,
        activity_price=4.5,
        variation=Variation(elastic_pixels=0.75).times(0.5),
        final_variation=0.25,
        focus=0.75,
        teacher=str(teacher),
        hint=0.75,
        precision="bfloat16",
        seed=13,
        limit=17,
        held_out=19,
        network=NetworkConfig(
            stem=(16, 24),
            blocks=3,
            mlp_ratio=4,
            rate_slope=3,
            bits=4,
            attention=False,
            neighbours=False,
        ),
    )
    assert (folder, device.type, data, compiled) == (tmp_path, "cpu", tmp_path / "data", True)


def test_attention_from_a_block_on_is_attention(captured: dict[str, Any]) -> None:
    settings, *_ = begun(captured, "train", "--attention-from", 2)
    assert settings.network == NetworkConfig(attention_from=2)
    late = ("train", "--attention-from")
    assert_refused("--no-attention, got both", *late, 2, "--no-attention")
    assert_refused("expected attention from a block between 1 and 2, got 3", *late, 3)


@pytest.mark.parametrize(
    ("options", "attention", "first"),
    [
        ((), True, 2),
        (("--attention",), True, 1),
        (("--no-attention",), False, 1),
        (("--attention-from", 1), True, 1),
    ],
    ids=["as the model", "everywhere", "nowhere", "from the first block"],
)
def test_attention_that_a_run_begins_with(
    options: tuple[object, ...], attention: bool, first: int,
    captured: dict[str, Any], drawn: Drawn, tiny_mnist: Mnist, tmp_path: Path,
) -> None:  # fmt: skip
    late = NetworkConfig(stem=(4, 6), channels=8, blocks=2, heads=2, attention_from=2)
    checkpoint = write_checkpoint(tmp_path / "best.pt", make_network(late))
    export(checkpoint, tmp_path / "late", drawn, drawn[0][:2], max_steps=2, seeds=1)
    settings, *_ = begun(
        captured, "train", "--start", tmp_path / "late", *options, "--data", tiny_mnist.folder
    )
    assert settings.network == replace(late, attention=attention, attention_from=first)


def test_a_run_begins_with_a_model(
    captured: dict[str, Any], exported: Exported, tiny_mnist: Mnist, tmp_path: Path
) -> None:
    """Its shape is the model's, and it is not allowed to be busier at first."""
    given = ("--start", exported.folder, "--activity-target", 0.03, "--data", tiny_mnist.folder)
    settings, *_, network = begun(captured, "train", *given)
    assert (settings.start, settings.network) == (str(exported.folder), exported.network.config)
    assert settings.activity_start == settings.activity_target == 0.03
    assert network.config == exported.network.config


def test_a_run_begins_with_a_model_that_grows(
    captured: dict[str, Any], exported: Exported, tiny_mnist: Mnist, tmp_path: Path
) -> None:
    larger = ("--stem", 4, 6, "--blocks", 2, "--data", tiny_mnist.folder)
    settings, *_, network = begun(captured, "train", "--start", exported.folder, *larger)
    assert settings.network == network.config == replace(exported.network.config, stem=(4, 6), blocks=2)


def test_a_card_tells_with_which_model_training_began(
    exported: Exported, tiny_mnist: Mnist, tmp_path: Path, few_held_out: int
) -> None:
    data = ("--data", tiny_mnist.folder)
    given = ("--run", tmp_path, "--limit", 32, "--epochs", 2, "--integer-epochs", 1, *data)
    succeed("train", "--start", exported.folder, *given)
    more = ("--model", tmp_path / "model", "--max-steps", 2, "--reset-interval", 1)
    succeed("export", tmp_path / "best.pt", *more, *data)
    card = load_card(tmp_path / "model")
    assert (card.max_steps, card.reset_interval) == (2, 1)
    started_from = card.training["started_from"]
    assert (started_from["name"], started_from["sha256"]) == ("small", exported.card.graph.sha256)
    assert started_from["training"] == exported.card.training


def test_a_model_to_begin_with_that_is_not_there(tiny_mnist: Mnist, tmp_path: Path) -> None:
    assert_refused(
        "ModelError", "train", "--start", tmp_path / "nothing", "--run", tmp_path, "--data", tiny_mnist.folder
    )


SHORT = ("--epochs", 2, "--integer-epochs", 1, "--limit", 32, "--batch-size", 16, "--device", "cpu")


@pytest.mark.usefixtures("small")
def test_a_stopped_run_is_gone_on_with(
    tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the second epoch; resumed, it has the weights of a run that nobody stopped."""
    data = ("--data", tiny_mnist.folder)
    succeed("train", "--run", tmp_path / "whole", *SHORT, *data)
    train_epoch = Trainer.train_epoch

    def interrupted(self: Trainer, progress: Any) -> Any:
        if self.epoch == 1:
            raise KeyboardInterrupt
        return train_epoch(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", interrupted)
        result = run("train", "--run", tmp_path / "run", *SHORT, *data)
    assert result.exit_code == 130
    assert said(f"stopped in epoch 2; go on with: train --run {tmp_path / 'run'} --resume") in said(
        result.stderr
    )
    succeed("train", "--run", tmp_path / "run", "--resume", "--epochs", 2, "--integer-epochs", 1, *data)
    whole, resumed = (load_network(tmp_path / name / "last.pt") for name in ("whole", "run"))
    assert resumed[2]["epoch"] == 2 and resumed[1] == whole[1]
    for name, values in whole[0].state_dict().items():
        assert np.array_equal(values.numpy(), resumed[0].state_dict()[name].numpy()), name


@pytest.mark.usefixtures("small")
def test_a_run_stopped_in_its_first_epoch_leaves_a_checkpoint(
    tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Trainer, progress: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_epoch", interrupted)
    result = run("train", "--run", tmp_path, *SHORT, "--data", tiny_mnist.folder)
    assert result.exit_code == 130 and "stoppedinepoch1;" in said(result.stderr)
    assert load_network(tmp_path / "last.pt")[2]["epoch"] == 0


def stored_run(folder: Path, epochs: int = 2, integer_epochs: int = 1) -> TrainingSettings:
    """A run folder with nothing but its settings."""
    settings = TrainingSettings(
        epochs=epochs, integer_epochs=integer_epochs, learning_rate=0.5, network=SMALL
    )
    (folder / "settings.json").write_text(json.dumps(settings.as_dict()))
    return settings


def test_a_resumed_run_has_the_settings_that_it_began_with(captured: dict[str, Any], tmp_path: Path) -> None:
    settings = stored_run(tmp_path, epochs=12, integer_epochs=3)
    assert begun(captured, "train", "--run", tmp_path, "--resume", "--epochs", 12)[0] == settings


def test_resuming_as_the_message_says_keeps_the_number_of_epochs(
    captured: dict[str, Any], tmp_path: Path
) -> None:
    settings = stored_run(tmp_path)
    assert begun(captured, "train", "--run", tmp_path, "--resume")[0] == settings


def test_a_short_run_is_resumed_without_naming_its_integer_epochs(
    captured: dict[str, Any], tmp_path: Path
) -> None:
    settings = stored_run(tmp_path)
    assert begun(captured, "train", "--run", tmp_path, "--resume", "--epochs", 2)[0] == settings


def test_a_run_is_resumed_where_the_model_that_it_began_with_is_gone(
    captured: dict[str, Any], tmp_path: Path
) -> None:
    settings = stored_run(tmp_path)
    gone = ("--start", tmp_path / "gone")
    assert begun(captured, "train", "--run", tmp_path, "--resume", *gone)[0] == settings


def test_teachers_have_learned_from_what_might_be_held_out(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pt"
    teacher.touch()
    given = ("--run", tmp_path / "run", "--teacher", teacher, "--held-out", 10_001)
    assert_refused("expected at most 10,000 images held out, because teachers have learned", "train", *given)


@pytest.mark.usefixtures("small")
def test_a_resumed_run_still_says_how_it_was_begun(
    tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--data", tiny_mnist.folder)
    monkeypatch.setattr("sys.argv", ["training", "train", "--limit", "32"])
    succeed("train", "--run", tmp_path, *SHORT, *data)
    assert (tmp_path / "command.txt").read_text() == "python -m training train --limit 32\n"
    monkeypatch.setattr("sys.argv", ["training", "train", "--resume"])
    succeed("train", "--run", tmp_path, "--resume", "--epochs", 2, "--integer-epochs", 1, *data)
    assert "python -m training train --limit 32\n" in (tmp_path / "command.txt").read_text()


@pytest.mark.usefixtures("small")
def test_a_new_run_does_not_mix_with_an_old_one(
    tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --resume, a folder that holds a run is refused, and stays as it is."""
    data = ("--data", tiny_mnist.folder)
    succeed("train", "--run", tmp_path, *SHORT, *data)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert_refused(str(tmp_path), "train", "--run", tmp_path, *SHORT, "--seed", 2, *data)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_resume_without_a_run(tmp_path: Path) -> None:
    assert_refused(
        f"expected a run to resume in {tmp_path}, found no settings.json there",
        "train",
        "--run",
        tmp_path,
        "--resume",
    )
    assert list(tmp_path.iterdir()) == []


def test_more_integer_epochs_than_epochs(tmp_path: Path) -> None:
    assert_refused(
        "expected at most 3 integer epochs, got 4",
        "train", "--run", tmp_path / "run", "--epochs", 3, "--integer-epochs", 4,
    )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_is_not_there(tmp_path: Path) -> None:
    absent = tmp_path / "absent.pt"
    assert_refused(
        f"expected a teacher's checkpoint (see `teacher`), found no file {absent}",
        "train", "--run", tmp_path / "run", "--teacher", absent,
    )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_hints_that_nobody_gives(tmp_path: Path) -> None:
    assert_refused(
        "expected a teacher to take hints from, got --hint without --teacher",
        "train", "--run", tmp_path / "run", "--hint", 1,
    )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_data_that_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    monkeypatch.setattr(_torchvision_mnist(), "mirrors", [(tmp_path / "no mirror").as_uri() + "/"])
    assert_refused(
        f"expected MNIST under {tmp_path / 'MNIST' / 'raw'} (set SPIKEHEAD_DATA)",
        "train", "--run", tmp_path / "run", "--data", tmp_path,
    )  # fmt: skip
