"""From the bytes of a picture to the 28 x 28 pixels that the network reads.

Pictures are brought to MNIST's form the way MNIST was made: ink bright on dark, cropped to the ink, fitted
into 20 x 20, centred by mass in 28 x 28. Drawings differ from MNIST in their pens too, so strokes that are
much thinner or thicker than MNIST's are brought to its width before they are scaled down.

    decode       bytes -> a small upright RGB picture without transparency
    find_ink     -> how far each pixel is from the paper, 0 for paper, 255 for the strongest ink
    strokes      -> which pixels are the digit's: no specks, no frame
    normalise    all of it -> 28 x 28
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (  # the plugins register themselves; the first picture need not wait for that
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFilter,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from spikehead.model.encoding import PIXELS, SIDE
from spikehead.pictures import png
from spikehead.pictures.mnist_form import is_mnist_form

TINY = 2048
"""Bytes of a file that may be a tiny picture: 28 x 28 grey pixels take 784 and some 70 more, if nothing compresses."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")

Pixels = NDArray[np.uint8]
Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

_JPEG_SCAN = b"\xff\xda"
_MOST_SCANS = 64  # a progressive JPEG has ten; each goes over all pixels, however few bytes it has
_BOX = 20  # MNIST's digits fill a box of 20 x 20
_FINE = 4  # strokes are worked on at 4 times that
_WORKING_SIDE = 256  # larger pictures are reduced to this first: finer detail is lost in 20 x 20 anyway
_KEPT_SIDE = 2048  # what is kept of a larger picture, to look closer at a small digit in it
_BLANK_CONTRAST = 16.0  # grey levels between paper and ink below which there is no ink
_TINY_PIXELS = 2  # a digit that averaging loses has so many pixels at least, after reduction,
_TINY_CONTRAST = 64.0  # and so much contrast: the darkest of many pixels of noise stands out less
_LINE = 0.1  # of the longer side: what is wider where it leaves the picture is no line
_DIGIT = 0.2  # of the longer side: what is shorter, where lines cross the picture, is no digit
_THIN, _THICK = 2.0, 3.6  # widths of a stroke in the box of 20 that pass as they are: most of MNIST's
_THINNEST, _THICKEST = 2.3, 3.3  # what others are brought to


@dataclass
class ImageError(ValueError):
    """A picture cannot be read. `kind` is stable; expected and received are for people.

    `image` is its number among many.
    """

    kind: str
    expected: str
    received: str
    image: int | None = None

    def __str__(self) -> str:
        return f"expected {self.expected}, got {self.received}"


def from_raw(data: bytes | memoryview) -> Pixels:
    """784 bytes, row by row, already in MNIST's form. -> uint8 [28, 28]. Raises ImageError."""
    if len(data) != PIXELS:
        raise ImageError("wrong-size", f"{PIXELS} bytes, {SIDE} rows of {SIDE} pixels", f"{len(data)} bytes")
    return _with_ink(np.frombuffer(data, np.uint8).reshape(SIDE, SIDE))


def check_ink(pixels: Pixels) -> None:
    """Raise ImageError, and say which, where one of many pictures has a single value. uint8 [N, 28, 28]."""
    flat = pixels.reshape(len(pixels), PIXELS)
    for number in np.flatnonzero((flat == flat[:, :1]).all(axis=1)).tolist():
        try:
            _with_ink(pixels[number])
        except ImageError as error:
            error.image = number
            raise


def from_pixels(rows: Any) -> Pixels:
    """28 lists of 28 whole numbers from 0 to 255, already in MNIST's form. -> uint8 [28, 28]. Raises ImageError."""
    if not isinstance(rows, list) or len(rows) != SIDE:
        raise ImageError("wrong-pixels", f"a list of {SIDE} rows", described(rows))
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != SIDE:
            raise ImageError("wrong-pixels", f"{SIDE} pixels in row {number}", described(row))
    if set(map(type, chain.from_iterable(rows))) == {int}:
        flat = list(chain.from_iterable(rows))
        if min(flat) >= 0 and max(flat) <= 255:
            return _with_ink(np.array(rows, np.uint8))
    return _with_ink(np.array([[_pixel(rows, y, x) for x in range(SIDE)] for y in range(SIDE)], np.uint8))


