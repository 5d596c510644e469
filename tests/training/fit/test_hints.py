"""Hints: what the teacher sees, foretold from the spiking network's currents."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.conftest import SMALL, Mnist
from training.fit.hints import Hints, standardised
from training.fit.teacher import Explanation, Teacher
from training.fit.train import Trainer, TrainingSettings, hint_weight
from training.network.spiking import NetworkConfig, Run, SpikingTransformer

CPU = torch.device("cpu")
IMAGES, STEPS = 5, 3
WIDE = NetworkConfig(stem=(4, 64), channels=128, heads=2)
"""As many channels as the teacher has features."""


def features() -> Explanation:
    generator = torch.Generator().manual_seed(0)
    return Explanation(
        torch.zeros(IMAGES, 10),
        torch.rand(IMAGES, 64, 14, 14, generator=generator),
        torch.rand(IMAGES, 128, 7, 7, generator=generator),
    )


def run_of(stem2: Tensor, tokens: Tensor) -> Run:
    """Currents around these means over time, [N, 64, 14, 14] and [N, 49, 128]."""
    nothing = torch.zeros(STEPS, IMAGES, 10)
    offsets = torch.tensor([-1.0, 0.0, 1.0])
    currents = {
        "stem2": stem2 + offsets.view(-1, 1, 1, 1, 1),
        "tokens": tokens + offsets.view(-1, 1, 1, 1),
    }
    return Run(nothing, nothing, nothing, nothing, {}, currents)


def hints(identity: bool) -> Hints:
    """Projections that pass their input on, or that know nothing."""
    result = Hints(WIDE)
    with torch.no_grad():
        for projection in (result.stem2, result.tokens):
            projection.weight.copy_(torch.eye(len(projection.weight)) * identity)
            projection.bias.zero_()
    return result


def test_each_feature_has_mean_0_and_deviation_1() -> None:
    found = standardised(features().middle * 3.0 + 7.0)
    assert found.shape == (IMAGES, 196, 64)
    assert torch.allclose(found.mean((0, 1)), torch.zeros(64), atol=1e-4)
    assert torch.allclose(found.std((0, 1)), torch.ones(64), atol=0.01)


def test_a_feature_that_is_always_the_same_says_nothing() -> None:
    assert torch.equal(standardised(torch.full((2, 3, 7, 7), 4.0)), torch.zeros(2, 49, 3))


def test_currents_that_are_the_teachers_features_are_at_no_distance() -> None:
    seen = features()
    stem2 = standardised(seen.middle).transpose(1, 2).unflatten(2, (14, 14))
    run = run_of(stem2, standardised(seen.last))
    assert hints(identity=True)(run, seen).item() == pytest.approx(0.0, abs=1e-6)


def test_places_are_compared_with_the_same_places() -> None:
    """One token's current told by another: row and column of the map must not be taken for each other."""
    seen = features()
    stem2 = standardised(seen.middle).transpose(1, 2).unflatten(2, (14, 14))
    tokens = standardised(seen.last)
    turned = tokens.unflatten(1, (7, 7)).transpose(1, 2).flatten(1, 2)
    assert hints(identity=True)(run_of(stem2, turned), seen).item() > 0.5
    assert hints(identity=True)(run_of(stem2.transpose(2, 3), tokens), seen).item() > 0.5


def test_where_nothing_is_foretold_all_variance_is_left() -> None:
    run = run_of(torch.rand(IMAGES, 64, 14, 14), torch.rand(IMAGES, 49, 128))
    assert hints(identity=False)(run, features()).item() == pytest.approx(2.0, rel=0.02)


def test_a_run_tells_its_currents() -> None:
    """Those whose threshold crossings are the spikes: a first step with currents above 1 spikes."""
    torch.manual_seed(0)
    network = SpikingTransformer(SMALL).eval()
    with torch.no_grad():
        run = network((torch.rand(2, 3, 1, 28, 28) < 0.3).float(), torch.rand(2, 3, 10))
    assert run.currents.keys() == {"stem2", "tokens"}
    for name, currents in run.currents.items():
        assert torch.equal((currents[0] >= 1.0).float(), run.layers[name][0]), name


