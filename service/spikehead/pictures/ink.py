"""From a picture's colours to its ink: how far each pixel is from the paper, and which are far enough."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikehead.pictures.pixels import Grey, ImageError

_BLANK_CONTRAST = 16.0  # grey levels between paper and ink below which there is no ink
_TINY_PIXELS = 2  # the fewest pixels, after reduction, of a digit that averaging loses
_TINY_CONTRAST = 64.0  # its least contrast: the darkest of many pixels of noise has less


def find_ink(picture: Grey, pixels: int = 0, least: float = _BLANK_CONTRAST) -> Grey:
    """Measure how far each pixel is from the paper, 0..255, the strongest ink at 255. [H, W] or [H, W, 3] -> [H, W].

    The paper is a smooth surface fitted to each colour channel, so that shading and tinted paper go away.
    Ink is darker than paper, or lighter: whichever there is more of. The channel that differs most counts,
    so that ink may have any colour. The strongest ink is that of `pixels` pixels (default: one in 2,000).
    Raises ImageError if they differ from the paper by less than `least` grey levels.
    """
    channels = [picture]
    if picture.ndim == 3:
        channels = [np.ascontiguousarray(picture[..., channel]) for channel in range(3)]
    if all((channel == channels[0]).all() for channel in channels[1:]):
        channels = channels[:1]
    away = [channel - _paper(channel) for channel in channels]
    darker, lighter = np.maximum(-reduce(np.minimum, away), 0), np.maximum(reduce(np.maximum, away), 0)
    pixels = pixels or max(2, darker.size // 2000)
    peak = max(brightest(distance, pixels) for distance in (darker, lighter))
    if peak < least:
        received = f"a contrast of {peak:.0f} grey levels"
        raise ImageError(
            "blank-image", f"ink at least {_BLANK_CONTRAST:.0f} grey levels from the paper", received
        )
    dark, light = (float(distance[distance > peak / 2].sum()) for distance in (darker, lighter))
    found: Grey = np.clip((darker if dark >= light else lighter) * (255.0 / peak), 0, 255).astype(np.float32)
    return found


def find_tiny_ink(picture: Grey, factor: int) -> Grey:
    """Find ink in the darkest pixels of blocks, or else in the lightest ones. Raises ImageError.

    [H, W] or [H, W, 3] -> [H / factor, W / factor], rounded down.
    """
    height, width = (size // factor for size in picture.shape[:2])
    blocks = picture[: height * factor, : width * factor].reshape(
        height, factor, width, factor, *picture.shape[2:]
    )
    try:
        return find_ink(blocks.min(axis=(1, 3)), _TINY_PIXELS, _TINY_CONTRAST)
    except ImageError:
        return find_ink(blocks.max(axis=(1, 3)), _TINY_PIXELS, _TINY_CONTRAST)


def brightest(values: Grey, count: int) -> float:
    """Return the `count`-th largest value."""
    return float(np.partition(values, values.size - count, axis=None)[values.size - count])


def _paper(channel: Grey) -> Grey:
    """Fit a quadratic surface to the brightness of the pixels that are not ink. [H, W]."""
    height, width = channel.shape
    stride = max(1, max(height, width) // 64)
    few = channel[::stride, ::stride]
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    rows, columns = (axis.ravel() for axis in np.meshgrid(y[::stride], x[::stride], indexing="ij"))
    terms = np.stack([np.ones_like(rows), columns, columns**2, rows, rows * columns, rows**2]).astype(
        np.float64
    )
    coefficients = np.array([_paper_level(channel, few), 0, 0, 0, 0, 0])
    values = few.ravel().astype(np.float64)
    # Pixels near the present guess are paper. The allowance shrinks as the surface gets better.
    for allowance in (60.0, 30.0, 12.0):
        paper = np.abs(values - coefficients @ terms) <= allowance
        if paper.sum() < max(64, values.size // 5):
            break
        known = terms[:, paper]
        gram = known @ known.T + 1e-3 * np.eye(6)  # the small term keeps thin pictures solvable
        coefficients = np.linalg.solve(gram, known @ values[paper])
    level, by_x, by_xx, by_y, by_xy, by_yy = coefficients.astype(np.float32)
    surface = (level + by_x * x + by_xx * x**2) + y[:, None] * (by_y + by_xy * x) + (by_yy * y**2)[:, None]
    return np.asarray(np.clip(surface, 0, 255), np.float32)


def _paper_level(channel: Grey, few: Grey) -> float:
    """Guess: the level along the edge, if much of the picture has it, else the median."""
    edge = float(np.median(frame_of(channel)))
    if float((np.abs(few - edge) <= 40).mean()) >= 0.35:
        return edge
    return float(np.median(few))


def frame_of(values: NDArray[Any]) -> NDArray[Any]:
    """Return the outermost pixels."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def threshold(ink: Grey) -> float:
    """Return Otsu's threshold between paper and ink, kept between a quarter and a half of the strongest ink."""
    counts = np.bincount(ink.astype(np.uint8).ravel(), minlength=256).astype(np.float64)
    below, levels = counts.cumsum(), np.arange(256)
    sums = (counts * levels).cumsum()
    above = below[-1] - below
    between = (sums[-1] * below / below[-1] - sums) ** 2 / np.maximum(below * above, 1e-9)
    return float(np.clip(between.argmax(), 64, 128))
