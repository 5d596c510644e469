"""From a picture to the 28 x 28 pixels that the network reads.

Pictures are brought to MNIST's form the way MNIST was made: ink bright on dark, cropped to the ink, fitted
into 20 x 20, centred by mass in 28 x 28. Drawings differ from MNIST in their pens too, so strokes that are
much thinner or thicker than MNIST's are brought to its width before they are scaled down.

    decode              bytes -> a small upright picture without transparency
    find_ink            -> how far each pixel is from the paper, 0 for paper, 255 for the strongest ink
    digit_mask          -> which pixels are the digit's: no specks, no frame
    with_usual_strokes  -> ink of MNIST's stroke width
    normalise           the last three, cropped, fitted and centred -> 28 x 28
    prepare             all of it
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spikehead.model.encoding import SIDE
from spikehead.pictures import png
from spikehead.pictures.components import box_of, digit_mask
from spikehead.pictures.decode import decode
from spikehead.pictures.filters import dilated, fitted, luminance, reduced, reduction
from spikehead.pictures.ink import brightest, find_ink, find_tiny_ink, frame_of
from spikehead.pictures.mnist_form import is_mnist_form
from spikehead.pictures.pixels import Grey, ImageError, Mask, Pixels
from spikehead.pictures.strokes import BOX, with_usual_strokes

_WORKING_SIDE = 256  # larger pictures are reduced to this first: finer detail is lost in 20 x 20 anyway


def prepare(data: bytes, *, max_pixels: int) -> Pixels:
    """Bring a picture's file (PNG, JPEG, WebP, BMP or GIF) to MNIST's form. -> uint8 [28, 28]. Raises ImageError."""
    plain = png.plain_grey(data)
    if plain is not None and plain.size <= max_pixels and is_mnist_form(plain):
        return plain
    picture = decode(data, max_pixels)
    if picture.shape[:2] == (SIDE, SIDE) and is_mnist_form(small := luminance(picture)):
        return small
    return normalise(picture)


def warm_up() -> None:
    """Prepare a made-up drawing, so that the first real one need not wait for what is set up once."""
    sheet = Image.new("RGB", (100, 100), "white")
    sheet.paste((0, 0, 0), (40, 20, 46, 80))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    prepare(file.getvalue(), max_pixels=10_000)


def normalise(picture: Pixels) -> Pixels:
    """Find the ink, crop to it, fit it into 20 x 20 with strokes of MNIST's width, centre by mass.

    uint8 [H, W] or [H, W, 3] -> uint8 [28, 28]. Raises ImageError if there is no ink.
    """
    ink, mask = _find_digit(picture)
    # soft edges belong to the stroke
    near = dilated(mask)
    left, top, right, bottom = box_of(mask)
    cropped = np.where(near, ink, 0)[top:bottom, left:right]
    return _centred(fitted(with_usual_strokes(cropped), BOX))


def _find_digit(picture: Pixels) -> tuple[Grey, Mask]:
    """Return the ink of the picture, or of the part that holds the digit, and a mask of the digit. [H, W] both."""
    factor = reduction(picture.shape, _WORKING_SIDE)
    try:
        ink = find_ink(reduced(picture, factor).astype(np.float32))
    except ImageError:
        # a tiny digit on a large sheet is averaged away; a line of pixels has no blocks
        if factor == 1 or min(picture.shape[:2]) < factor:
            raise
        ink = find_tiny_ink(picture.astype(np.float32), factor)
    mask = digit_mask(ink)
    left, top, right, bottom = box_of(mask)
    size = max(right - left, bottom - top)
    if _is_sheet(mask, mask[top:bottom, left:right]):
        # a sheet on something else: the digit may be on it
        margin = -max(2, size // 25)
    elif factor > 1 and 2 * size < _WORKING_SIDE:
        # a small digit on a large sheet: look again, closer
        margin = 4 + size // 4
    else:
        return ink, mask
    part = picture[
        max(top - margin, 0) * factor : (bottom + margin) * factor,
        max(left - margin, 0) * factor : (right + margin) * factor,
    ]
    factor = reduction(part.shape, _WORKING_SIDE)
    try:
        ink = find_ink(reduced(part, factor).astype(np.float32))
    except ImageError:
        # nothing on it: a solid bar is a digit too
        return ink, mask
    return ink, digit_mask(ink)


def _is_sheet(mask: Mask, inside: Mask) -> bool:
    """Tell if the part `inside` the box of a mask is mostly filled, with full edges, and over half as long each way."""
    height, width = inside.shape
    if (
        2 * height < mask.shape[0]
        or 2 * width < mask.shape[1]
        or min(height, width) < 20
        or inside.mean() < 0.7
    ):
        return False
    inset = max(1, min(height, width) // 20)
    return float(frame_of(inside[inset:-inset, inset:-inset]).mean()) > 0.95


def _centre_of_mass(values: Grey) -> NDArray[np.float64]:
    """Return (row, column) in pixels."""
    total = float(values.sum())
    rows = float(values.sum(axis=1) @ np.arange(values.shape[0])) / total
    columns = float(values.sum(axis=0) @ np.arange(values.shape[1])) / total
    return np.array([rows, columns])


def _centred(box: Grey) -> Pixels:
    """Put the digit into 28 x 28, its centre of mass in the middle as far as it fits, its brightest ink at 255."""
    peak = max(brightest(box, max(1, box.size // 50)), 1.0)
    values = np.clip(box * (255.0 / peak), 0, 255).round()
    offset = np.rint((SIDE - 1) / 2 - _centre_of_mass(values.astype(np.float32))).astype(int)
    room = SIDE - np.array(values.shape)
    top, left = np.clip(offset, 0, room)
    result = np.zeros((SIDE, SIDE), np.uint8)
    result[top : top + values.shape[0], left : left + values.shape[1]] = values
    return result
