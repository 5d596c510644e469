"""Statistics over a window of requests: what was read, how fast, how busy the network was, and whether it drifts.

Pictures drift where a window of them is unlike the validation set: a layer's firing rate or the pictures' brightness is
further from what the card calls normal than `DRIFT` times the usual spread from image to image, or answers are much
less sure. Requests that ask for other steps or another encoder than usual are left out of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from spikehead.engine.base import Engine
from spikehead.engine.run import observe
from spikehead.model.card import Card
from spikehead.model.encoding import CLASSES, SIDE
from spikehead.model.synaptic_operations import energy_nj
from spikehead.records import Record

DRIFT = 2.0
"""Times the usual spread between images that a window's mean may be away."""

UNSURE = 1.0
"""The same for confidence, downwards: it is near 1 for nearly all images, so its mean hardly moves otherwise."""

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
    usual = [i for i, answer in enumerate(answers) if _as_usual(answer, card)]
    layers = [_layer(card, name, answers, usual, neurons or {}) for name in card.layer_names]
    kinds = ("accumulates", "multiply_accumulates")
    spent = [answer["synaptic_operations_by_kind"] for answer in answers]
    operations = {kind: float(np.mean([one[kind] for one in spent])) for kind in kinds} if count else None
    predictions = [answer["prediction"] for answer in answers]
    drifting = [layer["name"] for layer in layers if layer["drift"]]
    reasons = [f"layer {name}" for name in drifting]
    if len(usual) >= LEAST:
        reasons += _unlike(card, [records[i] for i in usual])
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
        "compared": len(usual),
        "drift": bool(reasons),
        "drifting_layers": drifting,
        "drift_reasons": reasons,
    }


def _as_usual(answer: Any, card: Card) -> bool:
    """Tell if it was simulated as the validation set was: more steps, or other spikes, have other rates."""
    return bool(
        answer["encoder"] == "bernoulli"
        and answer["max_steps"] == card.max_steps
        and answer["confidence_threshold"] == card.calibration.confidence
    )


def _unlike(card: Card, records: Sequence[Record]) -> list[str]:
    """In what pictures and answers as a whole are unlike those of the validation set."""
    if card.normal is None:
        return []
    brightness, confidence = card.normal.brightness, card.normal.confidence
    grey = np.mean([np.frombuffer(record.image, np.uint8).mean() for record in records])
    sure = np.mean([record.confidence for record in records])
    reasons = []
    if abs(grey - brightness.mean) > DRIFT * brightness.std:
        reasons.append("brightness")
    if confidence.mean - sure > UNSURE * confidence.std:
        reasons.append("confidence")
    return reasons


def _layer(
    card: Card, name: str, answers: list[Any], usual: Sequence[int], neurons: dict[str, Neurons]
) -> dict[str, Any]:
    layer = card.layer(name)
    rates = np.array([_spikes(answer, name) / (answer["steps_used"] * layer.size) for answer in answers])
    z = None
    if usual and layer.normal_rate is not None and layer.normal_rate_std:
        z = float(rates[usual].mean() - layer.normal_rate) / layer.normal_rate_std
    found = neurons.get(name)
    return {
        "name": name,
        "firing_rate": float(rates.mean()) if answers else None,
        "normal_rate": layer.normal_rate,
        "z": z,
        "drift": z is not None and abs(z) > DRIFT and len(usual) >= LEAST,
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
        run = observe(engine, image, stored.seed, answer["steps_used"], answer["encoder"])
        steps += run.steps
        for name, raster in run.spikes.items():
            spikes[name] = spikes.get(name, np.int64(0)) + raster.sum(0, dtype=np.int64)
    return {
        name: Neurons(int((counts == 0).sum()), int((counts > SATURATED * steps).sum()))
        for name, counts in spikes.items()
    }
