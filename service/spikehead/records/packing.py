"""Packing of pixels and answers for the table. Many are packed at once, which holds the interpreter's lock least."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence

import numpy as np
import zstandard

from spikehead.model.encoding import PIXELS
from spikehead.records import dictionary

UNPACKING_ERRORS = (ValueError, zlib.error, zstandard.ZstdError)
"""Errors that unpacking raises for data that is damaged or was not packed here."""

# a level that saves 1 % more takes twice as long
_LEVEL = 1
_LARGEST_ANSWER = 1 << 20  # bytes; those that are packed here have about 1,000
_ZSTANDARD = zstandard.FRAME_HEADER

_common = zstandard.ZstdCompressionDict(dictionary.ANSWER, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
_common.precompute_compress(level=_LEVEL)
_compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_common)
# kept, because making one takes thirty times as long as using it
_decompressor = zstandard.ZstdDecompressor(dict_data=_common)
# each of them serves one thread at a time
_working = threading.Lock()


def packed_answers(answers: Sequence[bytes]) -> list[bytes]:
    """Pack answers, so that each can be read alone."""
    with _working:
        # zstandard's function for many takes no empty ones
        if not answers or not all(answers):
            return [_compressor.compress(answer) for answer in answers]
        packed = _compressor.multi_compress_to_buffer(list(answers))
        return [packed[i].tobytes() for i in range(len(packed))]


def answer_of(packed: bytes) -> bytes:
    """Unpack an answer, also one packed with zlib by an earlier release. Raises UNPACKING_ERRORS."""
    if not packed.startswith(_ZSTANDARD):
        return _inflated(packed)
    size = zstandard.frame_content_size(packed)
    if not 0 <= size <= _LARGEST_ANSWER:
        raise ValueError(f"expected an answer of at most {_LARGEST_ANSWER} bytes, found {size}")
    with _working:
        return _decompressor.decompress(packed)


def _inflated(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj(zdict=dictionary.ANSWER)
    found = unpacking.decompress(packed, _LARGEST_ANSWER)
    if not unpacking.eof:
        raise ValueError("the answer is cut short")
    return found


_MASKED = b"\x01"
"""First byte of pixels packed as a mask of those that are not 0, and their values. zlib's data begins otherwise."""

_MASK_BYTES = PIXELS // 8


def packed_pixels(images: Sequence[bytes]) -> list[bytes]:
    """Pack 784 pixels into about 250 bytes, as four of five are 0. An image with few zeros is kept as it is.

    Raises ValueError if an image does not have 784 pixels.
    """
    for pixels in images:
        if len(pixels) != PIXELS:
            raise ValueError(f"expected {PIXELS} pixels, got {len(pixels)}")
    values = np.frombuffer(b"".join(images), np.uint8).reshape(-1, PIXELS)
    lit = values != 0
    masks = np.packbits(lit, axis=1)  # [N, 98]
    ends = lit.sum(axis=1).cumsum().tolist()
    inked = values[lit].tobytes()  # of all images, one after the other
    packed, begin = [], 0
    for pixels, mask, end in zip(images, masks, ends, strict=True):
        small = _MASKED + mask.tobytes() + inked[begin:end]
        packed.append(small if len(small) < PIXELS else pixels)
        begin = end
    return packed


def pixels_of(packed: bytes) -> bytes:
    """Unpack an image, also one packed with zlib by an earlier release. Raises UNPACKING_ERRORS."""
    if len(packed) == PIXELS:
        return packed
    if not packed.startswith(_MASKED):
        pixels = zlib.decompressobj().decompress(packed, PIXELS + 1)
        if len(pixels) != PIXELS:
            raise ValueError(f"expected {PIXELS} pixels, found {len(pixels)}")
        return pixels
    lit = np.unpackbits(np.frombuffer(packed[1 : 1 + _MASK_BYTES], np.uint8)).astype(bool)
    found = np.frombuffer(packed[1 + _MASK_BYTES :], np.uint8)
    if len(lit) != PIXELS or int(lit.sum()) != len(found):
        raise ValueError("the image is cut short")
    values = np.zeros(PIXELS, np.uint8)
    values[lit] = found
    return values.tobytes()
