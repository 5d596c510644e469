"""Evaluation of an exported model: what `models/<name>` does, measured through the service's own engine.

Only this module reads the test set. Each image is simulated for all steps once; accuracy after every number
of steps and under the stopping rule both follow from the potentials, since a prefix does not depend on
what comes after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.card import Card
from service.decision import class_probabilities
from service.encoding import Encoder, contrast, encode
from service.engine.base import SteppingEngine
from service.operations import SynapticOperations
from training.calibrate import expected_calibration_error, stop

CHUNK = 100
SEED_STRIDE = 1_000_000  # image i of encoder seed s runs with seed s * SEED_STRIDE + i


@dataclass(frozen=True)
class Trial:
    """All steps of N images with one encoder seed. T steps."""

    potentials: NDArray[np.int64]  # [T, N, 10] integer units
    spikes: dict[str, NDArray[np.int64]]  # layer -> [T, N] spikes of the layer
    accumulates: NDArray[np.int64]  # [T, N] additions caused by spikes
    multiply_accumulates: NDArray[np.int64]  # [T, N] products of nonzero filtered pixels with weights

    def probabilities(self, card: Card) -> NDArray[np.float64]:
        """Calibrated class probabilities after each step. [T, N, 10]."""
        evidence = self.potentials.cumsum(0)
        return np.stack([class_probabilities(card, evidence[t], t) for t in range(len(evidence))])


def simulate(
    engine: SteppingEngine,
    images: NDArray[np.uint8],
    seed: int,
    steps: int,
    encoder: Encoder = "bernoulli",
    progress: Callable[[int], None] = lambda images_done: None,
) -> Trial:
    """Simulate all `steps` for images uint8 [N, 28, 28]; image i has seed `seed` * 1,000,000 + i."""
    card, count = engine.card, len(images)
    potentials = np.zeros((steps, count, card.layers[-1].shape[0]), np.int64)
    spikes = {name: np.zeros((steps, count), np.int64) for name in card.layer_names}
    accumulates = np.zeros((steps, count), np.int64)
    products = np.zeros((steps, count), np.int64)
    operations = SynapticOperations(card)
    for start in range(0, count, CHUNK):
        chunk = slice(start, min(start + CHUNK, count))
        seeds = [seed * SEED_STRIDE + i for i in range(chunk.start, chunk.stop)]
        trains, uniforms = encode(contrast(images[chunk]), seeds, steps, encoder)
        state = engine.initial_state(len(seeds))
        for t in range(steps):
            step = engine.step(state, trains[t], uniforms[t])
            state = step.state
            potentials[t, chunk] = step.potential
            layers = {"input": trains[t], **step.spikes, "output": step.output_spikes}
            for name, values in layers.items():
                spikes[name][t, chunk] = values.reshape(len(seeds), -1).sum(1)
            accumulates[t, chunk], products[t, chunk] = operations.step(step.spikes, state["state.input"])
        progress(chunk.stop)
    return Trial(potentials, spikes, accumulates, products)


def evaluate(
    engine: SteppingEngine,
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
    confusion = np.zeros((10, 10), np.int64)
    for seed in range(seeds):

        def trial_progress(done: int, before: int = seed * len(images)) -> None:
            progress(before + done)

        trial = simulate(engine, images, seed, steps, progress=trial_progress)
        probabilities = trial.probabilities(card)
        by_step.append((probabilities.argmax(-1) == labels).mean(1))
        stopped = stop(probabilities, card.calibration.confidence)
        stopped_accuracy.append(stopped.accuracy(labels))
        steps_used.append(stopped.steps.mean())
        errors.append(expected_calibration_error(stopped.probabilities, labels))
        np.add.at(confusion, (labels, stopped.probabilities.argmax(-1)), 1)
        ran = np.arange(steps)[:, None] < stopped.steps  # [T, N]: steps that the service would simulate
        for layer in card.layers:
            rates[layer.name].append(float(trial.spikes[layer.name][ran].mean() / np.prod(layer.shape)))
        accumulates.append((trial.accumulates * ran).sum(0).mean())
        products.append((trial.multiply_accumulates * ran).sum(0).mean())
    table = np.array(by_step)  # [seeds, T]
    inner = [layer for layer in card.layers if layer.name not in ("input", "output")]
    neurons = np.array([np.prod(layer.shape) for layer in inner], float)
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
        "firing_rate": {name: float(np.mean(values)) for name, values in rates.items()},
        "mean_firing_rate": {
            "over_layers": float(mean_rates.mean()),
            "over_neurons": float((mean_rates * neurons).sum() / neurons.sum()),
        },
        "synaptic_operations": {
            "accumulates": float(np.mean(accumulates)),
            "multiply_accumulates": float(np.mean(products)),
        },
        "confusion": confusion.tolist(),
    }


def _spread(values: NDArray[Any]) -> dict[str, float]:
    """Mean and sample standard deviation over seeds."""
    return {"mean": float(values.mean()), "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0}
