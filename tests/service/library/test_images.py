"""Every kind of image, and what is no image: the same pixels, answers and problems here and over HTTP."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spikehead
from PIL import Image
from spikehead.library.images import to_bytes

from tests.service.conftest import band
from tests.service.picture_files import encode, png, seven

FOUR = band(4)
NOISE = np.random.default_rng(7).integers(0, 256, (28, 28), np.uint8)
SHEET = np.full((90, 60), 240, np.uint8)
SHEET[20:70, 25:32] = 30


def coloured(alpha: bool = False) -> np.ndarray:
    sheet = np.stack([SHEET, SHEET // 2, SHEET, np.where(SHEET > 99, 0, 255)], axis=-1).astype(np.uint8)
    return sheet if alpha else sheet[..., :3]


def sideways() -> Image.Image:
    """A photograph that its camera turned."""
    picture = Image.fromarray(SHEET)
    exif = picture.getexif()
    exif[0x0112] = 6
    return Image.open(io.BytesIO(encode(picture, "JPEG", exif=exif)))


def transparent() -> Image.Image:
    """A palette in which one colour is transparent."""
    picture = Image.fromarray(SHEET).convert("P")
    return Image.open(io.BytesIO(encode(picture, transparency=240)))


AS_THEY_ARE: dict[str, Any] = {
    "uint8": NOISE,
    "float64": NOISE / 255,
    "float32": NOISE.astype(np.float32) / 255,
    "float16": (NOISE / 255).astype(np.float16),
    "int64": NOISE.astype(np.int64),
    "uint16": NOISE.astype(np.uint16),
    "list": NOISE.tolist(),
    "bytes": NOISE.tobytes(),
    "memoryview": memoryview(NOISE.tobytes()),
    "channel first": NOISE[None],
    "channel last": NOISE[..., None],
    "not contiguous": np.asfortranarray(NOISE),
}
PICTURES: dict[str, Any] = {
    "a file's bytes": png(FOUR),
    "a bytearray": bytearray(png(SHEET)),
    "grey": SHEET,
    "grey floats": SHEET / 255,
    "red, green, blue": coloured(),
    "with alpha": coloured(alpha=True),
    "booleans": SHEET > 99,
    "28 x 28 of a colour": np.repeat(FOUR[..., None], 3, axis=-1),
    "PIL, rotated": sideways(),
    "PIL, a transparent colour": transparent(),
    "PIL, 16 bits": Image.fromarray(SHEET.astype(np.uint16) * 257),
    **{f"PIL, {mode}": Image.fromarray(SHEET).convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    **{f"PIL, {mode}": Image.fromarray(SHEET).convert("RGB").convert(mode) for mode in ("CMYK", "HSV")},
    "PIL, RGBa": Image.fromarray(coloured(alpha=True)).convert("RGBa"),
}


@pytest.mark.parametrize("image", AS_THEY_ARE.values(), ids=AS_THEY_ARE)
def test_28_x_28_pixels_are_taken_as_they_are(image: Any, client: spikehead.Client) -> None:
    """No value changes, by way of floats neither."""
    assert to_bytes(image) == NOISE.tobytes()
    stored = client.spike(client.classify(image, record="required").id)
    assert np.array_equal(stored.pixels, NOISE)


@pytest.mark.parametrize("image", [*AS_THEY_ARE.values(), *PICTURES.values()], ids=[*AS_THEY_ARE, *PICTURES])
def test_an_image_is_the_same_here_and_over_http(
    image: Any, network: spikehead.Network, client: spikehead.Client
) -> None:
    here = network.classify(image, seed=7, raster="all")
    there = client.classify(image, seed=7, raster="all")
    assert here == there and here.raster is not None
    assert here == network.classify_many([image], seed=7, raster="all")[0]
    assert here == client.classify_many([image], seed=7, raster="all")[0]


@pytest.mark.parametrize("make", [str, Path])
def test_paths(
    make: Callable[[Path], Any], network: spikehead.Network, client: spikehead.Client, tmp_path: Path
) -> None:
    for name, data in (("seven.png", png(seven())), ("seven.raw", seven().tobytes())):
        (tmp_path / name).write_bytes(data)
        expected = network.classify(seven(), seed=7)
        for source in (network, client):
            assert source.classify(make(tmp_path / name), seed=7) == expected
            with pytest.raises(FileNotFoundError):
                source.classify(make(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("array", "picture"),
    [
        (SHEET, SHEET),
        (SHEET / 255, SHEET),
        (SHEET[..., None], SHEET),
        (coloured(True) / 255, coloured(True)),
        (SHEET > 99, np.where(SHEET > 99, 255, 0)),
    ],
)
def test_an_array_is_stored_without_loss(array: np.ndarray, picture: np.ndarray) -> None:
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(to_bytes(array)))), picture)


def test_floats_are_rounded_to_the_nearest_255th() -> None:
    image = np.zeros((28, 28))
    image[0, :4] = 0.4 / 255, 0.6 / 255, 254.4 / 255, 1
    assert list(to_bytes(image)[:4]) == [0, 1, 254, 255]


KINDS = "a path, bytes, a PIL image or an array of numbers"
SHAPES = "an array [28, 28], [height, width], or [height, width, 3 or 4]"
BITS = "a PIL image of 8 or 16 bits a channel"


@pytest.mark.parametrize(
    ("image", "kind", "expected", "received"),
    [
        (b"", "empty-body", "a picture", "0 bytes"),
        (None, "wrong-pixels", KINDS, "NoneType"),
        (FOUR.astype(str), "wrong-pixels", KINDS, "ndarray"),
        (FOUR.astype(float), "wrong-pixels", "floats from 0 to 1", "float64 from 0.0 to 255.0"),
        (FOUR * np.nan, "wrong-pixels", "floats from 0 to 1", "float64 from nan to nan"),
        (FOUR.astype(int) - 1, "wrong-pixels", "whole numbers from 0 to 255", "int64 from -1 to 254"),
        (FOUR[:0], "wrong-size", SHAPES, "shape [0, 28]"),
        (np.zeros((2, 28, 28)), "wrong-size", SHAPES, "shape [2, 28, 28]"),
        (np.zeros(784), "wrong-size", SHAPES, "shape [784]"),
        (Image.new("F", (28, 28)), "wrong-pixels", BITS, "mode F"),
        (Image.new("I", (28, 28)), "wrong-pixels", BITS, "mode I"),
        (Image.new("La", (28, 28)), "unreadable-image", "a PIL image that can be read", None),
        (np.zeros((28, 28)), "blank-image", "a picture with ink on it", "784 pixels of value 0"),
        (np.zeros((90, 60)), "blank-image", None, "a contrast of 0 grey levels"),
        (b"no picture", "unreadable-image", None, "10 bytes of something else"),
    ],
)
def test_what_is_no_image_is_a_problem(
    image: Any,
    kind: str,
    expected: str | None,
    received: str | None,
    network: spikehead.Network,
    client: spikehead.Client,
) -> None:
    for source in (network, client):
        with pytest.raises(spikehead.Problem) as caught:
            source.classify(image)
        problem = caught.value
        assert (problem.kind, problem.image) == (kind, None)
        assert problem.expected == (expected or problem.expected)
        assert problem.received == (received or problem.received)
        with pytest.raises(spikehead.Problem) as caught:
            source.classify_many([FOUR, image])
        many = caught.value
        assert (many.kind, many.expected, many.received, many.image) == (
            kind,
            problem.expected,
            problem.received,
            1,
        )
        assert str(many).endswith(f"expected {problem.expected}, got {problem.received}")