def _pixel(rows: list[list[Any]], y: int, x: int) -> int:
    value = rows[y][x]
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 255
    if not number or value != int(value):
        raise ImageError(
            "wrong-pixels", f"a whole number from 0 to 255 at row {y}, column {x}", described(value)
        )
    return int(value)


def described(value: Any) -> str:
    """What a JSON value is, in a few words."""
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return "null" if value is None else repr(value)[:80]


def _with_ink(pixels: Pixels) -> Pixels:
    first = pixels.item(0)
    if pixels.tobytes().count(first) == pixels.size:
        raise ImageError(
            "blank-image", "a picture with ink on it", f"{PIXELS} pixels of value {int(pixels[0, 0])}"
        )
    return pixels


def prepare(data: bytes, *, max_pixels: int) -> Pixels:
    """An encoded picture (PNG, JPEG, WebP, BMP or GIF) in MNIST's form. -> uint8 [28, 28]. Raises ImageError."""
    plain = png.plain_grey(data)
    if plain is not None and plain.size <= max_pixels and is_mnist_form(plain):
        return plain
    picture, turn = _opened(data, max_pixels)
    if picture.size == (SIDE, SIDE):
        grey = picture if picture.mode == "L" and turn is None and not picture.info else None
        small = np.asarray(grey or _upright(picture, turn).convert("L"))
        if is_mnist_form(small):
            return small
    return normalise(_upright(picture, turn))


def warm_up() -> None:
    """Prepare a made-up drawing, so that the first real one finds all ready."""
    sheet = Image.new("RGB", (100, 100), "white")
    sheet.paste((0, 0, 0), (40, 20, 46, 80))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    prepare(file.getvalue(), max_pixels=10_000)


# ----------------------------------------------------------------------------- from bytes to a picture

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP",
}  # fmt: skip
_FOREIGN = {
    b"II*\x00": "TIFF", b"MM\x00*": "TIFF", b"%PDF": "PDF", b"<svg": "SVG", b"<?xml": "XML",
    b"\x00\x00\x01\x00": "ICO", b"8BPS": "Photoshop", b"P5": "PGM", b"P6": "PPM",
}  # fmt: skip

_TELLING = tuple(signature for signature in chain(_SIGNATURES, _FOREIGN) if len(signature) > 2)


def looks_encoded(data: bytes) -> bool:
    """Whether the bytes begin like a picture file, for more than two letters."""
    return data.startswith(_TELLING) or _looks_like_bmp(data) or data[4:8] == b"ftyp"


def is_tiny_png(data: bytes) -> bool:
    """Whether the bytes begin like a PNG of at most 64 x 64 pixels, and are no more than a small one needs."""
    if len(data) > TINY or not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return width <= 64 and height <= 64


def _looks_like_bmp(data: bytes) -> bool:
    """Whether the bytes begin like a BMP file: two letters, and after them its true length."""
    return data.startswith(b"BM") and int.from_bytes(data[2:6], "little") == len(data)


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """The picture as RGB, upright, without transparency; large ones reduced to 2048 pixels a side at most.

    The size is checked before anything is decompressed. Raises ImageError.
    """
    return _upright(*_opened(data, max_pixels))


