"""The commands: their defaults, the way from data to figures, and what they say when something is missing."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from spikehead.engine import native
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import ModelError, load_card
from typer.testing import CliRunner, Result

from tests.service.picture_files import png
from tests.training.comparison.test_compare import contents_of, row
from tests.training.conftest import SMALL, Exported, Mnist, Unipen, make_network, write_checkpoint
from training.commands.app import app
from training.comparison.compare import Budget, contender_of, markdown
from training.data import unipen
from training.data.distortions import DISTORTIONS
from training.data.mnist import Variation, _torchvision_mnist
from training.export.artifact import export
from training.fit.compute import choose_device, choose_precision
from training.fit.loop import FitSettings
from training.fit.teacher import Teacher
from training.fit.train import Trainer, TrainingSettings, load_network
from training.measure.evaluate import stopping_accuracy
from training.network.spiking import NetworkConfig

Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> Result:
    result = run(*arguments)
    if result.exception is not None:
        raise AssertionError(result.output) from result.exception
    return result


def said(text: str) -> str:
    """Without colours, frames and line breaks, which depend on the terminal. No spaces: a path may be broken."""
    return re.sub(r"[\s│╭╮╰╯─]", "", re.sub(r"\x1b\[[0-9;]*m", "", text))


def assert_refused(message: str, *arguments: object) -> None:
    """It fails, and says so: on the terminal where the usage was wrong, else in the error that ends it."""
    result = run(*arguments)
    assert result.exit_code != 0
    assert said(message) in said(result.output) + said(str(result.exception))


# Settings


class Stopped(BaseException):
    """Raised where training would begin."""


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The arguments with which `train` or `teacher` would begin, in a folder that has no runs yet."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}

    def begin(*arguments: Any) -> None:
        found["arguments"] = arguments
        raise Stopped

    monkeypatch.setattr("training.fit.train.Trainer", begin)
    monkeypatch.setattr("training.fit.teacher.train_teacher", begin)
    return found


def begun(captured: dict[str, Any], *arguments: object) -> Sequence[Any]:
    """What the command would begin with."""
    with pytest.raises(Stopped):
        run(*arguments)
    return captured["arguments"]  # type: ignore[no-any-return]


def test_defaults_of_train_are_those_of_the_settings(captured: dict[str, Any]) -> None:
    """But for the precision: it is what the machine multiplies in."""
    settings, folder, device, data, compiled, network = begun(captured, "train")
    assert settings == TrainingSettings(precision=choose_precision("auto", device))
    assert device == choose_device("auto")
    assert (folder, data, compiled, network) == (Path("runs/spiking-mha"), None, False, None)


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


def test_help_names_every_command() -> None:
    text = succeed("--help").output
    for command in ("train", "teacher", "export", "evaluate", "compare", "figures"):
        assert re.search(rf"\b{command}\b", text)
        assert succeed(command, "--help").exit_code == 0


# From data to figures


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


def test_the_retina_at_work_is_drawn(drawn: Drawn, tmp_path: Path) -> None:
    picture, out = tmp_path / "one.png", tmp_path / "pictures" / "retina.png"
    picture.write_bytes(png(drawn[0][0]))
    assert said(str(out)) in said(succeed("retina", picture, "--out", out).stderr)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert_refused("expected a picture, found no file", "retina", tmp_path / "two.png")


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


# Evaluation under distortions and with imperfect synapses


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


# The comparison


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
        "training.comparison.compare.retrain"
        if flag == "--retrain"
        else "training.comparison.compare.measure",
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
    monkeypatch.setattr("training.comparison.compare.train", lambda *arguments: calls.append(arguments[:-1]))
    monkeypatch.setattr("training.comparison.compare.write_model", lambda *arguments: calls.append(arguments))
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


@pytest.mark.parametrize("command", ["teacher", "compare"])
def test_what_one_process_does_is_refused_to_several(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would write the same files at once."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert_refused("expected one process, got 2: `torchrun` spreads `train` alone", command)


@pytest.mark.parametrize("more", [(), ("--contender", "glm")])
def test_a_version_of_what_is_not_exported_is_refused(more: tuple[str, ...]) -> None:
    expected = "expected --retrain or --measure with --version: nothing else exports"
    assert_refused(expected, "compare", "--version", "1.2.3", *more)


# Stopping and going on


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """`train` makes the small network."""
    monkeypatch.setattr("training.network.spiking.NetworkConfig", lambda **changed: SMALL)


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


# What is missing or wrong


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


def test_a_teacher_to_begin_with_that_is_not_there(tmp_path: Path) -> None:
    absent = tmp_path / "absent.pt"
    assert_refused(f"begin with, found no file {absent}", "teacher", "--start", absent, "--run", tmp_path)


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


def test_a_contender_is_not_measured_at_once(tmp_path: Path) -> None:
    for other in ("--retrain", "--measure", "--json"):
        assert_refused(
            "expected --contender without --retrain, --measure, --figure or --json",
            "compare", "--contender", "lenet5", other, "--runs", tmp_path,
        )  # fmt: skip


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


def test_data_that_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    monkeypatch.setattr(_torchvision_mnist(), "mirrors", [(tmp_path / "no mirror").as_uri() + "/"])
    assert_refused(
        f"expected MNIST under {tmp_path / 'MNIST' / 'raw'} (set SPIKEHEAD_DATA)",
        "train", "--run", tmp_path / "run", "--data", tmp_path,
    )  # fmt: skip


def test_a_checkpoint_that_is_not_there(tiny_mnist: Mnist, tmp_path: Path) -> None:
    absent = tmp_path / "absent.pt"
    assert_refused(str(absent), "export", absent, "--model", tmp_path / "model", "--data", tiny_mnist.folder)
    assert not (tmp_path / "model").exists()


def test_a_model_that_is_not_there(tiny_mnist: Mnist, drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_bytes(png(drawn[0][0]))
    message = f"expected a model card at {tmp_path / 'absent' / 'card.json'}"
    assert_refused(message, "evaluate", tmp_path / "absent", "--data", tiny_mnist.folder)
    assert_refused(
        message, "figures", tmp_path / "digit.png", "--model", tmp_path / "absent", "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_a_picture_that_is_not_there(exported: Exported, drawn: Drawn, tmp_path: Path) -> None:
    picture, absent = tmp_path / "digit.png", tmp_path / "absent.png"
    picture.write_bytes(png(drawn[0][0]))
    rest = ("--model", exported.folder, "--out", tmp_path / "out")
    message = f"expected a picture, found no file {absent}"
    assert_refused(message, "figures", absent, *rest)
    assert_refused(message, "figures", picture, "--sample", absent, *rest)
    assert not (tmp_path / "out").exists()


def test_more_steps_than_the_model_has(exported: Exported, drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_bytes(png(drawn[0][0]))
    assert_refused(
        "expected at most 4 steps, got 5",
        "figures", tmp_path / "digit.png", "--model", exported.folder, "--steps", 5, "--out", tmp_path / "out",
    )  # fmt: skip


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
