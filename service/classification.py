"""One request from its body to its answer: parse, decode, simulate, describe, remember.

Everything here computes and blocks, so it runs in worker threads. A single picture is one job (`classify`); a
batch is many (`open_batch`, `decode`, `simulate`, `close_batch`), so that short requests get their turn.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import bodies, images
from service.bodies import Parsed, Source
from service.encoding import PIXELS
from service.errors import Problem
from service.images import ImageError
from service.options import Options, collect, model_name, parse
from service.records import Ids, Record, Records
from service.registry import Models
from service.settings import Settings
from service.simulation import Simulator, seeds_of_batch

Query = Sequence[tuple[str, str]]


DECODE_SECONDS = 0.05
"""A job that decodes pictures of a batch takes about so long: then others have their turn."""


@dataclass(frozen=True)
class Decoded:
    """Pictures in MNIST's form, and what each took."""

    pixels: NDArray[np.uint8]  # [N, 28, 28]
    decode_ms: list[float]  # [N]

    def __len__(self) -> int:
        return len(self.decode_ms)

    @classmethod
    def together(cls, parts: Sequence[Decoded]) -> Decoded:
        """All pictures of some parts, in order."""
        if len(parts) == 1:
            return parts[0]
        pixels = np.concatenate([part.pixels for part in parts])
        return cls(pixels, [ms for part in parts for ms in part.decode_ms])


@dataclass(frozen=True)
class Batch:
    """A batch that has been parsed."""

    simulator: Simulator
    options: Options
    parsed: Parsed
    seeds: list[int]
    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)


class Classifier:
    """Answers requests with the loaded models. Safe across threads."""

    def __init__(self, models: Models, records: Records, settings: Settings) -> None:
        self.models = models
        self.records = records
        self._settings = settings
        self._ids = Ids()
        self._native = {simulator.card.name for simulator in models if simulator.engine.name == "native"}

    def classify(self, content_type: str, query: Query, data: bytes) -> bytes:
        """The answer to one picture, as JSON. Raises Problem."""
        began = time.perf_counter()
        parsed = bodies.parse_single(content_type, data)
        simulator, options = self._options(query, parsed.options)
        picture = self._decode(parsed.sources[0], None, began)
        return self._answer(simulator, options, picture, [options.seed], [self._ids.new()])[0]

    def is_light(self, content_type: str, query: Query, data: bytes) -> bool:
        """Whether `classify` takes less time than handing the request to another thread would.

        That is so for pixels and tiny PNG files, by the size in their header, without a raster, where the model
        is on the native engine.
        """
        model = self.models.default
        for name, value in query:
            if name == "raster":
                return False
            if name == "model":
                model = value
        if model not in self._native:
            return False
        return (len(data) == PIXELS and content_type == bodies.RAW) or images.is_tiny_png(data)

    def open_batch(self, content_type: str, query: Query, data: bytes) -> Batch:
        """Pictures still to be decoded, and options. Raises Problem."""
        settings = self._settings
        parsed = bodies.parse_batch(content_type, data, settings.max_batch_images)
        simulator, options = self._options(query, parsed.options)
        count = len(parsed.sources) if parsed.pixels is None else len(parsed.pixels)
        if options.raster and count > settings.max_raster_images:
            expected = f"at most {settings.max_raster_images} images where a raster is asked for"
            raise Problem("too-many-images", expected, f"{count} images")
        return Batch(simulator, options, parsed, seeds_of_batch(options.seed, count), self._ids.some(count))

    def decode(self, batch: Batch, first: int) -> Decoded:
        """Some of the batch's pictures from number `first` on: one, and more while there is time.

        Raises Problem, which names the picture.
        """
        began, sources = time.perf_counter(), batch.parsed.sources
        if batch.parsed.pixels is not None:
            pixels = batch.parsed.pixels
            try:
                images.check_ink(pixels)
            except ImageError as error:
                raise Problem(error.kind, error.expected, error.received, error.image) from error
            return Decoded(pixels, [(time.perf_counter() - began) * 1000 / len(pixels)] * len(pixels))
        parts: list[Decoded] = []
        while first + len(parts) < len(sources) and (
            not parts or time.perf_counter() < began + DECODE_SECONDS
        ):
            number = first + len(parts)
            parts.append(self._decode(sources[number], number))
        return Decoded.together(parts)

    def simulate(self, batch: Batch, pictures: Decoded, portion: slice) -> bytes:
        """Answers for some of the batch's pictures, as JSON with commas between. They are remembered."""
        some = Decoded(pictures.pixels[portion], pictures.decode_ms[portion])
        answers = self._answer(batch.simulator, batch.options, some, batch.seeds[portion], batch.ids[portion])
        return b",".join(answers)

    def _options(self, query: Query, body: dict[str, Any]) -> tuple[Simulator, Options]:
        given = collect(query, body)
        simulator = self.models.get(model_name(given, self.models.default))
        return simulator, parse(given, simulator.card)

    def _decode(self, source: Source, image: int | None, began: float | None = None) -> Decoded:
        began = time.perf_counter() if began is None else began
        try:
            pixels = source.decode(self._settings.max_pixels)
        except ImageError as error:
            raise Problem(error.kind, error.expected, error.received, image) from error
        return Decoded(pixels[None], [(time.perf_counter() - began) * 1000])

    def _answer(
        self,
        simulator: Simulator,
        options: Options,
        pictures: Decoded,
        seeds: Sequence[int],
        ids: Sequence[str],
    ) -> list[bytes]:
        """Answers as JSON. They are remembered."""
        pixels = pictures.pixels
        answers = simulator.answers(pixels, seeds, options, pictures.decode_ms, ids)
        name, version, now = simulator.card.name, simulator.card.version, time.time()
        data = pixels.tobytes()
        starts = range(0, len(data), PIXELS)
        records = [
            Record(
                identifier,
                now,
                name,
                version,
                data[start : start + PIXELS],
                seed,
                answer.prediction,
                answer.confidence,
                answer.steps,
                answer.stopped_by,
                answer.json,
            )
            for identifier, start, seed, answer in zip(ids, starts, seeds, answers, strict=True)
        ]
        self.records.add(records)
        return [record.answer for record in records]
