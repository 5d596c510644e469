"""What one may ask the store for: filters, pages and their cursors."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import Literal, NamedTuple

from service.records.record import ID_DIGITS, is_id

Order = Literal["newest", "confidence"]
"""Newest first, or least sure first (and of two that are as sure, the older one)."""

_CONFIDENCE_DIGITS = 16


class CursorError(ValueError):
    """A cursor that no page of that order gave."""


@dataclass(frozen=True)
class Filter:
    """Which records. All conditions must hold; None is no condition."""

    model: str | None = None
    prediction: int | None = None
    confidence_below: float | None = None
    steps_at_least: int | None = None
    since: float | None = None  # seconds since 1970, that moment included
    until: float | None = None  # that moment excluded


@dataclass(frozen=True)
class Page:
    """How many records, after which one, in which order."""

    limit: int
    before: str | None = None  # the cursor that an earlier page gave: go on after it
    order: Order = "newest"


class Position(NamedTuple):
    """The record that a page ended with. The confidence only counts where the order is by confidence."""

    id: str
    confidence: float = 0.0


def cursor(order: Order, position: Position) -> str:
    """Text for `Page.before`: the id; by confidence, its eight bytes in hexadecimal digits come first."""
    if order == "newest":
        return position.id
    return struct.pack(">d", position.confidence).hex() + position.id


def position(page: Page) -> Position | None:
    """Where the page begins; None at the very start. Raises CursorError."""
    text = page.before
    if text is None:
        return None
    digits = 0 if page.order == "newest" else _CONFIDENCE_DIGITS
    number, identifier = text[:digits], text[digits:]
    if not is_id(identifier) or not re.fullmatch(rf"[0-9a-f]{{{digits}}}", number):
        expected = f"{digits + ID_DIGITS} hexadecimal digits"
        raise CursorError(f"expected a cursor of {expected} for order {page.order}, got {text[:60]!r}")
    if page.order == "newest":
        return Position(identifier)
    (confidence,) = struct.unpack(">d", bytes.fromhex(number))
    if not math.isfinite(confidence):
        raise CursorError(f"expected a cursor with a finite confidence, got {text!r}")
    return Position(identifier, confidence)
