"""A network in this process, without a service, HTTP or records."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Unpack

import numpy as np

from spikehead.errors import Problem
from spikehead.inference import bodies
from spikehead.inference.models import find_model, usable
from spikehead.inference.options import collect, parse
from spikehead.inference.simulator import Simulator, seeds_of_batch
from spikehead.library.answers import Classification, read
from spikehead.library.images import Image, all_to_bytes
from spikehead.library.options import Options, as_text
from spikehead.model.card import Card
from spikehead.pictures.normalise import warm_up
from spikehead.pictures.pixels import ImageError
from spikehead.settings import EngineName, Settings, Simd, default_models

_PORTION = 256
"""Pictures that are simulated together: more would take memory and save no time."""


def load(
    model: str | os.PathLike[str] = "spiking-mha",
    *,
    engine: EngineName = "auto",
    simd: Simd = "auto",
    threads: int = 1,
    max_pixels: int = Settings.model_fields["max_pixels"].default,
) -> Network:
    """Load a network and try it out: the name of a model that comes with spikehead, or the path of a model's folder.

    `engine`, `simd` and `threads` are those of the service's settings; `max_pixels` is the most pixels of a picture.
    Raises ModelError.
    """
    if isinstance(model, str) and not {os.sep, os.altsep} & set(model):
        folder = find_model(default_models(), model)
    else:
        folder = Path(model)
    warm_up()
    return Network(usable(folder, engine, simd, threads), max_pixels)


class Network:
    """A loaded network. Threads can share it."""

    def __init__(self, simulator: Simulator, max_pixels: int) -> None:
        self._simulator = simulator
        self._max_pixels = max_pixels

    @property
    def card(self) -> Card:
        """Return the model's card: layers, time constants, calibration, accuracy, training."""
        return self._simulator.card

    @property
    def engine(self) -> str:
        """Return the name of the engine: native or onnxruntime."""
        return self._simulator.engine.name

    def classify(self, image: Image, **options: Unpack[Options]) -> Classification:
        """Classify one picture, with the same spikes as a service's `POST /classify`.

        For images see `spikehead.library.images`. Raises OSError for a file that cannot be read, and Problem.
        """
        try:
            return self.classify_many([image], **options)[0]
        except Problem as problem:
            problem.image = None
            raise

    def classify_many(self, images: Iterable[Image], **options: Unpack[Options]) -> list[Classification]:
        """Classify pictures, in order. Picture i gets the answer that it gets alone with seed `seed` + i, modulo 2**64.

        Raises OSError for a file that cannot be read, and Problem with the number of the picture.
        """
        asked = parse(collect(as_text(options), {}, tuple(Options.__annotations__)), self.card)
        pixels, decode_ms = [], []
        for number, data in enumerate(all_to_bytes(images)):
            began = time.perf_counter()
            try:
                pixels.append(bodies.of_file(data).decode(self._max_pixels))
            except ImageError as error:
                raise Problem(error.kind, error.expected, error.received, number) from error
            decode_ms.append((time.perf_counter() - began) * 1000)
        seeds = seeds_of_batch(asked.seed, len(pixels))
        found: list[Classification] = []
        for start in range(0, len(pixels), _PORTION):
            part = slice(start, start + _PORTION)
            answers = self._simulator.answers(
                np.stack(pixels[part]), seeds[part], asked, decode_ms[part], [""] * len(pixels[part])
            )
            found += [read(Classification, answer.json) for answer in answers]
        return found
