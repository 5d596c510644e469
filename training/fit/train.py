"""Training: surrogate gradients through time, a loss at every step, and a price on synaptic operations.

Two stages in one run. The first epochs train in float, few time steps at a time. The last `integer_epochs`
train with the exported integer arithmetic in the loop, batch normalisation frozen. What is validated and
exported is a moving average of the weights. A checkpoint an epoch; the one that is best on the validation
set, in integer arithmetic, is kept as `best.pt`: MNIST's, and if UNIPEN's writers are trained on, those held out as
much.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spikehead.model.card import fan_out_map
from torch import Tensor, nn
from torch.nn import functional as F

from training.data import mnist
from training.data.batches import generator_of, presented
from training.fit.compute import (
    Precision,
    Processes,
    Refresh,
    allow_tf32,
    averaged_copy,
    mixed,
    teacher_precision,
)
from training.fit.focus import Focus
from training.fit.hints import Hints
from training.fit.loop import distance
from training.fit.teacher import Explanation, load_teacher
from training.network.layers import layers_of
from training.network.spiking import CLASSES, NetworkConfig, Run, SpikingNetwork, make_network

CHECKPOINT = "last.pt"
BEST = "best.pt"
METRICS = "metrics.jsonl"
SETTINGS = "settings.json"

VALIDATION_DRAWS = 3
"""Of the encoder in integer epochs: one draw moves accuracy by 0.05 points, more than epochs differ."""

SPIKE_COST = 32.0  # a spike's own cost in synaptic operations: reset, event, and what fan-out leaves out


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides how a run turns out."""

    epochs: int = 60
    integer_epochs: int = 6
    time_steps: int = 2
    final_time_steps: int = 4
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.0
    activity_start: float = (
        0.12  # the target falls from here over the first half: sparse too early learns worse
    )
    activity_target: float = 0.05
    activity_price: float = 2.0
    output_likelihood: float = 0.05  # weight of the GLM output neurons' own log-likelihood
    start: str | None = None  # an exported model whose weights the run begins with (`training.fit.restore`)
    teacher: str | None = None  # checkpoint of `training.fit.teacher`; None learns from the labels alone
    distillation: float = 0.7  # weight of the teacher's answers; the labels have the rest
    temperature: float = 2.0  # by which teacher and student are softened when they are compared
    hint: float = 0.0  # weight of `training.fit.hints` at first; falls to 0 over the float epochs
    focus: float = 0.0  # share of the images shown that is drawn by how hard they are (`training.fit.focus`)
    averaging: float = 0.998  # weights are a moving average over about 1 / (1 - averaging) batches
    precision: Precision = "float32"  # of products of matrices; integers are exact in all of them
    seed: int = 1
    limit: int | None = None  # train on so many images (for trials and tests)
    held_out: int | None = None  # so many of the training images are for validation; None: 10,000
    unipen: float = 0.0  # share of the images shown that is of UNIPEN's writers; 0 is MNIST alone
    network: NetworkConfig = field(default_factory=NetworkConfig)
    variation: mnist.Variation = field(default_factory=mnist.Variation)
    final_variation: float = 0.5  # so many times as far handwriting varies in the integer epochs

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingSettings:
        """Settings as they were stored. What this version does not know any more is left out."""
        known = {one.name for one in fields(cls)}
        values = {"final_variation": 1.0} | {name: value for name, value in values.items() if name in known}
        # Runs from before these were there had none, and varied as much to the end.
        stored = {
            "position": False,
            "neighbours": False,
            **values["network"],
            "stem": tuple(values["network"]["stem"]),
        }
        network = NetworkConfig(**stored)
        return cls(**{**values, "network": network, "variation": mnist.Variation(**values["variation"])})


