"""UNIPEN: characters as pens moved, drawn as pictures and prepared as the service prepares what is posted.

The data are hundreds of writers' digits, letters and symbols (Guyon et al., "UNIPEN project of on-line data exchange
and recognizer benchmarks", 1994; Zenodo record 1195803, CC BY 4.0). Index files say which components of which
recording make up which character; one index file is one writer, or one sitting of a writer.

    recorded    a recording -> its components, the pen-down and pen-up blocks that hold points
    characters  an index file -> characters: a label, and strokes
    draw        a character, with a pen of some width, pressure and taper -> a picture, ink on paper
    pictures    all characters of a split -> what the network is shown
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from spikehead.model.encoding import SIDE
from spikehead.pictures import components, filters, ink, normalise, strokes

FOLDER = "unipen"
"""Below the data folder, beside `MNIST`."""

CACHE = Path("runs/unipen")
"""Pictures that were drawn before, so that each run need not draw them again."""

CREDIT = (
    "UNIPEN train_r01_v07, isolated digits (1a): I. Guyon et al., 1994; Zenodo record 1195803, CC BY 4.0; "
    "drawn as pictures here"
)

DIGITS = "0123456789"
NON_DIGITS = "AEFHKMNPRWXkmnuwx#%*+=@<^~"
"""Letters and symbols that no hand writes as a digit: neither an I or l (1), nor a q (9), nor a $ (8)."""

Split = Literal["train", "validation"]
Points = NDArray[np.float32]
Pictures = NDArray[np.uint8]
Labels = NDArray[np.int64]

VALIDATION_SHARE = 5
"""One index file in so many is for validation."""

Place = tuple[int, int | None]
"""Number of a component and of a point in it, both from 0; None for its first or last."""


class UnipenError(ValueError):
    """A file is not as UNIPEN's are."""


@dataclass(frozen=True)
class Component:
    """Points of the pen between two of its commands."""

    down: bool
    points: Points  # [K, 2]: x to the right, y down


@dataclass(frozen=True)
class Character:
    """A character that somebody wrote."""

    label: str
    strokes: tuple[Points, ...]  # [K, 2] each: x to the right, y down, in the tablet's units


# ------------------------------------------------------------------------------------------- the format


def _text(path: Path) -> str:
    """Read a file. Its comments are in whatever encoding its donor had; what is read here is ASCII."""
    return path.read_text(encoding="latin-1")


def recorded(text: str) -> list[Component]:
    """List the components of a recording in their order. Blocks without points are none, and do not count.

    Raises UnipenError.
    """
    found: list[Component] = []
    down: bool | None = None  # None: these lines are no points
    rows: list[tuple[float, float]] = []
    units = {"X": 1.0, "Y": 1.0}
    for line in (*text.splitlines(), "."):
        words = line.split()
        if not line.startswith("."):
            if down is not None and len(words) >= 2:
                try:
                    rows.append((float(words[0]), -float(words[1])))
                except ValueError:
                    raise UnipenError(f"expected x and y of a point, got {line!r}") from None
            continue
        if down is not None and rows:
            points = np.array(rows) / [units["X"], units["Y"]]
            found.append(Component(down, points.astype(np.float32)))
        rows = []
        keyword = words[0]
        down = {".PEN_DOWN": True, ".PEN_UP": False}.get(keyword)
        if keyword.endswith(("_POINTS_PER_INCH", "_POINTS_PER_MM")) and len(words) > 1:
            units[keyword[1]] = float(words[1])
    return found


def delineated(text: str) -> list[tuple[Place, Place]]:
    """Parse a delineation such as `3-5,7` or `3:10-5:2`: first and last place of each range, inclusive.

    Raises UnipenError.
    """

    def place(part: str) -> Place:
        match = re.fullmatch(r"(\d+)(?::(\d+))?", part)
        if match is None:
            raise UnipenError(f"expected a delineation such as 3-5,7 or 3:10-5:2, got {text!r}")
        return int(match[1]), None if match[2] is None else int(match[2])

    ranges = []
    for item in text.split(","):
        first, dash, last = item.partition("-")
        ranges.append((place(first), place(last if dash else first)))
    return ranges


