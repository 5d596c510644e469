"""Training: schedules and losses by hand, and runs of a small network that can be stopped and gone on with."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.training.conftest import GLM, SMALL, Mnist, Unipen, make_network
from training.data import mnist
from training.fit.compute import Precision
from training.fit.focus import Focus
from training.fit.teacher import Teacher
from training.fit.train import (
    SPIKE_COST,
    VALIDATION_DRAWS,
    ActivityMeter,
    EpochReport,
    Trainer,
    TrainingSettings,
    accuracy_by_step,
    activity_target,
    answer_losses,
    load_network,
    loss_function,
    prefix_logits,
)
from training.network.layers import layers_of
from training.network.spiking import GLMNetwork, NetworkConfig, Run, SpikingTransformer

CPU = torch.device("cpu")
TINY = NetworkConfig(stem=(2, 3), channels=4, blocks=1, heads=2)
QUICK = TrainingSettings(
    epochs=2, integer_epochs=1, time_steps=1, final_time_steps=2, batch_size=32, limit=64, network=SMALL
)


def nothing(done: int, total: int, figures: dict[str, float]) -> None:
    """Progress that nobody looks at."""


def train(trainer: Trainer) -> list[EpochReport]:
    reports: list[EpochReport] = []
    trainer.run(nothing, reports.append)
    return reports


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: values.clone() for name, values in trainer.network.state_dict().items()}


def averages(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: values.clone() for name, values in trainer.exported.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def known(gradient: torch.Tensor | None) -> torch.Tensor:
    """Return a gradient, which every parameter of the network has after a batch."""
    assert gradient is not None
    return gradient


def run_of(potentials: torch.Tensor) -> Run:
    """A run that had these potentials [T, N, 10]."""
    zero = torch.zeros_like(potentials)
    return Run(potentials, zero, torch.sigmoid(potentials), zero, {})


# Settings and schedules


def test_settings_survive_json() -> None:
    settings = TrainingSettings(
        epochs=3,
        teacher="runs/teacher/teacher.pt",
        limit=7,
        precision="bfloat16",
        network=NetworkConfig(kind="glm", stem=(8, 16), bits=4, attention=False),
        variation=mnist.Variation(rotation_degrees=3.0),
    )
    read = TrainingSettings.from_dict(json.loads(json.dumps(settings.as_dict())))
    assert read == settings
    assert read.network.stem == (8, 16) and read.variation.rotation_degrees == 3.0


def test_settings_that_are_not_known_any_more_are_left_out() -> None:
    """A checkpoint of an older version can still be exported; of those it lacks, the defaults hold."""
    settings = TrainingSettings(epochs=3)
    stored = {**settings.as_dict(), "final_share": 0.2}
    assert TrainingSettings.from_dict(stored) == settings
    del stored["averaging"], stored["precision"]
    assert TrainingSettings.from_dict(stored) == settings


def test_runs_from_before_are_read_as_what_they_were() -> None:
    stored = TrainingSettings(epochs=3).as_dict()
    del stored["network"]["position"], stored["network"]["neighbours"], stored["final_variation"]
    del stored["network"]["rate_slope"]  # rates were contrasts
    read = TrainingSettings.from_dict(stored)
    assert read.network == NetworkConfig(position=False, neighbours=False) and read.final_variation == 1.0


def test_activity_target_falls_in_a_line_over_the_first_half() -> None:
    settings = TrainingSettings(epochs=8, activity_start=0.12, activity_target=0.04)
    targets = [activity_target(epoch, settings) for epoch in range(8)]
    assert targets == pytest.approx([0.12, 0.10, 0.08, 0.06, 0.04, 0.04, 0.04, 0.04])


def test_a_target_above_the_start_holds_from_the_start() -> None:
    settings = TrainingSettings(epochs=8, activity_start=0.12, activity_target=0.3)
    assert [activity_target(epoch, settings) for epoch in range(8)] == [0.3] * 8


def test_learning_rate_warms_up_for_half_an_epoch_and_ends_at_a_hundredth(
    tiny_mnist: Mnist, tmp_path: Path
) -> None:
    settings = dataclasses.replace(QUICK, epochs=4, learning_rate=0.1, network=TINY)
    trainer = Trainer(settings, tmp_path, CPU, tiny_mnist.folder)

    def rate(epoch: float) -> float:
        trainer._set_learning_rate(epoch)
        found = {group["lr"] for group in trainer.optimizer.param_groups}
        assert len(found) == 1
        return float(found.pop())

    assert rate(0.0) == pytest.approx(0.1 * 0.01)
    cosine = 0.5 * (1 + math.cos(math.pi / 16))
    assert rate(0.25) == pytest.approx(0.1 * 0.51 * (0.01 + 0.99 * cosine))
    assert rate(2.0) == pytest.approx(0.1 * (0.01 + 0.99 * 0.5))
    assert rate(4.0) == pytest.approx(0.1 * 0.01)


def test_weights_decay_but_biases_and_scales_do_not(tiny_mnist: Mnist, tmp_path: Path) -> None:
    trainer = Trainer(dataclasses.replace(QUICK, network=TINY), tmp_path, CPU, tiny_mnist.folder)
    decay = {
        id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]
    }
    for name, p in trainer.network.named_parameters():
        plain = ".norm." in name or name.endswith(("gamma", "feedback", "attention.threshold"))
        assert decay[id(p)] == (0.0 if plain else 0.02), name


# Activity and loss


def layers_alike(config: NetworkConfig, value: float) -> dict[str, torch.Tensor]:
    """Spikes [T=2, N=3, ...] of every hidden layer, all alike."""
    hidden = [layer for name, layer in layers_of(config).items() if name not in ("input", "output")]
    return {layer.name: torch.full((2, 3, *layer.shape), value) for layer in hidden}


@pytest.mark.parametrize("attention", [True, False])
def test_activity_is_1_where_every_neuron_spikes_and_0_where_none_does(attention: bool) -> None:
    config = dataclasses.replace(TINY, attention=attention)
    meter = ActivityMeter(config, CPU)
    assert float(meter(layers_alike(config, 1.0))) == pytest.approx(1.0)
    assert float(meter(layers_alike(config, 0.0))) == 0.0
    assert float(meter(layers_alike(config, 0.25))) == pytest.approx(0.25)


def test_activity_weighs_a_spike_by_its_fan_out() -> None:
    """By hand for the layers of `TINY`: neurons and synapses a spike, and 32 for the spike itself."""
    assert SPIKE_COST == 32
    channels, hidden, tokens = 4, 8, 49
    synapses = {
        "block1.attention_in": (tokens * channels, 3 * channels),
        "block1.query": (tokens * channels, 2),
        "block1.key": (tokens * channels, 0),
        "block1.value": (tokens * channels, 0),
        "block1.attention": (tokens * channels, channels),
        "block1.mlp_in": (tokens * channels, hidden),
        "block1.mlp_hidden": (tokens * hidden, channels),
        "tokens": (tokens * channels, 10),
    }
    cost = {name: neurons * (fan_out + 32) for name, (neurons, fan_out) in synapses.items()}
    # 3 x 3 windows, padding 1: at stride 1 a row is seen 2, 3, ... 3, 2 times, at stride 2 1, 2, 1, 2 ... times.
    cost["stem1"] = 2 * (3 * (14 * 3 - 2) ** 2 + 14 * 14 * 32)
    cost["stem2"] = 3 * (4 * (7 * 1 + 7 * 2 - 1) ** 2 + 14 * 14 * 32)
    meter = ActivityMeter(TINY, CPU)
    for name, alone in cost.items():
        layers = layers_alike(TINY, 0.0)
        layers[name] = torch.ones_like(layers[name])
        assert float(meter(layers)) == pytest.approx(alone / sum(cost.values())), name
    assert set(cost) == set(layers_of(TINY)) - {"input", "output"}


def test_a_spike_at_the_border_is_cheaper_than_one_inside() -> None:
    meter = ActivityMeter(TINY, CPU)
    found = []
    for position in (0, 5):
        layers = layers_alike(TINY, 0.0)
        layers["stem1"][:, :, 0, position, position] = 1.0
        found.append(float(meter(layers)) * meter.total)
    assert found == pytest.approx([3 * 2 * 2 + 32, 3 * 3 * 3 + 32], rel=1e-4)


def test_activity_is_differentiable() -> None:
    layers = {name: values.requires_grad_() for name, values in layers_alike(TINY, 0.5).items()}
    ActivityMeter(TINY, CPU)(layers).backward()
    gradient = layers["tokens"].grad
    assert gradient is not None and bool((gradient > 0).all())


def test_logits_after_each_step_are_the_mean_so_far() -> None:
    potentials = torch.tensor([1.0, 3.0, -4.0]).view(3, 1, 1)
    assert prefix_logits(potentials).flatten().tolist() == [1.0, 2.0, 0.0]


PLAIN = TrainingSettings(output_likelihood=0.0, activity_price=0.0)
POTENTIALS = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 9, 3])


def loss_of(
    potentials: torch.Tensor,
    settings: TrainingSettings,
    taught: torch.Tensor | None = None,
    labels: torch.Tensor = LABELS,
    excess: float = 0.0,
) -> float:
    answers = answer_losses(potentials, labels, settings, taught)
    return float(loss_function(run_of(potentials), labels, answers, torch.tensor(excess), settings))


def test_loss_of_a_network_that_knows_nothing_is_log_10() -> None:
    loss = loss_of(torch.zeros(2, 4, 10), PLAIN)
    assert loss == pytest.approx(math.log(10))


def test_cross_entropy_is_that_of_every_step() -> None:
    means = POTENTIALS.double().numpy().cumsum(0) / np.arange(1, 4)[:, None, None]
    own = np.take_along_axis(means, np.tile(LABELS.numpy(), (3, 1))[:, :, None], -1)[:, :, 0]
    expected = (np.log(np.exp(means).sum(-1)) - own).mean(0)
    assert answer_losses(POTENTIALS, LABELS, PLAIN).numpy() == pytest.approx(expected, rel=1e-5)
    assert loss_of(POTENTIALS, PLAIN) == pytest.approx(expected.mean(), rel=1e-5)


def test_output_likelihood_is_that_of_spikes_of_the_right_neuron_alone() -> None:
    """Potentials of 0: each of ten neurons spikes with one half, so log 2 a neuron, whatever is wanted."""
    settings = dataclasses.replace(PLAIN, output_likelihood=0.5)
    zero = torch.zeros(2, 4, 10)
    loss = loss_of(zero, settings)
    assert loss == pytest.approx(math.log(10) + 0.5 * math.log(2))
    high = zero.clone()
    high[:, torch.arange(4), LABELS] = 2.0  # the right neuron is likely to spike
    plain, priced = (loss_of(high, s) for s in (PLAIN, settings))
    likelihood = (9 * math.log(2) + math.log(1 + math.exp(-2.0))) / 10
    assert priced - plain == pytest.approx(0.5 * likelihood, rel=1e-4)


def test_only_excess_activity_has_a_price() -> None:
    settings = dataclasses.replace(PLAIN, activity_price=2.0)
    losses = [loss_of(POTENTIALS, settings, excess=excess) for excess in (-0.1, 0.0, 0.25)]
    assert losses[0] == losses[1]
    assert losses[2] - losses[1] == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_network_that_answers_as_its_teacher_does_is_at_no_distance(temperature: float) -> None:
    settings = dataclasses.replace(PLAIN, distillation=1.0, temperature=temperature)
    taught = POTENTIALS[0]
    assert loss_of(taught.expand(3, 4, 10), settings, taught) == pytest.approx(0.0, abs=1e-6)


def test_distance_from_the_teacher_by_hand() -> None:
    """A teacher sure of class 0 to (9 + e^a) / e^a, softened; a network that knows nothing: log 10 - entropy."""
    taught = torch.zeros(1, 10)
    taught[0, 0] = 2 * math.log(11.0)  # softened by 2: 11 to 1, so probabilities 0.55 and nine times 0.05
    entropy = -(0.55 * math.log(0.55) + 9 * 0.05 * math.log(0.05))
    settings = dataclasses.replace(PLAIN, distillation=1.0, temperature=2.0)
    agrees, differs = answer_losses(
        torch.zeros(3, 2, 10), torch.tensor([1, 0]), settings, torch.cat([torch.zeros(1, 10), taught])
    )
    assert float(agrees) == pytest.approx(0.0, abs=1e-6)
    assert float(differs) == pytest.approx(4 * (math.log(10) - entropy), rel=1e-4)


def test_labels_have_the_rest_of_the_teachers_share() -> None:
    taught = torch.randn(4, 10, generator=torch.Generator().manual_seed(1))

    def loss(share: float) -> float:
        settings = dataclasses.replace(PLAIN, distillation=share)
        return loss_of(POTENTIALS, settings, taught)

    assert loss(0.0) == pytest.approx(loss_of(POTENTIALS, PLAIN))
    assert loss(0.7) == pytest.approx(0.3 * loss(0.0) + 0.7 * loss(1.0), rel=1e-5)
    assert loss(0.0) != pytest.approx(loss(1.0), rel=0.01)


# Runs


@pytest.fixture(scope="module")
def finished(
    tiny_mnist: Mnist, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Trainer, list[EpochReport]]:
    """A run of two epochs that nobody disturbed."""
    trainer = Trainer(QUICK, tmp_path_factory.mktemp("run"), CPU, tiny_mnist.folder)
    return trainer, train(trainer)


def test_a_run_leaves_settings_metrics_and_checkpoints(finished: tuple[Trainer, list[EpochReport]]) -> None:
    trainer, reports = finished
    names = {path.name for path in trainer.folder.iterdir()}
    assert names == {"settings.json", "metrics.jsonl", "last.pt", "best.pt"}
    stored = json.loads((trainer.folder / "settings.json").read_text())
    assert TrainingSettings.from_dict(stored) == QUICK
    lines = [json.loads(line) for line in (trainer.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == [dataclasses.asdict(report) for report in reports]


def test_a_run_learns_from_unipens_writers_and_is_chosen_by_unseen_ones_too(
    tiny_mnist: Mnist, made_up_unipen: Unipen, tmp_path: Path
) -> None:
    """32 beside 64 of MNIST's: a third. The checkpoint that is kept is best by both parts of the validation alike."""
    settings = dataclasses.replace(QUICK, unipen=1 / 3)
    trainer = Trainer(settings, tmp_path / "run", CPU, made_up_unipen.both(tiny_mnist))
    assert len(trainer.images) == 96 and np.array_equal(trainer.images[:64], tiny_mnist.images[:64])
    reports = train(trainer)
    for report in reports:
        assert report.unipen_accuracy is not None and len(report.unipen_accuracy) == 2
    last = reports[-1]
    assert last.unipen_accuracy == accuracy_by_step(
        trainer.exported, *mnist.unipen_pictures("validation", made_up_unipen.folder), 2, VALIDATION_DRAWS
    )
    both = last.validation_accuracy + (last.unipen_accuracy or [])
    assert trainer.best == pytest.approx(sum(both) / 4)


