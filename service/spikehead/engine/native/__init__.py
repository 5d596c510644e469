"""The native engine: computes only where there are spikes; see `src/kernels.cpp`.

`_core` is the compiled part. If no compiler was found at installation it is missing, and `available()` is false.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikehead.engine.base import Answer, Outcome, Rule, StepCounts, Stimulus, TimeStep, Work
from spikehead.engine.native.arrays import ForeignModelError, load_arrays
from spikehead.model import encoding
from spikehead.model.card import Card, ModelError, load_card
from spikehead.model.decision import evidence_scale

_core: Any
try:
    from spikehead.engine.native import _core
except ImportError:
    _core = None

NAME = "native"
INTERFACE = 2
"""Version of the compiled part that this module calls."""

_FIRST_LAYER = 2 + encoding.CLASSES
"""Column of the engine's outcomes at which the layers' figures begin."""

_QUOTED = {encoder: f'"{encoder}"' for encoder in encoding.ENCODERS}


def available() -> bool:
    """Tell if the compiled part was built."""
    return _core is not None


def contrast(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compute `spikehead.model.retina.contrast`, faster. uint8 [N, 28, 28] -> uint8 [N, 784]."""
    seen: NDArray[np.uint8] = _core.contrast(np.ascontiguousarray(images))
    return seen


def in_form(image: NDArray[np.uint8], centred: float, smallest: int, largest: int) -> bool:
    """Compute `spikehead.pictures.mnist_form.looks_like_mnist`, faster. uint8 [28, 28]."""
    return bool(_core.in_form(np.ascontiguousarray(image), centred, smallest, largest))


def unfiltered(rows: bytes, height: int, width: int) -> NDArray[np.uint8] | None:
    """Undo the filters of a PNG's rows, a byte a pixel: uint8 [height, width]; None if a filter is unknown.

    Source: the PNG specification, 9 Filtering.
    """
    picture: NDArray[np.uint8] | None = _core.unfiltered(rows, height, width)
    return picture


