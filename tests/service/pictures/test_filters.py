"""Pillow's operations on arrays, by hand."""

from __future__ import annotations

import numpy as np
from spikehead.pictures.filters import blended, dilated, eroded, fitted, luminance, reduced, reduction


def test_neighbours() -> None:
    point = np.zeros((4, 5), np.uint8)
    point[1, 1] = 9
    square = np.zeros((4, 5), np.uint8)
    square[:3, :3] = 9
    assert np.array_equal(dilated(point), square) and np.array_equal(dilated(point > 0), square > 0)
    # what lies beyond the picture counts as what lies at its edge
    corner = np.zeros((4, 5), np.uint8)
    corner[:2, :2] = 9
    assert np.array_equal(eroded(square), corner) and not eroded(point).any()


def test_sizes() -> None:
    ramp = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert reduced(ramp, 1) is ramp
    assert reduced(ramp, 2).tolist() == [[3, 5], [9, 11]]  # 2.5, 4.5, 8.5 and 10.5, halves rounded up
    assert reduced(np.dstack([ramp] * 3), 2).tolist() == np.dstack([reduced(ramp, 2)] * 3).tolist()
    assert [reduction((1, side, 3000), 256) for side in (255, 256, 257, 513)] == [1, 1, 2, 3]
    assert fitted(ramp.astype(np.float32), 2).tolist() == [[2.5, 4.5], [8.5, 10.5]]
    assert fitted(ramp.astype(np.float32), 12).shape == (9, 12)


def test_brightness_and_mixtures() -> None:
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    assert luminance(red).tolist() == [[76]]
    assert luminance(red[..., 0]).tolist() == [[255]]
    dark, bright = np.zeros((1, 2), np.uint8), np.full((1, 2), 200, np.uint8)
    assert [blended(dark, bright, share).tolist() for share in (0, 0.25, 1)] == [
        [[0, 0]],
        [[50, 50]],
        [[200, 200]],
    ]
