"""One image's run with every value that figures and the page show, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikehead.engine.base import Engine, Rule, TimeStep
from spikehead.model.card import Card
from spikehead.model.decision import class_probabilities
from spikehead.model.encoding import CLASSES, Encoder
from spikehead.model.retina import contrast


@dataclass(frozen=True)
class Run:
    """T steps of one image, stage by stage. A stage that the model does not have is None."""

    image: NDArray[np.uint8]  # [28, 28] as the service prepares it
    contrast: NDArray[np.uint8]  # [28, 28] as the retina sees it
    spikes: dict[str, NDArray[np.uint8]]  # layer -> [T, ...]; "input" holds the spike trains, "output" y
    filtered: NDArray[np.float64] | None  # [T, 28, 28] filtered spike trains, in spikes
    potentials: NDArray[np.float64]  # [T, 10] membrane potentials of the output neurons, in logits
    spike_probabilities: NDArray[np.float64]  # [T, 10]
    # [T, 10] (B * y), in spikes: input of the next step, unless the state begins anew there
    feedback: NDArray[np.float64] | None
    class_probabilities: NDArray[np.float64]  # [T, 10]
    resets: list[int]  # numbers of steps after which the network's state began anew

    @property
    def steps(self) -> int:
        return len(self.potentials)

    @property
    def prediction(self) -> int:
        return int(self.class_probabilities[-1].argmax())


def observe(
    engine: Engine,
    image: NDArray[np.uint8],
    seed: int,
    steps: int,
    encoder: Encoder = "bernoulli",
    confidence: float | None = None,
) -> Run:
    """Simulate one image uint8 [28, 28] and keep everything: all `steps`, or fewer if `confidence` is reached."""
    card = engine.card
    time_steps: list[TimeStep] = []
    classes: list[NDArray[np.float64]] = []
    for time_step, probabilities in watch(engine, image, seed, Rule(steps, confidence or 2.0), encoder):
        time_steps.append(time_step)
        classes.append(probabilities)
    return Run(
        image=image,
        contrast=contrast(image[None])[0],
        spikes={
            name: np.stack([time_step.spikes[name] for time_step in time_steps]) for name in card.layer_names
        },
        filtered=_stacked([time_step.traces for time_step in time_steps], card, "A"),
        potentials=np.asarray(
            np.stack([time_step.potential for time_step in time_steps]) * card.potential_scale, np.float64
        ),
        spike_probabilities=np.stack([time_step.spike_probability for time_step in time_steps]),
        feedback=_stacked([time_step.feedback for time_step in time_steps], card, "B"),
        class_probabilities=np.stack(classes),
        resets=[t for t in range(1, len(time_steps)) if card.begins_anew(t)],
    )


def watch(
    engine: Engine, image: NDArray[np.uint8], seed: int, rule: Rule, encoder: Encoder
) -> Iterator[tuple[TimeStep, NDArray[np.float64]]]:
    """Yield each step as it is simulated, and the class probabilities after it [10], until the rule says stop."""
    evidence = np.zeros(CLASSES, np.int64)
    for t, time_step in enumerate(engine.course(image, seed, rule.max_steps, encoder)):
        evidence += time_step.potential
        probabilities = class_probabilities(engine.card, evidence, t)
        yield time_step, probabilities
        if probabilities.max() >= rule.confidence:
            return


def _stacked(values: list[NDArray[np.int64] | None], card: Card, kernel: str) -> NDArray[np.float64] | None:
    """Convert traces to spikes: divide by the height of the kernel. None if the model has no such kernel."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or kernel not in card.kernels:
        return None
    return np.stack(known) / abs(card.kernels[kernel].unit)


def attention_by_step(card: Card, run: Run) -> dict[str, NDArray[np.float64]]:
    """Count how strongly each head attends to each token at each step: block -> [T, heads, L].

    Spiking self-attention has no softmax: token i attends to token j with q_i . k_j, a count of coincidences.
    Token j receives the sum of these counts over all i. Empty if the model has no spiking attention.
    """
    maps: dict[str, NDArray[np.float64]] = {}
    for layer in card.layers:
        block, _, role = layer.name.rpartition(".")
        if role != "query":
            continue
        heads = layer.shape[-1] // layer.fan_out.targets
        query, key = (
            run.spikes[f"{block}.{part}"].astype(np.float64).reshape(run.steps, layer.shape[0], heads, -1)
            for part in ("query", "key")
        )  # [T, L, heads, d]
        maps[block] = np.einsum("tihd,tjhd->thj", query, key)
    return maps


def attention_maps(card: Card, run: Run) -> dict[str, NDArray[np.float64]]:
    """Sum `attention_by_step` over all steps: block -> [heads, L]."""
    return {block: values.sum(0) for block, values in attention_by_step(card, run).items()}