def test_the_last_epochs_train_in_integers_with_the_final_steps(
    finished: tuple[Trainer, list[EpochReport]],
) -> None:
    reports = finished[1]
    assert [(r.epoch, r.arithmetic, r.time_steps) for r in reports] == [(1, "float", 1), (2, "integer", 2)]
    for report in reports:
        assert len(report.validation_accuracy) == 2
        assert 0.0 <= report.train_accuracy <= 1.0 and 0.0 < report.activity < 1.0


def test_checkpoint_has_the_weights_of_the_run(finished: tuple[Trainer, list[EpochReport]]) -> None:
    """The averages that are exported, and what the next batch would go on from. Two epochs of two batches."""
    trainer = finished[0]
    contents = torch.load(trainer.folder / "last.pt", weights_only=True)
    assert same(contents["network"], averages(trainer))
    assert same(contents["latest"], weights(trainer))
    assert not same(contents["network"], contents["latest"])
    assert (contents["epoch"], int(contents["averaged_over"])) == (2, 4)
    assert contents["data_sha256"] == mnist.sha256(trainer.images.numpy(), trainer.labels.numpy())


def test_network_is_loaded_ready_to_evaluate(finished: tuple[Trainer, list[EpochReport]]) -> None:
    trainer = finished[0]
    network, settings, contents = load_network(trainer.folder / "last.pt")
    assert settings == QUICK and network.config == SMALL
    assert network.integer and not network.training
    assert same(network.state_dict(), averages(trainer))
    assert contents["epoch"] == 2


