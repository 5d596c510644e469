"""Distortions that no training here has seen: what paper, pens, cameras and cables do to a digit.

Each takes one picture uint8 [28, 28], ink bright on dark, and a random generator, and returns a picture uint8
[28, 28]. `distorted` draws them for a whole set from a seed: image i under a distortion is always the same.
Training varies geometry alone (`training.data.mnist.vary`), so all of this is new to a network.

The kinds follow the literature on corrupted digits (Mu and Gilmer, "MNIST-C", 2019; Hendrycks and Dietterich,
"Benchmarking Neural Network Robustness", 2019); the pictures are made here, with Pillow and numpy.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Picture = NDArray[np.uint8]
Distortion = Callable[[Picture, np.random.Generator], Picture]

SIDE = 28
_FINE = 4  # lines are drawn so many times larger and made smaller: smooth edges


def _whole(values: NDArray[np.floating]) -> Picture:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _filtered(image: Picture, what: ImageFilter.Filter) -> Picture:
    return np.asarray(Image.fromarray(image).filter(what))


# Noise.


def gaussian_noise(image: Picture, random: np.random.Generator) -> Picture:
    """Normal noise of 50 grey levels on every pixel: a dark room."""
    return _whole(image + random.normal(0, 50, image.shape))


def shot_noise(image: Picture, random: np.random.Generator) -> Picture:
    """White is six photons: what arrives is Poisson."""
    return _whole(random.poisson(image / 255 * 6) * (255 / 6))


def speckle_noise(image: Picture, random: np.random.Generator) -> Picture:
    """Noise in proportion to the ink: a dry pen."""
    return _whole(image * (1 + random.normal(0, 0.5, image.shape)))


def salt_and_pepper(image: Picture, random: np.random.Generator) -> Picture:
    """A tenth of the pixels is white or black."""
    hit = random.random(image.shape) < 0.1
    return np.where(hit, np.where(random.random(image.shape) < 0.5, 255, 0), image).astype(np.uint8)


# Blur.


def gaussian_blur(image: Picture, random: np.random.Generator) -> Picture:
    """Out of focus: a standard deviation of 1.3 pixels."""
    return _filtered(image, ImageFilter.GaussianBlur(1.3))


def motion_blur(image: Picture, random: np.random.Generator) -> Picture:
    """The hand shook: seven positions along a line of six pixels, in any direction."""
    angle = random.uniform(0, np.pi)
    total = np.zeros(image.shape)
    for offset in np.linspace(-3, 3, 7):
        moved = Image.fromarray(image).transform(
            (SIDE, SIDE),
            Image.Transform.AFFINE,
            (1, 0, offset * np.cos(angle), 0, 1, offset * np.sin(angle)),
            Image.Resampling.BILINEAR,
        )
        total += np.asarray(moved)
    return _whole(total / 7)


def glass_blur(image: Picture, random: np.random.Generator) -> Picture:
    """Through rough glass: every pixel comes from up to one pixel away, then a little blur."""
    rows, columns = np.indices(image.shape)
    rows = np.clip(rows + random.integers(-1, 2, image.shape), 0, SIDE - 1)
    columns = np.clip(columns + random.integers(-1, 2, image.shape), 0, SIDE - 1)
    return _filtered(image[rows, columns], ImageFilter.GaussianBlur(0.7))


def pixelated(image: Picture, random: np.random.Generator) -> Picture:
    """A small picture made larger: 12 x 12 pixels."""
    small = Image.fromarray(image).resize((12, 12), Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


# Something over the digit.


def occlusion(image: Picture, random: np.random.Generator) -> Picture:
    """A patch of paper of 7 x 7 pixels lies somewhere on the middle of the picture."""
    top, left = random.integers(6, 16, 2)
    result = image.copy()
    result[top : top + 7, left : left + 7] = 0
    return result


def _with_lines(image: Picture, points: NDArray[np.floating], width: float, level: int) -> Picture:
    """A polyline in pixel coordinates [K, 2] (x, y) over the picture."""
    sheet = Image.new("L", (SIDE * _FINE, SIDE * _FINE))
    path = [(float(x) * _FINE, float(y) * _FINE) for x, y in points]
    ImageDraw.Draw(sheet).line(path, fill=level, width=round(width * _FINE), joint="curve")
    drawn = np.asarray(sheet.resize((SIDE, SIDE), Image.Resampling.BOX))
    return np.asarray(np.maximum(image, drawn), np.uint8)


def _across(random: np.random.Generator) -> NDArray[np.floating]:
    """Two ends of a line that crosses the middle of the picture at any angle. [2, 2]."""
    angle, shift = random.uniform(0, np.pi), random.uniform(-5, 5)
    direction = np.array([np.cos(angle), np.sin(angle)])
    middle = np.array([SIDE / 2, SIDE / 2]) + shift * np.array([-direction[1], direction[0]])
    return np.stack([middle - 20 * direction, middle + 20 * direction])


def line(image: Picture, random: np.random.Generator) -> Picture:
    """A thin line is drawn through the digit, in its own ink."""
    return _with_lines(image, _across(random), 1.0, 200)


def dotted_line(image: Picture, random: np.random.Generator) -> Picture:
    """A dotted line crosses the digit."""
    start, end = _across(random)
    result = image
    for place in np.arange(0, 1, 0.1):
        dash = start + (end - start) * np.array([[place], [place + 0.04]])
        result = _with_lines(result, dash, 1.2, 255)
    return result


def zigzag(image: Picture, random: np.random.Generator) -> Picture:
    """A zigzag is scribbled across the digit."""
    start, end = _across(random)
    along = np.linspace(0, 1, 12)[:, None]
    points = start + (end - start) * along
    across = np.array([-(end - start)[1], (end - start)[0]]) / 40
    sign = np.where(np.arange(12) % 2, 1, -1)[:, None]
    return _with_lines(image, points + sign * across * 2.0, 1.0, 200)


def spatter(image: Picture, random: np.random.Generator) -> Picture:
    """Ten small drops of ink."""
    sheet = Image.new("L", (SIDE * _FINE, SIDE * _FINE))
    pen = ImageDraw.Draw(sheet)
    for _ in range(10):
        x, y = random.uniform(0, SIDE * _FINE, 2)
        r = random.uniform(0.4, 1.2) * _FINE
        pen.ellipse((x - r, y - r, x + r, y + r), fill=int(random.integers(120, 256)))
    drawn = np.asarray(sheet.resize((SIDE, SIDE), Image.Resampling.BOX))
    return np.asarray(np.maximum(image, drawn), np.uint8)


# Light and paper.


def low_contrast(image: Picture, random: np.random.Generator) -> Picture:
    """A pencil on grey paper: 80 grey levels between ink and paper."""
    return _whole(image / 255 * 80 + random.uniform(0, 120))


def bright_background(image: Picture, random: np.random.Generator) -> Picture:
    """Everything is 110 grey levels brighter, as far as there is white."""
    return _whole(image.astype(float) + 110)


def inverted(image: Picture, random: np.random.Generator) -> Picture:
    """Dark ink on white paper, as it was written."""
    return np.asarray(255 - image, np.uint8)


def shadow(image: Picture, random: np.random.Generator) -> Picture:
    """Light that falls from one side: up to 150 grey levels across the picture."""
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.indices(image.shape) / (SIDE - 1) - 0.5
    ramp = (rows * np.sin(angle) + columns * np.cos(angle)) / 1.42 + 0.5
    return _whole(image * (1 - ramp * 150 / 255) + ramp * 150)


def fog(image: Picture, random: np.random.Generator) -> Picture:
    """Clouds of up to 130 grey levels, of several sizes, in front of the digit."""
    clouds = np.zeros(image.shape)
    for cells, weight in ((3, 0.6), (6, 0.3), (12, 0.1)):
        noise = Image.fromarray(random.random((cells, cells)).astype(np.float32))
        clouds += weight * np.asarray(noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    clouds = (clouds - clouds.min()) / max(float(np.ptp(clouds)), 1e-6)
    return _whole(image * (1 - clouds * 130 / 255) + clouds * 130)


def stripes(image: Picture, random: np.random.Generator) -> Picture:
    """Half of the columns, in bands of seven, are printed in negative."""
    bands = (np.arange(SIDE) + random.integers(0, 14)) // 7 % 2 == 1
    return np.where(bands[None, :], 255 - image, image).astype(np.uint8)


# The pen.


def thinner(image: Picture, random: np.random.Generator) -> Picture:
    """A fine pen: each pixel is half itself, half the darkest of its neighbours."""
    return _whole((image + _filtered(image, ImageFilter.MinFilter(3)).astype(float)) * 0.5)


def thicker(image: Picture, random: np.random.Generator) -> Picture:
    """A felt pen: each pixel is the brightest of its neighbours."""
    return _filtered(image, ImageFilter.MaxFilter(3))


def outline(image: Picture, random: np.random.Generator) -> Picture:
    """Only the edges of the strokes are left."""
    high, low = (_filtered(image, kind(3)) for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter))
    return np.where(high.astype(int) - low > 128, 255, 0).astype(np.uint8)


def contour(image: Picture, random: np.random.Generator) -> Picture:
    """A line of one pixel around the strokes, and nothing in them."""
    ink = image > 127
    wide = np.pad(ink, 1)
    touched = wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    return np.where(touched & ~ink, 255, 0).astype(np.uint8)


DISTORTIONS: dict[str, Distortion] = {
    function.__name__: function
    for function in (
        gaussian_noise,
        shot_noise,
        speckle_noise,
        salt_and_pepper,
        gaussian_blur,
        motion_blur,
        glass_blur,
        pixelated,
        occlusion,
        line,
        dotted_line,
        zigzag,
        spatter,
        low_contrast,
        bright_background,
        inverted,
        shadow,
        fog,
        stripes,
        thinner,
        thicker,
        outline,
        contour,
    )
}


def distorted(images: Picture, name: str, seed: int) -> Picture:
    """All images under one distortion. uint8 [N, 28, 28] -> uint8 [N, 28, 28]. Raises KeyError."""
    function, kind = DISTORTIONS[name], zlib.crc32(name.encode())
    made = [function(image, np.random.default_rng([seed, kind, i])) for i, image in enumerate(images)]
    return np.stack(made)
