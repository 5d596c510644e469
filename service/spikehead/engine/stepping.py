"""Runs a stepping engine: images share each step, and leave the batch once the network is sure enough of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikehead.engine.base import (
    Array,
    Outcome,
    Rule,
    SimulationState,
    StepCounts,
    SteppingEngine,
    Stimulus,
    TimeStep,
    Work,
)
from spikehead.model.card import Card
from spikehead.model.decision import class_probabilities
from spikehead.model.encoding import CLASSES, RATE_LEVELS, Encoder, encode, firing_rates, output_uniforms
from spikehead.model.retina import contrast
from spikehead.model.synaptic_operations import SynapticOperations


@dataclass(slots=True)
class SteppedOutcome:
    """The `Outcome` of a stepping engine."""

    steps: int
    stopped_by: str
    probabilities: NDArray[np.float64]
    output_counts: NDArray[np.int64]
    counts: dict[str, int]
    work: Work
    accumulates: int
    multiply_accumulates: int
    encode_ms: float
    simulate_ms: float
    recorded: dict[str, Array]


@dataclass
class _Counts:
    """Sums over the steps so far, for N images."""

    evidence: NDArray[np.int64]  # [N, 10] sum of membrane potentials
    output_counts: NDArray[np.int64]  # [N, 10]
    counts: dict[str, NDArray[np.int64]]  # layer -> [N] spikes
    operations: NDArray[np.int64]  # [layers, N] synaptic ones
    recorded: dict[str, list[list[Array]]]  # layer -> image -> spikes of each step


def classify(
    engine: SteppingEngine,
    operations: SynapticOperations,
    stimulus: Stimulus,
    rule: Rule,
    recorded: Sequence[str] = (),
) -> list[Outcome]:
    """Implement `Engine.classify` for an engine that steps. Times are shared evenly among the images."""
    began = time.perf_counter()
    seen = contrast(stimulus.images)
    spikes, uniforms = stimulate(engine.card, seen, stimulus.seeds, rule.max_steps, stimulus.encoder)
    encode_ms = (time.perf_counter() - began) * 1000 / len(seen)
    return simulate(engine, operations, spikes, uniforms, rule, recorded, encode_ms)


def stimulate(
    card: Card, seen: NDArray[np.uint8], seeds: Sequence[int], steps: int, encoder: Encoder
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make a model's input [T, N, 1, 28, 28] and its uniform numbers [T, N, 10]. seen uint8 [N, 28, 28].

    The input is spike trains, or intensities, the same at every step, for a conventional network.
    """
    if card.kind == "spiking":
        return encode(seen, seeds, steps, encoder, card.rate_slope)
    intensities = firing_rates(seen)[None, :, None] / np.float32(RATE_LEVELS)  # [1, N, 1, 28, 28]
    uniforms = np.stack([output_uniforms(seed, steps) for seed in seeds], axis=1)
    return np.broadcast_to(intensities, (steps, *intensities.shape[1:])), uniforms


def simulate(
    engine: SteppingEngine,
    operations: SynapticOperations,
    all_spikes: NDArray[np.float32],
    all_uniforms: NDArray[np.float32],
    rule: Rule,
    recorded: Sequence[str] = (),
    encode_ms: float = 0.0,
) -> list[Outcome]:
    """Simulate given spike trains. spikes float32 {0, 1} [T, N, 1, 28, 28], uniforms float32 [T, N, 10]."""
    began = time.perf_counter()
    card, count = engine.card, all_spikes.shape[1]
    sums = _zeros(card.layer_names, count, recorded)
    stopped: dict[int, tuple[int, str, NDArray[np.float64]]] = {}
    active = np.arange(count)
    state: SimulationState = {}
    for t in range(rule.max_steps):
        if card.begins_anew(t):
            state = engine.initial_state(len(active))
        nobody_left = len(active) == count
        trains = all_spikes[t] if nobody_left else all_spikes[t, active]  # [n, 1, 28, 28]
        uniforms = all_uniforms[t] if nobody_left else all_uniforms[t, active]  # [n, 10]
        step = engine.step(state, trains, uniforms)
        sums.evidence[active] += step.potential.astype(np.int64)
        sums.output_counts[active] += step.output_spikes.astype(np.int64)
        layers = {"input": trains, **step.spikes, "output": step.output_spikes}
        for name, spikes in layers.items():
            sums.counts[name][active] += np.count_nonzero(spikes.reshape(len(spikes), -1), axis=1)
        sums.operations[:, active] += operations.step(step.spikes, step.state.get("state.input", trains))
        for name, kept in sums.recorded.items():
            for image, spikes in zip(active.tolist(), layers[name], strict=True):
                kept[image].append(spikes != 0)
        probabilities = class_probabilities(card, sums.evidence[active], t)  # [n, 10]
        sure = probabilities.max(axis=1) >= rule.confidence
        stopping = sure if t + 1 < rule.max_steps else np.ones_like(sure)
        if not stopping.any():
            state = step.state
            continue
        for position in np.flatnonzero(stopping).tolist():
            reason = "confidence" if sure[position] else "max_steps"
            stopped[int(active[position])] = t + 1, reason, probabilities[position]
        active = active[~stopping]
        if not len(active):
            break
        state = {name: values[~stopping] for name, values in step.state.items()}
    simulate_ms = (time.perf_counter() - began) * 1000 / count
    kinds = operations.by_kind(sums.operations)
    return [_outcome(sums, kinds, image, *stopped[image], encode_ms, simulate_ms) for image in range(count)]