def test_projections_are_as_wide_as_the_teacher() -> None:
    teacher = Teacher(width=2, members=2).eval()
    assert teacher.width == 2
    with torch.no_grad():
        seen = teacher.explain(torch.rand(IMAGES, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    run = run_of(torch.rand(IMAGES, 64, 14, 14), torch.rand(IMAGES, 49, 128))
    wide = Hints(WIDE, teacher.width)
    assert (wide.stem2.out_features, wide.tokens.out_features) == (128, 256)
    assert torch.isfinite(wide(run, seen))


# Training with hints


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.save({"network": Teacher().state_dict()}, path)
    return str(path)


def settings(teacher: str | None, **changes: object) -> TrainingSettings:
    quick = TrainingSettings(
        epochs=2, integer_epochs=1, time_steps=1, final_time_steps=1, batch_size=16, limit=32, network=SMALL,
        teacher=teacher, hint=1.0,
    )  # fmt: skip
    return dataclasses.replace(quick, **changes)  # type: ignore[arg-type]


def trained(settings: TrainingSettings, folder: Path, mnist: Mnist) -> Trainer:
    trainer = Trainer(settings, folder, CPU, mnist.folder)
    trainer.run(lambda *figures: None, lambda report: None)
    return trainer


def same(one: Trainer, other: Trainer) -> bool:
    """Whether they came to the same weights."""
    ours, theirs = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_hints_count_less_in_each_float_epoch_and_nothing_after_them() -> None:
    run = TrainingSettings(epochs=6, integer_epochs=2, hint=0.8)
    weights = [hint_weight(epoch, run) for epoch in range(6)]
    assert weights == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0, 0.0])


def test_hints_change_what_is_learned_and_learn_themselves(
    teacher: str, tiny_mnist: Mnist, tmp_path: Path, few_held_out: int
) -> None:
    quick = settings(teacher, epochs=1, integer_epochs=0)
    hinted = Trainer(quick, tmp_path / "hinted", CPU, tiny_mnist.folder)
    assert hinted.hints is not None
    before = hinted.hints.tokens.weight.detach().clone()
    hinted.run(lambda *figures: None, lambda report: None)
    assert not torch.equal(hinted.hints.tokens.weight, before)
    alone = trained(dataclasses.replace(quick, hint=0.0), tmp_path / "alone", tiny_mnist)
    assert alone.hints is None and not same(hinted, alone)


def test_integers_have_no_hints(teacher: str, tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    """Their currents count in other units."""
    quick = settings(teacher, epochs=1, integer_epochs=1)
    hinted = trained(quick, tmp_path / "hinted", tiny_mnist)
    alone = trained(dataclasses.replace(quick, hint=0.0), tmp_path / "alone", tiny_mnist)
    assert hinted.hints is not None and same(hinted, alone)


def test_a_resumed_run_ends_as_an_unbroken_one(
    teacher: str, tiny_mnist: Mnist, tmp_path: Path, few_held_out: int
) -> None:
    quick = settings(teacher, integer_epochs=0)
    unbroken = trained(quick, tmp_path / "unbroken", tiny_mnist)
    stopped = Trainer(quick, tmp_path / "stopped", CPU, tiny_mnist.folder)
    stopped.train_epoch(lambda *figures: None)
    stopped.folder.mkdir()
    stopped.save("last.pt")
    torch.manual_seed(99)  # whatever else was drawn in the meantime
    resumed = Trainer(quick, tmp_path / "stopped", CPU, tiny_mnist.folder)
    resumed.resume()
    resumed.run(lambda *figures: None, lambda report: None)
    assert same(resumed, unbroken)
    assert resumed.hints is not None and unbroken.hints is not None
    assert torch.equal(resumed.hints.stem2.weight, unbroken.hints.stem2.weight)


def test_nobody_hints_without_a_teacher_or_to_output_neurons_alone(
    teacher: str, tiny_mnist: Mnist, tmp_path: Path
) -> None:
    assert Trainer(settings(None), tmp_path, CPU, tiny_mnist.folder).hints is None
    glm = settings(teacher, network=NetworkConfig(kind="glm"))
    assert Trainer(glm, tmp_path, CPU, tiny_mnist.folder).hints is None
