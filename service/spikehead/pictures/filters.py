"""Operations of Pillow as functions of arrays: scaling, and the filters of 3 x 3 pixels that widen and narrow strokes.

The other modules from ink to MNIST's form work on arrays and know nothing of Pillow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from spikehead.pictures.pixels import Grey, Pixels


def luminance(picture: Pixels) -> Pixels:
    """Return the brightness of each pixel. uint8 [H, W] or [H, W, 3] -> [H, W]."""
    return picture if picture.ndim == 2 else np.asarray(Image.fromarray(picture).convert("L"))


def reduction(shape: Sequence[int], side: int) -> int:
    """Return the least whole factor by which `reduced` makes no side longer than `side`."""
    return -(-max(shape[:2]) // side)


def reduced(picture: Pixels, factor: int) -> Pixels:
    """Average blocks of `factor` x `factor` pixels. uint8 [H, W] or [H, W, 3]; sides are rounded up."""
    return np.asarray(Image.fromarray(picture).reduce(factor)) if factor > 1 else picture


def fitted(ink: Grey, side: int) -> Grey:
    """Scale in proportion so that the longer side is `side`; averages when smaller, so that no pixel is skipped."""
    height, width = ink.shape
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    resized = np.asarray(Image.fromarray(ink).resize(size, method))
    return np.asarray(np.clip(resized, 0, 255), np.float32)


def dilated(values: NDArray[Any]) -> NDArray[Any]:
    """Take the largest of each pixel and its 8 neighbours. uint8 or bool [H, W]."""
    return np.asarray(Image.fromarray(values).filter(ImageFilter.MaxFilter(3)))


def eroded(values: NDArray[Any]) -> NDArray[Any]:
    """Take the smallest of each pixel and its 8 neighbours. uint8 or bool [H, W]."""
    return np.asarray(Image.fromarray(values).filter(ImageFilter.MinFilter(3)))


def blended(one: Pixels, other: Pixels, share: float) -> Pixels:
    """Mix two pictures: 0 gives `one`, 1 gives `other`. uint8 [H, W]."""
    return np.asarray(Image.blend(Image.fromarray(one), Image.fromarray(other), share))