def strokes_of(components: list[Component], delineation: str) -> tuple[Points, ...]:
    """Cut out the pen-down strokes that a delineation names; none if it goes beyond the recording.

    Raises UnipenError.
    """
    strokes = []
    for (first, start), (last, end) in delineated(delineation):
        if last >= len(components):
            return ()
        for number in range(first, last + 1):
            component = components[number]
            begin = start if number == first and start is not None else 0
            stop = end + 1 if number == last and end is not None else None
            points = component.points[begin:stop]
            if component.down and len(points):
                strokes.append(points)
    return tuple(strokes)


_SEGMENT = re.compile(r'\.SEGMENT\s+CHARACTER\s+(\S+)\s+(?:(\S+)\s+)?"(.*)"\s*')


def characters(index: Path, includes: Path, wanted: Collection[str]) -> list[Character]:
    """Read the characters of these labels that an index file tells of. `includes` is the folder of the recordings.

    Those of no ink, or of dots alone, are left out: no label here means a dot. Raises UnipenError if the recording
    is missing.
    """
    lines = _text(index).splitlines()
    recordings = [line.split()[1] for line in lines if line.startswith(".INCLUDE") and "/data/" in line]
    if not recordings or not (includes / recordings[-1]).is_file():
        name = recordings[-1] if recordings else "no .INCLUDE with /data/ in it"
        raise UnipenError(f"expected {index} to include a recording in {includes}, found {name}")
    matches = [match for match in map(_SEGMENT.fullmatch, lines) if match is not None]
    named = [(re.sub(r"\\(.)", r"\1", match[3]), match[1]) for match in matches]
    if not any(label in wanted for label, _ in named):
        return []
    components = recorded(_text(includes / recordings[-1]))
    found = (Character(label, strokes_of(components, place)) for label, place in named if label in wanted)
    return [one for one in found if any(len(np.unique(stroke, axis=0)) > 1 for stroke in one.strokes)]


# ------------------------------------------------------------------------------------------- the splits


def is_validation(name: str) -> bool:
    """Tell if an index file such as `1a/apa/apa00/app0007.dat` is for validation: by the path below the part of the
    data, so that a writer's letters go with the digits.
    """
    below = name.partition("/")[2]
    return hashlib.sha256(below.encode()).digest()[0] % VALIDATION_SHARE == 0


def index_files(folder: Path, parts: Collection[str], split: Split) -> Iterator[Path]:
    """Yield the index files of `parts` of the data (`1a` to `1d`) in a split, in the order of their paths."""
    for part in parts:
        for path in sorted((folder / "data" / part).rglob("*.dat")):
            if is_validation(_name(folder, path)) == (split == "validation"):
                yield path


def _name(folder: Path, path: Path) -> str:
    """Name an index file by its path below `data`, such as `1a/apa/apa00/app0007.dat`."""
    return path.relative_to(folder / "data").as_posix()


# ------------------------------------------------------------------------------------------ the drawing

_SIDE = 84
"""Pixels of the longer side of a character, as it is drawn: more than the service's preparation looks at."""

_FINE = 3
"""Strokes are drawn so many times larger and made smaller: smooth edges."""


@dataclass(frozen=True)
class Pen:
    """How a pen writes."""

    width: float  # of the character's longer side
    pressure: float  # by which share the width varies along a stroke
    taper: float  # width at the ends of a stroke, relatively
    softness: float  # standard deviation of the blur, in pixels
    ink: int  # grey level; paper is 255

    @classmethod
    def drawn(cls, random: np.random.Generator) -> Pen:
        """Choose any pen, from a ballpoint to a felt pen."""
        return cls(
            width=float(np.exp(random.uniform(np.log(0.04), np.log(0.17)))),
            pressure=float(random.uniform(0.0, 0.35)),
            taper=float(random.uniform(0.3, 1.0)),
            softness=float(random.uniform(0.0, 1.5)),
            ink=int(random.integers(0, 100)),
        )


