"""The plain reader of PNG gives what Pillow gives, or leaves the file to it."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from spikehead.engine import native
from spikehead.pictures import png
from spikehead.pictures.normalise import prepare

from tests.service.conftest import band

pytestmark = pytest.mark.skipif(not native.available(), reason="the native engine was not built here")


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def written(rows: bytes, side: int = 28, depth: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    """A PNG of rows that are filtered already."""
    size = side.to_bytes(4, "big")
    head = chunk(b"IHDR", size + size + bytes([depth, colour, 0, 0, interlace]))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def saved(picture: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", **options)
    return stream.getvalue()


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 4), min_size=28, max_size=28),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 8, 256]),
)
def test_every_filter(filters: list[int], seed: int, levels: int) -> None:
    """Whatever stands in the rows: filters are defined for all bytes."""
    values = np.random.default_rng(seed).integers(0, levels, (28, 28)).astype(np.uint8)
    data = written(b"".join(bytes([one]) + row.tobytes() for one, row in zip(filters, values, strict=True)))
    found = png.plain_grey(data)
    assert found is not None and np.array_equal(found, by_pillow(data))


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("optimize", [False, True])
def test_files_that_pillow_writes(level: int, optimize: bool) -> None:
    data = saved(Image.fromarray(band(4)), compress_level=level, optimize=optimize)
    found = png.plain_grey(data)
    assert found is not None and np.array_equal(found, band(4))


ROWS = b"".join(b"\x00" + row.tobytes() for row in band(4))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        saved(Image.fromarray(band(4)).convert("RGB")),
        saved(Image.fromarray(band(4)).convert("P")),
        saved(Image.fromarray(band(4)).resize((29, 28))),
        written(ROWS, interlace=1),
        written(ROWS[:-1]),  # a pixel is missing
        written(ROWS + b"\x00"),  # one too many
        written(b"\x05" + ROWS[1:]),  # a filter that there is not
        written(ROWS)[:-1],
        written(ROWS) + b"\x00",
        written(ROWS)[:-12] + chunk(b"tEXt", b"a\x00b") + chunk(b"IEND", b""),
        written(ROWS).replace(b"IDAT", b"IDAt"),
        written(b"\x00" * 10_000_000),  # a bomb
    ],
)
def test_anything_else_is_left_to_pillow(data: bytes) -> None:
    assert png.plain_grey(data) is None


def test_metadata_is_left_to_pillow() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("made by", "a test")
    assert png.plain_grey(saved(Image.fromarray(band(4)), pnginfo=info)) is None


def test_no_broken_byte_is_taken() -> None:
    """Where one bit is turned, the file is left to Pillow, which says what is wrong, or is the same picture."""
    data = written(ROWS)
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 1 << place % 8
        assert png.plain_grey(bytes(broken)) is None


def test_pictures_come_the_same_way_with_and_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    digit = np.zeros((28, 28), np.uint8)
    digit[5:23, 12:17] = np.arange(90).reshape(18, 5) + 120
    files = [saved(Image.fromarray(picture)) for picture in (digit, digit[::-1], 255 - digit, digit // 9)]
    quick = [prepare(file, max_pixels=10_000) for file in files]
    monkeypatch.setattr(png, "plain_grey", lambda data: None)
    for file, found in zip(files, quick, strict=True):
        assert np.array_equal(prepare(file, max_pixels=10_000), found)
