"""One request from its body to its answer: parse, decode, simulate, describe, record.

All of it computes and blocks, so it runs in worker threads. A single picture is one job (`classify`); a batch is many
(`open_batch`, `decode`, `simulate`), so that other requests get their turn.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from spikehead.engine.base import Answer, Rule
from spikehead.engine.raster import step_document
from spikehead.engine.run import watch
from spikehead.errors import Problem
from spikehead.inference import bodies
from spikehead.inference.bodies import Parsed, Source
from spikehead.inference.models import Models
from spikehead.inference.options import (
    BATCH_OPTION_NAMES,
    Given,
    Options,
    collect,
    model_name,
    on_error,
    parse,
)
from spikehead.inference.simulator import Simulator, seeds_of_batch
from spikehead.inference.summary import Summary
from spikehead.model.card import Card
from spikehead.model.encoding import PIXELS, SIDE
from spikehead.pictures.decode import is_tiny_png
from spikehead.pictures.pixels import ImageError, check_ink
from spikehead.records import Ids, Promise, Record, Recorder, time_of
from spikehead.settings import Settings, recorded_share

Query = Sequence[tuple[str, str]]


class Classified(NamedTuple):
    """An answer in JSON, and its summary. A promise must be kept before the answer, which says so, is sent."""

    body: bytes
    summary: Summary
    promise: Promise | None = None


class Event(NamedTuple):
    """A server-sent event. The last one, the answer, has a summary."""

    name: str
    data: bytes
    summary: Summary | None = None
    promise: Promise | None = None


_RECORDED = {True: b',"recorded":true}', False: b',"recorded":false}'}

DECODE_SECONDS = 0.05
"""Seconds after which a job that decodes a batch lets others have their turn."""

_NO_PIXELS = np.empty((0, SIDE, SIDE), np.uint8)


@dataclass(frozen=True)
class Decoded:
    """Pictures in MNIST's form with their decoding times, and the problems of pictures between them."""

    pixels: NDArray[np.uint8]  # [N, 28, 28]
    decode_ms: list[float]  # [N]
    problems: tuple[Problem, ...] = ()  # in order, each with its number in the batch

    def __len__(self) -> int:
        """Count the pictures, with those that have problems."""
        return len(self.decode_ms) + len(self.problems)

    @classmethod
    def together(cls, parts: Sequence[Decoded]) -> Decoded:
        """Join parts, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.pixels for part in parts]),
            [ms for part in parts for ms in part.decode_ms],
            tuple(problem for part in parts for problem in part.problems),
        )


@dataclass(frozen=True)
class Batch:
    """A parsed batch. `report`: a picture that cannot be used gets a problem, and the others are answered."""

    simulator: Simulator
    options: Options
    report: bool
    parsed: Parsed
    seeds: list[int]
    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)


class Classifier:
    """Answers requests with the loaded models. Safe across threads."""

    def __init__(self, models: Models, recorder: Recorder, settings: Settings) -> None:
        self.models = models
        self._recorder = recorder
        self._share = recorded_share(settings.record)
        self._settings = settings
        self._ids = Ids()
        self._native = {simulator.card.name for simulator in models if simulator.engine.name == "native"}

    def classify(self, content_type: str, query: Query, data: bytes) -> Classified:
        """Answer one picture. Raises Problem."""
        return self._answer(*self._single(content_type, query, data), self._ids.new())

    def is_light(self, content_type: str, query: Query, data: bytes) -> bool:
        """Tell if `classify` takes less time than handing the request to another thread would.

        This holds for pixels and tiny PNG files (by the size in their header) on the native engine, without a raster.
        """
        model = self.models.default
        for name, value in query:
            if name == "raster" or (name == "record" and value == "required"):
                return False
            if name == "model":
                model = value
        if model not in self._native:
            return False
        return (len(data) == PIXELS and content_type == bodies.RAW) or is_tiny_png(data)

    def open_stream(self, content_type: str, query: Query, data: bytes) -> tuple[str, Iterator[Event]]:
        """Return the answer's id, and the answer in events, with one for each time step as it is simulated.

        Raises Problem before the first event.
        """
        identifier, asked = self._ids.new(), self._single(content_type, query, data)
        return identifier, self._events(identifier, *asked)

    def _events(
        self, identifier: str, simulator: Simulator, options: Options, picture: Decoded
    ) -> Iterator[Event]:
        rule = Rule(options.max_steps, options.confidence)
        course = watch(simulator.engine, picture.pixels[0], options.seed, rule, options.encoder)
        for number, (moment, probabilities) in enumerate(course, 1):
            yield Event("step", to_json(step_document(simulator.card, number, moment, probabilities)))
        # the answer is simulated again, as all answers are, with the same result to the bit
        plain = replace(options, raster=())
        yield Event("result", *self._answer(simulator, plain, picture, identifier))

    def open_batch(self, content_type: str, query: Query, data: bytes) -> Batch:
        """Parse a batch, whose pictures are still to be decoded. Raises Problem."""
        settings = self._settings
        parsed = bodies.parse_batch(content_type, data, settings.max_batch_images)
        given = collect([*query, *parsed.fields], parsed.options, BATCH_OPTION_NAMES)
        report = on_error(given) == "report"
        simulator, options = self._options(given)
        count = len(parsed.sources) if parsed.pixels is None else len(parsed.pixels)
        if options.raster and count > settings.max_raster_images:
            expected = f"at most {settings.max_raster_images} images with a raster"
            raise Problem("too-many-images", expected, f"{count} images")
        return Batch(
            simulator, options, report, parsed, seeds_of_batch(options.seed, count), self._ids.some(count)
        )

    def decode(self, batch: Batch, first: int) -> Decoded:
        """Decode pictures from number `first` on: one, and more within DECODE_SECONDS.

        Raises Problem, which names the picture, unless the batch reports problems.
        """
        began, sources = time.perf_counter(), batch.parsed.sources
        if batch.parsed.pixels is not None:
            return self._checked(batch, batch.parsed.pixels)
        parts: list[Decoded] = []
        for number in range(first, len(sources)):
            if parts and time.perf_counter() >= began + DECODE_SECONDS:
                break
            try:
                parts.append(self._decode(sources[number], number))
            except Problem as problem:
                if not batch.report:
                    raise
                parts.append(Decoded(_NO_PIXELS, [], (problem,)))
        return Decoded.together(parts)

    @staticmethod
    def _checked(batch: Batch, pixels: NDArray[np.uint8]) -> Decoded:
        """Check pictures that came as pixels."""
        began = time.perf_counter()
        bad: dict[int, Problem] = {}
        try:
            check_ink(pixels)
        except ImageError as error:
            if not batch.report:
                raise _problem_of(error, error.image) from error
            for number in range(len(pixels)):
                try:
                    check_ink(pixels[number : number + 1])
                except ImageError as another:
                    bad[number] = _problem_of(another, number)
            pixels = np.delete(pixels, list(bad), axis=0)
        mean = (time.perf_counter() - began) * 1000 / max(1, len(pixels))
        return Decoded(pixels, [mean] * len(pixels), tuple(bad.values()))

    def simulate(self, batch: Batch, pictures: Decoded, portion: range, request_id: str) -> Classified:
        """Answer and record some of the batch's pictures, by their numbers, as JSON with commas between.

        A picture that cannot be used gets a problem document with the request's id.
        """
        bad = {problem.image: problem for problem in pictures.problems}
        good = [number for number in portion if number not in bad] if bad else portion
        start = portion.start - sum(number < portion.start for number in bad if number is not None)
        own = slice(start, start + len(good))
        some = Decoded(pictures.pixels[own], pictures.decode_ms[own])
        seeds, ids = [batch.seeds[number] for number in good], [batch.ids[number] for number in good]
        answers, summary, promise = self._answers(batch.simulator, batch.options, some, seeds, ids)
        sources = batch.parsed.sources
        if any(sources[number].filename for number in (good if sources else ())):
            answers = [
                _named(answer, sources[number].filename) for answer, number in zip(answers, good, strict=True)
            ]
        if bad:
            following = iter(answers)
            answers = [
                bad[number].json(request_id) if number in bad else next(following) for number in portion
            ]
        return Classified(b",".join(answers), summary, promise)

    def _single(self, content_type: str, query: Query, data: bytes) -> tuple[Simulator, Options, Decoded]:
        """Return the simulator, the options and the picture of a body with one picture. Raises Problem."""
        began = time.perf_counter()
        parsed = bodies.parse_single(content_type, data)
        simulator, options = self._options(collect([*query, *parsed.fields], parsed.options))
        return simulator, options, self._decode(parsed.sources[0], None, began)

    def _options(self, given: Given) -> tuple[Simulator, Options]:
        simulator = self.models.get(model_name(given, self.models.default))
        return simulator, parse(given, simulator.card)

    def _decode(self, source: Source, image: int | None, began: float | None = None) -> Decoded:
        """Decode a picture; `image` is its number in a batch, which the Problem raised names."""
        began = time.perf_counter() if began is None else began
        try:
            pixels = source.decode(self._settings.max_pixels)
        except ImageError as error:
            raise _problem_of(error, image, source.filename) from error
        except Problem as problem:
            raise _of_picture(problem, image, source.filename) from None
        return Decoded(pixels[None], [(time.perf_counter() - began) * 1000])

    def _answer(
        self, simulator: Simulator, options: Options, picture: Decoded, identifier: str
    ) -> Classified:
        """Answer a single picture as JSON, and record it."""
        answers, summary, promise = self._answers(simulator, options, picture, [options.seed], [identifier])
        return Classified(answers[0], summary, promise)

    def _answers(
        self,
        simulator: Simulator,
        options: Options,
        pictures: Decoded,
        seeds: Sequence[int],
        ids: Sequence[str],
    ) -> tuple[list[bytes], Summary, Promise | None]:
        """Answer pictures as JSON, with a summary and a promise of their records."""
        if options.record == "required" and self._share == 0.0:
            raise not_recorded("recording is switched off (SPIKEHEAD_RECORD)")
        if not ids:
            return [], Summary.of_none(simulator.card.name), None
        answers = list(simulator.answers(pictures.pixels, seeds, options, pictures.decode_ms, ids))
        summary = Summary.of(simulator.card.name, answers, pictures.decode_ms, ids)
        recorded, promise = [False] * len(answers), None
        if options.record != "no" and self._share > 0.0:
            records = _records(simulator.card, pictures.pixels, seeds, answers, ids)
            recorded, promise = self._record(records, options)
        whole = [answer.json[:-1] + _RECORDED[known] for answer, known in zip(answers, recorded, strict=True)]
        return whole, summary, promise

    def _record(self, records: list[Record], options: Options) -> tuple[list[bool], Promise | None]:
        """Queue records, and tell for each if it was; with `record=required`, return a promise.

        Raises Problem if that is not possible.
        """
        if options.record == "required":
            promise = self._recorder.add_promised(records)
            if promise is None:
                raise not_recorded(self._recorder.state.reason)
            return [True] * len(records), promise
        if self._share >= 1.0:
            return [self._recorder.add(records)] * len(records), None
        chosen = [random.random() < self._share for _ in records]
        kept = self._recorder.add([record for record, mine in zip(records, chosen, strict=True) if mine])
        return [mine and kept for mine in chosen], None


def _problem_of(error: ImageError, image: int | None, filename: str | None = None) -> Problem:
    return _of_picture(Problem(error.kind, error.expected, error.received), image, filename)


def _of_picture(problem: Problem, image: int | None, filename: str | None) -> Problem:
    """Name the picture in its problem, if there are many."""
    if image is not None:
        problem.image, problem.filename = image, filename
    return problem


def _named(answer: bytes, filename: str | None) -> bytes:
    """Add the name of the picture's file to an answer in JSON."""
    return answer if filename is None else answer[:-1] + b',"filename":' + to_json(filename) + b"}"


def _records(
    card: Card, pixels: NDArray[np.uint8], seeds: Sequence[int], answers: Sequence[Answer], ids: Sequence[str]
) -> list[Record]:
    """Make the records of answers to images uint8 [N, 28, 28]."""
    data = pixels.tobytes()
    return [
        Record(
            identifier,
            time_of(identifier),
            card.name,
            card.version,
            data[start : start + PIXELS],
            seed,
            answer.prediction,
            answer.confidence,
            answer.steps,
            answer.stopped_by,
            answer.stored or answer.json,
        )
        for identifier, start, seed, answer in zip(
            ids, range(0, len(data), PIXELS), seeds, answers, strict=True
        )
    ]


def not_recorded(reason: str | None) -> Problem:
    """Make the problem of a required record that is not stored."""
    received = reason or "a record that is not stored yet"
    return Problem("not-recorded", "a record on disk before the answer", received)