def _opened(data: bytes, max_pixels: int) -> tuple[Image.Image, Image.Transpose | None]:
    """The picture, decompressed, and how it has to be turned. Raises ImageError."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("image-too-large", f"at most {max_pixels} pixels", "many times more") from error
    except UnidentifiedImageError as error:
        raise _unknown(data) from error
    except Exception as error:  # broken headers raise whatever a format's parser happens to raise
        raise _broken(error) from error
    width, height = picture.size
    if width * height > max_pixels:
        raise ImageError("image-too-large", f"at most {max_pixels} pixels", f"{width} x {height} pixels")
    if picture.format in ("JPEG", "MPO") and data.count(_JPEG_SCAN) > _MOST_SCANS:
        raise ImageError("unreadable-image", f"a JPEG of at most {_MOST_SCANS} scans", "more")
    try:
        frames = getattr(picture, "n_frames", 1)
        if frames > 1 and picture.format != "MPO":  # a camera's JPEG may bring a preview along
            raise ImageError("animated-image", "a still picture", f"an animation of {frames} frames")
        picture.draft(None, (_KEPT_SIDE // 2, _KEPT_SIDE // 2))  # a JPEG can be decoded at 1/2, 1/4 or 1/8
        picture.load()
        return picture, _turn(picture)
    except ImageError:
        raise
    except Exception as error:  # likewise, for truncated or damaged data
        raise _broken(error) from error


def _upright(picture: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    """RGB without transparency, turned, no side longer than 2048 pixels. Raises ImageError."""
    try:
        upright = _flattened(_reduced(_plain(picture), _KEPT_SIDE))
    except Exception as error:  # damaged palettes, say
        raise _broken(error) from error
    return upright if turn is None else upright.transpose(turn)


def _broken(error: Exception) -> ImageError:
    return ImageError("unreadable-image", "a complete picture", f"a broken one ({str(error)[:100]})")


def _unknown(data: bytes) -> ImageError:
    expected = "a PNG, JPEG, WebP, BMP or GIF picture"
    for signature, name in _FOREIGN.items():
        if data.startswith(signature):
            return ImageError("unsupported-image-format", expected, f"{name} data")
    if data[4:8] == b"ftyp":
        return ImageError("unsupported-image-format", expected, "HEIF, AVIF or video data")
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return ImageError("unreadable-image", "a complete picture", f"a broken {name} file")
    return ImageError("unreadable-image", expected, f"{len(data)} bytes of something else")


def _plain(picture: Image.Image) -> Image.Image:
    """8 bits a channel: L, RGB or, with transparency, RGBA."""
    if picture.mode.startswith("I"):  # 16 bits of grey
        values = np.asarray(picture)
        used = 12 if values.max() < 2**12 else 16  # scanners and cameras store 12 bits in 16
        return Image.fromarray((values >> (used - 8)).clip(0, 255).astype(np.uint8))
    if "A" in picture.mode.upper() or "transparency" in picture.info:
        return picture if picture.mode == "RGBA" else picture.convert("RGBA")
    if picture.mode in ("L", "RGB"):
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _reduced(picture: Image.Image, side: int) -> Image.Image:
    """By a whole factor, by averaging, so that no side is longer."""
    factor = _factor(picture, side)
    return picture.reduce(factor) if factor > 1 else picture


def _factor(picture: Image.Image, side: int) -> int:
    """The least whole factor that makes no side longer than `side`."""
    return -(-max(picture.size) // side)


def _flattened(picture: Image.Image) -> Image.Image:
    """RGB. Transparent parts become paper: that of the opaque parts if they have ink and paper, else what
    stands out from them, white or black."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    values = np.asarray(picture)
    opaque = values[values[..., 3] > 127][:, :3]  # [n, 3]
    if len(opaque) == picture.width * picture.height:
        return picture.convert("RGB")
    white, black = (255, 255, 255), (0, 0, 0)
    paper = white
    if len(opaque):
        low, middle, high = np.percentile(opaque.mean(axis=1), [5, 50, 95])
        if high - low > 60 and 2 * len(opaque) > picture.width * picture.height:
            red, green, blue = (int(level) for level in np.median(opaque, axis=0))
            paper = (red, green, blue)
        elif middle > 127:
            paper = black
    background = Image.new("RGBA", picture.size, (*paper, 255))
    return Image.alpha_composite(background, picture).convert("RGB")


_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # of EXIF's orientation


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """What brings the camera's picture upright. A senseless orientation is none."""
    if not picture.info:
        return None  # no metadata at all: the usual drawing
    try:
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - EXIF has as many ways to be broken as there are cameras
        return None


# ------------------------------------------------------------------------------- from a picture to ink


