"""Evaluation of an exported model: what `models/<name>` does, measured through the service's own engine.

Only this module reads the test set. Each image is simulated for all steps once; accuracy after every number
of steps and under the stopping rule both follow from the potentials, since a prefix does not depend on
what comes after it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spikehead.engine.base import Engine, Outcome, Rule, StepCounts, Stimulus
from spikehead.model.card import Card
from spikehead.model.decision import class_probabilities
from spikehead.model.encoding import Encoder

from training.data.distortions import DISTORTIONS, distorted
from training.data.mnist import Variation, vary
from training.measure.calibrate import Stopped, expected_calibration_error, stop
from training.measure.synapse_noise import write_perturbed

CHUNK = 100
CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)
"""That `evaluate` tells accuracy, steps and additions for: what a request may ask for instead of the model's own."""
SURE = 0.9
"""Confidence from which on an answer to a character that is no digit counts as one that would be believed."""
SEED_STRIDE = 1_000_000  # image i of encoder seed s runs with seed s * SEED_STRIDE + i


def simulate(
    engine: Engine,
    images: NDArray[np.uint8],
    seed: int,
    steps: int,
    encoder: Encoder = "bernoulli",
    progress: Callable[[int], None] = lambda images_done: None,
) -> StepCounts:
    """Simulate all `steps` for images uint8 [N, 28, 28]; image i has seed `seed` * 1,000,000 + i."""
    parts = []
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        seeds = [seed * SEED_STRIDE + start + i for i in range(len(chunk))]
        parts.append(engine.by_step(chunk, seeds, steps, encoder))
        progress(start + len(chunk))
    return StepCounts(
        potentials=np.concatenate([part.potentials for part in parts], 1),
        spikes={name: np.concatenate([part.spikes[name] for part in parts], 1) for name in parts[0].spikes},
        accumulates=np.concatenate([part.accumulates for part in parts], 1),
        multiply_accumulates=np.concatenate([part.multiply_accumulates for part in parts], 1),
    )


def probabilities_of(card: Card, trial: StepCounts) -> NDArray[np.float64]:
    """Calibrated class probabilities after each step. [T, N, 10]."""
    evidence = trial.potentials.cumsum(0)
    return np.stack([class_probabilities(card, evidence[t], t) for t in range(len(evidence))])


def evaluate(
    engine: Engine,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    seeds: int = 5,
    progress: Callable[[int], None] = lambda images_done: None,
) -> dict[str, Any]:
    """Figures of a model on a set of images, mean and spread over encoder seeds. JSON-ready."""
    card = engine.card
    steps = card.max_steps
    by_step, stopped_accuracy, steps_used, errors = [], [], [], []
    rates: dict[str, list[float]] = {name: [] for name in card.layer_names}
    accumulates, products = [], []
    traded = np.zeros((len(CONFIDENCES), 3))  # accuracy, steps, additions
    confusion = np.zeros((10, 10), np.int64)
    for seed in range(seeds):

        def trial_progress(done: int, before: int = seed * len(images)) -> None:
            progress(before + done)

        trial = simulate(engine, images, seed, steps, progress=trial_progress)
        probabilities = probabilities_of(card, trial)
        by_step.append((probabilities.argmax(-1) == labels).mean(1))
        stopped = stop(probabilities, card.calibration.confidence)
        stopped_accuracy.append(stopped.accuracy(labels))
        steps_used.append(stopped.steps.mean())
        errors.append(expected_calibration_error(stopped.probabilities, labels))
        np.add.at(confusion, (labels, stopped.probabilities.argmax(-1)), 1)
        ran = np.arange(steps)[:, None] < stopped.steps  # [T, N]: steps that the service would simulate
        for layer in card.layers:
            rates[layer.name].append(float(trial.spikes[layer.name][ran].mean() / layer.size))
        for row, confidence in zip(traded, CONFIDENCES, strict=True):
            other = stop(probabilities, confidence)
            sooner = np.arange(steps)[:, None] < other.steps
            added = (trial.accumulates * sooner).sum(0).mean()
            row += np.array([other.accuracy(labels), other.steps.mean(), added]) / seeds
        accumulates.append((trial.accumulates * ran).sum(0).mean())
        products.append((trial.multiply_accumulates * ran).sum(0).mean())
    table = np.array(by_step)  # [seeds, T]
    inner = [layer for layer in card.layers if layer.name not in ("input", "output")]
    neurons = np.array([layer.size for layer in inner], float)
    mean_rates = np.array([np.mean(rates[layer.name]) for layer in inner])
    return {
        "model": card.name,
        "version": card.version,
        "graph_sha256": card.graph.sha256,
        "images": len(images),
        "seeds": seeds,
        "accuracy_by_step": [{"steps": t + 1, **_spread(table[:, t])} for t in range(steps)],
        "stopping": {
            "confidence": card.calibration.confidence,
            "accuracy": _spread(np.array(stopped_accuracy)),
            "steps": _spread(np.array(steps_used)),
            "expected_calibration_error": _spread(np.array(errors)),
        },
        "by_confidence": [
            {
                "confidence": confidence,
                "accuracy": float(row[0]),
                "steps": float(row[1]),
                "accumulates": float(row[2]),
            }
            for confidence, row in zip(CONFIDENCES, traded, strict=True)
        ]
        if steps > 1
        else [],
        "firing_rate": {name: float(np.mean(values)) for name, values in rates.items()},
        "mean_firing_rate": {
            "over_layers": float(mean_rates.mean()),
            "over_neurons": float((mean_rates * neurons).sum() / neurons.sum()),
        }
        if inner  # the GLM network has no hidden layer
        else None,
        "synaptic_operations": {
            "accumulates": float(np.mean(accumulates)),
            "multiply_accumulates": float(np.mean(products)),
        },
        "confusion": confusion.tolist(),
    }


