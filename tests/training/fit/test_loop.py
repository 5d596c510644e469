"""Fitting conventional networks: the loss by hand, and short runs of a network of one layer."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.conftest import Mnist, Unipen
from training.data import mnist, unipen
from training.fit.loop import FitSettings, accuracy, distance, fit, load_fitted

CPU = torch.device("cpu")
QUICK = FitSettings(epochs=2, batch_size=16, limit=48)


class Linear(nn.Module):
    """Pixels to classes, at once. Notes how many images it was shown while it learned."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.classes = nn.Linear(784, 10)
        self.shown: list[int] = []

    def forward(self, intensities: Tensor) -> Tensor:
        if self.training:
            self.shown.append(len(intensities))
        logits: Tensor = self.classes(intensities.flatten(1))
        return logits


class Ignorant(nn.Module):
    """The same logits [10] for every image."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, intensities: Tensor) -> Tensor:
        return self.logits.expand(len(intensities), 10)


def run(
    network: nn.Module, settings: FitSettings, folder: Path, mnist: Mnist, teacher: nn.Module | None = None
) -> list[tuple[int, float, float]]:
    """Fit a network; what each epoch reported."""
    reports: list[tuple[int, float, float]] = []
    result = fit(
        network,
        settings,
        folder / "fitted.pt",
        CPU,
        mnist.folder,
        lambda *figures: None,
        lambda *report: reports.append(report),
        teacher,
    )
    assert result == reports[-1][2]
    return reports


# Distance from a teacher


def test_the_same_answers_are_at_no_distance() -> None:
    logits = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(0))
    assert distance(logits, logits + 5, 2.0).numpy() == pytest.approx(np.zeros((3, 4)), abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_distance_by_hand(temperature: float) -> None:
    """Softened, the teacher says 0.55 and nine times 0.05; a student that knows nothing is log 10 - entropy away."""
    taught = torch.zeros(2, 3, 10)
    taught[1, 2, 0] = temperature * math.log(11.0)
    entropy = -(0.55 * math.log(0.55) + 9 * 0.05 * math.log(0.05))
    expected = np.zeros((2, 3))
    expected[1, 2] = temperature**2 * (math.log(10) - entropy)
    assert distance(torch.zeros(2, 3, 10), taught, temperature).numpy() == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )


# Runs


def test_a_run_leaves_a_checkpoint_that_can_be_loaded(
    tiny_mnist: Mnist, tmp_path: Path, few_held_out: int
) -> None:
    network = Linear()
    reports = run(network, QUICK, tmp_path / "run", tiny_mnist)
    assert [report[0] for report in reports] == [1, 2]
    assert network.shown == [16] * 6
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"fitted.pt"}
    loaded = Linear(seed=1)
    contents = load_fitted(loaded, tmp_path / "run" / "fitted.pt")
    assert contents == {
        "settings": dataclasses.asdict(QUICK),
        "epoch": 2,
        "validation_accuracy": reports[-1][2],
        "unipen_accuracy": None,
        "data_sha256": mnist.sha256(tiny_mnist.images[:48], tiny_mnist.labels[:48]),
    }
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert accuracy(loaded, tiny_mnist.images[-50:-2], tiny_mnist.labels[-50:-2]) == reports[-1][2]


def test_a_run_learns_from_unipens_writers_too(
    tiny_mnist: Mnist, made_up_unipen: Unipen, tmp_path: Path, few_held_out: int
) -> None:
    """A quarter of the images shown: 16 beside 48; judged by those that it has not seen as well."""
    network = Linear()
    settings = dataclasses.replace(QUICK, unipen=0.25)
    run(
        network,
        settings,
        tmp_path / "run",
        dataclasses.replace(tiny_mnist, folder=made_up_unipen.both(tiny_mnist)),
    )
    assert network.shown == [16] * 8
    loaded = Linear(seed=1)
    contents = load_fitted(loaded, tmp_path / "run" / "fitted.pt")
    pictures = unipen.pictures(made_up_unipen.folder / "unipen", "validation")
    assert contents["unipen_accuracy"] == accuracy(loaded, *pictures)
    images, labels = mnist.with_unipen(
        tiny_mnist.images[:48], tiny_mnist.labels[:48], 0.25, made_up_unipen.folder
    )
    assert contents["data_sha256"] == mnist.sha256(images, labels)


def test_what_is_kept_is_an_average(tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    """Not the weights of the last batch, unless an average over one batch is asked for."""
    settings = dataclasses.replace(QUICK, epochs=1)
    for averaging, alike in ((0.998, False), (0.0, True)):
        network, loaded = Linear(), Linear(seed=1)
        run(network, dataclasses.replace(settings, averaging=averaging), tmp_path, tiny_mnist)
        load_fitted(loaded, tmp_path / "fitted.pt")
        assert torch.allclose(network.classes.weight, loaded.classes.weight, rtol=1e-5, atol=0) is alike
        assert torch.allclose(network.classes.weight, loaded.classes.weight, atol=0.05)


def test_a_run_follows_from_its_seed(tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    def fitted(seed: int) -> Tensor:
        network = Linear()
        run(network, dataclasses.replace(QUICK, epochs=1, seed=seed), tmp_path, tiny_mnist)
        return network.classes.weight

    once = fitted(1)
    assert torch.equal(once, fitted(1))
    assert not torch.equal(once, fitted(2))


def test_a_network_learns(tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    settings = dataclasses.replace(QUICK, epochs=6, learning_rate=0.01)
    reports = run(Linear(), settings, tmp_path, tiny_mnist)
    assert reports[-1][1] < 0.5 * reports[0][1]
    assert reports[-1][2] > 0.5


def test_handwriting_varies_less_in_the_last_epochs(
    tiny_mnist: Mnist, tmp_path: Path, few_held_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[mnist.Variation] = []

    def vary(images: Tensor, variation: mnist.Variation, generator: torch.Generator) -> Tensor:
        asked.append(variation)
        return images

    monkeypatch.setattr("training.data.mnist.vary", vary)
    settings = dataclasses.replace(QUICK, epochs=3, limit=16, final_epochs=1, final_variation=0.25)
    run(Linear(), settings, tmp_path, tiny_mnist)
    assert asked == [settings.variation] * 2 + [settings.variation.times(0.25)]


def test_every_member_of_an_ensemble_learns_from_the_labels(
    tiny_mnist: Mnist, tmp_path: Path, few_held_out: int
) -> None:
    """What answers twice as often, in training, learns what it would have learned with one answer each."""

    class Twice(Linear):
        def forward(self, intensities: Tensor) -> Tensor:
            logits = super().forward(intensities)
            return torch.cat([logits, logits]) if self.training else logits

    once, twice = Linear(), Twice()
    assert run(once, QUICK, tmp_path, tiny_mnist)[-1][2] == run(twice, QUICK, tmp_path, tiny_mnist)[-1][2]
    assert torch.allclose(once.classes.weight, twice.classes.weight, atol=1e-5)


def test_products_may_be_in_bfloat16(tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    seen: list[torch.dtype] = []
    network = Linear()
    network.classes.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    reports = run(network, dataclasses.replace(QUICK, epochs=1, precision="bfloat16"), tmp_path, tiny_mnist)
    assert seen == [torch.bfloat16] * 3 + [torch.float32]  # three batches; then the average is validated
    assert network.classes.weight.dtype == torch.float32
    assert math.isfinite(reports[0][1])


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_loss_by_hand(share: float, tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    """Nothing is known: log 10 from every label. The teacher says 0.55 and nine times 0.05, softened by 2."""
    taught = torch.zeros(10)
    taught[0] = 2 * math.log(11.0)
    entropy = -(0.55 * math.log(0.55) + 9 * 0.05 * math.log(0.05))
    settings = dataclasses.replace(QUICK, epochs=1, learning_rate=0.0, weight_decay=0.0, distillation=share)
    alone = run(Ignorant(torch.zeros(10)), settings, tmp_path, tiny_mnist)
    assert alone[0][1] == pytest.approx(math.log(10), rel=1e-5)
    student = run(Ignorant(torch.zeros(10)), settings, tmp_path, tiny_mnist, Ignorant(taught))
    expected = (1 - share) * math.log(10) + share * 4 * (math.log(10) - entropy)
    assert student[0][1] == pytest.approx(expected, rel=1e-5)


def test_a_teacher_is_followed_where_the_labels_have_no_share(
    tiny_mnist: Mnist, tmp_path: Path, few_held_out: int
) -> None:
    """It says 3, always: so does its student. The teacher itself learns nothing."""
    taught = torch.zeros(10)
    taught[3] = 8.0
    teacher = Ignorant(taught.clone())
    settings = dataclasses.replace(QUICK, epochs=6, learning_rate=0.1, weight_decay=0.0, distillation=1.0)
    student = Ignorant(torch.zeros(10))
    run(student, settings, tmp_path, tiny_mnist, teacher)
    assert int(student.logits.argmax()) == 3
    assert torch.equal(teacher.logits, taught) and teacher.logits.grad is None


def test_a_run_of_fewer_batches_than_its_schedule_has(
    tiny_mnist: Mnist, tmp_path: Path, few_held_out: int
) -> None:
    settings = dataclasses.replace(QUICK, epochs=10, batch_size=4, limit=4)
    assert len(run(Linear(), settings, tmp_path, tiny_mnist)) == 10


# Accuracy


class Brightest(nn.Module):
    """Says how many of the first ten pixels of row 14 come before the brightest."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.seen: list[int] = []

    def forward(self, probability: Tensor) -> Tensor:
        self.seen.append(len(probability))
        return self.gain * probability[:, 0, 14, 4:14]


def test_accuracy_of_a_network_worked_out_by_hand() -> None:
    """600 images, in two batches, of one bright column each; every third is labelled wrongly."""
    columns = np.arange(600) % 10
    images = np.zeros((600, 28, 28), np.uint8)
    images[np.arange(600), :, 4 + columns] = 255
    labels = np.where(np.arange(600) % 3 == 0, (columns + 1) % 10, columns)
    assert mnist.firing_probabilities(images[:1])[0, 0, 14, 4:6].tolist() == [1.0, 0.0]
    network = Brightest()
    assert accuracy(network, images, labels) == pytest.approx(2 / 3)
    assert accuracy(network, images, columns) == 1.0
    assert network.seen == [500, 100, 500, 100]
    assert not network.training


def test_loading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        load_fitted(Linear(), tmp_path / "absent.pt")