@dataclass(frozen=True)
class EpochReport:
    """The figures of an epoch; a line of `metrics.jsonl`.

    Loss and training accuracy are those of the images shown: with
    `focus`, of harder ones than there are.
    """

    epoch: int
    arithmetic: str
    time_steps: int
    loss: float
    train_accuracy: float
    validation_accuracy: list[float]  # after 1..T steps
    unipen_accuracy: (
        list[float] | None
    )  # the same of UNIPEN's validation writers; None if none were trained on
    activity: float
    seconds: float


Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each batch, on a GPU a few times a second, with (batches done, batches, running figures)."""


class ActivityMeter:
    """Share of all synaptic operations that spikes cause, counting each spike by its fan-out.

    sum(spikes * (fan_out + SPIKE_COST)) / sum(neurons * (fan_out + SPIKE_COST)): 1 if every neuron spikes at
    every step. Weighted so because a spike costs what it drives.
    """

    def __init__(self, config: NetworkConfig, device: torch.device) -> None:
        self.costs = {
            name: torch.from_numpy(fan_out_map(layer) + SPIKE_COST).to(device)
            for name, layer in layers_of(config).items()
            if name not in ("input", "output")
        }
        self.total = sum(float(cost.sum()) for cost in self.costs.values())

    def __call__(self, layers: dict[str, Tensor]) -> Tensor:
        if not self.costs:
            return torch.zeros(())
        terms = [(layers[name].mean((0, 1)) * cost).sum() for name, cost in self.costs.items()]
        return torch.stack(terms).sum() / self.total


def prefix_logits(potentials: Tensor) -> Tensor:
    """Logits after each number of steps: the mean potential so far. [T, N, 10] -> [T, N, 10]."""
    steps = torch.arange(1, len(potentials) + 1, device=potentials.device)
    return potentials.cumsum(0) / steps[:, None, None]


def activity_target(epoch: int, settings: TrainingSettings) -> float:
    """Compute the activity that costs nothing in an epoch: it falls in a line over the first half of the run."""
    left = max(0.0, 1.0 - epoch / max(1.0, settings.epochs / 2))
    return settings.activity_target + left * max(0.0, settings.activity_start - settings.activity_target)


def hint_weight(epoch: int, settings: TrainingSettings) -> float:
    """What hints count in an epoch: less in each float epoch, for in the end it is answers that matter."""
    return settings.hint * max(0.0, 1.0 - epoch / max(1, settings.epochs - settings.integer_epochs))


def answer_losses(
    potentials: Tensor, labels: Tensor, settings: TrainingSettings, taught: Tensor | None = None
) -> Tensor:
    """How wrong the answers to each image are: cross-entropy, the mean over all steps. potentials [T, N, 10] -> [N].

    `taught` are the teacher's logits [N, 10]: then every step also has to answer as softly as the teacher does.
    """
    logits = prefix_logits(potentials)  # [T, N, 10]
    repeated = labels.expand(len(logits), -1)
    losses = F.cross_entropy(
        logits.flatten(0, 1), repeated.flatten(), label_smoothing=settings.label_smoothing, reduction="none"
    ).view_as(repeated)
    if taught is not None:
        apart = distance(logits, taught.expand_as(logits), settings.temperature)
        losses = torch.lerp(losses, apart, settings.distillation)
    return losses.mean(0)


def loss_function(
    run: Run, labels: Tensor, answers: Tensor, excess: Tensor, settings: TrainingSettings
) -> Tensor:
    """`answer_losses` [N] of the batch, likelihood of the output spikes wanted, and the price of excess activity."""
    wanted = F.one_hot(labels, CLASSES).to(run.potentials.dtype).expand_as(run.potentials)
    likelihood = F.binary_cross_entropy_with_logits(run.potentials, wanted)
    return answers.mean() + settings.output_likelihood * likelihood + settings.activity_price * F.relu(excess)


class Trainer:
    """One run: its network, optimiser, data and folder. `run()` trains what is left of it."""

    def __init__(
        self,
        settings: TrainingSettings,
        folder: Path,
        device: torch.device,
        data_root: Path | None,
        compiled: bool = False,
        network: SpikingNetwork | None = None,
    ) -> None:
        """`network` is what training begins with; None for one of random weights, as `settings.network` says."""
        self.settings, self.folder, self.device = settings, folder, device
        self.processes = Processes(device)
        torch.set_flush_denormal(
            True
        )  # gradients of silent layers are tiny, and slow where they are denormal
        torch.manual_seed(settings.seed)
        allow_tf32(settings.precision)
        images, labels = mnist.load("train", data_root, settings.held_out)
        if settings.limit:
            images, labels = images[: settings.limit], labels[: settings.limit]
        images, labels = mnist.with_unipen(images, labels, settings.unipen, data_root)
        self.data_sha256 = mnist.sha256(images, labels)
        self.images = torch.from_numpy(images.copy()).to(device)
        self.labels = torch.from_numpy(labels.copy()).to(device)
        held_out = mnist.load("validation", data_root, settings.held_out)
        size = min(len(held_out[0]), settings.limit or len(held_out[0]))
        self.validation = held_out[0][:size], held_out[1][:size]
        self.unipen = mnist.unipen_pictures("validation", data_root) if settings.unipen else None
        self.network = (network or make_network(settings.network)).to(device)
        self.teacher = load_teacher(Path(settings.teacher), device)[0] if settings.teacher else None
        self.hints = self._hints()
        self.averaged = averaged_copy(self.network, settings.averaging)
        # Whole batches alone are compiled: each further shape would cost half a minute.
        self.compiled = torch.compile(self.learn_from, dynamic=False) if compiled else self.learn_from
        decayed = [p for p in self.network.parameters() if p.dim() > 1]
        plain = [p for p in self.network.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": plain, "weight_decay": 0.0},
                *([{"params": list(self.hints.parameters()), "weight_decay": 0.0}] if self.hints else []),
            ],
            lr=settings.learning_rate,
            fused=True if device.type == "cuda" else None,
        )
        self.activity = ActivityMeter(settings.network, device)
        self.focus = Focus(len(self.images), settings.focus, device)
        self.epoch = 0
        self.best = -1.0

    def _hints(self) -> Hints | None:
        """What compares the network with its teacher, where that is asked for and there is a teacher."""
        if self.teacher is None or self.settings.hint == 0.0 or self.settings.network.kind == "glm":
            return None
        return Hints(self.settings.network, self.teacher.width).to(self.device)

    @property
    def exported(self) -> SpikingNetwork:
        """The network with averaged weights: what is validated and exported."""
        network = self.averaged.module
        assert isinstance(network, SpikingNetwork)
        return network

    @property
    def batches(self) -> int:
        return math.ceil(len(self.images) / self.settings.batch_size)

    def run(self, progress: Progress, report: Callable[[EpochReport], None]) -> None:
        """Train the epochs that are left. After each, a checkpoint and a line of metrics."""
        if self.processes.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / SETTINGS).write_text(json.dumps(self.settings.as_dict(), indent=2) + "\n")
        while self.epoch < self.settings.epochs:
            result = self.train_epoch(progress)
            if not self.processes.first:
                continue
            score = float(np.mean(result.validation_accuracy + (result.unipen_accuracy or [])))
            if result.arithmetic == "integer" and score >= self.best:
                self.best = score
                self.save(BEST)
            self.save(CHECKPOINT)
            with (self.folder / METRICS).open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
            report(result)

    def train_epoch(self, progress: Progress) -> EpochReport:
        """As many images as there are to train on, then accuracy on the validation images."""
        settings, started = self.settings, time.monotonic()
        generator = generator_of(self.device, settings.seed, self.epoch)
        integer = self.epoch >= settings.epochs - settings.integer_epochs
        steps = settings.final_time_steps if integer else settings.time_steps
        variation = settings.variation.times(settings.final_variation) if integer else settings.variation
        self.network.integer = self.exported.integer = integer
        self.network.train()
        if integer:
            freeze_normalisation(self.network)
        free = torch.tensor(activity_target(self.epoch, settings), device=self.device)
        hint = torch.tensor(hint_weight(self.epoch, settings), device=self.device)
        totals = {
            name: torch.zeros((), dtype=torch.float64, device=self.device)
            for name in ("loss", "accuracy", "activity")
        }
        refresh = Refresh()
        order = self.processes.agreed(self.focus.order(generator))
        batches = presented(self.images, self.labels, settings.batch_size, variation, generator, order=order)
        for number, (probability, labels) in enumerate(batches):
            count = len(labels)
            if count < self.processes.count:
                continue  # somebody's share would be empty
            self._set_learning_rate(self.epoch + number / self.batches)
            rates = mnist.tuned(probability, settings.network.rate_slope)
            spikes = (self._uniform(generator, steps, *rates.shape) < rates).float()
            uniforms = self._uniform(generator, steps, count, CLASSES)
            # Every process draws the whole batch, so that what is learned does not depend on their number.
            mine = self.processes.share(torch.arange(count, device=self.device))
            probability, labels = probability[mine], labels[mine]
            learn_from = self.compiled if count == settings.batch_size else self.learn_from
            loss, activity, right, answers = learn_from(
                spikes[:, mine],
                uniforms[:, mine],
                labels,
                self._taught(probability),
                free,
                hint,
            )
            if settings.focus:
                shown_now = order[number * settings.batch_size :][:count]
                self.focus.note(shown_now, self.processes.whole(answers.detach(), count))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.processes.average_gradients(self.network)
            if self.hints is not None:
                self.processes.average_gradients(self.hints)
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.averaged.update_parameters(self.network)
            for name, value in (("loss", loss), ("accuracy", right), ("activity", activity)):
                totals[name] += value.detach() * (count / len(self.images))
            if refresh.due(self.device) or number + 1 == self.batches:
                figures = {"loss": float(loss.detach()), "activity": float(activity.detach())}
                progress(number + 1, self.batches, figures)
        self.processes.average_statistics(self.network)
        self.processes.average_statistics(self.averaged)
        self.epoch += 1

        def accuracy(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[float]:
            draws = VALIDATION_DRAWS if integer else 1
            return accuracy_by_step(self.exported, images, labels, settings.final_time_steps, draws)

        return EpochReport(
            epoch=self.epoch,
            arithmetic="integer" if integer else "float",
            time_steps=steps,
            loss=self.processes.mean(float(totals["loss"])),
            train_accuracy=self.processes.mean(float(totals["accuracy"])),
            validation_accuracy=accuracy(*self._validation(integer)),
            unipen_accuracy=accuracy(*self.unipen) if self.unipen else None,
            activity=self.processes.mean(float(totals["activity"])),
            seconds=time.monotonic() - started,
        )

    def learn_from(
        self,
        spikes: Tensor,
        uniforms: Tensor,
        labels: Tensor,
        taught: Explanation | None,
        free: Tensor,
        hint: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Loss, activity and share of right answers of a batch, and `answer_losses` [N]; all that is compiled.

        spikes [T, N, 1, 28, 28], uniforms [T, N, 10], labels [N], `free` activity and weight of a `hint`: scalars.
        """
        precision: Precision = "float32" if self.network.integer else self.settings.precision
        with mixed(precision, self.device):
            run: Run = self.network(spikes, uniforms)
        activity = self.activity(run.layers)
        answers = answer_losses(run.potentials, labels, self.settings, taught.logits if taught else None)
        loss = loss_function(run, labels, answers, activity - free, self.settings)
        if self.hints is not None and taught is not None and not self.network.integer:
            loss = loss + hint * self.hints(run, taught)
        right = (prefix_logits(run.potentials.detach())[-1].argmax(-1) == labels).float().mean()
        return loss, activity, right, answers

    def _uniform(self, generator: torch.Generator, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=self.device)

    def _taught(self, probability: Tensor) -> Explanation | None:
        """What the teacher answers to firing probabilities [N, 1, 28, 28], and what it sees."""
        if self.teacher is None:
            return None
        with torch.no_grad(), mixed(teacher_precision(self.settings.precision), self.device):
            found = self.teacher.explain(probability)
        return Explanation(*(part.float() for part in found))

    def _validation(self, whole: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The validation images; while nothing is chosen by them, a fifth is enough to watch."""
        images, labels = self.validation
        few = math.ceil(len(images) / 5)
        return (images, labels) if whole else (images[:few], labels[:few])

    def _set_learning_rate(self, epoch: float) -> None:
        """A warm-up of half an epoch, then half a cosine down to 1 % at the end of the run."""
        settings = self.settings
        warm = min(1.0, epoch / 0.5 + 0.01)
        cosine = 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * warm * (0.01 + 0.99 * cosine)

    def save(self, name: str) -> None:
        """Write a checkpoint whole or not at all: a stop in the middle leaves the one before."""
        contents = {
            "settings": self.settings.as_dict(),
            "network": self.exported.state_dict(),
            "latest": self.network.state_dict(),
            "averaged_over": self.averaged.n_averaged,
            "optimizer": self.optimizer.state_dict(),
            "hints": self.hints.state_dict() if self.hints else None,
            "hardness": self.focus.hardness,
            "epoch": self.epoch,
            "best": self.best,
            "data_sha256": self.data_sha256,
        }
        partial = self.folder / (name + ".partial")
        torch.save(contents, partial)
        partial.replace(self.folder / name)

    def save_interrupted(self) -> None:
        """Leave a checkpoint when a run is stopped in its first epoch; later ones have that of the last epoch.

        Weights from the middle of an epoch would make the resumed run differ from an unbroken one.
        """
        if self.processes.first and not (self.folder / CHECKPOINT).exists():
            self.save(CHECKPOINT)

    def resume(self) -> None:
        """Go on from the folder's last checkpoint. Raises FileNotFoundError if there is none."""
        contents = torch.load(self.folder / CHECKPOINT, map_location=self.device, weights_only=True)
        self.network.load_state_dict(renamed(contents["latest"]))
        self.exported.load_state_dict(renamed(contents["network"]))
        self.averaged.n_averaged.copy_(contents["averaged_over"])
        for group in contents["optimizer"]["param_groups"]:  # of this device, not of the one before
            group["fused"] = True if self.device.type == "cuda" else None
        self.optimizer.load_state_dict(contents["optimizer"])
        if self.hints is not None:
            self.hints.load_state_dict(contents["hints"])
        if self.settings.focus:
            self.focus.hardness.copy_(contents["hardness"])
        self.epoch, self.best = contents["epoch"], contents["best"]


def freeze_normalisation(network: nn.Module) -> None:
    """Keep the statistics of batch normalisation as they are: they are part of the integers now."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()


@torch.no_grad()
def accuracy_by_step(
    network: SpikingNetwork,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    steps: int,
    draws: int = 1,
) -> list[float]:
    """Share of right answers after 1..T steps, by mean potential, no calibration. For choosing, not reporting.

    The mean over so many draws of the encoder; the first is the same whatever their number.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    right = torch.zeros(steps, device=device)
    generators = [torch.Generator().manual_seed(seed) for seed in range(draws)]
    for start in range(0, len(images), 500):
        pixels = torch.from_numpy(images[start : start + 500].copy()).to(device)
        truth = torch.from_numpy(labels[start : start + 500].copy()).to(device)
        rates = mnist.tuned(mnist.firing_probabilities(pixels), network.config.rate_slope)
        for generator in generators:
            # Drawn on the CPU, so that a network is judged by the same spikes wherever it is.
            trains = torch.rand(steps, *rates.shape, generator=generator).to(device) < rates
            uniforms = torch.rand(steps, len(rates), CLASSES, generator=generator).to(device)
            run = network(trains.float(), uniforms)
            answers = prefix_logits(run.potentials).argmax(-1)  # [T, N]
            right += (answers == truth).float().sum(1)
    network.train(was_training)
    return [round(float(x), 6) for x in right / (draws * len(images))]


RENAMED = (
    (r"^(gamma|feedback)$", r"readout.\1"),
    (r"^readout$", "readout.weight"),
    (r"^(position|stem\d)", r"stem.\1"),
    (r"^(blocks\.\d+)\.(query|key|value|projection)", r"\1.attention.\2"),
    (r"^(blocks\.\d+)\.attention_threshold", r"\1.attention.threshold"),
    (r"^(blocks\.\d+)\.(expand|contract)", r"\1.mlp.\2"),
)
"""What parameters are called in checkpoints of 1.6.0 and before, and what they are called now."""


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of a checkpoint today's names, if it has others."""
    for before, now in RENAMED:
        weights = {re.sub(before, now, name): values for name, values in weights.items()}
    return weights


def load_network(checkpoint: Path) -> tuple[SpikingNetwork, TrainingSettings, dict[str, Any]]:
    """Network of a checkpoint, in integer arithmetic and ready to evaluate, with how it was trained."""
    contents = torch.load(checkpoint, map_location="cpu", weights_only=True)
    settings = TrainingSettings.from_dict(contents["settings"])
    network = make_network(settings.network)
    network.load_state_dict(renamed(contents["network"]))
    network.integer = True
    return network.eval(), settings, contents
