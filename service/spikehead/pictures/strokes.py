"""Widths of strokes: measured, and brought to MNIST's, because other pens are much thinner or thicker."""

from __future__ import annotations

import numpy as np

from spikehead.pictures.components import box_of
from spikehead.pictures.filters import blended, dilated, eroded, fitted
from spikehead.pictures.pixels import Grey

BOX = 20
"""Side of the square that MNIST's digits fill."""

_FINE = 4  # strokes are worked on at 4 times that
_THIN, _THICK = 2.0, 3.6  # widths of a stroke in the box of 20 that pass as they are: most of MNIST's
_THINNEST, _THICKEST = 2.3, 3.3  # what others are brought to


def stroke_width(ink: Grey, most: float = 40.0) -> float:
    """Measure the mean width of the strokes in pixels; at most `most`.

    Eroding a stroke of width w by 0, 1, 2, ... pixels from both sides leaves areas that sum up to
    (w / 4 + 1 / 2) times its own.
    """
    mask = np.pad((ink > 100).astype(np.uint8), 1)
    whole = area = int(mask.sum())
    total = 0
    while area:
        total += area
        if 4 * total >= (most + 2) * whole:
            return most
        mask = eroded(mask)
        area = int(mask.sum())
    return 4 * total / whole - 2 if whole else 0.0


def with_usual_strokes(ink: Grey) -> Grey:
    """Thicken thin strokes and thin thick ones until they pass for MNIST's, at 4 times the box. [H, W]."""
    scale = BOX * _FINE / max(ink.shape)
    if scale < 1 and stroke_width(ink, most=1.5 / scale) * scale < 1.5:
        # averaging would make hairlines faint
        ink = dilated(ink.astype(np.uint8)).astype(np.float32)
    fine = fitted(ink, BOX * _FINE)
    usual = float(np.median(fine[fine > fine.max() / 4]))
    # ink of any strength is ink
    fine = np.clip(fine * (255.0 / usual), 0, 255).astype(np.float32)
    width = stroke_width(fine) / _FINE
    if width < _THIN:
        fine = _grown(fine, (_THINNEST - width) * _FINE / 2)
    elif width > _THICK:
        fine = _grown(fine, -min(width - _THICKEST, 0.6 * width) * _FINE / 2)
    left, top, right, bottom = box_of(fine > 64)
    return fine[top:bottom, left:right]


def _grown(ink: Grey, pixels: float) -> Grey:
    """Widen strokes by a number of pixels, whole or not, to every side; if negative, narrow them. [H, W]."""
    whole, part = int(abs(pixels)), abs(pixels) % 1
    strokes = np.pad(ink.round().astype(np.uint8), whole + 2)
    change = dilated if pixels > 0 else eroded
    for _ in range(whole):
        strokes = change(strokes)
    grown = blended(strokes, change(strokes), part)
    return (grown if grown.max() > 128 else strokes).astype(np.float32)
