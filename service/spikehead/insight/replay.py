"""Replay: a stored request simulated again from its image and seed, to get what was not stored.

The replay must equal the record in prediction, steps and counts; if it does not, it lists the differences.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from spikehead.engine.raster import raster
from spikehead.engine.run import Run, attention_by_step, observe
from spikehead.errors import Problem
from spikehead.inference.models import Models
from spikehead.inference.options import quoted
from spikehead.inference.simulator import Simulator
from spikehead.model.card import Card
from spikehead.model.encoding import CLASSES, SIDE
from spikehead.records import Record

PARTS = ("raster", "filtered", "potentials", "probabilities", "feedback", "attention")
"""The names that `include` takes, besides `all`."""


def parts_of(include: str) -> tuple[str, ...]:
    """Return the parts named by `include`, in the order of `PARTS`. Raises Problem for an unknown name."""
    wanted = [name.strip() for name in include.split(",") if name.strip()]
    for name in wanted:
        if name not in PARTS and name != "all":
            raise Problem(
                "invalid-option", f"include: parts among {', '.join(['all', *PARTS])}", quoted(name)
            )
    return PARTS if "all" in wanted else tuple(name for name in PARTS if name in wanted)


@dataclass(frozen=True)
class Replay:
    """A stored request, simulated again."""

    card: Card
    run: Run
    differences: list[str]  # from the record

    def document(self, parts: Sequence[str]) -> dict[str, Any]:
        """Return the parts for JSON, without those that the model does not have."""
        document: dict[str, Any] = {
            "replay": {"equal": not self.differences, "differences": self.differences},
            "contrast": self.run.contrast.tolist(),
        }
        for name in parts:
            if name == "raster":
                layers = self.card.layers
                document[name] = {layer.name: raster(layer, self.run.spikes[layer.name]) for layer in layers}
            elif values := {key: array.tolist() for key, array in self._part(name).items()}:
                document[name] = values.get("", values)
        return document

    def arrays(self, parts: Sequence[str]) -> bytes:
        """Return numpy's `.npz` of `pixels`, `contrast`, `replay_equal`, and `<part>` or `<part>.<name>`.

        Rasters are bytes {0, 1}.
        """
        arrays: dict[str, NDArray[Any]] = {
            "pixels": self.run.image,
            "contrast": self.run.contrast,
            "replay_equal": np.array(not self.differences),
        }
        for part in parts:
            values = self.run.spikes if part == "raster" else self._part(part)
            arrays |= {f"{part}.{name}" if name else part: array for name, array in values.items()}
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **arrays)
        return stream.getvalue()

    def _part(self, name: str) -> dict[str, NDArray[Any]]:
        """Return a part's arrays by name, "" for a single one; none if the model does not have the part."""
        run = self.run
        if name == "probabilities":
            return {"spike": run.spike_probabilities, "class": run.class_probabilities}
        if name == "attention":
            return {**attention_by_step(self.card, run)}
        array = {"filtered": run.filtered, "potentials": run.potentials, "feedback": run.feedback}[name]
        return {} if array is None else {"": array}


def same_model(stored: Record, models: Models) -> Simulator:
    """Return the model that answered. Raises Problem if it is gone or has changed since."""
    simulator = models.get(stored.model)
    if simulator.card.version != stored.model_version:
        raise Problem(
            "model-changed",
            f"{stored.model} {stored.model_version}, as recorded",
            f"version {simulator.card.version}",
        )
    return simulator


def replay(stored: Record, models: Models) -> Replay:
    """Simulate a stored request again. Raises Problem if its model is gone or has changed since."""
    simulator = same_model(stored, models)
    card = simulator.card
    answer = from_json(stored.answer)
    image = np.frombuffer(stored.image, np.uint8).reshape(SIDE, SIDE)
    run = observe(
        simulator.engine,
        image,
        stored.seed,
        answer["max_steps"],
        answer["encoder"],
        answer["confidence_threshold"],
    )
    return Replay(card, run, _differences(answer, run, card))


def _differences(answer: dict[str, Any], run: Run, card: Card) -> list[str]:
    """List the values that differ between replay and answer, as "steps_used: 2, recorded 3"."""
    counts = {name: int(run.spikes[name].sum()) for name in card.layer_names}
    spikes = answer["spike_counts"]
    pairs = {
        "prediction": (run.prediction, answer["prediction"]),
        "steps_used": (run.steps, answer["steps_used"]),
        "class_probabilities": (run.class_probabilities[-1].tolist(), answer["class_probabilities"]),
        "spike_counts.input": (counts["input"], spikes["input"]),
        "spike_counts.layers": ({name: counts[name] for name in card.layer_names[1:-1]}, spikes["layers"]),
        "spike_counts.output": (run.spikes["output"].reshape(-1, CLASSES).sum(0).tolist(), spikes["output"]),
    }
    return [f"{name}: {now}, recorded {then}" for name, (now, then) in pairs.items() if now != then]