class NativeEngine:
    """Runs a model folder from its card and arrays. Safe to call from several threads; releases the GIL.

    Raises ModelError if the engine was not built or card and arrays do not belong together, ForeignModelError if
    there are no arrays or not of a network that it knows. `simd` is `auto` or one of `_core.instruction_sets()`.
    """

    name = NAME

    def __init__(self, folder: Path, simd: str = "auto") -> None:
        if _core is None:
            raise ModelError(
                "expected the native engine, found that it was not built when this was installed"
            )
        if getattr(_core, "interface", None) != INTERFACE:
            raise ModelError(
                "expected the native engine of this version, found one that was built before: "
                "`make setup` or `pip install -e .` builds it"
            )
        self.card: Card = load_card(folder)
        sets = _core.instruction_sets()
        if simd not in ("auto", *sets):
            raise ModelError(
                f"expected auto or an instruction set of this machine ({', '.join(sets)}), got {simd}"
            )
        arrays = load_arrays(folder, self.card)
        try:
            self._engine = _core.Engine(arrays, simd)
        except ValueError as error:
            raise ForeignModelError(
                f"expected arrays that the native engine can run in {folder}: {error}"
            ) from error
        layers = [(layer.name, layer.size) for layer in self.card.layers[1:-1]]
        if self._engine.layers != layers:
            raise ForeignModelError(
                f"expected the layers {layers} in {folder} (from its card), found {self._engine.layers}"
            )
        steps = range(self.card.max_steps)
        self._scale = np.array([evidence_scale(self.card, t) for t in steps], np.float64)
        self._layers = self.card.layer_names
        model = {"model": self.card.name, "model_version": self.card.version, "engine": NAME}
        self._model_words = json.dumps(model, separators=(",", ":"))[1:-1] + ","
        self._layer_words = [json.dumps(name) for name in self._layers[1:-1]]

    @property
    def simd(self) -> str:
        """Instruction set that it runs on."""
        return str(self._engine.simd)

    @property
    def bounds(self) -> dict[str, tuple[int, int, int]]:
        """Lowest and highest value of each hidden layer's integers, and the bits of its accumulators."""
        return dict(self._engine.bounds())

    def classify(self, stimulus: Stimulus, rule: Rule, recorded: Sequence[str] = ()) -> list[Outcome]:
        """See `spikehead.engine.base.Engine`."""
        if recorded:
            return self._classify_and_keep(stimulus, rule, recorded)
        values = self._engine.classify(
            np.ascontiguousarray(stimulus.images),
            list(stimulus.seeds),
            rule.max_steps,
            rule.confidence,
            self._scale,
            stimulus.encoder == "regular",
        )
        return self._outcomes(values)

    def answers(
        self, stimulus: Stimulus, rule: Rule, ids: Sequence[str], decode_ms: Sequence[float]
    ) -> tuple[list[Answer], Work]:
        """See `spikehead.engine.base.AnsweringEngine`."""
        found, work = self._engine.answers(
            np.ascontiguousarray(stimulus.images),
            list(stimulus.seeds),
            rule.max_steps,
            rule.confidence,
            self._scale,
            stimulus.encoder == "regular",
            ids,
            np.array(decode_ms, np.float64),
            (
                self._model_words,
                self._layer_words,
                str(rule.max_steps),
                repr(rule.confidence),
                _QUOTED[stimulus.encoder],
            ),
        )
        return list(map(Answer._make, found)), Work(*work)

    def _classify_and_keep(self, stimulus: Stimulus, rule: Rule, recorded: Sequence[str]) -> list[Outcome]:
        began = time.perf_counter()
        count = len(stimulus.images)
        seen = contrast(stimulus.images).reshape(count, encoding.SIDE, encoding.SIDE)
        trains, uniforms = encoding.encode(
            seen, stimulus.seeds, rule.max_steps, stimulus.encoder, self.card.rate_slope
        )
        spikes = np.ascontiguousarray(trains.reshape(rule.max_steps, count, -1), np.uint8)
        encode_ms = (time.perf_counter() - began) * 1000 / count
        values, kept = self.record(spikes, uniforms, rule)
        kept["input"] = spikes.swapaxes(0, 1)
        shapes = {layer.name: layer.shape for layer in self.card.layers}
        outcomes = self._outcomes(values, encode_ms)
        for i, outcome in enumerate(outcomes):
            for name in recorded:
                outcome.recorded[name] = kept[name][i, : outcome.steps].reshape(outcome.steps, *shapes[name])
        return outcomes

    def by_step(
        self, images: NDArray[np.uint8], seeds: Sequence[int], steps: int, encoder: encoding.Encoder
    ) -> StepCounts:
        """See `spikehead.engine.base.Engine`."""
        found = self._engine.by_step(
            np.ascontiguousarray(images), list(seeds), steps, self._scale, encoder == "regular"
        ).swapaxes(0, 1)  # [T, N, figures]
        classes = encoding.CLASSES
        spikes = {name: found[..., classes + i] for i, name in enumerate(self._layers)}
        return StepCounts(found[..., :classes], spikes, found[..., -2], found[..., -1])

    def course(
        self, image: NDArray[np.uint8], seed: int, steps: int, encoder: encoding.Encoder
    ) -> Iterator[TimeStep]:
        """See `spikehead.engine.base.Engine`."""
        run = _core.Course(self._engine, np.ascontiguousarray(image), seed, encoder == "regular")
        for _ in range(steps):
            found = run.step()
            yield TimeStep(
                spikes={layer.name: found[layer.name].reshape(layer.shape) for layer in self.card.layers},
                potential=found["potential"].astype(np.int64),
                spike_probability=found["spike_probability"].astype(np.float64),
                traces=found["traces"].astype(np.int64).reshape(encoding.SIDE, encoding.SIDE),
                feedback=found["feedback"].astype(np.int64),
            )

    def record(
        self, spikes: NDArray[np.uint8], uniforms: NDArray[np.float32], rule: Rule
    ) -> tuple[Any, dict[str, Any]]:
        """Simulate given spike trains and keep everything. spikes {0, 1} [T, N, 784], uniforms [T, N, 10].

        Returns the argument of `_outcomes`, and arrays [N, T, ...]: the spikes of each hidden layer and of `output`,
        `traces`, `potential`, `spike_probability` and `feedback`. Steps that were not run are 0.
        """
        found: tuple[Any, dict[str, Any]] = self._engine.record(
            spikes, uniforms, rule.max_steps, rule.confidence, self._scale
        )
        return found

    def _outcomes(self, values: Any, encode_ms: float = 0.0) -> list[Outcome]:
        whole, real = values
        return [NativeOutcome(whole, real, i, self._layers, encode_ms) for i in range(len(whole))]


class NativeOutcome:
    """The `Outcome` in a row of the engine's arrays: only values that are asked for become Python objects."""

    __slots__ = ("_encode_ms", "_layers", "_real", "_row", "_whole", "recorded")

    def __init__(
        self,
        whole: NDArray[np.int64],
        real: NDArray[np.float64],
        row: int,
        layers: list[str],
        encode_ms: float,
    ) -> None:
        self._whole, self._real, self._row = whole, real, row
        self._layers, self._encode_ms = layers, encode_ms
        self.recorded: dict[str, Any] = {}

    @property
    def steps(self) -> int:
        return int(self._whole[self._row, 0])

    @property
    def stopped_by(self) -> str:
        return "confidence" if self._whole[self._row, 1] else "max_steps"

    @property
    def output_counts(self) -> NDArray[np.int64]:
        return self._whole[self._row, 2:_FIRST_LAYER]

    @property
    def work(self) -> Work:
        return Work(*self._whole[self._row, _FIRST_LAYER:].reshape(2, -1))

    @property
    def counts(self) -> dict[str, int]:
        return dict(zip(self._layers, self.work.spikes.tolist(), strict=True))

    @property
    def accumulates(self) -> int:
        return int(self.work.operations[1:].sum())

    @property
    def multiply_accumulates(self) -> int:
        return int(self.work.operations[0])

    @property
    def probabilities(self) -> NDArray[np.float64]:
        return self._real[self._row, 2:]

    @property
    def encode_ms(self) -> float:
        return self._encode_ms + 1000 * float(self._real[self._row, 0])

    @property
    def simulate_ms(self) -> float:
        return 1000 * float(self._real[self._row, 1] - self._real[self._row, 0])
