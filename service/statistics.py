"""Statistics over a window of requests: what was read, how fast, how busy the network was, and whether it drifts.

A layer drifts where its firing rate over the window is further from the card's normal rate than `DRIFT` times the
usual spread from image to image: then the pictures are not what the network was made for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from service.card import Card
from service.encoding import CLASSES, SIDE
from service.engine.base import Engine
from service.operations import energy_nj
from service.recording import record
from service.records import Record

DRIFT = 2.0
LEAST = 20
"""Requests that a window needs before drift is spoken of."""

SATURATED = 0.95
"""A neuron that spikes at more than so many steps is stuck."""


@dataclass(frozen=True)
class Neurons:
    """Neurons of a layer that never, or nearly always, spiked in a sample of the window."""

    silent: int
    saturated: int


def statistics(
    records: Sequence[Record], card: Card, neurons: dict[str, Neurons] | None = None
) -> dict[str, Any]:
    """JSON-ready figures of requests to one model and version. `neurons`: see `neurons_of`."""
    answers = [from_json(record.answer) for record in records]
    count = len(answers)
    steps = np.array([answer["steps_used"] for answer in answers], np.int64)
    layers = [_layer(card, name, answers, steps, neurons or {}) for name in card.layer_names]
    kinds = ("accumulates", "multiply_accumulates")
    spent = [answer["synaptic_operations_by_kind"] for answer in answers]
    operations = {kind: float(np.mean([one[kind] for one in spent])) for kind in kinds} if count else None
    predictions = [answer["prediction"] for answer in answers]
    drifting = [layer["name"] for layer in layers if layer["drift"]]
    return {
        "model": card.name,
        "model_version": card.version,
        "requests": count,
        "predictions": np.bincount(predictions, minlength=CLASSES).tolist() if count else [0] * CLASSES,
        "steps": np.bincount(steps, minlength=card.max_steps + 1)[1:].tolist()
        if count
        else [0] * card.max_steps,
        "mean_steps": float(steps.mean()) if count else None,
        "mean_confidence": float(np.mean([answer["confidence"] for answer in answers])) if count else None,
        "stopped_by_confidence": sum(answer["stopped_by"] == "confidence" for answer in answers),
        "synaptic_operations": operations or dict.fromkeys(kinds),
        "energy_nj": energy_nj(**operations, precision="int8") if operations else None,
        "layers": layers,
        "drift": bool(drifting),
        "drifting_layers": drifting,
    }


def _layer(
    card: Card, name: str, answers: list[Any], steps: NDArray[np.int64], neurons: dict[str, Neurons]
) -> dict[str, Any]:
    layer = card.layer(name)
    rate = z = None
    if answers:
        spikes = np.array([_spikes(answer, name) for answer in answers], float)
        rate = float((spikes / (steps * layer.size)).mean())
        if layer.normal_rate is not None and layer.normal_rate_std:
            z = (rate - layer.normal_rate) / layer.normal_rate_std
    found = neurons.get(name)
    return {
        "name": name,
        "firing_rate": rate,
        "normal_rate": layer.normal_rate,
        "z": z,
        "drift": z is not None and abs(z) > DRIFT and len(answers) >= LEAST,
        "neurons": layer.size,
        "silent": found.silent if found else None,
        "saturated": found.saturated if found else None,
    }


def _spikes(answer: Any, name: str) -> int:
    counts = answer["spike_counts"]
    if name == "input":
        return int(counts["input"])
    return sum(counts["output"]) if name == "output" else int(counts["layers"][name])


def neurons_of(records: Sequence[Record], engine: Engine) -> dict[str, Neurons]:
    """Silent and saturated neurons of each layer, from replays of these requests. Empty without any."""
    spikes: dict[str, NDArray[np.int64]] = {}
    steps = 0
    for stored in records:
        answer = from_json(stored.answer)
        image = np.frombuffer(stored.image, np.uint8).reshape(SIDE, SIDE)
        run = record(engine, image, stored.seed, answer["steps_used"], answer["encoder"])
        steps += run.steps
        for name, raster in run.spikes.items():
            spikes[name] = spikes.get(name, np.int64(0)) + raster.sum(0, dtype=np.int64)
    return {
        name: Neurons(int((counts == 0).sum()), int((counts > SATURATED * steps).sum()))
        for name, counts in spikes.items()
    }
