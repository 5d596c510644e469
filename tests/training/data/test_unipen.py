"""UNIPEN's format, drawing, splits and pictures, on made-up files of that format, and on a part of the real data."""

import os
from pathlib import Path

import numpy as np
import pytest
from spikehead.pictures.normalise import prepare

from tests.service.picture_files import png
from tests.training.conftest import Unipen, write_unipen
from training.data import unipen
from training.data.unipen import Component, Pen, UnipenError

RECORDING = """.VERSION 1.0
.COMMENT caf\u00e9
 12 13
.COORD X Y T
.X_POINTS_PER_INCH 100
.Y_POINTS_PER_INCH\t200
.START_BOX
.PEN_DOWN
.PEN_UP
.DT 5
.PEN_DOWN
\t100 400 1
\t200\t-200 2
300 0 3
.PEN_UP
0 0 4
.PEN_DOWN

.PEN_UP
.PEN_DOWN
500 600 5
700 800 6
.PEN_UP
"""

STRICT = Pen(width=0.1, pressure=0.0, taper=1.0, softness=0.0, ink=0)


def rows(strokes: tuple[unipen.Points, ...]) -> list[list[list[float]]]:
    return [stroke.tolist() for stroke in strokes]


def numbered(*downs: bool, points: int = 3) -> list[Component]:
    """Components of three points each, which are 10, 11, 12 in the second one, and so on."""
    return [
        Component(down, np.array([[10 * number + i, 0] for i in range(points)], np.float32))
        for number, down in enumerate(downs, 1)
    ]


def test_components_are_the_blocks_that_hold_points() -> None:
    """Empty blocks do not count, other lines are no points, units of x and y are alike, y points down."""
    found = unipen.recorded(RECORDING)
    assert [one.down for one in found] == [True, False, True]
    assert rows(tuple(one.points for one in found)) == [
        [[1, -2], [2, 1], [3, 0]],
        [[0, 0]],
        [[5, -3], [7, -4]],
    ]


def test_a_point_that_is_none_is_refused() -> None:
    with pytest.raises(UnipenError, match="expected x and y of a point, got '5 five'"):
        unipen.recorded(".PEN_DOWN\n1 2\n5 five\n.PEN_UP\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4", [((4, None), (4, None))]),
        ("3-5", [((3, None), (5, None))]),
        ("3-5,7", [((3, None), (5, None)), ((7, None), (7, None))]),
        ("3:10-5:2", [((3, 10), (5, 2))]),
        ("3:10-5,7-8:1", [((3, 10), (5, None)), ((7, None), (8, 1))]),
    ],
)
def test_delineations(text: str, expected: list[tuple[unipen.Place, unipen.Place]]) -> None:
    assert unipen.delineated(text) == expected


@pytest.mark.parametrize("text", ["", "3-", "-3", "a", "3:-4", "1,,2", "1-2-3"])
def test_what_is_no_delineation_is_refused(text: str) -> None:
    with pytest.raises(UnipenError, match="expected a delineation such as 3-5,7 or 3:10-5:2, got "):
        unipen.delineated(text)


@pytest.mark.parametrize(
    ("delineation", "expected"),
    [
        ("0", [[10, 11, 12]]),
        ("1", []),
        ("0-2", [[10, 11, 12], [30, 31, 32]]),
        ("0:1-2:0", [[11, 12], [30]]),
        ("2:1-2:1", [[31]]),
        ("0:2-2", [[12], [30, 31, 32]]),
        ("0,3", [[10, 11, 12], [40, 41, 42]]),
        ("2,4", []),
    ],
)
def test_strokes_are_those_that_a_delineation_names(delineation: str, expected: list[list[int]]) -> None:
    """Points of the second component, a pen-up: none; none at all if there is no such component."""
    strokes = unipen.strokes_of(numbered(True, False, True, True), delineation)
    assert [stroke[:, 0].tolist() for stroke in strokes] == expected


def test_characters_of_an_index_file(tmp_path: Path) -> None:
    (tmp_path / "abc" / "data").mkdir(parents=True)
    (tmp_path / "abc" / "data" / "w.dat").write_text(RECORDING, encoding="latin-1")
    index = tmp_path / "w.dat"
    index.write_bytes(
        b".VERSION 1.0\n.COMMENT caf\xe9\n.INCLUDE abc/abc.doc\n.INCLUDE abc/data/w.dat\n"
        b'.SEGMENT CHARACTER 0 ? "1"\n.SEGMENT CHARACTER 2 OK "7"\n.SEGMENT CHARACTER 0-2 OK "\\""\n'
        b'.SEGMENT CHARACTER 0:1-0:1 ? "3"\n.SEGMENT CHARACTER 1 ? "5"\n.SEGMENT CHARACTER 3 ? "6"\n'
        b'.SEGMENT WORD 0 ? "1"\n'
    )
    found = unipen.characters(index, tmp_path, unipen.DIGITS + '"')
    assert [one.label for one in found] == ["1", "7", '"']  # a dot, a pen-up and what is not there are none
    assert rows(found[0].strokes) == [[[1, -2], [2, 1], [3, 0]]]
    assert len(found[2].strokes) == 2
    assert [one.label for one in unipen.characters(index, tmp_path, "7")] == ["7"]