def course(
    engine: SteppingEngine, image: NDArray[np.uint8], seed: int, steps: int, encoder: Encoder
) -> Iterator[TimeStep]:
    """Implement `Engine.course` for an engine that steps."""
    trains, uniforms = stimulate(engine.card, contrast(image[None]), [seed], steps, encoder)
    state: SimulationState = {}
    for t in range(steps):
        if engine.card.begins_anew(t):
            state = engine.initial_state(1)
        step = engine.step(state, trains[t], uniforms[t])
        state = step.state
        spikes = {"input": trains[t], **step.spikes, "output": step.output_spikes}
        yield TimeStep(
            spikes={name: (values[0] != 0).astype(np.uint8) for name, values in spikes.items()},
            potential=step.potential[0].astype(np.int64),
            spike_probability=step.spike_probability[0].astype(np.float64),
            traces=state["state.input"][0, 0].astype(np.int64) if "state.input" in state else None,
            feedback=state["state.feedback"][0].astype(np.int64) if "state.feedback" in state else None,
        )


def by_step(
    engine: SteppingEngine, operations: SynapticOperations, stimulus: Stimulus, steps: int
) -> StepCounts:
    """Implement `Engine.by_step` for an engine that steps."""
    count = len(stimulus.images)
    result = StepCounts(
        potentials=np.zeros((steps, count, CLASSES), np.int64),
        spikes={name: np.zeros((steps, count), np.int64) for name in engine.card.layer_names},
        accumulates=np.zeros((steps, count), np.int64),
        multiply_accumulates=np.zeros((steps, count), np.int64),
    )
    seen = contrast(stimulus.images)
    trains, uniforms = stimulate(engine.card, seen, stimulus.seeds, steps, stimulus.encoder)
    state: SimulationState = {}
    for t in range(steps):
        if engine.card.begins_anew(t):
            state = engine.initial_state(count)
        step = engine.step(state, trains[t], uniforms[t])
        state = step.state
        result.potentials[t] = step.potential
        layers = {"input": trains[t], **step.spikes, "output": step.output_spikes}
        for name, values in layers.items():
            result.spikes[name][t] = np.count_nonzero(values.reshape(count, -1), axis=1)
        caused = operations.step(step.spikes, state.get("state.input", trains[t]))
        result.accumulates[t], result.multiply_accumulates[t] = operations.by_kind(caused)
    return result


def _zeros(layers: Sequence[str], count: int, recorded: Sequence[str]) -> _Counts:
    return _Counts(
        evidence=np.zeros((count, CLASSES), np.int64),
        output_counts=np.zeros((count, CLASSES), np.int64),
        counts={name: np.zeros(count, np.int64) for name in layers},
        operations=np.zeros((len(layers), count), np.int64),
        recorded={name: [[] for _ in range(count)] for name in recorded},
    )


def _outcome(
    sums: _Counts,
    kinds: tuple[NDArray[np.int64], NDArray[np.int64]],
    image: int,
    steps: int,
    stopped_by: str,
    probabilities: NDArray[np.float64],
    encode_ms: float,
    simulate_ms: float,
) -> Outcome:
    return SteppedOutcome(
        steps=steps,
        stopped_by=stopped_by,
        probabilities=probabilities,
        output_counts=sums.output_counts[image].copy(),
        counts={name: int(values[image]) for name, values in sums.counts.items()},
        work=Work(
            np.array([values[image] for values in sums.counts.values()]), sums.operations[:, image].copy()
        ),
        accumulates=int(kinds[0][image]),
        multiply_accumulates=int(kinds[1][image]),
        encode_ms=encode_ms,
        simulate_ms=simulate_ms,
        recorded={name: np.stack(images[image]) for name, images in sums.recorded.items()},
    )
