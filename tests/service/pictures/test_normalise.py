"""From bytes to 28 x 28: formats, colours, light, pens, frames, and what passes unchanged."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from spikehead.pictures.mnist_form import is_mnist_form
from spikehead.pictures.normalise import (
    ImageError,
    _spread,
    _with_usual_strokes,
    _without_lines,
    decode,
    find_ink,
    from_pixels,
    from_raw,
    looks_encoded,
    normalise,
    prepare,
    stroke_width,
    strokes,
)

from tests.service.conftest import band
from tests.service.drawings import Style, render
from tests.service.picture_files import animated, encode, huge_png, png

LIMIT = 16_000_000


def seven(
    side: int = 200, width: int = 12, ink: object = 0, paper: object = 255, mode: str = "L"
) -> Image.Image:
    """A seven of two lines, left of the middle."""
    picture = Image.new(mode, (side, side), paper)  # type: ignore[arg-type]
    points = [(0.2 * side, 0.25 * side), (0.55 * side, 0.25 * side), (0.35 * side, 0.8 * side)]
    ImageDraw.Draw(picture).line(points, fill=ink, width=width, joint="curve")  # type: ignore[arg-type]
    return picture


def ready(picture: Image.Image, format: str = "PNG", **options: object) -> np.ndarray:
    return prepare(encode(picture, format, **options), max_pixels=LIMIT)


def close(one: np.ndarray, other: np.ndarray, level: float = 8) -> bool:
    """The same picture but for a pixel's shift, rounding and compression: mean difference in grey levels."""
    shifted = [np.roll(one, (dy, dx), (0, 1)).astype(int) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return min(float(np.abs(some - other).mean()) for some in shifted) < level


REFERENCE = ready(seven())


def test_mnist_form() -> None:
    rows, columns = np.flatnonzero(REFERENCE.any(axis=1)), np.flatnonzero(REFERENCE.any(axis=0))
    assert REFERENCE.shape == (28, 28) and REFERENCE.dtype == np.uint8
    assert REFERENCE.max() == 255
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    y, x = np.average(np.mgrid[:28, :28].reshape(2, -1), axis=1, weights=REFERENCE.ravel())
    assert abs(y - 13.5) <= 0.5 and abs(x - 13.5) <= 0.5


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_formats(format: str) -> None:
    assert close(ready(seven(), format), REFERENCE, 3)


def test_polarity() -> None:
    assert close(ready(seven(ink=255, paper=0)), REFERENCE, 1)
    assert close(ready(seven(ink=200, paper=60)), REFERENCE, 1)


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
def test_modes(mode: str) -> None:
    picture = seven()
    if mode == "I;16":
        converted = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
        assert converted.mode == "I;16"
    else:
        converted = picture.convert(mode)
    assert close(ready(converted, "JPEG" if mode == "CMYK" else "PNG"), REFERENCE, 3)


@pytest.mark.parametrize("ink", [(220, 30, 30), (20, 120, 40), (30, 60, 200), (250, 200, 0)])
def test_coloured_ink(ink: tuple[int, int, int]) -> None:
    assert close(ready(seven(ink=ink, paper=(255, 255, 255), mode="RGB")), REFERENCE, 3)


def test_ink_that_differs_from_its_paper_in_colour_alone() -> None:
    picture = seven(ink=(200, 60, 60), paper=(60, 128, 200), mode="RGB")
    assert close(ready(picture), REFERENCE, 3)


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


@pytest.mark.parametrize("side", [50, 120, 300, 1000, 3000])
def test_sizes(side: int) -> None:
    assert close(ready(seven(side, width=round(side * 0.06))), REFERENCE)


def test_a_jpeg_of_a_large_camera() -> None:
    assert close(ready(seven(3600, width=216), "JPEG"), REFERENCE)


@pytest.mark.parametrize("place", [(0, 0), (700, 10), (400, 800), (745, 745)])
def test_off_centre_on_a_large_sheet(place: tuple[int, int]) -> None:
    sheet = Image.new("L", (1000, 1000), 255)
    sheet.paste(seven(250, width=15), place)
    assert close(ready(sheet), REFERENCE)


def test_a_small_digit_on_a_very_large_sheet() -> None:
    sheet = Image.new("L", (1900, 1900), 255)
    sheet.paste(seven(120, width=7), (1500, 300))
    assert close(ready(sheet), REFERENCE)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_hairlines_do_not_vanish(width: int) -> None:
    prepared = ready(seven(1000, width=width))
    assert prepared.max() == 255
    assert stroke_width(np.kron(prepared, np.ones((4, 4))).astype(np.float32)) / 4 >= 1.7
    assert close(prepared, REFERENCE, 16)


def test_markers_are_thinned() -> None:
    def width(prepared: np.ndarray) -> float:
        return stroke_width(np.kron(prepared, np.ones((4, 4))).astype(np.float32)) / 4

    assert width(ready(seven(200, width=44))) < 5.5


def test_at_most_three_fifths_of_a_stroke_are_thinned_away() -> None:
    """A square of 80 x 80 counts as a stroke 40 wide, in quarters of a pixel: 12 go from each side, 13.4 would make it
    as thin as other strokes. A bar of 80 x 28 is not so thick: it is thinned to what others are.
    """
    assert _with_usual_strokes(np.full((80, 80), 255, np.float32)).shape == (56, 56)
    bar = _with_usual_strokes(np.full((80, 28), 255, np.float32))
    width = (4 * sum((80 - 2 * k) * (28 - 2 * k) for k in range(14)) / (80 * 28) - 2) / 4
    assert 3.6 < width < 8.25
    assert bar.shape == tuple(round(side - (width - 3.3) * 4) for side in (80, 28))


def test_ink_begins_between_a_quarter_and_a_half_of_the_strongest() -> None:
    """A stroke fainter than a point on it. Otsu's threshold is 0 on paper of level 0, and 140 on one of 140."""
    stroke, point = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    stroke[10:50, 28:32] = point[30, 30] = True
    for level, is_ink in ((49, False), (64, False), (65, True)):
        ink = np.where(point, 255, np.where(stroke, level, 0)).astype(np.float32)
        assert np.array_equal(strokes(ink), stroke if is_ink else point), level
    for level, is_ink in ((128, False), (129, True)):
        ink = np.where(point, 255, np.where(stroke, level, 140)).astype(np.float32)
        assert strokes(ink)[stroke & ~point].all() == is_ink, level


def test_shaded_paper() -> None:
    y, x = np.mgrid[0:200, 0:200]
    light = 120 + 0.5 * x + 0.12 * y
    picture = Image.fromarray((np.asarray(seven()) / 255 * light + 10).clip(0, 255).astype(np.uint8))
    assert close(ready(picture), REFERENCE, 4)


def test_noisy_photo() -> None:
    random = np.random.default_rng(0)
    values = np.where(np.asarray(seven()) < 128, 60, 190) + random.normal(0, 8, (200, 200))
    assert close(ready(Image.fromarray(values.clip(0, 255).astype(np.uint8)), "JPEG", quality=50), REFERENCE)


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


def test_a_dark_table_around_the_sheet() -> None:
    table = Image.new("L", (260, 260), 40)
    table.paste(seven(ink=30, paper=230), (30, 30))
    assert close(ready(table), REFERENCE, 4)


# ------------------------------------------------------------------------------------------ unchanged


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


def test_bytes_and_pixels_pass_unchanged() -> None:
    corner = np.zeros((28, 28), np.uint8)
    corner[0, 0] = 1
    assert (from_raw(corner.tobytes()) == corner).all()
    assert (from_pixels(corner.tolist()) == corner).all()
    assert (from_pixels(corner.astype(float).tolist()) == corner).all()


# -------------------------------------------------------------------------------------------- refused


def refused(kind: str, data: bytes, limit: int = LIMIT) -> ImageError:
    with pytest.raises(ImageError) as caught:
        prepare(data, max_pixels=limit)
    assert caught.value.kind == kind, caught.value
    return caught.value


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_animations(format: str) -> None:
    assert refused("animated-image", animated(format)).received == "an animation of 3 frames"


def test_the_preview_in_a_cameras_jpeg_is_passed_over() -> None:
    photo = seven().convert("RGB")
    data = encode(photo, "MPO", save_all=True, append_images=[Image.new("RGB", (50, 50), "white")])
    assert data.startswith(b"\xff\xd8\xff")
    assert close(prepare(data, max_pixels=LIMIT), REFERENCE)


def bar(page: np.ndarray, level: int, rows: slice, columns: slice) -> np.ndarray:
    """The page with a bar of that level on it, prepared."""
    page[rows, columns] = level
    return prepare(png(page), max_pixels=LIMIT)


def test_a_tiny_digit_on_a_large_sheet_is_found() -> None:
    found = bar(np.full((1500, 2000), 255, np.uint8), 0, slice(700, 780), slice(900, 908))
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert len(rows) == 20 and len(columns) <= 4


def test_noise_on_a_large_sheet_is_no_tiny_digit() -> None:
    noise = np.random.default_rng(0).normal(235, 9, (1500, 2000))
    refused("blank-image", png(np.clip(noise, 0, 255).astype(np.uint8)))


def test_faint_ink_of_eighteen_grey_levels_is_read() -> None:
    assert bar(np.full((200, 200), 240, np.uint8), 222, slice(40, 160), slice(80, 120)).max() == 255


def test_twelve_bits_in_sixteen() -> None:
    grey = np.asarray(seven(), np.uint16)
    assert close(prepare(png(grey * 15 + 200), max_pixels=LIMIT), REFERENCE)


def test_sizes_are_checked_before_anything_is_decompressed() -> None:
    assert refused("image-too-large", huge_png(20_000, 20_000)).expected == "at most 16000000 pixels"
    assert refused("image-too-large", huge_png(4001, 4000)).received == "4001 x 4000 pixels"
    refused("image-too-large", png(np.zeros((30, 40), np.uint8)), limit=1199)


@pytest.mark.parametrize("level", [0, 127, 255])
def test_blank_sheets(level: int) -> None:
    refused("blank-image", png(np.full((90, 60), level, np.uint8)))


def test_shading_and_noise_are_no_ink() -> None:
    y, x = np.mgrid[0:150, 0:200]
    random = np.random.default_rng(0)
    refused("blank-image", png((100 + 0.5 * x + 0.2 * y + random.normal(0, 2, x.shape)).astype(np.uint8)))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files(format: str, share: float) -> None:
    data = encode(render(8, STYLE, np.random.default_rng(0)), format)
    refused("unreadable-image", data[: int(len(data) * share)])


STYLE = Style(
    "one stroke", 160, 0.7, 0.08, 0.1, 0, 1, 0.02, (0.5, 0.5), (20, 20, 60), (240, 240, 235), noise=4
)


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


def test_wrong_pixels_are_named() -> None:
    rows: list[list[object]] = band(1).tolist()
    rows[3][5] = 256
    with pytest.raises(ImageError, match="expected a whole number from 0 to 255 at row 3, column 5, got 256"):
        from_pixels(rows)
    rows[3] = [0] * 27
    with pytest.raises(ImageError, match="expected 28 pixels in row 3, got a list of 27"):
        from_pixels(rows)


def test_looks_encoded() -> None:
    assert all(
        looks_encoded(encode(seven(), format)) for format in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
    )
    assert not looks_encoded(b"hello") and not looks_encoded(bytes(784))


# ---------------------------------------------------------------------------------------------- parts


def test_ink_of_a_gradient_is_only_the_stroke() -> None:
    picture = np.zeros((60, 60, 3), np.float32) + np.linspace(100, 200, 60, dtype=np.float32)[:, None, None]
    picture[20:40, 28:32] -= 90
    ink = find_ink(picture)
    assert (
        strokes(ink) == (np.abs(np.mgrid[0:60, 0:60] - [[[29.5]], [[29.5]]]) < [[[10]], [[2]]]).all(axis=0)
    ).all()


@pytest.mark.parametrize("width", [2, 4, 6, 10])
def test_stroke_width_of_a_bar(width: int) -> None:
    bar = np.zeros((80, 80), np.float32)
    bar[5:75, 30 : 30 + width] = 255
    assert stroke_width(bar) == pytest.approx(width, abs=0.8)
    assert stroke_width(np.zeros((9, 9), np.float32)) == 0


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
