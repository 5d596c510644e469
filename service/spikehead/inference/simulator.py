"""Simulation of images: from 28 x 28 pixels to an answer, step by step, until each image's answer is sure enough.

Three phases: `spikehead.pictures.normalise` makes the pixels, an engine encodes them and runs the network, and
`describe` makes the answer. An image with a seed gets the same answer alone and in any batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from spikehead.engine.base import Answer, AnsweringEngine, Engine, Outcome, Rule, Stimulus
from spikehead.engine.raster import raster
from spikehead.inference.options import Options
from spikehead.inference.totals import Totals
from spikehead.model.card import Card
from spikehead.model.encoding import MAX_SEED, SIDE


def seeds_of_batch(seed: int, count: int) -> list[int]:
    """Return the seed of each image: image i has `seed` + i, modulo 2**64."""
    return [(seed + i) & MAX_SEED for i in range(count)]


class Simulator:
    """A model on its engine, with its totals. Holds no state of a request, so threads can share it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.card: Card = engine.card
        self.totals = Totals(engine.card)  # of `answers`
        # checked once, because isinstance of a protocol is slow
        self._answering = engine if isinstance(engine, AnsweringEngine) else None

    def classify(
        self, images: NDArray[np.uint8], seeds: Sequence[int], options: Options, decode_ms: Sequence[float]
    ) -> Iterator[dict[str, Any]]:
        """Answer images uint8 [N, 28, 28], in order, by the seeds in `seeds`, not the one in `options`.

        Each answer is made when it is iterated over, because rasters are large.
        """
        return (
            self.describe(outcome, seed, options, decoding)
            for outcome, seed, decoding in zip(
                self._outcomes(images, seeds, options), seeds, decode_ms, strict=True
            )
        )

    def _outcomes(self, images: NDArray[np.uint8], seeds: Sequence[int], options: Options) -> list[Outcome]:
        stimulus = Stimulus(images, seeds, options.encoder)
        rule = Rule(options.max_steps, options.confidence)
        return self.engine.classify(stimulus, rule, options.raster)

    def answers(
        self,
        images: NDArray[np.uint8],
        seeds: Sequence[int],
        options: Options,
        decode_ms: Sequence[float],
        ids: Sequence[str],
    ) -> Iterator[Answer]:
        """Answer images as `classify` does, in JSON, each with its id."""
        if self._answering is not None and not options.raster:
            stimulus = Stimulus(images, seeds, options.encoder)
            rule = Rule(options.max_steps, options.confidence)
            answers, work = self._answering.answers(stimulus, rule, ids, decode_ms)
            self.totals.add(answers, work)
            yield from answers
            return
        outcomes = self._outcomes(images, seeds, options)
        for identifier, seed, outcome, decoding in zip(ids, seeds, outcomes, decode_ms, strict=True):
            found = self.describe(outcome, seed, options, decoding)
            rasters = found.pop("raster", None)
            without = to_json({"id": identifier, **found})
            answer = Answer(
                json=without if rasters is None else without[:-1] + b',"raster":' + to_json(rasters) + b"}",
                prediction=found["prediction"],
                confidence=found["confidence"],
                steps=found["steps_used"],
                stopped_by=found["stopped_by"],
                encode_ms=outcome.encode_ms,
                simulate_ms=outcome.simulate_ms,
                stored=without,  # rasters are not stored, but replayed
            )
            self.totals.add([answer], outcome.work)
            yield answer

    def describe(self, outcome: Outcome, seed: int, options: Options, decode_ms: float) -> dict[str, Any]:
        """Make the answer that is sent, without its id."""
        # the lowest class wins a tie
        prediction = int(outcome.probabilities.argmax())
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
            "timings_ms": {
                "decode": round(decode_ms, 4),
                "encode": round(outcome.encode_ms, 4),
                "simulate": round(outcome.simulate_ms, 4),
            },
        }
        if options.raster:
            answer["raster"] = {
                name: raster(self.card.layer(name), outcome.recorded[name]) for name in options.raster
            }
        return answer

    def warm_up(self) -> None:
        """Simulate one and two made-up pictures, so that the first request is not slow."""
        picture = np.zeros((2, SIDE, SIDE), np.uint8)
        picture[:, 4:24, 12:16] = 255
        options = Options(max_steps=self.card.max_steps, confidence=1.0, seed=0)
        for count in (1, 2):
            list(self.classify(picture[:count], range(count), options, [0.0] * count))
