"""The tables, as the newest migration leaves them, and how a record becomes a row.

A migration is frozen once it is released: it repeats what it needs from here. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    RowMapping,
    SmallInteger,
    Table,
    Text,
)

from spikehead.records.packing import UNPACKING_ERRORS, answer_of, packed_answers, packed_pixels, pixels_of
from spikehead.records.record import Record

metadata = MetaData()

# PostgreSQL compares text by the rules of a language by default. SQLite compares bytes.
_BY_BYTES = Text().with_variant(Text(collation="C"), "postgresql")

records = Table(
    "records",
    metadata,
    Column("id", _BY_BYTES, primary_key=True),
    Column("time", Double, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("prediction", SmallInteger, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("steps_used", SmallInteger, nullable=False),
    Column("stopped_by", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),  # two's complement, see signed
    Column("image", LargeBinary, nullable=False),  # packed
    Column("answer", LargeBinary, nullable=False),  # packed
    # The id, which contains the time, comes last in each index, so that results are in order of time.
    Index("records_model", "model", "id"),
    Index("records_prediction", "prediction", "id"),
    Index("records_confidence", "confidence", "id"),
    Index("records_steps_used", "steps_used", "id"),
)

forgotten = Table(
    "records_forgotten",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("first", _BY_BYTES, nullable=False),
    Column("last", _BY_BYTES, nullable=False),
    Column("clock", Double, nullable=False),
    Index("records_forgotten_clock", "clock"),
    Index("records_forgotten_last", "last"),
)
"""Spans of ids that were deleted: queues that held them before must not write them. See `crowd`."""

writers = Table(
    "records_writers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("seen", Double, nullable=False),
)
"""Processes that write records, and when each was last seen, by the clock that they share. See `crowd`."""

_TURN = 2**64


def signed(seed: int) -> int:
    """Convert a seed below 2**64 to 64 bits with a sign, as the column has it."""
    return seed if seed < _TURN // 2 else seed - _TURN


def rows(records: Sequence[Record]) -> list[Row]:
    """Convert records to rows, in the order of the table's columns. Raises TypeError and ValueError."""
    images = packed_pixels([record.image for record in records])
    answers = packed_answers([record.answer for record in records])
    return [
        (
            record.id,
            record.time,
            record.model,
            record.model_version,
            record.prediction,
            record.confidence,
            record.steps_used,
            record.stopped_by,
            signed(record.seed),
            image,
            answer,
        )
        for record, image, answer in zip(records, images, answers, strict=True)
    ]


Row = tuple[str, float, str, str, int, float, int, str, int, bytes, bytes]

LARGE = ("image", "answer")
"""Columns that a list does not need."""


class DamagedError(ValueError):
    """The service did not write this row as it is. The message names its id."""


def record(row: RowMapping) -> Record:
    """Convert a row to a record; columns that were not selected are empty. Raises DamagedError."""
    try:
        return Record(
            id=row["id"],
            time=float(row["time"]),
            model=_text(row["model"]),
            model_version=_text(row["model_version"]),
            image=pixels_of(row["image"]) if "image" in row else b"",
            seed=int(row["seed"]) % _TURN,
            prediction=int(row["prediction"]),
            confidence=float(row["confidence"]),
            steps_used=int(row["steps_used"]),
            stopped_by=_text(row["stopped_by"]),
            answer=answer_of(row["answer"]) if "answer" in row else b"",
        )
    except (TypeError, *UNPACKING_ERRORS) as error:
        raise DamagedError(f"the record {row['id']} is damaged (delete it or restore it): {error}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value