def names_before() -> list[str]:
    """Return what the parameters of `SMALL` were called up to 1.6.0, in the order in which they still are."""
    parts = ["stem1", "stem2", "stem3", "blocks.0.attention_threshold"]
    parts += [f"blocks.0.{role}" for role in ("query", "key", "value", "projection", "expand", "contract")]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["readout", "gamma", "feedback", "position"]
    for part in parts:
        plain = part.endswith("threshold")
        names += [part] if plain else [f"{part}.weight", *(f"{part}.norm.{one}" for one in norm)]
    return names


def test_a_checkpoint_with_the_names_of_before_is_loaded_and_gone_on_with(
    tiny_mnist: Mnist, tmp_path: Path
) -> None:
    trainer = Trainer(QUICK, tmp_path, CPU, tiny_mnist.folder)
    trainer.train_epoch(nothing)
    trainer.save("last.pt")
    contents = torch.load(tmp_path / "last.pt", weights_only=True)
    for part in ("network", "latest"):
        values = contents[part].values()
        contents[part] = dict(zip(names_before(), values, strict=True))
    torch.save(contents, tmp_path / "last.pt")
    assert same(load_network(tmp_path / "last.pt")[0].state_dict(), averages(trainer))
    resumed = Trainer(QUICK, tmp_path, CPU, tiny_mnist.folder)
    resumed.resume()
    assert same(weights(resumed), weights(trainer)) and same(averages(resumed), averages(trainer))
    assert train(resumed)[-1].loss == trainer.train_epoch(nothing).loss