def draw(strokes: tuple[Points, ...], pen: Pen, random: np.random.Generator) -> Image.Image:
    """Draw a character that is more than a dot on white paper, RGB; `random` says where the pen presses."""
    every = np.concatenate(strokes)
    low, size = every.min(0), float(np.ptp(every, axis=0).max())
    scale = _SIDE * _FINE / size
    margin = _SIDE * _FINE * (0.15 + pen.width)
    extent = np.ptp(every, axis=0) * scale + 2 * margin
    width, height = (_FINE * round(float(side) / _FINE) for side in extent)
    sheet = Image.new("L", (width, height), 255)
    canvas = ImageDraw.Draw(sheet)
    for stroke in strokes:
        path = _evenly((stroke - low) * scale + margin, _FINE)
        for (x, y), radius in zip(path, _radii(len(path), pen, random), strict=True):
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=pen.ink)
    small = sheet.reduce(_FINE)
    return small.filter(ImageFilter.GaussianBlur(pen.softness)).convert("RGB")


def _evenly(points: Points, step: float) -> Points:
    """Describe a path by points that are `step` apart, [L, 2]; one that goes nowhere is one point."""
    lengths = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    places = np.linspace(0.0, along[-1], 1 + int(np.ceil(along[-1] / step)))
    columns = [np.interp(places, along, points[:, axis]) for axis in (0, 1)]
    return np.stack(columns, 1).astype(np.float32)


def _radii(count: int, pen: Pen, random: np.random.Generator) -> NDArray[np.float64]:
    """Give half of the pen's width at `count` points along a stroke, [count]."""
    along = np.linspace(0.0, 1.0, count)
    pressed = np.interp(along, np.linspace(0.0, 1.0, 5), random.uniform(-1.0, 1.0, 5))
    from_end = np.minimum(along, 1.0 - along) / 0.2 if count > 1 else np.ones(1)
    tapered = pen.taper + (1.0 - pen.taper) * np.minimum(from_end, 1.0)
    return 0.5 * pen.width * _SIDE * _FINE * (1.0 + pen.pressure * pressed) * tapered


def seen(character: Character, random: np.random.Generator) -> Pictures:
    """Show a character as the service would see a drawing of it. -> uint8 [28, 28]."""
    drawing = draw(character.strokes, Pen.drawn(random), random)
    return normalise.normalise(np.asarray(drawing))


# ----------------------------------------------------------------------------------------- all of a split


def pictures(
    folder: Path,
    split: Split,
    labels: str = DIGITS,
    drawing: int = 0,
    cache: Path | None = None,
) -> tuple[Pictures, Labels]:
    """Draw every character of these labels in UNIPEN's `folder`: uint8 [N, 28, 28], each one's place in `labels` [N].

    Another `drawing` is with other pens. What was drawn before is read from the folder `cache`, by default `CACHE`:
    drawing takes a minute or two. Raises UnipenError.
    """
    files = list(index_files(folder, ("1a",) if labels == DIGITS else ("1b", "1c", "1d"), split))
    stored = (cache or CACHE) / f"{split}-{drawing}-{_fingerprint(files, labels)}.npz"
    if not stored.is_file():
        found = [
            (seen(one, np.random.default_rng([drawing, *_name(folder, path).encode(), number])), one.label)
            for path in files
            for number, one in enumerate(characters(path, folder / "include", labels))
        ]
        drawn = np.array([one for one, _ in found], np.uint8).reshape(-1, SIDE, SIDE)
        places = np.array([labels.index(label) for _, label in found], np.int64)
        stored.parent.mkdir(parents=True, exist_ok=True)
        partial = stored.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.savez_compressed(file, images=drawn, labels=places)
        partial.replace(stored)
    with np.load(stored) as contents:
        return contents["images"], contents["labels"]


def _fingerprint(files: list[Path], labels: str) -> str:
    """Hash what decides what is drawn: index files, this module, and the modules from a drawing to 28 x 28."""
    digest = hashlib.sha256(labels.encode())
    for module in (sys.modules[__name__], components, filters, ink, normalise, strokes):
        digest.update(inspect.getsource(module).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