@pytest.mark.parametrize("include", ["", ".INCLUDE abc/abc.doc\n", ".INCLUDE abc/data/other.dat\n"])
def test_a_recording_that_is_missing_is_told(include: str, tmp_path: Path) -> None:
    index = tmp_path / "w.dat"
    index.write_text(include + '.SEGMENT CHARACTER 0 ? "1"\n')
    with pytest.raises(UnipenError, match=f"expected {index} to include a recording in {tmp_path}, found "):
        unipen.characters(index, tmp_path, unipen.DIGITS)


def test_writers_are_split_by_their_files() -> None:
    """As ever: a model must not be judged by writers that another version has trained on."""
    names = [f"1a/abc/w{number}.dat" for number in range(12)]
    assert [name for name in names if unipen.is_validation(name)] == [
        "1a/abc/w4.dat",
        "1a/abc/w5.dat",
        "1a/abc/w10.dat",
    ]
    for name in names:
        assert unipen.is_validation(name) == unipen.is_validation(name.replace("1a", "1c"))


def test_a_stroke_has_the_width_of_the_pen() -> None:
    """A tenth of 84 pixels, which is the longer side; round ends; margins of 0.25."""
    picture = np.asarray(
        unipen.draw((np.array([[0, 5], [10, 5]], np.float32),), STRICT, np.random.default_rng(0))
    )
    assert picture.shape == (42, 126, 3)
    ink = picture[..., 0] < 128
    assert set(ink[:, 21:105].sum(0).tolist()) == {8}
    columns = np.flatnonzero(ink.any(0))
    assert (columns[0], columns[-1]) == (17, 108)


def test_a_pen_presses_and_tapers() -> None:
    stroke = (np.array([[0, 0], [10, 0]], np.float32),)

    def widths(pen: Pen) -> list[int]:
        ink = np.asarray(unipen.draw(stroke, pen, np.random.default_rng(3)))[..., 0] < 128
        return [int(ink[:, column].sum()) for column in range(25, 105, 8)]

    plain = widths(STRICT)
    tapered = widths(Pen(width=0.1, pressure=0.0, taper=0.3, softness=0.0, ink=0))
    pressed = widths(Pen(width=0.1, pressure=0.35, taper=1.0, softness=0.0, ink=0))
    assert len(set(plain)) == 1
    assert tapered[0] < tapered[2] == plain[2] and tapered[-1] < plain[-1]
    assert max(pressed) > plain[0] > min(pressed)


def test_what_is_seen_is_what_the_service_sees_of_the_drawing() -> None:
    character = unipen.Character("1", (np.array([[0, 0], [3, 10]], np.float32),))
    random = np.random.default_rng(5)
    drawing = unipen.draw(character.strokes, Pen.drawn(random), random)
    posted = prepare(png(np.asarray(drawing)), max_pixels=10**6)
    assert np.array_equal(unipen.seen(character, np.random.default_rng(5)), posted)


def test_pictures_of_a_split(made_up_unipen: Unipen) -> None:
    train, digits = unipen.pictures(made_up_unipen.folder / "unipen", "train")
    assert train.dtype == np.uint8 and train.shape == (len(digits), 28, 28) and digits.dtype == np.int64
    assert digits.tolist() == made_up_unipen.train
    assert (
        unipen.pictures(made_up_unipen.folder / "unipen", "validation")[1].tolist()
        == made_up_unipen.validation
    )
    letters, places = unipen.pictures(made_up_unipen.folder / "unipen", "validation", "AX")
    assert places.tolist() == [1] and letters.any()


def test_pictures_are_drawn_once(made_up_unipen: Unipen, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made_up_unipen.folder / "unipen"
    first = unipen.pictures(folder, "train")[0]
    other = unipen.pictures(folder, "train", drawing=1)[0]
    assert other.shape == first.shape and not np.array_equal(other, first)
    cache = unipen.CACHE
    monkeypatch.setattr(unipen, "CACHE", cache / "another")
    assert np.array_equal(unipen.pictures(folder, "train")[0], first)  # the same pens, wherever it is drawn
    monkeypatch.setattr(unipen, "CACHE", cache)
    monkeypatch.setattr(unipen, "seen", None)
    assert np.array_equal(unipen.pictures(folder, "train")[0], first)
    write_unipen(made_up_unipen.folder, "1a/abc/w1.dat", "1111")
    with pytest.raises(TypeError):  # other data have to be drawn
        unipen.pictures(folder, "train")


def test_the_real_data() -> None:
    """A writer's digits, and what the shipped model reads of the digits without zeros, which have a slash there."""
    folder = Path(os.environ.get("SPIKEHEAD_DATA", "data")) / "unipen"
    if not (folder / "data" / "1a").is_dir():
        pytest.skip(f"expected UNIPEN in {folder} (set SPIKEHEAD_DATA), found none")
    index = folder / "data" / "1a" / "uqb" / "ja.dat"
    found = unipen.characters(index, folder / "include", unipen.DIGITS)
    assert len(found) == 148
    assert {one.label for one in found} == set(unipen.DIGITS)
