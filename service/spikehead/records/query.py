"""Queries of the store: filters, pages and their cursors."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal, NamedTuple

from spikehead.records.record import ID_DIGITS

Order = Literal["newest", "confidence"]
"""Newest first, or least sure first (and of two that are as sure, the older one)."""

_CONFIDENCE_DIGITS = 16
_DIGITS = _CONFIDENCE_DIGITS + ID_DIGITS
CURSOR = re.compile(rf"[0-3][0-9a-f]{{{_DIGITS - 1}}}")
"""Cursors begin with a confidence, a double from 0 to 2: all that match are positions, if not of a record."""


class CursorError(ValueError):
    """The cursor cannot come from a page."""


@dataclass(frozen=True)
class Filter:
    """Conditions on records. All must hold; None is no condition."""

    model: str | None = None
    prediction: int | None = None
    confidence_below: float | None = None
    steps_at_least: int | None = None
    since: float | None = None  # seconds since 1970, that moment included
    until: float | None = None  # that moment excluded


@dataclass(frozen=True)
class RecordPage:
    """A page: its size, the record that it follows, and its order."""

    limit: int
    before: str | None = None  # the cursor that an earlier page gave: go on after it
    order: Order = "newest"


class Position(NamedTuple):
    """The last record of a page. The confidence only counts if the order is by confidence."""

    id: str
    confidence: float


def cursor(position: Position) -> str:
    """Write the text for `RecordPage.before`: the confidence's eight bytes in hexadecimal digits, and the id."""
    return struct.pack(">d", position.confidence).hex() + position.id


def position(page: RecordPage) -> Position | None:
    """Parse the cursor of a page; None for the first page. Raises CursorError."""
    text = page.before
    if text is None:
        return None
    if not CURSOR.fullmatch(text):
        raise CursorError(
            f"expected a cursor of {_DIGITS} hexadecimal digits, the first from 0 to 3, got {text[:60]!r}"
        )
    (confidence,) = struct.unpack(">d", bytes.fromhex(text[:_CONFIDENCE_DIGITS]))
    return Position(text[_CONFIDENCE_DIGITS:], confidence)
