"""784 bytes and 28 lists of 28 numbers: taken as they are, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from spikehead.pictures.pixels import ImageError, from_pixels, from_raw

from tests.service.conftest import band


def test_bytes_and_pixels_pass_unchanged() -> None:
    corner = np.zeros((28, 28), np.uint8)
    corner[0, 0] = 1
    assert (from_raw(corner.tobytes()) == corner).all()
    assert (from_pixels(corner.tolist()) == corner).all()
    assert (from_pixels(corner.astype(float).tolist()) == corner).all()


def test_wrong_pixels_are_named() -> None:
    rows: list[list[object]] = band(1).tolist()
    rows[3][5] = 256
    with pytest.raises(ImageError, match="expected a whole number from 0 to 255 at row 3, column 5, got 256"):
        from_pixels(rows)
    rows[3] = [0] * 27
    with pytest.raises(ImageError, match="expected 28 pixels in row 3, got a list of 27"):
        from_pixels(rows)
