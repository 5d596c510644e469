"""From ink to the digit: specks, frames and lines are left out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from spikehead.pictures.components import _spread, _without_lines, digit_mask

from tests.service.pictures.conftest import REFERENCE, close, ready, seven


def test_ink_begins_between_a_quarter_and_a_half_of_the_strongest() -> None:
    """A stroke fainter than a point on it. Otsu's threshold is 0 on paper of level 0, and 140 on one of 140."""
    stroke, point = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    stroke[10:50, 28:32] = point[30, 30] = True
    for level, is_ink in ((49, False), (64, False), (65, True)):
        ink = np.where(point, 255, np.where(stroke, level, 0)).astype(np.float32)
        assert np.array_equal(digit_mask(ink), stroke if is_ink else point), level
    for level, is_ink in ((128, False), (129, True)):
        ink = np.where(point, 255, np.where(stroke, level, 140)).astype(np.float32)
        assert digit_mask(ink)[stroke & ~point].all() == is_ink, level


def test_specks_and_dirt_are_left_out() -> None:
    picture = seven()
    pencil = ImageDraw.Draw(picture)
    for x, y in ((5, 5), (190, 10), (180, 180), (100, 192)):
        pencil.ellipse((x, y, x + 5, y + 5), fill=0)
    assert close(ready(picture), REFERENCE, 1)


def test_a_distant_stroke_is_left_out_and_a_near_one_kept() -> None:
    far, near = seven(400, 12), seven(400, 12)
    ImageDraw.Draw(far).line([(350, 370), (390, 370)], fill=0, width=10)
    ImageDraw.Draw(near).line([(150, 210), (230, 200)], fill=0, width=12)  # a crossbar
    assert close(ready(far), ready(seven(400, 12)), 1)
    assert not close(ready(near), ready(seven(400, 12)), 2)


@pytest.mark.parametrize("inset", [0, 8])
def test_a_frame_is_left_out(inset: int) -> None:
    picture = seven()
    ImageDraw.Draw(picture).rectangle((inset, inset, 199 - inset, 199 - inset), outline=0, width=5)
    assert close(ready(picture), REFERENCE, 1)


def test_a_round_zero_is_no_frame() -> None:
    picture = Image.new("L", (200, 200), 255)
    pencil = ImageDraw.Draw(picture)
    pencil.ellipse((20, 10, 180, 190), outline=0, width=12)
    pencil.ellipse((90, 90, 110, 110), fill=0)  # a dot inside
    prepared = ready(picture)
    assert prepared[4:24].any(axis=1).all()


def test_a_ruled_line_at_the_edge_is_left_out() -> None:
    picture = seven()
    ImageDraw.Draw(picture).line([(0, 197), (199, 197)], fill=0, width=5)
    assert close(ready(picture), REFERENCE, 1)


def lined(*lines: tuple[int, int, int, int], level: int = 0) -> Image.Image:
    """The seven, and lines of four pixels over it."""
    picture = seven()
    for line in lines:
        ImageDraw.Draw(picture).line(line, fill=level, width=4)
    return picture


@pytest.mark.parametrize("level", [0, 120])
@pytest.mark.parametrize(
    "lines",
    [
        [(0, 100, 200, 100)],
        [(90, 0, 90, 200)],
        [(0, 30, 200, 150)],
        [(0, y, 200, y) for y in range(12, 200, 25)],
        [line for at in range(12, 200, 25) for line in ((0, at, 200, at), (at, 0, at, 200))],
    ],
    ids=["across", "down", "slanted", "ruled", "squared"],
)
def test_lines_from_side_to_side_are_left_out(lines: list[tuple[int, int, int, int]], level: int) -> None:
    """But for what of them lies in the strokes' corners."""
    assert close(ready(lined(*lines, level=level)), REFERENCE, 9)


def test_a_line_that_ends_before_the_side_is_ink() -> None:
    for ends in ((15, 185), (0, 185), (15, 200)):
        assert not close(ready(lined((ends[0], 100, ends[1], 100))), REFERENCE, 15)


def crossed(width: int, stroke: int = 24) -> np.ndarray:
    """An upright stroke on 100 x 100 pixels, and a line or a band over it."""
    mask = np.zeros((100, 100), bool)
    mask[10:90, 40 : 40 + stroke] = True
    mask[45 : 45 + width] = True
    return mask


def test_lines_are_opened_away_up_to_a_tenth_of_the_side() -> None:
    stroke = crossed(0)
    for width in (1, 2, 5, 10):
        found = _without_lines(crossed(width))
        assert not found[:, :38].any() and not found[:, 66:].any(), width
        assert found[25:75, 40:64].all() and np.count_nonzero(stroke & ~found) <= 4 * width**2, width
    assert np.array_equal(_without_lines(crossed(11)), crossed(11))


def test_a_digit_as_fine_as_the_line_keeps_it() -> None:
    assert np.array_equal(_without_lines(crossed(4, stroke=4)), crossed(4, stroke=4))


def test_what_reaches_one_side_is_no_line() -> None:
    mask = crossed(4)
    mask[:, :10] = False
    assert np.array_equal(_without_lines(mask), mask)


def test_spread_is_an_octagon() -> None:
    """A square, then a cross around it."""
    mask = np.zeros((7, 7), bool)
    mask[3, 3] = True
    assert [
        " ".join("".join(".#"[int(one)] for one in row) for row in _spread(mask, radius)) for radius in (1, 2)
    ] == [
        "....... ....... ..###.. ..###.. ..###.. ....... .......",
        "....... ..###.. .#####. .#####. .#####. ..###.. .......",
    ]


def test_faint_ruling_is_left_out() -> None:
    picture = seven(mode="RGB", ink=(10, 10, 60), paper=(252, 252, 250))
    pencil = ImageDraw.Draw(picture)
    for y in range(15, 200, 25):
        pencil.line([(0, y), (199, y)], fill=(205, 222, 246), width=1)
    pencil.line([(0, 50), (199, 50)], fill=(205, 222, 246), width=1)
    assert close(ready(picture), REFERENCE, 4)
