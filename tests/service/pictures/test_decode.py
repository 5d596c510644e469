"""From a file's bytes to pixels: formats, modes, transparency, orientation, sizes, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from spikehead.pictures.decode import decode, looks_encoded
from spikehead.pictures.normalise import prepare
from spikehead.pictures.pixels import ImageError

from tests.service.drawings import Style, render
from tests.service.picture_files import animated, encode, huge_png, png
from tests.service.pictures.conftest import LIMIT, REFERENCE, close, ready, refused, seven


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_formats(format: str) -> None:
    assert close(ready(seven(), format), REFERENCE, 3)


def test_grey_has_one_channel_and_colour_three() -> None:
    grey = decode(encode(seven()), LIMIT)
    assert np.array_equal(grey, np.asarray(seven()))
    assert np.array_equal(decode(encode(seven(mode="RGB")), LIMIT), np.asarray(seven(mode="RGB")))
    turned = Image.Exif()
    turned[0x0112] = 6
    assert np.array_equal(decode(encode(seven(), exif=turned.tobytes()), LIMIT), np.rot90(grey, -1))


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
def test_modes(mode: str) -> None:
    picture = seven()
    if mode == "I;16":
        converted = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
        assert converted.mode == "I;16"
    else:
        converted = picture.convert(mode)
    assert close(ready(converted, "JPEG" if mode == "CMYK" else "PNG"), REFERENCE, 3)


@pytest.mark.parametrize("ink", [(0, 0, 0), (255, 255, 255), (220, 30, 30)])
def test_ink_on_nothing(ink: tuple[int, int, int]) -> None:
    picture = seven(ink=(*ink, 255), paper=(0, 0, 0, 0), mode="RGBA")
    assert close(ready(picture), REFERENCE, 3)
    white_nothing = seven(ink=(*ink, 255), paper=(255, 255, 255, 0), mode="RGBA")
    assert close(ready(white_nothing), REFERENCE, 3)


def test_a_sheet_with_transparent_surroundings() -> None:
    picture = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    picture.paste(seven(side=240, mode="RGBA", ink=(0, 0, 0, 255), paper=(255, 255, 255, 255)), (30, 30))
    assert close(ready(picture), REFERENCE, 4)


def test_palette_with_transparency() -> None:
    picture = seven().convert("P")
    white = int(np.asarray(picture)[0, 0])
    assert close(ready(picture, "PNG", transparency=white), REFERENCE, 3)
    assert close(ready(picture, "GIF", transparency=white), REFERENCE, 3)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, None),
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (7, Image.Transpose.TRANSVERSE),
    ],
)
def test_camera_orientation(orientation: int, turn: Image.Transpose | None) -> None:
    picture = seven() if turn is None else seven().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert close(ready(picture, "JPEG", exif=exif.tobytes()), REFERENCE, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x4d\0\0\0"]
)
def test_senseless_orientation_is_no_orientation(exif: bytes) -> None:
    assert close(ready(seven(), "JPEG", exif=exif), REFERENCE, 3)


def test_a_jpeg_of_a_large_camera() -> None:
    assert close(ready(seven(3600, width=216), "JPEG"), REFERENCE)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_animations(format: str) -> None:
    assert refused("animated-image", animated(format)).received == "an animation of 3 frames"


def test_the_preview_in_a_cameras_jpeg_is_passed_over() -> None:
    photo = seven().convert("RGB")
    data = encode(photo, "MPO", save_all=True, append_images=[Image.new("RGB", (50, 50), "white")])
    assert data.startswith(b"\xff\xd8\xff")
    assert close(prepare(data, max_pixels=LIMIT), REFERENCE)


def test_twelve_bits_in_sixteen() -> None:
    grey = np.asarray(seven(), np.uint16)
    assert close(prepare(png(grey * 15 + 200), max_pixels=LIMIT), REFERENCE)


def test_sizes_are_checked_before_anything_is_decompressed() -> None:
    assert refused("image-too-large", huge_png(20_000, 20_000)).expected == "at most 16000000 pixels"
    assert refused("image-too-large", huge_png(4001, 4000)).received == "4001 x 4000 pixels"
    refused("image-too-large", png(np.zeros((30, 40), np.uint8)), limit=1199)


STYLE = Style(
    "one stroke", 160, 0.7, 0.08, 0.1, 0, 1, 0.02, (0.5, 0.5), (20, 20, 60), (240, 240, 235), noise=4
)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files(format: str, share: float) -> None:
    data = encode(render(8, STYLE, np.random.default_rng(0)), format)
    refused("unreadable-image", data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (b"II*\0abc", "TIFF data"),
        (b"\0\0\0\x20ftypheic", "HEIF, AVIF or video data"),
        (b"%PDF-1.4", "PDF data"),
    ],
)
def test_other_formats(data: bytes, received: str) -> None:
    assert refused("unsupported-image-format", data).received == received


def test_no_picture_at_all() -> None:
    assert refused("unreadable-image", b"hello").received == "5 bytes of something else"
    assert refused("unreadable-image", b"\x89PNG\r\n\x1a\n").received == "a broken PNG file"


def test_looks_encoded() -> None:
    assert all(
        looks_encoded(encode(seven(), format)) for format in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
    )
    assert not looks_encoded(b"hello") and not looks_encoded(bytes(784))


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    """Each of 31 bytes goes over all pixels: a hundred kilobytes would take minutes."""
    stream = io.BytesIO()
    Image.new("L", (400, 400), 255).save(stream, "JPEG", progressive=True, quality=50)
    whole = stream.getvalue()
    scans = [i for i in range(len(whole) - 1) if whole[i : i + 2] == b"\xff\xda"]
    assert 3 < len(scans) < 20
    bomb = whole[:-2] + whole[scans[3] : scans[4]] * 100 + whole[-2:]
    with pytest.raises(ImageError, match="expected a JPEG of at most 64 scans"):
        prepare(bomb, max_pixels=16_000_000)
    with pytest.raises(ImageError, match="ink"):  # as it is, it can be read
        prepare(whole, max_pixels=16_000_000)
