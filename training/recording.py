"""A recording of one run: every value that the figures show, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.card import Card
from service.decision import class_probabilities
from service.encoding import Encoder, contrast, encode
from service.engine.base import SteppingEngine


@dataclass(frozen=True)
class Recording:
    """One image, T steps. Stages are named as in the design."""

    image: NDArray[np.uint8]  # [28, 28] as the service prepares it
    contrast: NDArray[np.uint8]  # [28, 28] as the retina sees it
    spikes: dict[str, NDArray[np.uint8]]  # layer -> [T, ...]; "input" holds the spike trains, "output" y
    filtered: NDArray[np.float64]  # [T, 28, 28] filtered spike trains, in spikes
    potentials: NDArray[np.float64]  # [T, 10] membrane potentials of the output neurons, in logits
    spike_probabilities: NDArray[np.float64]  # [T, 10]
    feedback: NDArray[np.float64]  # [T, 10] (B * y), in spikes: what the next step is fed
    class_probabilities: NDArray[np.float64]  # [T, 10]

    @property
    def steps(self) -> int:
        return len(self.potentials)

    @property
    def prediction(self) -> int:
        return int(self.class_probabilities[-1].argmax())


def record(
    engine: SteppingEngine, image: NDArray[np.uint8], seed: int, steps: int, encoder: Encoder = "bernoulli"
) -> Recording:
    """Simulate all `steps` for one image uint8 [28, 28] and keep everything."""
    card = engine.card
    seen = contrast(image[None])
    trains, uniforms = encode(seen, [seed], steps, encoder)
    state = engine.initial_state(1)
    spikes: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in card.layer_names}
    filtered, potentials, probabilities, feedback = [], [], [], []
    for t in range(steps):
        step = engine.step(state, trains[t], uniforms[t])
        state = step.state
        for name, values in {"input": trains[t], **step.spikes, "output": step.output_spikes}.items():
            spikes[name].append(values[0].astype(np.uint8))
        filtered.append(state["state.input"][0, 0])
        potentials.append(step.potential[0])
        probabilities.append(step.spike_probability[0])
        feedback.append(state["state.feedback"][0])
    whole = np.array(potentials, np.int64)
    evidence = whole.cumsum(0)
    return Recording(
        image=image,
        contrast=seen[0],
        spikes={name: np.stack(values) for name, values in spikes.items()},
        filtered=np.array(filtered, np.float64) / card.kernels["A"].unit,
        potentials=np.asarray(whole * card.potential_scale, np.float64),
        spike_probabilities=np.array(probabilities, np.float64),
        feedback=np.array(feedback, np.float64) / abs(card.kernels["B"].unit),
        class_probabilities=np.stack([class_probabilities(card, evidence[t], t) for t in range(steps)]),
    )


def attention_maps(card: Card, recording: Recording) -> dict[str, NDArray[np.float64]]:
    """Where each head looks: block -> [heads, L], how strongly each token is attended to, over all steps.

    Spiking self-attention has no softmax: token i attends to token j with q_i . k_j, a count of coincidences.
    What token j receives is the sum of these counts over all i and all steps.
    """
    maps = {}
    for layer in card.layers:
        block, _, role = layer.name.rpartition(".")
        if role != "query":
            continue
        heads = layer.shape[-1] // layer.fan_out.targets
        query, key = (
            recording.spikes[f"{block}.{part}"]
            .astype(np.float64)
            .reshape(recording.steps, layer.shape[0], heads, -1)
            for part in ("query", "key")
        )  # [T, L, heads, d]
        maps[block] = np.einsum("tihd,tjhd->hj", query, key)
    return maps
