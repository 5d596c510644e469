"""Simulation of images: from 28 x 28 pixels to an answer, step by step, each image until it is sure enough.

Three phases, each a function that can be called alone: `encode` makes spike trains, `simulate` runs the
network, `describe` says what came out. (`service.images` comes before: it makes the pixels.) Images that are
simulated together share the steps of the engine; those that have stopped leave it. An image with a seed
gives the same answer alone and in any company.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import encoding
from service.card import Card
from service.decision import class_probabilities
from service.diagnostics import raster, spike_counts
from service.encoding import CLASSES, MAX_SEED, SIDE, Encoder
from service.engine.base import Array, Engine
from service.operations import SynapticOperations
from service.options import Options


@dataclass(frozen=True)
class Stimulus:
    """What is shown to the network, with all randomness of the runs: N images, T steps."""

    spikes: NDArray[np.float32]  # [T, N, 1, 28, 28]
    uniforms: NDArray[np.float32]  # [T, N, 10]


@dataclass
class Tally:
    """What has been counted for N images so far."""

    evidence: NDArray[np.int64]  # [N, 10] sum of membrane potentials
    output_counts: NDArray[np.int64]  # [N, 10]
    counts: dict[str, NDArray[np.int64]]  # layer -> [N] spikes
    accumulates: NDArray[np.int64]  # [N] additions
    multiply_accumulates: NDArray[np.int64]  # [N] products
    recorded: dict[str, list[list[Array]]]  # layer -> image -> spikes of each step


@dataclass(frozen=True)
class Outcome:
    """One image's run."""

    steps: int
    stopped_by: str
    probabilities: NDArray[np.float64]  # [10]
    output_counts: NDArray[np.int64]  # [10]
    counts: dict[str, int]  # layer -> spikes
    accumulates: int
    multiply_accumulates: int
    recorded: dict[str, NDArray[Any]] = field(default_factory=dict)  # layer -> {0, 1} [T, *shape]


def seeds_of_batch(seed: int, count: int) -> list[int]:
    """Seed of each image: image i has `seed` + i, modulo 2**64."""
    return [(seed + i) & MAX_SEED for i in range(count)]


