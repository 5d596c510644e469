"""Pixels that are given as they are, as bytes or lists; and the error for pictures that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikehead.model.encoding import PIXELS, SIDE

Pixels = NDArray[np.uint8]
Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass
class ImageError(ValueError):
    """A picture cannot be used. `kind` never changes; `expected` and `received` are for people to read.

    `image` is the picture's number in a batch.
    """

    kind: str
    expected: str
    received: str
    image: int | None = None

    def __str__(self) -> str:
        return f"expected {self.expected}, got {self.received}"


def from_raw(data: bytes | memoryview) -> Pixels:
    """Read 784 bytes, row by row. -> uint8 [28, 28]. Raises ImageError."""
    if len(data) != PIXELS:
        raise ImageError("wrong-size", f"{PIXELS} bytes, {SIDE} rows of {SIDE} pixels", f"{len(data)} bytes")
    return _with_ink(np.frombuffer(data, np.uint8).reshape(SIDE, SIDE))


def from_pixels(rows: Any) -> Pixels:
    """Read 28 lists of 28 whole numbers from 0 to 255. -> uint8 [28, 28]. Raises ImageError."""
    if not isinstance(rows, list) or len(rows) != SIDE:
        raise ImageError("wrong-pixels", f"a list of {SIDE} rows", described(rows))
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != SIDE:
            raise ImageError("wrong-pixels", f"{SIDE} pixels in row {number}", described(row))
    if set(map(type, chain.from_iterable(rows))) == {int}:
        flat = list(chain.from_iterable(rows))
        if min(flat) >= 0 and max(flat) <= 255:
            return _with_ink(np.array(rows, np.uint8))
    return _with_ink(np.array([[_pixel(rows, y, x) for x in range(SIDE)] for y in range(SIDE)], np.uint8))


def _pixel(rows: list[list[Any]], y: int, x: int) -> int:
    value = rows[y][x]
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 255
    if not number or value != int(value):
        raise ImageError(
            "wrong-pixels", f"a whole number from 0 to 255 at row {y}, column {x}", described(value)
        )
    return int(value)


def described(value: Any) -> str:
    """Describe a JSON value in a few words."""
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return "null" if value is None else repr(value)[:80]


def check_ink(pixels: Pixels) -> None:
    """Raise ImageError with its number if all pixels of a picture are equal. uint8 [N, 28, 28]."""
    flat = pixels.reshape(len(pixels), PIXELS)
    for number in np.flatnonzero((flat == flat[:, :1]).all(axis=1)).tolist():
        try:
            _with_ink(pixels[number])
        except ImageError as error:
            error.image = number
            raise


def _with_ink(pixels: Pixels) -> Pixels:
    first = pixels.item(0)
    if pixels.tobytes().count(first) == pixels.size:
        raise ImageError(
            "blank-image", "a picture with ink on it", f"{PIXELS} pixels of value {int(pixels[0, 0])}"
        )
    return pixels
