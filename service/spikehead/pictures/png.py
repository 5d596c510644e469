"""The plainest PNG there can be, read without Pillow: 28 x 28 grey pixels of 8 bits, and nothing else in the file.

That is what a client sends that has MNIST's pixels. Pillow takes a hundred times what the pixels take; anything that
is not exactly so, broken or only different, is left to it. Source: the PNG specification (W3C, third edition).
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from spikehead.engine import native
from spikehead.model.encoding import SIDE


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


_LENGTH = SIDE.to_bytes(4, "big")
_BEGIN = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", _LENGTH + _LENGTH + b"\x08\x00\x00\x00\x00")
_END = _chunk(b"IEND", b"")
_DATA = len(_BEGIN)  # where the only other chunk begins
_ROWS = SIDE * (1 + SIDE)  # bytes: a filter before each row


def plain_grey(data: bytes) -> NDArray[np.uint8] | None:
    """Read the pixels, uint8 [28, 28]. None for any other file, and without the native engine."""
    if not (data.startswith(_BEGIN) and data.endswith(_END) and native.available()):
        return None
    end = len(data) - len(_END) - 4  # of the data; its sum follows
    if (
        data[_DATA + 4 : _DATA + 8] != b"IDAT"
        or int.from_bytes(data[_DATA : _DATA + 4], "big") != end - _DATA - 8
    ):
        return None
    if zlib.crc32(data[_DATA + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
        return None
    unpacking = zlib.decompressobj()
    try:
        rows = unpacking.decompress(data[_DATA + 8 : end], _ROWS + 1)
    except zlib.error:
        return None
    if len(rows) != _ROWS or not unpacking.eof or unpacking.unused_data:
        return None
    return native.unfiltered(rows, SIDE, SIDE)
