"""Summary of a request's answers, for logs, metrics and traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from spikehead.engine.base import Answer


@dataclass(slots=True)
class Summary:
    """Model, figures and ids of all images of a request together."""

    model: str
    images: int
    steps: int
    decode_ms: float
    encode_ms: float
    simulate_ms: float
    prediction: int | None = None  # of a single image
    confidence: float | None = None
    record: str = ""  # id of the first image's record
    last_record: str = ""  # id of the last one's; all others are between them

    @classmethod
    def of(
        cls, model: str, answers: Sequence[Answer], decode_ms: Sequence[float], ids: Sequence[str]
    ) -> Summary:
        """Sum up answers to some images, with the ids of their records."""
        first = answers[0]
        # most requests have one image, which needs no sums
        if len(answers) == 1:
            return cls(
                model, 1, first.steps, decode_ms[0], first.encode_ms, first.simulate_ms, first.prediction,
                first.confidence, ids[0], ids[0],
            )  # fmt: skip
        return cls(
            model,
            len(answers),
            sum(answer.steps for answer in answers),
            sum(decode_ms),
            sum(answer.encode_ms for answer in answers),
            sum(answer.simulate_ms for answer in answers),
            record=ids[0],
            last_record=ids[-1],
        )

    @classmethod
    def of_none(cls, model: str) -> Summary:
        """Return the summary of no answers."""
        return cls(model, 0, 0, 0.0, 0.0, 0.0)

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            self.model,
            self.images + other.images,
            self.steps + other.steps,
            self.decode_ms + other.decode_ms,
            self.encode_ms + other.encode_ms,
            self.simulate_ms + other.simulate_ms,
            record=self.record or other.record,
            last_record=other.last_record or self.last_record,
        )

    @staticmethod
    def fields(single: bool) -> dict[str, str]:
        """Return the format of each of `values`, by its name. `single`: those of one image."""
        return _OF_ONE if single else _OF_MANY

    def values(self) -> tuple[Any, ...]:
        """Return the values for a line of the log."""
        return _values_of_many(self) if self.prediction is None else _values_of_one(self)

    def words(self) -> dict[str, Any]:
        """Return the values by name, for traces."""
        return dict(zip(self.fields(self.prediction is not None), self.values(), strict=True))


_OF_ALL = {
    "model": "s",
    "images": "d",
    "steps": "d",
    "decode_ms": ".3f",
    "encode_ms": ".3f",
    "simulate_ms": ".3f",
    "record": "s",
}
_OF_MANY = _OF_ALL | {"last_record": "s"}
_OF_ONE = _OF_ALL | {"prediction": "d", "confidence": ".4f"}
_values_of_many, _values_of_one = attrgetter(*_OF_MANY), attrgetter(*_OF_ONE)
