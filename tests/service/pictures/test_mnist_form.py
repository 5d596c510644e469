"""Both ways of looking whether a picture is in MNIST's form say the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spikehead.engine import native
from spikehead.pictures.mnist_form import CENTRED, LARGEST, SMALLEST, is_mnist_form, looks_like_mnist


def block(top: int, left: int, height: int, width: int, value: int = 255) -> np.ndarray:
    picture = np.zeros((28, 28), np.uint8)
    picture[top : top + height, left : left + width] = value
    return picture


@pytest.mark.parametrize(
    ("picture", "answer"),
    [
        (block(4, 10, 20, 8), True),
        (block(4, 10, SMALLEST, 8), True),  # centre of mass 3.5 above the middle: just allowed
        (block(8, 10, SMALLEST - 1, 8), False),  # too small
        (block(1, 10, LARGEST, 8), True),
        (block(1, 10, LARGEST + 1, 8), False),  # too large
        (block(3, 10, SMALLEST, 8), False),  # off centre
        (block(8, 3, 12, SMALLEST), False),
        (np.zeros((28, 28), np.uint8), False),
        (255 - block(4, 10, 20, 8), True),  # dark on light: the retina sees to that
    ],
)
def test_what_the_form_is(picture: np.ndarray, answer: bool) -> None:
    assert looks_like_mnist(picture) is answer
    assert is_mnist_form(picture) is answer


@pytest.mark.skipif(not native.available(), reason="the native engine was not built here")
@settings(max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 28), st.integers(1, 28)),
    st.sampled_from(["block", "noise", "shaded", "inverted"]),
)
def test_the_native_engine_agrees(seed: int, place: tuple[int, int, int, int], kind: str) -> None:
    random = np.random.default_rng(seed)
    picture = block(*place, value=int(random.integers(1, 256)))
    if kind == "noise":
        picture = np.maximum(picture, random.integers(0, 60, (28, 28))).astype(np.uint8)
    elif kind == "shaded":
        picture = np.maximum(picture, np.arange(28, dtype=np.uint8)[None] * 3)
    elif kind == "inverted":
        picture = 255 - picture
    assert native.in_form(picture, CENTRED, SMALLEST, LARGEST) is looks_like_mnist(picture)
