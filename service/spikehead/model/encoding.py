"""Rate encoder: from contrast to spike trains, from a seed to the randomness of a run.

The retina (`spikehead.model.retina`) has turned a picture's brightness into contrast. At each time step a pixel fires
with a probability that rises with its contrast, along the tuning curve of the model. Integer arithmetic and a
counter-based generator make that the same to the bit on every machine. Training, evaluation and the service all use
this one module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

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
"""Steepest tuning curve: along a steeper one spikes would hardly be random."""

# Words of 64 bits that a time step takes: a byte a pixel and half a word a class. Philox makes blocks of 4 words, so
# that 26 are enough.
_PIXEL_WORDS = PIXELS // 8
_UNIFORM_WORDS = CLASSES // 2
_BLOCKS_PER_STEP = 26


class EncodingError(ValueError):
    """The image, seed or number of steps cannot be encoded. The message says what was expected."""


def firing_rates(contrast_image: NDArray[np.uint8], slope: int = 1) -> NDArray[np.uint16]:
    """Turn contrast into firing rates, in spikes per 256 time steps: 0 (never) to 256 (at every step).

    At slope 1 a rate is the whole number nearest to contrast / 255 * 256. A steeper tuning curve turns around half
    contrast: a pixel never fires, or always does, if its contrast is so low, or so high, that the line would leave
    0 to 256. The steeper it is, the less random is a spike train.

    Shapes: contrast uint8 [...] -> uint16 [...].
    """
    level = contrast_image.astype(np.int16) + (contrast_image >> 7)  # 0 to 256
    half = RATE_LEVELS // 2
    return np.asarray(np.clip(half + slope * (level - half), 0, RATE_LEVELS), np.uint16)


def _random_words(seed: int, steps: int) -> NDArray[np.uint64]:
    """Draw the randomness of a run: words of Philox4x64, keyed by the seed, 26 blocks a step. uint64 [T, 104]."""
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
    """Draw the spike trains of all pixels. contrast uint8 [28, 28] -> uint8 {0, 1} [T, 1, 28, 28].

    `encoder` is bernoulli: x_t ~ Bernoulli(rate), a pixel fires if its random byte is below its rate. Or it is regular:
    spikes at the same rates, as evenly spaced as whole steps allow; a rate of one half fires in the first step.
    `slope` is the tuning curve's, see `firing_rates`.
    """
    rates = firing_rates(contrast_image, slope).reshape(PIXELS)
    if encoder == "bernoulli":
        return _bernoulli(rates, _random_words(seed, steps))
    if encoder == "regular":
        return _regular(rates, steps)
    raise EncodingError(f"expected an encoder among {', '.join(ENCODERS)}, got {encoder!r}")


def _bernoulli(rates: NDArray[np.uint16], words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    draws = words[:, :_PIXEL_WORDS].astype("<u8").view(np.uint8)  # [T, 784]
    return (draws < rates).astype(np.uint8).reshape(-1, 1, SIDE, SIDE)


def _regular(rates: NDArray[np.uint16], steps: int) -> NDArray[np.uint8]:
    half = RATE_LEVELS // 2
    due = (np.arange(steps + 1)[:, None] * rates.astype(np.int64) + half) // RATE_LEVELS  # [T+1, 784]
    return np.diff(due, axis=0).astype(np.uint8).reshape(-1, 1, SIDE, SIDE)


def output_uniforms(seed: int, steps: int) -> NDArray[np.float32]:
    """Draw the spike generator's uniform numbers, multiples of 2**-24 in [0, 1). float32 [T, 10]."""
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
    """Draw all that is random in the runs of N images, each from its own seed: input spikes and uniform numbers.

    contrast uint8 [N, 28, 28], N seeds -> spikes float32 {0, 1} [T, N, 1, 28, 28], uniforms float32 [T, N, 10].
    """
    if len(seeds) != len(contrast_images):
        raise EncodingError(f"expected one seed an image, got {len(seeds)} for {len(contrast_images)} images")
    if encoder not in ENCODERS:
        raise EncodingError(f"expected an encoder among {', '.join(ENCODERS)}, got {encoder!r}")
    count = len(contrast_images)
    rates = firing_rates(contrast_images, slope).reshape(count, PIXELS)
    spikes = np.empty((steps, count, 1, SIDE, SIDE), np.float32)
    uniforms = np.empty((steps, count, CLASSES), np.float32)
    for i, seed in enumerate(seeds):
        words = _random_words(seed, steps)
        uniforms[:, i] = _uniforms(words)
        spikes[:, i] = _bernoulli(rates[i], words) if encoder == "bernoulli" else _regular(rates[i], steps)
    return spikes, uniforms
