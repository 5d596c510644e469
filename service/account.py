"""What a request's answers say of themselves, for logs, metrics and traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.engine.base import Answer


@dataclass(slots=True)
class Account:
    """Of all images of a request together."""

    model: str
    images: int
    steps: int
    decode_ms: float
    encode_ms: float
    simulate_ms: float
    prediction: int | None = None  # of a single image
    confidence: float | None = None
    record: str = ""  # id of the first image's answer and record
    last_record: str = ""  # of the last one's: all others lie between them

    @classmethod
    def of(
        cls, model: str, answers: Sequence[Answer], decode_ms: Sequence[float], ids: Sequence[str]
    ) -> Account:
        """Of answers to some images, with the ids of their records."""
        first = answers[0]
        if len(answers) == 1:  # as nearly always: no sums
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

    def __add__(self, other: Account) -> Account:
        return Account(
            self.model,
            self.images + other.images,
            self.steps + other.steps,
            self.decode_ms + other.decode_ms,
            self.encode_ms + other.encode_ms,
            self.simulate_ms + other.simulate_ms,
            record=self.record or other.record,
            last_record=other.last_record or self.last_record,
        )

    def words(self) -> dict[str, Any]:
        """What a line of the log says of it."""
        words = {
            "model": self.model,
            "images": self.images,
            "steps": self.steps,
            "decode_ms": round(self.decode_ms, 3),
            "encode_ms": round(self.encode_ms, 3),
            "simulate_ms": round(self.simulate_ms, 3),
            "record": self.record,
        }
        if self.images > 1:
            words["last_record"] = self.last_record
        if self.prediction is not None and self.confidence is not None:
            words |= {"prediction": self.prediction, "confidence": round(self.confidence, 4)}
        return words
