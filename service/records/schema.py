"""The table of records, as the newest migration leaves it, and how a record becomes a row.

A migration is frozen once it is released: it repeats what it needs from here. A test compares the two.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    LargeBinary,
    MetaData,
    RowMapping,
    SmallInteger,
    Table,
    Text,
)

from service.encoding import PIXELS
from service.records import dictionary
from service.records.record import Record

metadata = MetaData()

# PostgreSQL compares text by the rules of a language unless told otherwise. SQLite compares bytes.
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
    Column("image", LargeBinary, nullable=False),  # see _packed
    Column("answer", LargeBinary, nullable=False),  # zlib
    # The id, which carries the time, comes last in each index: what is found is in order of time already.
    Index("records_model", "model", "id"),
    Index("records_prediction", "prediction", "id"),
    Index("records_confidence", "confidence", "id"),
    Index("records_steps_used", "steps_used", "id"),
)

_TURN = 2**64
_WINDOW = (
    12  # 4 KB, all that a record needs: zlib clears the memory it asks for, and more takes thrice the time
)
_MEMORY = 5
_LEVEL = 2  # more effort saves 5 % and takes a third longer


def signed(seed: int) -> int:
    """A seed below 2**64 as a column keeps it: with 64 bits and a sign."""
    return seed if seed < _TURN // 2 else seed - _TURN


def row(record: Record) -> dict[str, Any]:
    """A record as the table keeps it."""
    return {
        "id": record.id,
        "time": record.time,
        "model": record.model,
        "model_version": record.model_version,
        "prediction": record.prediction,
        "confidence": record.confidence,
        "steps_used": record.steps_used,
        "stopped_by": record.stopped_by,
        "seed": signed(record.seed),
        "image": _packed(record.image),
        "answer": _compressed(record.answer),
    }


def values(record: Record) -> tuple[Any, ...]:
    """The same, in the order of the table's columns."""
    found = row(record)
    return tuple(found[column.name] for column in records.columns)


LARGE = ("image", "answer")
"""Columns that a list does not need."""


class DamagedError(ValueError):
    """A row is not one that this service wrote. The message names its id."""


def record(row: RowMapping) -> Record:
    """The record of a row of the table; what was not selected is empty. Raises DamagedError."""
    try:
        return Record(
            id=row["id"],
            time=float(row["time"]),
            model=_text(row["model"]),
            model_version=_text(row["model_version"]),
            image=_pixels(row["image"]) if "image" in row else b"",
            seed=int(row["seed"]) % _TURN,
            prediction=int(row["prediction"]),
            confidence=float(row["confidence"]),
            steps_used=int(row["steps_used"]),
            stopped_by=_text(row["stopped_by"]),
            answer=_decompressed(row["answer"]) if "answer" in row else b"",
        )
    except (TypeError, ValueError, zlib.error) as error:
        raise DamagedError(
            f"the record {row['id']} is damaged (DELETE it, or restore it): {error}"
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value


# Each answer begins with a copy: to make one, and to look through the dictionary, takes longer than to pack.
_packing = zlib.compressobj(
    _LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, dictionary.ANSWER
)


def _compressed(data: bytes) -> bytes:
    packing = _packing.copy()
    return packing.compress(data) + packing.flush()


def _decompressed(data: bytes) -> bytes:
    """Also what was packed without the dictionary. Raises ValueError and zlib.error."""
    unpacking = zlib.decompressobj(zdict=dictionary.ANSWER)
    found = unpacking.decompress(data)
    if not unpacking.eof:
        raise ValueError("it is cut off")
    return found


_MASKED = b"\x01"
"""How pixels begin that are a mask of those that are not 0, and those. zlib's begin otherwise."""

_MASK_BYTES = PIXELS // 8


def _packed(pixels: bytes) -> bytes:
    """784 pixels in about 250 bytes: four of five are 0. zlib packs a little better, and takes three times as long."""
    if len(pixels) != PIXELS:
        raise ValueError(f"expected {PIXELS} pixels, got {len(pixels)}")
    values = np.frombuffer(pixels, np.uint8)
    lit = values != 0
    packed = _MASKED + np.packbits(lit).tobytes() + values[lit].tobytes()
    return packed if len(packed) < PIXELS else pixels


def _pixels(data: bytes) -> bytes:
    """Also those that were packed with zlib, as they used to be. Raises ValueError and zlib.error."""
    if len(data) == PIXELS:
        return data
    if not data.startswith(_MASKED):
        pixels = zlib.decompress(data)
        if len(pixels) != PIXELS:
            raise ValueError(f"expected {PIXELS} pixels, found {len(pixels)}")
        return pixels
    lit = np.unpackbits(np.frombuffer(data[1 : 1 + _MASK_BYTES], np.uint8)).astype(bool)
    found = np.frombuffer(data[1 + _MASK_BYTES :], np.uint8)
    if len(lit) != PIXELS or int(lit.sum()) != len(found):
        raise ValueError("its image is cut off")
    values = np.zeros(PIXELS, np.uint8)
    values[lit] = found
    return values.tobytes()