class Simulator:
    """A model and what is counted on it. Holds nothing of a request, so threads can share it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.card: Card = engine.card
        self._operations = SynapticOperations(engine.card)

    def classify(
        self, images: NDArray[np.uint8], seeds: Sequence[int], options: Options, decode_ms: Sequence[float]
    ) -> Iterator[dict[str, Any]]:
        """Answers for images uint8 [N, 28, 28], in order, each with its seed and the time its decoding took.

        An answer is made when it is asked for: a raster is large, and need not be there with all others.

        Of `options`, the seed is not used: `seeds` has one for each image.
        """
        began = time.perf_counter()
        stimulus = encode(images, seeds, options.max_steps, options.encoder)
        encoded = time.perf_counter()
        outcomes = self.simulate(stimulus, options)
        simulated = time.perf_counter()
        encode_ms, simulate_ms = (
            (b - a) * 1000 / len(images) for a, b in [(began, encoded), (encoded, simulated)]
        )
        return (
            self.describe(
                outcome, seed, options, {"decode": decoding, "encode": encode_ms, "simulate": simulate_ms}
            )
            for outcome, seed, decoding in zip(outcomes, seeds, decode_ms, strict=True)
        )

    def simulate(self, stimulus: Stimulus, options: Options) -> list[Outcome]:
        """Step by step; after each step, the images that are sure enough leave."""
        count = stimulus.spikes.shape[1]
        tally = self._tally(count, options.raster)
        outcomes: dict[int, Outcome] = {}
        active = np.arange(count)
        state = self.engine.initial_state(count)
        for t in range(options.max_steps):
            everyone = len(active) == count
            trains = stimulus.spikes[t] if everyone else stimulus.spikes[t, active]  # [n, 1, 28, 28]
            uniforms = stimulus.uniforms[t] if everyone else stimulus.uniforms[t, active]  # [n, 10]
            step = self.engine.step(state, trains, uniforms)
            tally.evidence[active] += step.potential.astype(np.int64)
            tally.output_counts[active] += step.output_spikes.astype(np.int64)
            layers = {"input": trains, **step.spikes, "output": step.output_spikes}
            for name, spikes in layers.items():
                tally.counts[name][active] += spike_counts(spikes)
            accumulates, products = self._operations.step(step.spikes, step.state["state.input"])
            tally.accumulates[active] += accumulates
            tally.multiply_accumulates[active] += products
            for name, recorded in tally.recorded.items():
                for image, spikes in zip(active.tolist(), layers[name], strict=True):
                    recorded[image].append(spikes != 0)
            probabilities = class_probabilities(self.card, tally.evidence[active], t)  # [n, 10]
            sure = probabilities.max(axis=1) >= options.confidence
            stopping = sure if t + 1 < options.max_steps else np.ones_like(sure)
            if not stopping.any():
                state = step.state
                continue
            for position in np.flatnonzero(stopping).tolist():
                image = int(active[position])
                reason = "confidence" if sure[position] else "max_steps"
                outcomes[image] = _outcome(tally, image, t + 1, reason, probabilities[position])
            active = active[~stopping]
            if not len(active):
                break
            state = {name: values[~stopping] for name, values in step.state.items()}
        return [outcomes[image] for image in range(count)]

    def _tally(self, count: int, recorded: Sequence[str]) -> Tally:
        return Tally(
            evidence=np.zeros((count, CLASSES), np.int64),
            output_counts=np.zeros((count, CLASSES), np.int64),
            counts={name: np.zeros(count, np.int64) for name in self.card.layer_names},
            accumulates=np.zeros(count, np.int64),
            multiply_accumulates=np.zeros(count, np.int64),
            recorded={name: [[] for _ in range(count)] for name in recorded},
        )

    def describe(
        self, outcome: Outcome, seed: int, options: Options, timings_ms: dict[str, float]
    ) -> dict[str, Any]:
        """The answer as it goes over the wire, but for the id."""
        prediction = int(outcome.probabilities.argmax())  # the lowest class wins a tie
        answer: dict[str, Any] = {
            "model": self.card.name,
            "model_version": self.card.version,
            "engine": self.engine.name,
            "prediction": prediction,
            "confidence": float(outcome.probabilities[prediction]),
            "class_probabilities": outcome.probabilities.tolist(),
            "spike_counts": {
                "input": outcome.counts["input"],
                "layers": {name: outcome.counts[name] for name in self.card.layer_names[1:-1]},
                "output": outcome.output_counts.tolist(),
            },
            "steps_used": outcome.steps,
            "max_steps": options.max_steps,
            "stopped_by": outcome.stopped_by,
            "confidence_threshold": options.confidence,
            "seed": seed,
            "encoder": options.encoder,
            "synaptic_operations": outcome.accumulates + outcome.multiply_accumulates,
            "synaptic_operations_by_kind": {
                "accumulates": outcome.accumulates,
                "multiply_accumulates": outcome.multiply_accumulates,
            },
            "timings_ms": {name: round(value, 4) for name, value in timings_ms.items()},
        }
        if options.raster:
            answer["raster"] = {
                name: raster(self.card.layer(name), outcome.recorded[name]) for name in options.raster
            }
        return answer

    def warm_up(self) -> None:
        """Simulate a made-up picture, alone and with a companion, so that the first request finds all ready."""
        picture = np.zeros((2, SIDE, SIDE), np.uint8)
        picture[:, 4:24, 12:16] = 255
        options = Options(max_steps=self.card.max_steps, confidence=1.0, seed=0)
        for count in (1, 2):
            list(self.classify(picture[:count], range(count), options, [0.0] * count))


def encode(images: NDArray[np.uint8], seeds: Sequence[int], steps: int, encoder: Encoder) -> Stimulus:
    """Contrast, then spike trains and uniform numbers. uint8 [N, 28, 28], N seeds."""
    return Stimulus(*encoding.encode(encoding.contrast(images), seeds, steps, encoder))


def _outcome(
    tally: Tally, image: int, steps: int, stopped_by: str, probabilities: NDArray[np.float64]
) -> Outcome:
    return Outcome(
        steps=steps,
        stopped_by=stopped_by,
        probabilities=probabilities,
        output_counts=tally.output_counts[image].copy(),
        counts={name: int(values[image]) for name, values in tally.counts.items()},
        accumulates=int(tally.accumulates[image]),
        multiply_accumulates=int(tally.multiply_accumulates[image]),
        recorded={name: np.stack(images[image]) for name, images in tally.recorded.items()},
    )
