"""From bytes to 28 x 28: place, size, what is looked at closer, and what passes unchanged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from spikehead.pictures.decode import decode
from spikehead.pictures.mnist_form import is_mnist_form
from spikehead.pictures.normalise import normalise, prepare
from spikehead.pictures.pixels import ImageError

from tests.service.conftest import band
from tests.service.picture_files import encode, png
from tests.service.pictures.conftest import LIMIT, REFERENCE, bar, close, ready, seven


def test_mnist_form() -> None:
    rows, columns = np.flatnonzero(REFERENCE.any(axis=1)), np.flatnonzero(REFERENCE.any(axis=0))
    assert REFERENCE.shape == (28, 28) and REFERENCE.dtype == np.uint8
    assert REFERENCE.max() == 255
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    y, x = np.average(np.mgrid[:28, :28].reshape(2, -1), axis=1, weights=REFERENCE.ravel())
    assert abs(y - 13.5) <= 0.5 and abs(x - 13.5) <= 0.5


@pytest.mark.parametrize("side", [50, 120, 300, 1000, 3000])
def test_sizes(side: int) -> None:
    assert close(ready(seven(side, width=round(side * 0.06))), REFERENCE)


@pytest.mark.parametrize("place", [(0, 0), (700, 10), (400, 800), (745, 745)])
def test_off_centre_on_a_large_sheet(place: tuple[int, int]) -> None:
    sheet = Image.new("L", (1000, 1000), 255)
    sheet.paste(seven(250, width=15), place)
    assert close(ready(sheet), REFERENCE)


def test_a_small_digit_on_a_very_large_sheet() -> None:
    sheet = Image.new("L", (1900, 1900), 255)
    sheet.paste(seven(120, width=7), (1500, 300))
    assert close(ready(sheet), REFERENCE)


def test_a_dark_table_around_the_sheet() -> None:
    table = Image.new("L", (260, 260), 40)
    table.paste(seven(ink=30, paper=230), (30, 30))
    assert close(ready(table), REFERENCE, 4)


def test_pictures_in_mnist_form_pass_unchanged() -> None:
    for digit in (3, 4, 5, 6):
        assert (prepare(png(band(digit)), max_pixels=LIMIT) == band(digit)).all()
    assert (prepare(png(REFERENCE), max_pixels=LIMIT) == REFERENCE).all()
    colour = Image.fromarray(REFERENCE).convert("RGB")
    assert (prepare(encode(colour), max_pixels=LIMIT) == REFERENCE).all()


def test_a_corner_of_28_by_28_is_centred() -> None:
    corner = np.zeros((28, 28), np.uint8)
    corner[1:13, 2:4] = 255
    assert not is_mnist_form(corner)
    prepared = prepare(png(corner), max_pixels=LIMIT)
    assert np.flatnonzero(prepared.any(axis=1)).tolist() == list(range(4, 24))


@pytest.mark.parametrize("box", [(9, 19, 11, 17), (1, 27, 7, 21)])
def test_28_by_28_of_another_size_is_fitted(box: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = box
    other = np.zeros((28, 28), np.uint8)
    other[top:bottom, left : left + 3] = other[top : top + 3, left:right] = 255
    assert not is_mnist_form(other)
    prepared = prepare(png(other), max_pixels=LIMIT)
    assert np.ptp(np.flatnonzero(prepared.any(axis=1))) + 1 == 20


@pytest.mark.parametrize(
    "make", [lambda i: 255 - i, lambda i: i // 2 + 100, lambda i: i ^ np.arange(28, dtype=np.uint8)]
)
def test_mnist_form_is_a_matter_of_place_not_of_light(make: Callable[[np.ndarray], np.ndarray]) -> None:
    image = make(REFERENCE)
    assert (prepare(png(image), max_pixels=LIMIT) == image).all()


def test_a_tiny_digit_on_a_large_sheet_is_found() -> None:
    found = bar(np.full((1500, 2000), 255, np.uint8), 0, slice(700, 780), slice(900, 908))
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert len(rows) == 20 and len(columns) <= 4


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 3]))
def test_any_picture_is_prepared_or_refused(width: int, height: int, seed: int, kind: int) -> None:
    random = np.random.default_rng(seed)
    shape = [(height, width), (height, width, 3), (height, width, 4), (height, width)][kind]
    values = random.integers(0, 256, shape).astype(np.uint8)
    if kind == 3:
        values = np.where(random.random(shape) < 0.03, values, 255).astype(np.uint8)
    try:
        prepared = normalise(decode(png(values), LIMIT))
    except ImageError as error:
        assert error.kind == "blank-image"
    else:
        assert prepared.shape == (28, 28) and prepared.any()
