"""Rate encoder: from a picture to spike trains, from a seed to the randomness of a run.

Two stages. The *retina* (`contrast`) turns brightness into contrast, so that a lit background does not
spike. The *rate encoder* turns contrast into spikes: at each time step a pixel fires with a probability
that rises with its contrast, along the tuning curve of the model. Integer arithmetic and a counter-based
generator make both the same to the bit on every machine. Training, evaluation and the service all use this one
module, but for a training on a GPU, whose retina (`training.retina`) equals it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Encoder = Literal["bernoulli", "regular"]
ENCODERS: tuple[Encoder, ...] = ("bernoulli", "regular")

SIDE = 28
PIXELS = SIDE * SIDE
CLASSES = 10
RATE_LEVELS = 256
"""Firing probabilities are multiples of 1/256."""

MAX_SEED = 2**64 - 1
MAX_SLOPE = 16
"""Of the tuning curve: at a steeper one hardly any chance would be left."""

_BLOCKS_PER_STEP = 26  # Philox makes 4 words of 64 bits a block: 26 * 4 = 104 words a time step
_PIXEL_WORDS = PIXELS // 8  # one random byte a pixel
_UNIFORM_WORDS = CLASSES // 2  # one 32-bit half a class

SPECK = 64  # grey levels by which a pixel stands out of its neighbours to be a speck
SPECKS = 8  # a picture of fewer has corners and ends of strokes, not noise
MARGIN = 3  # MNIST's digits fill 20 x 20 pixels of 28 x 28: the frame around them is paper
MARGIN_WINDOW = 5  # along the frame, a median over so many pixels
EVEN = 24  # grey levels that an even margin may spread over
MEDIAN_RADIUS = 8  # 17 x 17 pixels: wider than any stroke, so that ink stays under half of a window
MEDIAN_STEP = 16  # the local median is known to 16 grey levels
MIN_PEAK = 32  # contrast below this is not amplified to full rate
FLOOR_DIVISOR = 8  # contrast below an eighth of the peak does not spike


class EncodingError(ValueError):
    """The image, seed or number of steps cannot be encoded. The message says what was expected."""


def contrast(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The retina: brightness to contrast, in four integer operations.

    1. *Despeckle*: a pixel is clamped between the darkest and the brightest of its eight neighbours, so that
       a lone outlier disappears and a stroke stays. In a noisy picture, it is between the second darkest and
       the second brightest; noisy is one where that changes at least 8 pixels by at least 64 grey levels.
    2. *Lateral inhibition*: the background is estimated and subtracted (see `_background`). What is left
       is the distance from the background, whichever of the two is brighter.
    3. *Floor*: what lies under an eighth of the image's largest contrast becomes 0.
    4. *Gain*: the largest contrast becomes 255 (unless it is under 32: then there is hardly any ink).

    A digit on black, as in MNIST, passes almost unchanged.

    Shapes: images uint8 [..., 28, 28] -> uint8 [..., 28, 28].
    Raises EncodingError for any other shape or type.
    """
    if images.dtype != np.uint8 or images.shape[-2:] != (SIDE, SIDE):
        raise EncodingError(f"expected uint8 [..., 28, 28], got {images.dtype} {list(images.shape)}")
    flat = images.reshape(-1, SIDE, SIDE)
    clean = _despeckle(flat)
    distance = np.abs(clean.astype(np.int16) - _background(clean))  # [N, 28, 28]
    peak = distance.max(axis=(1, 2), keepdims=True).astype(np.int32)  # [N, 1, 1]
    kept = np.where(distance * FLOOR_DIVISOR >= peak, distance, 0).astype(np.int32)
    gained = kept * 255 // np.maximum(peak, MIN_PEAK)
    return np.asarray(gained.reshape(images.shape), np.uint8)


def _despeckle(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Clamp each pixel between its lowest and highest neighbours, or between the second ones. [N, 28, 28] uint8."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    high1 = high2 = np.zeros_like(images)
    low1 = low2 = np.full_like(images, 255)
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) == (1, 1):
                continue
            neighbour = padded[:, dy : dy + SIDE, dx : dx + SIDE]
            high2 = np.maximum(high2, np.minimum(high1, neighbour))
            high1 = np.maximum(high1, neighbour)
            low2 = np.minimum(low2, np.maximum(low1, neighbour))
            low1 = np.minimum(low1, neighbour)
    strict = np.clip(images, low2, high2)
    change = np.maximum(strict, images) - np.minimum(strict, images)
    noisy = (change >= SPECK).sum(axis=(1, 2)) >= SPECKS  # [N]
    return np.where(noisy[:, None, None], strict, np.clip(images, low1, high1))


