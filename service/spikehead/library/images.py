"""Pictures as callers have them (a path, bytes, a PIL image or an array) to the bytes that `POST /classify` takes.

`load()` and `Client` both use these bytes, so they treat a picture alike.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from spikehead.errors import Problem

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from PIL.Image import Image as Picture

Image: TypeAlias = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, "Picture", "ArrayLike"]

_KINDS = "a path, bytes, a PIL image or an array of numbers"
_SHAPES = "an array [28, 28], [height, width], or [height, width, 3 or 4]"
_AS_THEY_ARE = ((28, 28), (1, 28, 28), (28, 28, 1))
_SAVED = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B")  # modes that a PNG file can hold
_UNCLEAR = ("I", "F")  # modes without a value for white


def to_bytes(image: Image) -> bytes:
    """Return a picture's file, or 784 bytes of pixels for an array [28, 28].

    Arrays hold whole numbers from 0 to 255, floats from 0 to 1, or booleans. Floats are rounded to the nearest 255th,
    so that values divided by 255 come back exactly. [28, 28] is used unchanged, as pixels of MNIST; other shapes are
    pictures, grey or of red, green, blue and perhaps alpha, and become PNG files.

    Raises OSError for a file that cannot be read, and Problem.
    """
    if isinstance(image, (str, os.PathLike)):
        data = Path(image).read_bytes()
    elif isinstance(image, (bytes, bytearray, memoryview)):
        data = bytes(image)
    else:
        from PIL.Image import Image as Picture

        data = _of_picture(image) if isinstance(image, Picture) else _of_array(image)
    if not data:
        raise Problem("empty-body", "a picture", "0 bytes")
    return data


def all_to_bytes(images: Iterable[Image]) -> list[bytes]:
    """Return the bytes of each picture. Raises OSError, and Problem with the number of the picture."""
    found: list[bytes] = []
    for image in images:
        try:
            found.append(to_bytes(image))
        except Problem as problem:
            problem.image = len(found)
            raise
    return found


def _of_picture(picture: Picture) -> bytes:
    """Write a PNG file that shows the picture upright. Raises Problem."""
    from PIL import ImageOps

    if picture.mode in _UNCLEAR:
        raise Problem("wrong-pixels", "a PIL image of 8 or 16 bits a channel", f"mode {picture.mode}")
    file = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode not in _SAVED:
            upright = upright.convert("RGBA" if "a" in upright.mode.lower() else "RGB")
        upright.save(file, "PNG")
    # PIL reads a file as late as here, and each format has its own errors
    except Exception as error:
        raise Problem("unreadable-image", "a PIL image that can be read", str(error)[:100]) from error
    return file.getvalue()


def _of_array(values: Any) -> bytes:
    """Return the pixels of an array [28, 28], or a PNG file of another one. Raises Problem."""
    import numpy as np
    from PIL.Image import fromarray

    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise Problem("wrong-pixels", _KINDS, f"{type(values).__name__} ({error})"[:100]) from error
    if array.dtype.kind not in "buif":
        raise Problem("wrong-pixels", _KINDS, type(values).__name__)
    if array.shape not in _AS_THEY_ARE:
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[..., 0]
        if 0 in array.shape or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
            raise Problem("wrong-size", _SHAPES, f"shape {list(array.shape)}")
    white = 255 if array.dtype.kind in "ui" else 1
    if not ((array >= 0) & (array <= white)).all():  # NaN is neither
        expected = "whole numbers from 0 to 255" if white == 255 else "floats from 0 to 1"
        raise Problem("wrong-pixels", expected, f"{array.dtype} from {array.min()} to {array.max()}")
    pixels = np.rint(array.astype(np.float64) * (255 // white)).astype(np.uint8)
    if array.shape in _AS_THEY_ARE:
        return pixels.tobytes()
    file = io.BytesIO()
    fromarray(pixels).save(file, "PNG")
    return file.getvalue()