def test_loading_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        load_network(tmp_path / "absent.pt")


def test_a_run_follows_from_its_seed(
    finished: tuple[Trainer, list[EpochReport]], tiny_mnist: Mnist, tmp_path: Path
) -> None:
    again = Trainer(QUICK, tmp_path / "again", CPU, tiny_mnist.folder)
    train(again)
    assert same(weights(again), weights(finished[0])) and same(averages(again), averages(finished[0]))
    other = Trainer(dataclasses.replace(QUICK, seed=2), tmp_path / "other", CPU, tiny_mnist.folder)
    train(other)
    assert not same(weights(other), weights(finished[0]))


def test_every_epoch_shows_all_images_in_an_order_and_a_variation_of_its_own(
    tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[torch.Tensor] = []
    varied: list[torch.Tensor] = []
    asked: list[mnist.Variation] = []

    def vary(images: torch.Tensor, variation: mnist.Variation, generator: torch.Generator) -> torch.Tensor:
        shown.append(images)
        asked.append(variation)
        varied.append(original(images, variation, generator))
        return varied[-1]

    original = mnist.vary
    monkeypatch.setattr("training.data.mnist.vary", vary)
    settings = dataclasses.replace(QUICK, network=TINY, final_variation=0.5)
    trainer = Trainer(settings, tmp_path, CPU, tiny_mnist.folder)
    train(trainer)
    assert [len(images) for images in shown] == [32] * 4
    assert asked == [settings.variation] * 2 + [settings.variation.times(0.5)] * 2
    orders = [torch.cat(shown[:2]), torch.cat(shown[2:])]
    assert not torch.equal(*orders)
    for order in orders:
        assert sorted(image.numpy().tobytes() for image in order) == sorted(
            image.numpy().tobytes() for image in trainer.images
        )
    assert len({image.numpy().tobytes() for image in torch.cat(varied)}) == 128


def test_spikes_are_drawn_at_the_rates_of_the_tuning_curve(
    tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grey pixels of a quarter and three quarters: by a slope of 3, they never and always fire."""
    drawn: list[torch.Tensor] = []

    class Watching(Trainer):
        def learn_from(self, spikes: torch.Tensor, *arguments: Any) -> Any:
            drawn.append(spikes)
            return super().learn_from(spikes, *arguments)

    grey = torch.full((1, 28, 28), 0.25)
    grey[:, :, 14:] = 0.75
    monkeypatch.setattr(
        "training.data.mnist.firing_probabilities", lambda images: grey.expand(len(images), 1, 28, 28)
    )
    for slope, exact in ((1, False), (3, True)):
        drawn.clear()
        settings = dataclasses.replace(QUICK, epochs=1, network=dataclasses.replace(TINY, rate_slope=slope))
        train(Watching(settings, tmp_path / str(slope), CPU, tiny_mnist.folder))
        trains = torch.cat([batch.flatten(0, 1) for batch in drawn])
        assert bool((trains[..., 14:] == 1).all() and (trains[..., :14] == 0).all()) is exact
        assert float(trains[..., 14:].mean()) == pytest.approx(1.0 if exact else 0.75, abs=0.02)


def interrupt_in(epoch: int, trainer: Trainer) -> Callable[[int, int, dict[str, float]], None]:
    """Progress that stops the run after the first batch of an epoch, as Ctrl-C does."""

    def progress(done: int, total: int, figures: dict[str, float]) -> None:
        if trainer.epoch == epoch - 1:
            raise KeyboardInterrupt

    return progress


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    finished: tuple[Trainer, list[EpochReport]], tiny_mnist: Mnist, tmp_path: Path
) -> None:
    """Stopped in the middle of epoch 2, gone on with from the checkpoint of epoch 1."""
    stopped = Trainer(QUICK, tmp_path, CPU, tiny_mnist.folder)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(interrupt_in(2, stopped), lambda report: None)
    stopped.save_interrupted()
    torch.manual_seed(99)  # whatever else was drawn in the meantime
    resumed = Trainer(QUICK, tmp_path, CPU, tiny_mnist.folder)
    resumed.resume()
    assert resumed.epoch == 1
    reports = train(resumed)
    assert [report.epoch for report in reports] == [2]
    assert same(weights(resumed), weights(finished[0])) and same(averages(resumed), averages(finished[0]))
    expected, found = (
        torch.load(trainer.folder / "last.pt", weights_only=True)["optimizer"]["state"]
        for trainer in (finished[0], resumed)
    )
    assert all(torch.equal(expected[p]["exp_avg"], found[p]["exp_avg"]) for p in expected)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_hard_images_are_shown_more_often_also_by_a_resumed_run(
    tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once in the first epoch, and noted with a loss of its own; then by what was noted."""
    settings = dataclasses.replace(QUICK, epochs=3, focus=1.0, network=TINY)
    noted: list[tuple[torch.Tensor, torch.Tensor]] = []
    learned: list[torch.Tensor] = []

    class Watched(Focus):
        def note(self, images: torch.Tensor, losses: torch.Tensor) -> None:
            noted.append((images, losses))
            super().note(images, losses)

    class Watching(Trainer):
        def learn_from(
            self, spikes: torch.Tensor, uniforms: torch.Tensor, labels: torch.Tensor, *others: Any
        ) -> Any:
            learned.append(labels)
            return super().learn_from(spikes, uniforms, labels, *others)

    monkeypatch.setattr("training.fit.train.Focus", Watched)
    trainer = Watching(settings, tmp_path / "unbroken", CPU, tiny_mnist.folder)
    train(trainer)
    assert [len(images) for images, _ in noted] == [32] * 6
    for (images, _), labels in zip(noted, learned, strict=True):
        assert torch.equal(trainer.labels[images], labels)
    first, second = (torch.cat([images for images, _ in noted[at : at + 2]]) for at in (0, 2))
    assert sorted(first.tolist()) == list(range(64))
    assert len(second.unique()) < 64
    losses = torch.cat([losses for _, losses in noted[:2]])
    assert float(losses.mean()) == pytest.approx(math.log(10), rel=0.3) and len(losses.unique()) > 32

    stopped = Trainer(settings, tmp_path / "resumed", CPU, tiny_mnist.folder)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(interrupt_in(3, stopped), lambda report: None)
    resumed = Trainer(settings, tmp_path / "resumed", CPU, tiny_mnist.folder)
    resumed.resume()
    train(resumed)
    assert same(weights(resumed), weights(trainer))
    assert torch.equal(resumed.focus.hardness, trainer.focus.hardness)


def test_a_run_from_before_there_was_focus_is_gone_on_with(tiny_mnist: Mnist, tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, network=TINY)
    trainer = Trainer(settings, tmp_path, CPU, tiny_mnist.folder)
    trainer.save("last.pt")
    contents = torch.load(tmp_path / "last.pt", weights_only=True)
    del contents["hardness"]
    torch.save(contents, tmp_path / "last.pt")
    resumed = Trainer(settings, tmp_path, CPU, tiny_mnist.folder)
    resumed.resume()
    assert len(train(resumed)) == 2


def test_a_run_of_a_gpu_is_gone_on_with_on_a_cpu(tiny_mnist: Mnist, tmp_path: Path) -> None:
    """And the other way round: how the optimiser steps is the device's, not the checkpoint's."""
    trainer = Trainer(dataclasses.replace(QUICK, network=TINY), tmp_path, CPU, tiny_mnist.folder)
    for group in trainer.optimizer.param_groups:
        group["fused"] = True
    trainer.save("last.pt")
    resumed = Trainer(dataclasses.replace(QUICK, network=TINY), tmp_path, CPU, tiny_mnist.folder)
    resumed.resume()
    assert not any(group["fused"] for group in resumed.optimizer.param_groups)


def test_an_interrupt_in_the_first_epoch_leaves_a_checkpoint(tiny_mnist: Mnist, tmp_path: Path) -> None:
    stopped = Trainer(QUICK, tmp_path, CPU, tiny_mnist.folder)
    start = weights(stopped)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(interrupt_in(1, stopped), lambda report: None)
    stopped.save_interrupted()
    assert {path.name for path in tmp_path.iterdir()} == {"settings.json", "last.pt"}
    network = load_network(tmp_path / "last.pt")[0]
    assert not torch.equal(network.readout.weight, start["readout.weight"])  # what one batch taught
    resumed = Trainer(QUICK, tmp_path, CPU, tiny_mnist.folder)
    resumed.resume()
    assert same(weights(resumed), network.state_dict())
    assert [report.epoch for report in train(resumed)] == [1, 2]


def test_resuming_where_there_is_nothing(tiny_mnist: Mnist, tmp_path: Path) -> None:
    trainer = Trainer(dataclasses.replace(QUICK, network=TINY), tmp_path, CPU, tiny_mnist.folder)
    with pytest.raises(FileNotFoundError, match=r"last\.pt"):
        trainer.resume()


def test_the_best_epoch_on_the_validation_set_is_kept(
    tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs 2 to 4 compute in integers; the third is best. Accuracy in float does not count."""
    scores = iter([[0.9, 0.9], [0.1, 0.3], [0.4, 0.2], [0.2, 0.3]])
    monkeypatch.setattr("training.fit.train.accuracy_by_step", lambda *arguments: next(scores))
    settings = dataclasses.replace(QUICK, epochs=4, integer_epochs=3, limit=20, network=TINY)
    trainer = Trainer(settings, tmp_path, CPU, tiny_mnist.folder)
    train(trainer)
    best, last = (torch.load(tmp_path / name, weights_only=True) for name in ("best.pt", "last.pt"))
    assert (best["epoch"], last["epoch"]) == (3, 4)
    assert best["best"] == last["best"] == pytest.approx(0.3)


def test_integer_epochs_leave_the_statistics_of_normalisation_as_they_are(
    tiny_mnist: Mnist, tmp_path: Path
) -> None:
    settings = dataclasses.replace(QUICK, epochs=2, integer_epochs=1, limit=20, network=TINY)
    trainer = Trainer(settings, tmp_path, CPU, tiny_mnist.folder)
    trainer.train_epoch(nothing)
    before = weights(trainer)
    trainer.train_epoch(nothing)
    after = weights(trainer)
    statistics = [name for name in before if "running" in name]
    assert len(statistics) == 2 * 9  # of 3 stem, 4 attention and 2 MLP layers
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert not torch.equal(before["stem.stem1.weight"], after["stem.stem1.weight"])


@pytest.mark.parametrize("scale", [0.01, 1000.0])
def test_gradients_are_clipped_to_a_norm_of_1(tiny_mnist: Mnist, tmp_path: Path, scale: float) -> None:
    """Those of the last batch are still there after it: shorter ones as they were, longer ones of length 1."""
    unclipped: list[torch.Tensor] = []

    class Scaled(Trainer):
        """Its loss, and so its gradients, are so many times as large."""

        def learn_from(self, *arguments: Any) -> Any:
            loss, *others = super().learn_from(*arguments)
            found = torch.autograd.grad(loss * scale, list(self.network.parameters()), retain_graph=True)
            unclipped.append(torch.cat([gradient.flatten() for gradient in found]))
            return loss * scale, *others

    settings = dataclasses.replace(QUICK, limit=16, network=TINY)
    trainer = Scaled(settings, tmp_path, CPU, tiny_mnist.folder)
    trainer.train_epoch(nothing)
    left = torch.cat([known(p.grad).flatten() for p in trainer.network.parameters()])
    norm = float(unclipped[0].norm())
    assert len(unclipped) == 1 and (norm < 0.5) == (scale < 1) and (norm > 100) == (scale > 1)
    assert torch.allclose(left, unclipped[0] / max(norm, 1.0), rtol=1e-4, atol=0)


def test_training_learns(tiny_mnist: Mnist, tmp_path: Path) -> None:
    """The loss falls on images that it sees again and again."""
    settings = dataclasses.replace(
        QUICK, epochs=8, integer_epochs=0, limit=128, learning_rate=0.01, activity_price=0.0
    )
    losses = [report.loss for report in train(Trainer(settings, tmp_path, CPU, tiny_mnist.folder))]
    assert losses[-1] < 0.85 * losses[0]


def test_a_price_on_activity_makes_the_network_sparser(tiny_mnist: Mnist, tmp_path: Path) -> None:
    activity = []
    for price in (0.0, 100.0):
        settings = dataclasses.replace(
            QUICK,
            epochs=4,
            integer_epochs=0,
            network=TINY,
            learning_rate=0.01,
            activity_price=price,
            activity_start=0.0,
            activity_target=0.0,
        )
        trainer = Trainer(settings, tmp_path / str(price), CPU, tiny_mnist.folder)
        activity.append(train(trainer)[-1].activity)
    assert activity[1] < 0.9 * activity[0]


def test_limit_and_held_out_choose_the_images(tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    count = len(tiny_mnist.images)
    limited = Trainer(QUICK, tmp_path, CPU, tiny_mnist.folder)
    assert np.array_equal(limited.images.numpy(), tiny_mnist.images[:64])
    assert len(limited.validation[0]) == few_held_out
    more = Trainer(dataclasses.replace(QUICK, limit=None, held_out=7), tmp_path, CPU, tiny_mnist.folder)
    assert np.array_equal(more.images.numpy(), tiny_mnist.images[: count - 7])
    assert np.array_equal(more.labels.numpy(), tiny_mnist.labels[: count - 7])
    assert np.array_equal(more.validation[0], tiny_mnist.images[count - 7 :])
    assert more.batches == math.ceil((count - 7) / 32)


def test_a_limit_of_three_images_still_has_an_accuracy(tiny_mnist: Mnist, tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, epochs=1, integer_epochs=0, limit=3, network=TINY)
    report = train(Trainer(settings, tmp_path, CPU, tiny_mnist.folder))[0]
    assert all(0.0 <= accuracy <= 1.0 for accuracy in report.validation_accuracy)


def test_a_teacher_changes_what_is_learned(
    finished: tuple[Trainer, list[EpochReport]], tiny_mnist: Mnist, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    torch.save({"network": Teacher().state_dict()}, tmp_path / "teacher.pt")
    settings = dataclasses.replace(QUICK, epochs=1, integer_epochs=0, teacher=str(tmp_path / "teacher.pt"))
    taught = Trainer(settings, tmp_path / "run", CPU, tiny_mnist.folder)
    alone = Trainer(
        dataclasses.replace(settings, distillation=0.0), tmp_path / "alone", CPU, tiny_mnist.folder
    )
    losses = [train(trainer)[0].loss for trainer in (taught, alone)]
    assert losses[0] != losses[1]
    assert taught.teacher is not None and not any(p.requires_grad for p in taught.teacher.parameters())


# Averages, precision, other networks


def test_an_average_over_one_batch_is_the_weights_themselves(tiny_mnist: Mnist, tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, averaging=0.0, limit=20, network=TINY)
    trainer = Trainer(settings, tmp_path, CPU, tiny_mnist.folder)
    train(trainer)
    found, latest = averages(trainer), weights(trainer)
    for name, values in found.items():
        assert torch.allclose(values, latest[name], rtol=1e-6), name


def test_averages_are_what_is_validated_with_a_fifth_of_the_images_before_the_integers(
    tiny_mnist: Mnist, tmp_path: Path, few_held_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, int, int, int]] = []

    def accuracy(
        network: object, images: np.ndarray, labels: np.ndarray, steps: int, draws: int
    ) -> list[float]:
        assert len(labels) == len(images)
        asked.append((network, len(images), steps, draws))
        return [0.5] * steps

    monkeypatch.setattr("training.fit.train.accuracy_by_step", accuracy)
    settings = dataclasses.replace(QUICK, limit=22, network=TINY)
    trainer = Trainer(settings, tmp_path, CPU, tiny_mnist.folder)
    train(trainer)
    assert asked == [(trainer.exported, 5, 2, 1), (trainer.exported, 22, 2, VALIDATION_DRAWS)]
    assert trainer.exported is not trainer.network


def test_integers_are_never_multiplied_in_bfloat16(tiny_mnist: Mnist, tmp_path: Path) -> None:
    """An epoch in integers ends alike in both precisions, an epoch in float does not; weights stay in float32."""

    def trained(precision: Precision, integer_epochs: int) -> dict[str, torch.Tensor]:
        settings = dataclasses.replace(
            QUICK, epochs=1, integer_epochs=integer_epochs, precision=precision, limit=16, network=TINY
        )
        trainer = Trainer(settings, tmp_path / f"{precision}{integer_epochs}", CPU, tiny_mnist.folder)
        assert math.isfinite(train(trainer)[0].loss)
        return weights(trainer)

    assert same(trained("float32", 1), trained("bfloat16", 1))
    exact, rounded = trained("float32", 0), trained("bfloat16", 0)
    assert not same(exact, rounded)
    assert {values.dtype for values in rounded.values()} == {torch.float32, torch.int64}


def test_output_neurons_alone_learn(tiny_mnist: Mnist, tmp_path: Path) -> None:
    """The GLM network has no hidden layers, so its activity is free."""
    assert float(ActivityMeter(GLM, CPU)({})) == 0.0
    settings = dataclasses.replace(QUICK, epochs=6, learning_rate=0.02, activity_price=100.0, network=GLM)
    trainer = Trainer(settings, tmp_path, CPU, tiny_mnist.folder)
    reports = train(trainer)
    assert reports[-1].loss < 0.7 * reports[0].loss
    assert {report.activity for report in reports} == {0.0}
    network, read, _ = load_network(tmp_path / "best.pt")
    assert isinstance(network, GLMNetwork) and network.integer and read == settings


# Accuracy


def test_accuracy_by_step_by_hand(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    """A network that says 7 and nothing else is right where the label is 7."""
    network = make_network()
    with torch.no_grad():
        network.readout.weight.mul_(0.01)
        network.readout.gamma[7] = 10.0
    labels = np.array([7] * 10 + [1] * 30)
    assert accuracy_by_step(network, drawn[0], labels, 3) == [0.25, 0.25, 0.25]


def test_accuracy_is_the_mean_over_draws_of_the_encoder(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    """A network that answers by whether an even number of pixels spike: a draw at a time, then three at once."""
    sums: list[torch.Tensor] = []

    class Parity(SpikingTransformer):
        def forward(self, spikes: torch.Tensor, uniforms: torch.Tensor) -> Run:
            sums.append(spikes.flatten(2).sum(-1))  # [T, N]
            return run_of(F.one_hot(sums[-1].long() % 2, 10).float())

    network, labels = Parity(TINY), np.zeros(len(drawn[0]), np.int64)
    found = accuracy_by_step(network, drawn[0], labels, 1, draws=3)
    assert len(sums) == 3 and not torch.equal(sums[0], sums[1]) and not torch.equal(sums[1], sums[2])
    assert found == pytest.approx([float((torch.stack(sums) % 2 == 0).float().mean())], abs=1e-6)
    accuracy_by_step(network, drawn[0], labels, 1)
    assert torch.equal(sums[3], sums[0])


def test_accuracy_leaves_the_network_in_the_mode_it_was_in(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    network = make_network()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    for training in (True, False):
        network.train(training)
        accuracy_by_step(network, drawn[0][:5], drawn[1][:5], 2)
        assert network.training is training
    assert same(before, network.state_dict())