def stopped_answers(engine: Engine, images: NDArray[np.uint8], seed: int = 0) -> Stopped:
    """Steps at which each image stops under the model's rule, and what it says there, with one encoder seed."""
    card = engine.card
    if card.max_steps == 1:  # nothing to stop: images can share the step
        return stop(probabilities_of(card, simulate(engine, images, seed, 1)), 1.0)
    rule = Rule(card.max_steps, card.calibration.confidence)
    outcomes: list[Outcome] = []
    for start in range(0, len(images), CHUNK):
        seeds = [seed * SEED_STRIDE + start + i for i in range(len(images[start : start + CHUNK]))]
        outcomes += engine.classify(Stimulus(images[start : start + CHUNK], seeds), rule)
    return Stopped(
        np.array([one.steps for one in outcomes]), np.stack([one.probabilities for one in outcomes])
    )


def stopping_accuracy(
    engine: Engine, images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int = 0
) -> tuple[float, float]:
    """(share of right answers, mean steps) under the model's stopping rule, with one encoder seed."""
    stopped = stopped_answers(engine, images, seed)
    return stopped.accuracy(labels), float(stopped.steps.mean())


def unseen_writers(
    engine: Engine,
    digits: tuple[NDArray[np.uint8], NDArray[np.int64]],
    non_digits: NDArray[np.uint8],
    seeds: int = 5,
) -> dict[str, Any]:
    """Figures on UNIPEN's validation writers: digits and their labels, and characters that are none. JSON-ready.

    Of `non_digits` there is no right answer: how sure the model is of one should be low. `above` is the share of them
    that it is at least 90 % sure of, which `digits` has too.
    """

    def row(images: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> dict[str, Any]:
        trials = [stopped_answers(engine, images, seed) for seed in range(seeds)]
        confidence = np.array([one.probabilities.max(-1) for one in trials])  # [seeds, N]
        right = (
            {"accuracy": _spread(np.array([one.accuracy(labels) for one in trials]))}
            if labels is not None
            else {}
        )
        return {
            "images": len(images),
            **right,
            "confidence": float(confidence.mean()),
            "above": float((confidence >= SURE).mean()),
            "steps": _spread(np.array([one.steps.mean() for one in trials])),
        }

    return {"seeds": seeds, "sure": SURE, "digits": row(*digits), "non_digits": row(non_digits, None)}


def robustness(
    engine: Engine,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    seed: int = 1,
    progress: Callable[[int], None] = lambda distortions_done: None,
    drawn: Mapping[str, NDArray[np.uint8]] | None = None,
) -> dict[str, Any]:
    """Accuracy and steps under each distortion of `training.data.distortions`, drawn by `seed`. JSON-ready.

    `drawn` may bring the distorted images along, where several models see the same ones.
    """
    rows = {}
    for number, name in enumerate(DISTORTIONS, 1):
        seen = distorted(images, name, seed) if drawn is None else drawn[name]
        accuracy, steps = stopping_accuracy(engine, seen, labels)
        rows[name] = {"accuracy": accuracy, "steps": steps}
        progress(number)
    mean = float(np.mean([row["accuracy"] for row in rows.values()]))
    return {"seed": seed, "mean_accuracy": mean, "distortions": rows}


def rewritten(images: NDArray[np.uint8], draw: int) -> NDArray[np.uint8]:
    """The digits as other hands would write them: shifted, rotated, bent as in training. uint8 [N, 28, 28] -> same."""
    generator = torch.Generator().manual_seed(draw)
    return np.asarray(vary(torch.from_numpy(images.copy()), Variation(), generator).numpy())


def handwriting(
    engine: Engine,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    draws: int,
    progress: Callable[[int], None] = lambda draws_done: None,
    drawn: Sequence[NDArray[np.uint8]] | None = None,
) -> dict[str, Any]:
    """Accuracy and steps on `rewritten` digits, over so many draws of them. JSON-ready.

    It has several times as many errors as the digits themselves, so that fewer of them tell networks apart. `drawn`
    may bring the rewritten images along.
    """
    accuracies, steps = [], []
    for draw in range(draws):
        seen = rewritten(images, draw) if drawn is None else drawn[draw]
        found = stopping_accuracy(engine, seen, labels, draw)
        accuracies.append(found[0])
        steps.append(found[1])
        progress(draw + 1)
    return {"draws": draws, "accuracy": _spread(np.array(accuracies)), "steps": _spread(np.array(steps))}


def synapse_noise(
    model: Path,
    load: Callable[[Path], Engine],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    sigma: float,
    stuck: float,
    draws: int,
    progress: Callable[[int], None] = lambda draws_done: None,
) -> dict[str, Any]:
    """Accuracy of a model whose synapses are read back from imperfect cells, over several draws of them.

    `load` makes an engine of a model folder. See `training.measure.synapse_noise`. JSON-ready.
    """
    accuracies, steps = [], []
    for draw in range(draws):
        with tempfile.TemporaryDirectory() as folder:
            write_perturbed(model, Path(folder), sigma, stuck, draw)
            found = stopping_accuracy(load(Path(folder)), images, labels, draw)
        accuracies.append(found[0])
        steps.append(found[1])
        progress(draw + 1)
    return {
        "sigma": sigma,
        "stuck_at": stuck,
        "draws": draws,
        "accuracy": _spread(np.array(accuracies)),
        "steps": _spread(np.array(steps)),
    }


def _spread(values: NDArray[Any]) -> dict[str, float]:
    """Mean and sample standard deviation over seeds."""
    return {"mean": float(values.mean()), "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0}
