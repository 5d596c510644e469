"""From the bytes of a picture's file to its pixels, upright and without transparency. Pillow reads the formats."""

from __future__ import annotations

import io
from itertools import chain

import numpy as np
from PIL import (  # the plugins register themselves; the first picture need not wait for that
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from spikehead.pictures.filters import reduction
from spikehead.pictures.pixels import ImageError, Pixels

TINY = 2048
"""Bytes of a file that may be a tiny picture: 28 x 28 grey pixels take 784 and some 70 more, if nothing compresses."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")

_JPEG_SCAN = b"\xff\xda"
_MOST_SCANS = 64  # a progressive JPEG has ten; each goes over all pixels, however few bytes it has
_KEPT_SIDE = 2048  # what is kept of a larger picture, to look closer at a small digit in it

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP",
}  # fmt: skip
_FOREIGN = {
    b"II*\x00": "TIFF", b"MM\x00*": "TIFF", b"%PDF": "PDF", b"<svg": "SVG", b"<?xml": "XML",
    b"\x00\x00\x01\x00": "ICO", b"8BPS": "Photoshop", b"P5": "PGM", b"P6": "PPM",
}  # fmt: skip

_TELLING = tuple(signature for signature in chain(_SIGNATURES, _FOREIGN) if len(signature) > 2)


def looks_encoded(data: bytes) -> bool:
    """Tell if the bytes begin like a picture file, by more than two letters."""
    return data.startswith(_TELLING) or _looks_like_bmp(data) or data[4:8] == b"ftyp"


def is_tiny_png(data: bytes) -> bool:
    """Tell if the bytes begin like a PNG of at most 64 x 64 pixels, and are at most `TINY`."""
    if len(data) > TINY or not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return width <= 64 and height <= 64


def _looks_like_bmp(data: bytes) -> bool:
    """Tell if the bytes begin like a BMP file: two letters, and after them its true length."""
    return data.startswith(b"BM") and int.from_bytes(data[2:6], "little") == len(data)


def decode(data: bytes, max_pixels: int) -> Pixels:
    """Decode a picture's file; no side is longer than 2048 pixels. -> uint8 [H, W] of grey, or [H, W, 3].

    The size is checked before anything is decompressed. Raises ImageError.
    """
    picture = _opened(data, max_pixels)
    turn = _turn(picture)
    try:
        plain = _plain(picture)
        factor = reduction(plain.size, _KEPT_SIDE)
        opaque = _opaque(plain.reduce(factor) if factor > 1 else plain)
    except Exception as error:  # damaged palettes, say
        raise _broken(error) from error
    return np.asarray(opaque if turn is None else opaque.transpose(turn))


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    """Decompress the picture. Raises ImageError."""
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
        return picture
    except ImageError:
        raise
    except Exception as error:  # likewise, for truncated or damaged data
        raise _broken(error) from error


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
    """Convert to 8 bits in each channel: L, RGB or, with transparency, RGBA."""
    if picture.mode.startswith("I"):  # 16 bits of grey
        values = np.asarray(picture)
        # scanners and cameras store 12 bits in 16
        used = 12 if values.max() < 2**12 else 16
        return Image.fromarray((values >> (used - 8)).clip(0, 255).astype(np.uint8))
    if "A" in picture.mode.upper() or "transparency" in picture.info:
        return picture if picture.mode == "RGBA" else picture.convert("RGBA")
    if picture.mode in ("L", "RGB"):
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _opaque(picture: Image.Image) -> Image.Image:
    """Put paper behind transparent parts."""
    if picture.mode != "RGBA":
        return picture
    values = np.asarray(picture)
    paper = paper_behind(values)
    if paper is None:
        return picture.convert("RGB")
    background = Image.new("RGBA", picture.size, (*paper, 255))
    return Image.alpha_composite(background, picture).convert("RGB")


def paper_behind(picture: Pixels) -> tuple[int, int, int] | None:
    """Choose the paper's colour: that of the opaque parts if they have ink and paper, else the one of white and black
    that they stand out from. None if all of the picture is opaque. uint8 [H, W, 4].
    """
    opaque = picture[picture[..., 3] > 127][:, :3]  # [n, 3]
    pixels = picture.shape[0] * picture.shape[1]
    if len(opaque) == pixels:
        return None
    white, black = (255, 255, 255), (0, 0, 0)
    if not len(opaque):
        return white
    low, middle, high = np.percentile(opaque.mean(axis=1), [5, 50, 95])
    if high - low > 60 and 2 * len(opaque) > pixels:
        red, green, blue = (int(level) for level in np.median(opaque, axis=0))
        return red, green, blue
    return black if middle > 127 else white


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
    """Return the turn that brings a camera's picture upright; None also for a senseless orientation."""
    # without metadata, as most drawings are, there is no need to look for EXIF
    if not picture.info:
        return None
    try:
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - EXIF has as many ways to be broken as there are cameras
        return None
