"""Digits drawn with strokes, as many hands and tools draw them: the tests' own handwriting.

A digit has several shapes (with a serif, with a crossbar, open, closed, ...). A hand slants, stretches, turns
and wobbles it, a pen has a width, a tip and a colour, a sheet has a size, a background and a format.
Everything follows from a seed.
"""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]


@dataclass(frozen=True)
class Stroke:
    """Points in a box about 0.6 wide and 1 high, y down. Curves go smoothly through them, lines do not."""

    points: tuple[Point, ...]
    curved: bool = True


def curve(*points: Point) -> Stroke:
    return Stroke(points)


def lines(*points: Point) -> Stroke:
    return Stroke(points, curved=False)


def ring(x: float, y: float, rx: float, ry: float, start: float = -90, turn: float = -375) -> Stroke:
    """An ellipse from an angle (degrees, clockwise from the right), turned so far."""
    count = 14
    angles = [math.radians(start + turn * i / count) for i in range(count + 1)]
    return Stroke(tuple((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles))


SHAPES: dict[int, dict[str, tuple[Stroke, ...]]] = {
    0: {
        "oval": (ring(0.3, 0.5, 0.28, 0.5),),
        "round": (ring(0.35, 0.5, 0.4, 0.5),),
        "narrow": (ring(0.25, 0.5, 0.2, 0.5, turn=-400),),
        "clockwise": (ring(0.3, 0.5, 0.28, 0.5, start=-70, turn=370),),
    },
    1: {
        "bar": (lines((0.3, 0), (0.3, 1)),),
        "flag": (lines((0.08, 0.24), (0.32, 0), (0.32, 1)),),
        "small flag": (lines((0.18, 0.14), (0.32, 0), (0.31, 1)),),
        "serifs": (lines((0.12, 0.2), (0.32, 0), (0.32, 1)), lines((0.08, 1), (0.56, 1))),
    },
    2: {
        "plain": (
            curve((0.03, 0.24), (0.14, 0.05), (0.34, 0.0), (0.55, 0.12), (0.55, 0.34), (0.36, 0.62), (0.02, 0.98)),
            lines((0.02, 0.98), (0.62, 0.97)),
        ),
        "loop": (
            curve(
                (0.04, 0.2), (0.28, 0.0), (0.55, 0.15), (0.48, 0.45), (0.25, 0.78), (0.06, 0.95), (0.02, 0.82),
                (0.14, 0.78), (0.35, 0.93), (0.5, 0.98), (0.66, 0.9),
            ),
        ),
        "angular": (lines((0.05, 0.12), (0.3, 0.0), (0.55, 0.12), (0.53, 0.35), (0.0, 1.0), (0.62, 1.0)),),
        "swan": (
            curve((0.06, 0.3), (0.12, 0.08), (0.34, 0.0), (0.52, 0.14), (0.48, 0.4), (0.24, 0.72), (0.0, 0.96)),
            curve((0.0, 0.96), (0.18, 0.88), (0.4, 0.99), (0.62, 0.92)),
        ),
    },
    3: {
        "round": (
            curve(
                (0.04, 0.14), (0.26, 0.0), (0.5, 0.1), (0.48, 0.34), (0.22, 0.46), (0.48, 0.54), (0.58, 0.76),
                (0.4, 0.97), (0.16, 0.99), (0.0, 0.86),
            ),
        ),
        "flat top": (
            lines((0.04, 0.0), (0.56, 0.0), (0.24, 0.4)),
            curve((0.24, 0.4), (0.52, 0.48), (0.58, 0.74), (0.4, 0.98), (0.14, 0.99), (0.0, 0.86)),
        ),
        "two arcs": (
            curve((0.06, 0.06), (0.34, 0.0), (0.52, 0.18), (0.4, 0.42), (0.14, 0.48)),
            curve((0.14, 0.48), (0.46, 0.52), (0.6, 0.76), (0.4, 0.98), (0.02, 0.94)),
        ),
    },
    4: {
        "open": (
            lines((0.12, 0.0), (0.04, 0.58), (0.62, 0.56)),
            lines((0.46, 0.2), (0.44, 1.0)),
        ),
        "closed": (lines((0.46, 1.0), (0.46, 0.0), (0.0, 0.66), (0.64, 0.66)),),
        "curved": (
            curve((0.1, 0.02), (0.06, 0.3), (0.1, 0.5), (0.3, 0.52), (0.5, 0.46)),
            lines((0.52, 0.0), (0.48, 1.0)),
        ),
        "tall": (
            lines((0.26, 0.0), (0.02, 0.62), (0.6, 0.62)),
            lines((0.4, 0.36), (0.38, 1.0)),
        ),
    },
    5: {
        "two strokes": (
            curve((0.1, 0.02), (0.08, 0.22), (0.07, 0.42), (0.3, 0.36), (0.54, 0.5), (0.54, 0.78), (0.32, 0.98),
                  (0.02, 0.92)),
            lines((0.1, 0.02), (0.56, 0.0)),
        ),
        "angular": (
            lines((0.54, 0.0), (0.1, 0.0), (0.07, 0.44)),
            curve((0.07, 0.44), (0.34, 0.38), (0.56, 0.56), (0.52, 0.84), (0.28, 1.0), (0.0, 0.9)),
        ),
        "one stroke": (
            curve((0.58, 0.02), (0.34, 0.03), (0.14, 0.05), (0.09, 0.25), (0.1, 0.42), (0.36, 0.44), (0.52, 0.64),
                  (0.44, 0.9), (0.2, 0.99), (0.0, 0.92)),
        ),
    },
    6: {
        "curl": (
            curve((0.46, 0.0), (0.22, 0.16), (0.05, 0.46), (0.02, 0.74), (0.14, 0.96), (0.38, 0.99), (0.54, 0.82),
                  (0.46, 0.6), (0.26, 0.55), (0.06, 0.7)),
        ),
        "straight": (
            lines((0.4, 0.0), (0.06, 0.62)),
            ring(0.28, 0.76, 0.25, 0.24, start=-150, turn=-380),
        ),
        "hook": (
            curve((0.54, 0.1), (0.4, 0.0), (0.18, 0.12), (0.04, 0.42), (0.03, 0.74), (0.18, 0.98), (0.42, 0.96),
                  (0.54, 0.76), (0.4, 0.56), (0.18, 0.58), (0.05, 0.76)),
        ),
    },
    7: {
        "plain": (lines((0.0, 0.02), (0.58, 0.0), (0.22, 1.0)),),
        "crossbar": (lines((0.0, 0.02), (0.58, 0.0), (0.2, 1.0)), lines((0.12, 0.5), (0.56, 0.46))),
        "serif": (lines((0.02, 0.16), (0.03, 0.02), (0.58, 0.0), (0.24, 1.0)),),
        "curved": (
            curve((0.0, 0.08), (0.2, 0.02), (0.4, 0.05), (0.58, 0.0)),
            curve((0.58, 0.0), (0.42, 0.3), (0.3, 0.62), (0.26, 1.0)),
        ),
        "serif and bar": (
            lines((0.0, 0.18), (0.03, 0.02), (0.6, 0.02), (0.26, 1.0)),
            lines((0.16, 0.52), (0.54, 0.5)),
        ),
    },
    8: {
        "one stroke": (
            curve((0.5, 0.14), (0.32, 0.0), (0.1, 0.1), (0.12, 0.32), (0.32, 0.48), (0.52, 0.68), (0.5, 0.92),
                  (0.28, 1.0), (0.06, 0.9), (0.06, 0.68), (0.28, 0.48), (0.48, 0.3), (0.5, 0.12)),
        ),
        "two rings": (ring(0.3, 0.23, 0.2, 0.23, start=90), ring(0.3, 0.73, 0.26, 0.27)),
        "narrow": (ring(0.26, 0.22, 0.15, 0.22, start=90), ring(0.26, 0.72, 0.19, 0.28)),
    },
    9: {
        "stem": (ring(0.28, 0.26, 0.24, 0.26, start=-20), lines((0.52, 0.16), (0.5, 1.0))),
        "tail": (
            ring(0.28, 0.25, 0.24, 0.25, start=-10),
            curve((0.53, 0.18), (0.53, 0.5), (0.46, 0.8), (0.3, 0.98), (0.06, 0.94)),
        ),
        "one stroke": (
            curve((0.5, 0.16), (0.32, 0.0), (0.08, 0.12), (0.06, 0.38), (0.26, 0.5), (0.46, 0.36), (0.53, 0.12),
                  (0.5, 0.5), (0.42, 1.0)),
        ),
        "slanted": (ring(0.34, 0.24, 0.2, 0.24, start=-30), lines((0.54, 0.18), (0.2, 1.0))),
        "angular": (lines((0.5, 0.04), (0.1, 0.06), (0.06, 0.44), (0.5, 0.42), (0.52, 0.0), (0.5, 1.0)),),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """A hand, a pen and a sheet."""

    shape: str
    side: int  # of the sheet, pixels
    height: float  # of the digit, share of the sheet
    pen: float  # width, share of the digit's height
    slant: float
    turn: float  # degrees
    stretch: float  # of the width
    wobble: float
    place: Point  # of the free room, 0..1
    ink: tuple[int, int, int]
    paper: tuple[int, int, int]
    square_tip: bool = False
    smooth: bool = True  # antialiased
    pressure: float = 0.0  # how much the width varies
    shading: float = 0.0  # grey levels from one side of the sheet to the other
    noise: float = 0.0
    blur: float = 0.0
    format: str = "PNG"


def _through(points: np.ndarray, each: int = 12) -> np.ndarray:
    """Catmull-Rom: a smooth curve through points. [n, 2] -> [(n - 1) * each + 1, 2]."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, each, endpoint=False)[:, None]
    pieces = []
    for i in range(1, len(padded) - 2):
        a, b, c, d = padded[i - 1 : i + 3]
        pieces.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        )
    return np.concatenate([*pieces, points[-1:]])


def _straight(points: np.ndarray, each: int = 12) -> np.ndarray:
    t = np.linspace(0, 1, each, endpoint=False)[:, None]
    pieces = [a + (b - a) * t for a, b in itertools.pairwise(points)]
    return np.concatenate([*pieces, points[-1:]])


def paths(digit: int, style: Style, random: np.random.Generator) -> list[np.ndarray]:
    """The digit's strokes in pixels of the sheet."""
    angle = math.radians(style.turn)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shape = np.array([[style.stretch, -style.slant], [0.0, 1.0]])
    drawn = []
    for stroke in SHAPES[digit][style.shape]:
        points = np.array(stroke.points) + random.normal(0, style.wobble, (len(stroke.points), 2))
        path = (_through if stroke.curved else _straight)(points)
        ripple = np.cumsum(random.normal(0, style.wobble / 8, path.shape), axis=0)
        ripple -= np.linspace(0, 1, len(path))[:, None] * ripple[-1]
        drawn.append((path + ripple) @ (turn @ shape).T)
    everything = np.concatenate(drawn)
    low, size = everything.min(0), np.ptp(everything, axis=0)
    scale = style.height * style.side / max(size.max(), 1e-6)
    margin = style.pen * style.height * style.side / 2 + 2
    room = np.maximum(style.side - 2 * margin - size * scale, 0)
    if (size * scale + 2 * margin > style.side).any():
        scale *= (style.side - 2 * margin) / (size.max() * scale)
        room = np.maximum(style.side - 2 * margin - size * scale, 0)
    return [(path - low) * scale + margin + room * np.array(style.place) for path in drawn]


def render(digit: int, style: Style, random: np.random.Generator) -> Image.Image:
    """The drawing, as a picture."""
    over = 1 if not style.smooth else 3 if style.side <= 400 else 2
    side = style.side * over
    mask = Image.new("L", (side, side), 0)
    pencil = ImageDraw.Draw(mask)
    base = max(style.pen * style.height * style.side, 1.0)
    for path in paths(digit, style, random):
        path = path * over
        steps = np.maximum(np.abs(np.diff(path, axis=0)).max(1) / max(base * over / 6, 0.7), 1).astype(int)
        dense = [
            a + (b - a) * np.linspace(0, 1, n + 1)[:, None]
            for a, b, n in zip(path[:-1], path[1:], steps, strict=True)
        ]
        dots = np.concatenate(dense)
        phase = random.uniform(0, 2 * math.pi)
        for i, (x, y) in enumerate(dots):
            width = base * (1 + style.pressure * math.sin(phase + 5 * i / len(dots))) * over / 2
            box = (x - width, y - width, x + width, y + width)
            (pencil.rectangle if style.square_tip else pencil.ellipse)(box, fill=255)
    if over > 1:
        mask = mask.resize((style.side, style.side), Image.Resampling.BOX)
    if style.blur:
        mask = mask.filter(ImageFilter.GaussianBlur(style.blur * base))
    cover = np.asarray(mask, np.float32)[..., None] / 255
    paper = np.ones((style.side, style.side, 1)) * np.array(style.paper, np.float32)
    if style.shading:
        direction = random.uniform(0, 2 * math.pi)
        y, x = np.mgrid[-0.5 : 0.5 : style.side * 1j, -0.5 : 0.5 : style.side * 1j]
        paper = paper + (style.shading * (x * math.cos(direction) + y * math.sin(direction)))[..., None]
    values = paper * (1 - cover) + np.array(style.ink, np.float32) * cover
    if style.noise:
        values = values + random.normal(0, style.noise, values.shape)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def encoded(picture: Image.Image, format: str) -> bytes:
    """The picture as a file."""
    stream = io.BytesIO()
    options = {"JPEG": {"quality": 60}, "WEBP": {"quality": 70}}.get(format, {})
    picture.save(stream, format, **options)
    return stream.getvalue()


DARK = [(0, 0, 0), (20, 20, 30), (30, 40, 160), (170, 20, 20), (10, 90, 40), (70, 70, 75), (90, 40, 120)]
LIGHT = [(255, 255, 255), (250, 248, 240), (235, 235, 235), (255, 250, 205), (220, 235, 250)]


def random_style(digit: int, random: np.random.Generator) -> Style:
    """A style drawn at random: most pens are pens, some are markers or hairlines; most sheets are paper."""

    def one(options: list[Any]) -> Any:
        return options[int(random.integers(len(options)))]

    inverted = random.random() < 0.15
    photo = random.random() < 0.25
    ink, paper = one(DARK), one(LIGHT)
    if inverted:
        ink, paper = one(LIGHT), (0, 0, 0) if random.random() < 0.5 else (30, 30, 34)
    if photo:
        paper = tuple(int(level * random.uniform(0.65, 0.95)) for level in paper) if not inverted else paper
    side = round(50 * 20 ** random.uniform(0, 1))
    pen = 0.012 * 15 ** random.uniform(0, 1)  # 0.012 .. 0.18 of the digit's height
    return Style(
        shape=str(one(list(SHAPES[digit]))),
        side=side,
        height=float(random.uniform(0.3, 0.95)),
        pen=float(pen),
        slant=float(random.normal(0.12, 0.16)),
        turn=float(random.normal(0, 5)),
        stretch=float(np.exp(random.normal(0.05, 0.15))),
        wobble=0.018,
        place=(float(random.random()), float(random.random())),
        ink=ink,
        paper=paper,
        square_tip=bool(random.random() < 0.15),
        smooth=bool(random.random() < 0.7),
        pressure=float(one([0.0, 0.0, 0.25])),
        shading=float(random.uniform(10, 60)) if photo else 0.0,
        noise=float(random.uniform(2, 8)) if photo else 0.0,
        blur=float(random.uniform(0, 0.2)) if photo else 0.0,
        format=str(one(["PNG", "PNG", "JPEG", "WEBP", "BMP", "GIF"])),
    )


@dataclass(frozen=True)
class Drawing:
    """A digit that somebody drew."""

    digit: int
    style: Style
    data: bytes


def drawing(seed: int) -> Drawing:
    """The drawing of a seed; the digit is its last figure."""
    random = np.random.default_rng(seed)
    digit = seed % 10
    style = random_style(digit, random)
    return Drawing(digit, style, encoded(render(digit, style, random), style.format))