def _background(images: NDArray[np.uint8]) -> NDArray[np.int16]:
    """What the picture would be without ink. [N, 28, 28] uint8 -> int16.

    An even margin is the background of the whole image. Where the margin is uneven, three guesses compete:
    the margin's median everywhere, the margin continued inwards, and the local median. The one that
    leaves the least ink wins; the later ones must leave clearly less, since they can also swallow strokes.
    """
    frame = np.ones((SIDE, SIDE), bool)
    frame[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    margin = np.sort(images[:, frame], axis=1)  # [N, 300]
    even = margin[:, margin.shape[1] // 2].astype(np.int16)
    result = np.broadcast_to(even[:, None, None], images.shape).copy()
    uneven = np.flatnonzero(margin[:, -1].astype(np.int16) - margin[:, 0] > EVEN)
    if not len(uneven):
        return result
    some = images[uneven]
    guesses = np.stack([result[uneven], _continued_margin(some), _local_median(some)])  # [3, n, 28, 28]
    ink = np.abs(some - guesses).sum(axis=(2, 3), dtype=np.int32)  # [3, n]
    best = np.argmin(ink * np.array([[4], [5], [6]]), axis=0)
    result[uneven] = guesses[best, np.arange(len(uneven))]
    return result


def _continued_margin(images: NDArray[np.uint8]) -> NDArray[np.int16]:
    """The margin continued inwards: the Coons patch of the four edges. [N, 28, 28] int16.

    It follows light that changes slowly, and stripes that cross the whole image, exactly.
    """
    top, bottom = _edge(images[:, :MARGIN]), _edge(images[:, -MARGIN:])  # [N, 28]
    left, right = _edge(images[:, :, :MARGIN].swapaxes(1, 2)), _edge(images[:, :, -MARGIN:].swapaxes(1, 2))
    patch = coons_patch(top, bottom, left, right, np.arange(SIDE, dtype=np.int32))
    return np.asarray(np.clip(patch, 0, 255), np.int16)


def coons_patch(top: Any, bottom: Any, left: Any, right: Any, far: Any) -> Any:
    """The surface between four edges, rounded down. Integers [N, 28], arrays or tensors -> [N, 28, 28].

    `far` is how far each place is from the first edge: 0 to 27.
    Source: Coons, "Surfaces for Computer-Aided Design of Space Forms", 1967.
    """
    last = SIDE - 1
    near = last - far
    rows = near[:, None] * top[:, None, :] + far[:, None] * bottom[:, None, :]
    columns = near * left[:, :, None] + far * right[:, :, None]
    corner = [(top[:, 0] + left[:, 0]) // 2, (top[:, -1] + right[:, 0]) // 2]
    corner += [(bottom[:, 0] + left[:, -1]) // 2, (bottom[:, -1] + right[:, -1]) // 2]
    upper = near * corner[0][:, None] + far * corner[1][:, None]  # [N, 28]
    lower = near * corner[2][:, None] + far * corner[3][:, None]
    corners = near[:, None] * upper[:, None, :] + far[:, None] * lower[:, None, :]
    return (last * (rows + columns) - corners) // last**2


def _edge(strip: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Median over the strip's depth and 5 pixels along it. [N, 3, 28] -> int32 [N, 28]."""
    half = MARGIN_WINDOW // 2
    padded = np.pad(strip, ((0, 0), (0, 0), (half, half)), mode="edge")
    windows = np.concatenate(
        [padded[:, :, i : i + SIDE] for i in range(MARGIN_WINDOW)], axis=1
    )  # [N, 15, 28]
    return np.partition(windows, windows.shape[1] // 2, axis=1)[:, windows.shape[1] // 2].astype(np.int32)


def _local_median(images: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Median over 17 x 17 pixels (edges repeated), in steps of 16 grey levels. [N, 28, 28] int16.

    Threshold decomposition: at each grey level, does the majority of the window reach it? The answer is
    monotonous in the level, so an image is done at the first level that no window reaches.
    """
    radius, width = MEDIAN_RADIUS, 2 * MEDIAN_RADIUS + 1
    result = np.zeros(images.shape, np.int16)
    alive = np.arange(len(images))
    for level in range(MEDIAN_STEP // 2, 256, MEDIAN_STEP):
        lit = np.pad(images[alive] >= level, ((0, 0), (radius, radius), (radius, radius)), mode="edge")
        count = _sliding_sum(_sliding_sum(lit.astype(np.uint16), width, 1), width, 2)
        majority = count * 2 > width * width
        result[alive] += MEDIAN_STEP * majority
        alive = alive[majority.any(axis=(1, 2))]
        if not len(alive):
            break
    return np.minimum(result, 255)


def _sliding_sum(values: NDArray[np.uint16], width: int, axis: int) -> NDArray[np.uint16]:
    """Sums over windows of `width` along `axis`; the axis gets shorter by width - 1."""
    total = np.cumsum(values, axis=axis, dtype=np.uint16)
    total = np.concatenate([np.zeros_like(total.take([0], axis)), total], axis)
    size = values.shape[axis] - width + 1
    return total.take(range(width, width + size), axis) - total.take(range(size), axis)


def rates(contrast_image: NDArray[np.uint8], slope: int = 1) -> NDArray[np.uint16]:
    """Firing probability of each pixel and time step, in 1/256: 0 never fires, 255 always does.

    Between them the numerator is the nearest whole one to intensity / 255 * 256. A slope above 1 is that of the
    neurons' tuning curve, around half contrast: a pixel then fires never, or always, where contrast is so low, or so
    high, that the line would leave 0 or 1. The steeper, the less chance is in a spike train.
    """
    level = contrast_image.astype(np.int16) + (contrast_image >> 7)  # 0 to 256
    half = RATE_LEVELS // 2
    return np.asarray(np.clip(half + slope * (level - half), 0, RATE_LEVELS), np.uint16)


def _random_words(seed: int, steps: int) -> NDArray[np.uint64]:
    """The run's randomness: [steps, 104] words of Philox4x64, keyed by the seed, 26 blocks a step."""
    if not 0 <= seed <= MAX_SEED:
        raise EncodingError(f"expected a seed between 0 and 2**64 - 1, got {seed}")
    if steps < 1:
        raise EncodingError(f"expected at least 1 time step, got {steps}")
    words = np.random.Philox(key=seed).random_raw(steps * _BLOCKS_PER_STEP * 4)
    return words.reshape(steps, _BLOCKS_PER_STEP * 4)


def input_spikes(
    contrast_image: NDArray[np.uint8],
    seed: int,
    steps: int,
    encoder: Encoder = "bernoulli",
    slope: int = 1,
) -> NDArray[np.uint8]:
    """Spike trains of all pixels. contrast uint8 [28, 28] -> uint8 {0, 1} [T, 1, 28, 28]. `slope`: see `rates`.

    bernoulli: x_t ~ Bernoulli(rate), a random byte below the rate. regular: spikes as evenly spaced as
    whole steps allow, at the same rates, with the phase that lets a rate of one half fire first.
    """
    numerators = rates(contrast_image, slope).reshape(PIXELS)
    if encoder == "bernoulli":
        return _bernoulli(numerators, _random_words(seed, steps))
    if encoder == "regular":
        return _regular(numerators, steps)
    raise EncodingError(f"expected an encoder among {', '.join(ENCODERS)}, got {encoder!r}")


def _bernoulli(numerators: NDArray[np.uint16], words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    draws = words[:, :_PIXEL_WORDS].astype("<u8").view(np.uint8)  # [T, 784]
    return (draws < numerators).astype(np.uint8).reshape(-1, 1, SIDE, SIDE)


def _regular(numerators: NDArray[np.uint16], steps: int) -> NDArray[np.uint8]:
    half = RATE_LEVELS // 2
    due = (np.arange(steps + 1)[:, None] * numerators.astype(np.int64) + half) // RATE_LEVELS  # [T+1, 784]
    return np.diff(due, axis=0).astype(np.uint8).reshape(-1, 1, SIDE, SIDE)


def output_uniforms(seed: int, steps: int) -> NDArray[np.float32]:
    """Uniform numbers of the spike generator, multiples of 2**-24 in [0, 1). float32 [T, 10]."""
    return _uniforms(_random_words(seed, steps))


def _uniforms(words: NDArray[np.uint64]) -> NDArray[np.float32]:
    halves = words[:, _PIXEL_WORDS : _PIXEL_WORDS + _UNIFORM_WORDS].astype("<u8").view(np.uint32)  # [T, 10]
    return (halves >> 8).astype(np.float32) * np.float32(2**-24)


def encode(
    contrast_images: NDArray[np.uint8],
    seeds: Sequence[int],
    steps: int,
    encoder: Encoder = "bernoulli",
    slope: int = 1,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Everything random about the runs of N images, each from its own seed.

    contrast uint8 [N, 28, 28], N seeds -> spikes float32 {0, 1} [T, N, 1, 28, 28], uniforms float32 [T, N, 10].
    """
    if len(seeds) != len(contrast_images):
        raise EncodingError(f"expected one seed an image, got {len(seeds)} for {len(contrast_images)} images")
    if encoder not in ENCODERS:
        raise EncodingError(f"expected an encoder among {', '.join(ENCODERS)}, got {encoder!r}")
    count = len(contrast_images)
    numerators = rates(contrast_images, slope).reshape(count, PIXELS)
    spikes = np.empty((steps, count, 1, SIDE, SIDE), np.float32)
    uniforms = np.empty((steps, count, CLASSES), np.float32)
    for i, seed in enumerate(seeds):
        words = _random_words(seed, steps)
        uniforms[:, i] = _uniforms(words)
        spikes[:, i] = (
            _bernoulli(numerators[i], words) if encoder == "bernoulli" else _regular(numerators[i], steps)
        )
    return spikes, uniforms
