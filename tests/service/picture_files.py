"""Picture files for tests, sound and broken."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def seven() -> np.ndarray:
    """A seven of two strokes, three pixels wide, in MNIST's form."""
    image = np.zeros((28, 28), np.uint8)
    image[6:9, 8:20] = 255
    for row in range(9, 23):
        image[row, 18 - (row - 9) // 2 : 21 - (row - 9) // 2] = 255
    return image


def encode(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def png(pixels: np.ndarray) -> bytes:
    return encode(Image.fromarray(pixels))


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header announces a large picture, with hardly any data behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def animated(format: str) -> bytes:
    frames = [Image.new("L", (40, 40), level) for level in (0, 120, 250)]
    return encode(frames[0], format, save_all=True, append_images=frames[1:], duration=100)
