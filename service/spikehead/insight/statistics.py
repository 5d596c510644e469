"""Statistics over a window of requests: predictions, steps, firing rates, and drift.

Pictures drift if a window of them is unlike the validation set: a layer's firing rate or the pictures' brightness
differs from the card's normal value by more than `DRIFT` times the usual spread between images, or answers are much
less sure. Requests with other steps or another encoder than usual do not count for drift.
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
"""Largest distance of a window's mean from the normal one, in usual spreads between images."""

UNSURE = 1.0
"""The same for a lower confidence, whose mean hardly moves because nearly all images have nearly 1."""

LEAST = 20
"""Fewest requests of a window for drift to be judged."""

SATURATED = 0.95
"""Share of steps above which a spiking neuron counts as saturated."""


@dataclass(frozen=True)
class Neurons:
    """Counts of a layer's neurons that never, or nearly always, spiked in a sample of the window."""

    silent: int
    saturated: int


def statistics(
    records: Sequence[Record], card: Card, neurons: dict[str, Neurons] | None = None
) -> dict[str, Any]:
    """Compute figures, for JSON, of requests to one model and version. `neurons`: see `neurons_of`."""
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
    """Tell if an answer was simulated like the validation set: other steps or encoders have other rates."""
    return bool(
        answer["encoder"] == "bernoulli"
        and answer["max_steps"] == card.max_steps
        and answer["confidence_threshold"] == card.calibration.confidence
    )


def _unlike(card: Card, records: Sequence[Record]) -> list[str]:
    """List the ways in which pictures and answers together differ from the validation set."""
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
    """Count silent and saturated neurons of each layer in replays of requests; return none without requests."""
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
