"""A drawn seven, and what it is prepared to."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from spikehead.pictures.normalise import prepare
from spikehead.pictures.pixels import ImageError

from tests.service.picture_files import encode, png

LIMIT = 16_000_000


def seven(
    side: int = 200, width: int = 12, ink: object = 0, paper: object = 255, mode: str = "L"
) -> Image.Image:
    """A seven of two lines, left of the middle."""
    picture = Image.new(mode, (side, side), paper)  # type: ignore[arg-type]
    points = [(0.2 * side, 0.25 * side), (0.55 * side, 0.25 * side), (0.35 * side, 0.8 * side)]
    ImageDraw.Draw(picture).line(points, fill=ink, width=width, joint="curve")  # type: ignore[arg-type]
    return picture


def ready(picture: Image.Image, format: str = "PNG", **options: object) -> np.ndarray:
    return prepare(encode(picture, format, **options), max_pixels=LIMIT)


def close(one: np.ndarray, other: np.ndarray, level: float = 8) -> bool:
    """The same picture but for a pixel's shift, rounding and compression: mean difference in grey levels."""
    shifted = [np.roll(one, (dy, dx), (0, 1)).astype(int) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return min(float(np.abs(some - other).mean()) for some in shifted) < level


REFERENCE = ready(seven())


def refused(kind: str, data: bytes, limit: int = LIMIT) -> ImageError:
    with pytest.raises(ImageError) as caught:
        prepare(data, max_pixels=limit)
    assert caught.value.kind == kind, caught.value
    return caught.value


def bar(page: np.ndarray, level: int, rows: slice, columns: slice) -> np.ndarray:
    """The page with a bar of that level on it, prepared."""
    page[rows, columns] = level
    return prepare(png(page), max_pixels=LIMIT)
