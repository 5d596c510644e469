"""Pictures in which a rule of the retina is just kept, and just broken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.service.picture_files import seven


def sheet(*boxes: tuple[slice, slice], level: int = 255) -> NDArray[np.uint8]:
    """One picture [1, 28, 28] with boxes of ink."""
    image = np.zeros((1, 28, 28), np.uint8)
    for rows, columns in boxes:
        image[0, rows, columns] = level
    return image


ONE = sheet((slice(4, 24), slice(12, 15)))[0]


def crossed(level: int = 200) -> NDArray[np.uint8]:
    """A one, and a line from the left side to the right one."""
    picture: NDArray[np.uint8] = sheet((slice(17, 18), slice(0, 28)), level=level)[0]
    picture[ONE > 0] = 255
    return picture


def ring(top: int, left: int, height: int, width: int) -> list[tuple[slice, slice]]:
    """Four lines of one pixel around a box."""
    rows, columns = slice(top, top + height), slice(left, left + width)
    return [
        (rows, slice(left, left + 1)),
        (rows, slice(left + width - 1, left + width)),
        (slice(top, top + 1), columns),
        (slice(top + height - 1, top + height), columns),
    ]


def contour(strokes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A line around strokes [1, 28, 28], beside them."""
    near = [np.roll(strokes, step, axis) for step in (-1, 1) for axis in (1, 2)]
    return np.asarray(np.max(near, axis=0) & ~strokes)


def gapped(width: int) -> NDArray[np.uint8]:
    """The contour of a stroke of that width, with a gap of one pixel in it."""
    picture = contour(sheet((slice(4, 24), slice(12, 12 + width))))
    picture[0, 10, 11] = 0
    return picture


def letter() -> NDArray[np.uint8]:
    """An E of three pixels, whose bays are as narrow as its strokes."""
    return sheet((slice(4, 21), slice(8, 11)), *((slice(top, top + 3), slice(8, 18)) for top in (4, 11, 18)))


def specked(last: int) -> NDArray[np.uint8]:
    """The seven, a fine line and seven specks, of which the last may be too faint to be one."""
    picture = seven()
    picture[3:6, 4] = 255
    picture[25, 2:27:5] = 255
    picture[2, 24] = last
    return picture[None]


def soft(step: int) -> NDArray[np.uint8]:
    """Strokes whose largest step from pixel to pixel is that one, of 200 grey levels at the most."""
    picture = np.zeros((1, 28, 28), np.uint8)
    picture[0, 8:20, 10:12] = step
    picture[0, 10:18, 12:15] = 200
    picture[0, [7, 20], 10:12] = 60
    picture[0, [8, 9, 18, 19], 12:15] = 100
    picture[0, 8:20, 15] = 100
    return picture


def rhombus() -> NDArray[np.uint8]:
    """The contour of a diamond, out of focus."""
    row, column = np.mgrid[:28, :28]
    away = np.abs(np.abs(row - 14) + np.abs(column - 14) - 5)
    levels = np.array([200, 100, 0], np.uint8)
    return np.asarray(levels[np.minimum(away, 2)][None], np.uint8)


def clouded() -> NDArray[np.uint8]:
    """A stroke on paper that gets lighter, with a cloud on it that no margin tells of."""
    paper = np.broadcast_to(2 * np.arange(28), (28, 28)).copy()
    paper[8:20, 4:24] += 40
    paper[5:23, 13:16] += 150
    return paper.astype(np.uint8)[None]


def faint(peak: int, other: int) -> NDArray[np.uint8]:
    """A stroke of that many grey levels beside another."""
    picture = sheet((slice(5, 23), slice(10, 13)), level=peak)
    picture[0, 5:23, 17:20] = other
    return picture


def edge_cases() -> NDArray[np.uint8]:
    """All of them, lying, standing and mirrored. [N, 28, 28]."""
    line = [sheet((slice(20, 21), slice(0, 28)), (slice(4, 6), slice(2, 2 + n))) for n in (6, 7)]
    beside = [sheet(*ring(5, 11, 17, 4), (slice(27, 28), slice(0, n))) for n in (21, 22, 23)]
    thick = [sheet((slice(3, 23), slice(9, 9 + width))) for width in range(3, 20)]
    core = [sheet(*ring(5, 11, 17, 4), (slice(24, 27), slice(10, 13)))]
    core += [np.maximum(core[0], sheet((slice(25, 26), slice(11, 12)), level=n)) for n in (40, 50, 60)]
    pictures = [
        *[crossed(level)[None] for level in (47, 48, 200)],
        *[specked(level) for level in (63, 64)],
        *[soft(step) for step in (124, 125)],
        *[gapped(width) for width in range(1, 7)],
        *[faint(80, 9), faint(80, 10), faint(31, 0), faint(32, 0), faint(33, 4), faint(33, 5)],
        *[sheet(*ring(5, 11, 17, n)) for n in range(3, 12)],
        *line, *beside, *thick, *core,
        contour(letter()), letter(), rhombus(), clouded(),
    ]  # fmt: skip
    for level in (52, 53, 60):  # a lit margin
        pictures += [np.full((1, 28, 28), 40, np.uint8)]
        pictures[-1][0, :3] = level
    for count in (29, 30, 31, 32):  # strokes that reach it
        pictures += [np.zeros((1, 28, 28), np.uint8)]
        pictures[-1].reshape(-1)[:count] = 255
    upright = np.concatenate(pictures)
    return np.concatenate(
        [upright, upright.swapaxes(1, 2), upright[:, ::-1], upright[:, :, ::-1], 255 - upright]
    )