def normalise(picture: Image.Image) -> Pixels:
    """Find the ink, crop to it, fit it into 20 x 20 with strokes of MNIST's width, centre by mass.

    RGB picture -> uint8 [28, 28]. Raises ImageError where there is no ink.
    """
    ink, mask = _look(picture)
    near = np.asarray(
        Image.fromarray(mask).filter(ImageFilter.MaxFilter(3))
    )  # soft edges belong to the stroke
    left, top, right, bottom = _box(mask)
    cropped = np.where(near, ink, 0)[top:bottom, left:right]
    return _centred(_fitted(_with_usual_strokes(cropped), _BOX))


def _look(picture: Image.Image) -> tuple[Grey, Mask]:
    """The ink and which of it is the digit's, in what is looked at: the picture, or a part of it. [H, W]."""
    factor = _factor(picture, _WORKING_SIDE)
    try:
        ink = find_ink(np.asarray(_reduced(picture, _WORKING_SIDE), np.float32))
    except ImageError:  # a tiny digit on a large sheet is averaged away
        if factor == 1 or min(picture.size) < factor:  # the latter: a line of pixels
            raise
        ink = _find_tiny_ink(np.asarray(picture, np.float32), factor)
    mask = strokes(ink)
    box = _box(mask)
    size = max(box[2] - box[0], box[3] - box[1])
    if _is_sheet(mask, box):
        # what stands out is a sheet on something else: the digit may be on it
        margin = -max(2, size // 25)
    elif factor > 1 and 2 * size < _WORKING_SIDE:
        # a small digit on a large sheet: look again, closer
        margin = 4 + size // 4
    else:
        return ink, mask
    part = (
        max(box[0] - margin, 0) * factor,
        max(box[1] - margin, 0) * factor,
        min((box[2] + margin) * factor, picture.width),
        min((box[3] + margin) * factor, picture.height),
    )
    try:
        ink = find_ink(np.asarray(_reduced(picture.crop(part), _WORKING_SIDE), np.float32))
    except ImageError:  # nothing on it: a solid bar is a digit too
        return ink, mask
    return ink, strokes(ink)


def _find_tiny_ink(picture: Grey, factor: int) -> Grey:
    """Ink where each block of pixels stands for its darkest, else for its lightest one. Raises ImageError.

    [H, W, 3] -> [H / factor, W / factor], rounded down.
    """
    height, width = (size // factor for size in picture.shape[:2])
    blocks = picture[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    try:
        return find_ink(blocks.min(axis=(1, 3)), _TINY_PIXELS, _TINY_CONTRAST)
    except ImageError:
        return find_ink(blocks.max(axis=(1, 3)), _TINY_PIXELS, _TINY_CONTRAST)


def _is_sheet(mask: Mask, box: tuple[int, int, int, int]) -> bool:
    """Whether what is set is an upright rectangle, mostly filled, over half of the picture each way."""
    inside = mask[box[1] : box[3], box[0] : box[2]]
    height, width = inside.shape
    if (
        2 * height < mask.shape[0]
        or 2 * width < mask.shape[1]
        or min(height, width) < 20
        or inside.mean() < 0.7
    ):
        return False
    inset = max(1, min(height, width) // 20)
    return float(_frame_of(inside[inset:-inset, inset:-inset]).mean()) > 0.95


def _frame_of(values: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def _box(mask: Mask) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is set."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def find_ink(picture: Grey, pixels: int = 0, least: float = _BLANK_CONTRAST) -> Grey:
    """How far each pixel is from the paper, 0..255, the strongest ink at 255. [H, W, 3] -> [H, W].

    The paper is a smooth surface fitted to each colour channel, so that shading and tinted paper go away.
    Ink is darker than paper, or lighter: whichever there is more of. The channel that differs most counts,
    so that ink may have any colour. The strongest ink is that of `pixels` pixels (default: one in 2,000).
    Raises ImageError where they differ from the paper by less than `least` grey levels.
    """
    channels = [np.ascontiguousarray(picture[..., channel]) for channel in range(3)]
    if all((channel == channels[0]).all() for channel in channels[1:]):
        channels = channels[:1]
    away = [channel - _paper(channel) for channel in channels]
    darker, lighter = np.maximum(-reduce(np.minimum, away), 0), np.maximum(reduce(np.maximum, away), 0)
    pixels = pixels or max(2, darker.size // 2000)
    peak = max(_brightest(distance, pixels) for distance in (darker, lighter))
    if peak < least:
        received = f"a contrast of {peak:.0f} grey levels"
        raise ImageError(
            "blank-image", f"ink at least {_BLANK_CONTRAST:.0f} grey levels from the paper", received
        )
    dark, light = (float(distance[distance > peak / 2].sum()) for distance in (darker, lighter))
    found: Grey = np.clip((darker if dark >= light else lighter) * (255.0 / peak), 0, 255).astype(np.float32)
    return found


def _brightest(values: Grey, count: int) -> float:
    """The `count`-th largest value."""
    return float(np.partition(values, values.size - count, axis=None)[values.size - count])


def _paper(channel: Grey) -> Grey:
    """Brightness of the paper: a quadratic surface fitted to the pixels that are not ink. [H, W]."""
    height, width = channel.shape
    stride = max(1, max(height, width) // 64)
    few = channel[::stride, ::stride]
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    rows, columns = (axis.ravel() for axis in np.meshgrid(y[::stride], x[::stride], indexing="ij"))
    terms = np.stack([np.ones_like(rows), columns, columns**2, rows, rows * columns, rows**2]).astype(
        np.float64
    )
    coefficients = np.array([_paper_level(channel, few), 0, 0, 0, 0, 0])
    values = few.ravel().astype(np.float64)
    # Pixels near the present guess are paper. The allowance shrinks as the surface gets better.
    for allowance in (60.0, 30.0, 12.0):
        paper = np.abs(values - coefficients @ terms) <= allowance
        if paper.sum() < max(64, values.size // 5):
            break
        known = terms[:, paper]
        gram = known @ known.T + 1e-3 * np.eye(6)  # the small term keeps thin pictures solvable
        coefficients = np.linalg.solve(gram, known @ values[paper])
    level, by_x, by_xx, by_y, by_xy, by_yy = coefficients.astype(np.float32)
    surface = (level + by_x * x + by_xx * x**2) + y[:, None] * (by_y + by_xy * x) + (by_yy * y**2)[:, None]
    return np.asarray(np.clip(surface, 0, 255), np.float32)


def _paper_level(channel: Grey, few: Grey) -> float:
    """A first guess: the level along the edge, if much of the picture has it, else the most usual one."""
    edge = float(np.median(_frame_of(channel)))
    if float((np.abs(few - edge) <= 40).mean()) >= 0.35:
        return edge
    return float(np.median(few))


def strokes(ink: Grey) -> Mask:
    """Which pixels are the digit's: no specks, no lines across, no frame or line along the picture's edge. [H, W]."""
    mask = _without_lines(ink > _threshold(ink))
    labels, boxes, areas = _components(mask)
    height, width = mask.shape
    main = int(areas.argmax())
    size = boxes[:, 2:] - boxes[:, :2]  # [n, 2]
    touching = (boxes == np.array([0, 0, height, width])).sum(axis=1)
    frame = (touching >= 2) & (size >= 0.8 * np.array([height, width])).any(axis=1)
    frame |= _enclosing(labels, boxes, areas)
    keep = areas >= 0.03 * areas.max()
    if (keep & ~frame).any():
        main = int(np.where(frame, 0, areas).argmax())
        keep = ~frame & (areas >= 0.03 * areas[main])
    apart = np.maximum(np.maximum(boxes[:, :2] - boxes[main, 2:], boxes[main, :2] - boxes[:, 2:]), 0).max(
        axis=1
    )
    keep &= (areas >= 0.15 * areas[main]) | (apart <= 0.35 * size[main].max())
    return np.asarray(keep[labels] & mask)


def _without_lines(mask: Mask) -> Mask:
    """Open what reaches two sides of the picture or more by an octagon wider than lines are there. [H, W].

    A digit ends before the picture does: what reaches its sides is ruled or squared paper, or a line through the digit.
    Where no part that is left is a fifth as long as the picture, the digit is drawn as finely itself: then all stays.
    """
    crossings = [_longest_run(side) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])]
    widest, side = max(crossings), max(mask.shape)
    if sum(crossing > 0 for crossing in crossings) < 2 or widest > _LINE * side:
        return mask
    radius = (widest + 1) // 2
    opened = _spread(~_spread(~mask, radius), radius)
    if not opened.any():
        return mask
    boxes = _components(opened)[1]
    return opened if (boxes[:, 2:] - boxes[:, :2]).max() >= _DIGIT * side else mask


def _spread(mask: Mask, radius: int) -> Mask:
    """Dilated by an octagon: what is set, and what is so near to it. Beyond the picture nothing is. [H, W]."""
    for step in range(radius):
        rows = mask.copy()
        rows[1:] |= mask[:-1]
        rows[:-1] |= mask[1:]
        across = mask if step % 2 else rows  # a square, and a cross every other time
        mask = rows.copy()
        mask[:, 1:] |= across[:, :-1]
        mask[:, :-1] |= across[:, 1:]
    return mask


def _longest_run(values: NDArray[np.bool_]) -> int:
    """The most neighbours that are set."""
    change = np.diff(np.pad(values, 1).astype(np.int8))
    return int(max(np.flatnonzero(change < 0) - np.flatnonzero(change > 0), default=0))


def _enclosing(labels: NDArray[np.int64], boxes: NDArray[np.int64], areas: NDArray[np.float64]) -> Mask:
    """Which components are rectangles around others: most of their pixels lie along their own box. [n]."""
    result = np.zeros(len(areas), bool)
    large = ((boxes[:, 2:] - boxes[:, :2]) * 4 >= labels.shape).all(axis=1)
    for index in np.flatnonzero(large & (areas >= 0.1 * areas.max())):
        top, left, bottom, right = boxes[index]
        inside = (boxes[:, :2] > boxes[index, :2]).all(axis=1) & (boxes[:, 2:] < boxes[index, 2:]).all(axis=1)
        if not (inside & (areas >= 0.05 * areas[index])).any():
            continue
        own = labels[top:bottom, left:right] == index
        band = max(2, max(own.shape) // 20)
        if own[band:-band, band:-band].sum() < 0.1 * own.sum():
            result[index] = True
    return result


def _threshold(ink: Grey) -> float:
    """Otsu's threshold between paper and ink, kept between a quarter and a half of the strongest ink."""
    counts = np.bincount(ink.astype(np.uint8).ravel(), minlength=256).astype(np.float64)
    below, levels = counts.cumsum(), np.arange(256)
    sums = (counts * levels).cumsum()
    above = below[-1] - below
    between = (sums[-1] * below / below[-1] - sums) ** 2 / np.maximum(below * above, 1e-9)
    return float(np.clip(between.argmax(), 64, 128))


def _components(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Connected parts of a mask (8 neighbours), by runs of rows and union-find.

    Returns labels [H, W] (-1 outside the mask), boxes [n, 4] as top, left, bottom, right, areas [n].
    """
    padded = np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(padded, axis=1)
    row, start = np.nonzero(change == 1)
    end = np.nonzero(change == -1)[1]
    parent = list(range(len(row)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_of_row = np.searchsorted(row, np.arange(mask.shape[0] + 1)).tolist()
    starts, ends = start.tolist(), end.tolist()
    for y in range(1, mask.shape[0]):
        above, here = first_of_row[y - 1], first_of_row[y]
        stop_above, stop_here = first_of_row[y], first_of_row[y + 1]
        while above < stop_above and here < stop_here:
            if starts[above] <= ends[here] and starts[here] <= ends[above]:  # runs touch, diagonally too
                parent[root(above)] = root(here)
            if ends[above] < ends[here]:
                above += 1
            else:
                here += 1
    roots = np.array([root(i) for i in range(len(parent))])
    _, index = np.unique(roots, return_inverse=True)
    count = int(index.max()) + 1
    areas = np.bincount(index, weights=end - start, minlength=count).astype(np.float64)
    boxes = np.zeros((count, 4), np.int64)
    boxes[:, :2] = max(mask.shape)
    np.minimum.at(boxes[:, 0], index, row)
    np.minimum.at(boxes[:, 1], index, start)
    np.maximum.at(boxes[:, 2], index, row + 1)
    np.maximum.at(boxes[:, 3], index, end)
    labels: NDArray[np.int64] = np.full(mask.shape, -1, np.int64)
    labels[mask] = np.repeat(index, end - start)
    return labels, boxes, areas


# --------------------------------------------------------------------------- from ink to MNIST's form


def _fitted(ink: Grey, side: int) -> Grey:
    """Scaled, with its proportions, so that the longer side is `side`; averaged, so that nothing is skipped."""
    height, width = ink.shape
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    resized = np.asarray(Image.fromarray(ink).resize(size, method))
    return np.asarray(np.clip(resized, 0, 255), np.float32)


def stroke_width(ink: Grey, most: float = 40.0) -> float:
    """Mean width of the strokes in pixels, or `most` where they are wider.

    Eroding a stroke of width w by 0, 1, 2, ... pixels from both sides leaves areas that sum up to
    (w / 4 + 1 / 2) times its own.
    """
    mask = ImageOps.expand(Image.fromarray(((ink > 100) * 255).astype(np.uint8)), 1, 0)
    whole = area = mask.histogram()[255]
    total = 0
    while area:
        total += area
        if 4 * total >= (most + 2) * whole:
            return most
        mask = mask.filter(ImageFilter.MinFilter(3))
        area = mask.histogram()[255]
    return 4 * total / whole - 2 if whole else 0.0


def _with_usual_strokes(ink: Grey) -> Grey:
    """Thin strokes thickened and thick ones thinned until they pass for MNIST's, at 4 times the box."""
    scale = _BOX * _FINE / max(ink.shape)
    if (
        scale < 1 and stroke_width(ink, most=1.5 / scale) * scale < 1.5
    ):  # else averaging would make hairlines faint
        widened = Image.fromarray(ink.astype(np.uint8)).filter(ImageFilter.MaxFilter(3))
        ink = np.asarray(widened, np.float32)
    fine = _fitted(ink, _BOX * _FINE)
    usual = float(np.median(fine[fine > fine.max() / 4]))
    fine = np.clip(fine * (255.0 / usual), 0, 255).astype(np.float32)  # ink of any strength is ink
    width = stroke_width(fine) / _FINE
    if width < _THIN:
        fine = _grown(fine, (_THINNEST - width) * _FINE / 2)
    elif width > _THICK:
        fine = _grown(fine, -min(width - _THICKEST, 0.6 * width) * _FINE / 2)
    left, top, right, bottom = _box(fine > 64)
    return fine[top:bottom, left:right]


def _grown(ink: Grey, pixels: float) -> Grey:
    """Strokes grown by so many pixels, whole or not, to every side; negative: shrunk."""
    whole, part = int(abs(pixels)), abs(pixels) % 1
    image = ImageOps.expand(Image.fromarray(ink.round().astype(np.uint8)), whole + 2, 0)
    change = ImageFilter.MaxFilter(3) if pixels > 0 else ImageFilter.MinFilter(3)
    for _ in range(whole):
        image = image.filter(change)
    grown = Image.blend(image, image.filter(change), part)
    return np.asarray(grown if grown.getextrema()[1] > 128 else image, np.float32)  # type: ignore[operator]


def _centre_of_mass(values: Grey) -> NDArray[np.float64]:
    """(row, column)."""
    total = float(values.sum())
    rows = float(values.sum(axis=1) @ np.arange(values.shape[0])) / total
    columns = float(values.sum(axis=0) @ np.arange(values.shape[1])) / total
    return np.array([rows, columns])


def _centred(box: Grey) -> Pixels:
    """The digit in 28 x 28, its centre of mass in the middle, as far as it fits. Brightest ink at 255."""
    peak = max(_brightest(box, max(1, box.size // 50)), 1.0)
    values = np.clip(box * (255.0 / peak), 0, 255).round()
    offset = np.rint((SIDE - 1) / 2 - _centre_of_mass(values.astype(np.float32))).astype(int)
    room = SIDE - np.array(values.shape)
    top, left = np.clip(offset, 0, room)
    result = np.zeros((SIDE, SIDE), np.uint8)
    result[top : top + values.shape[0], left : left + values.shape[1]] = values
    return result
