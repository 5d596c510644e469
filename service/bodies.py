"""From the body of a request to pictures and options: raw bytes, JSON, multipart form.

Nothing is decoded here: a `Source` is a picture still to be decoded, so that a large batch can be decoded in
portions.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from service import images
from service.encoding import PIXELS, SIDE
from service.errors import Problem
from service.images import Pixels
from service.options import shown

JSON = "application/json"
MULTIPART = "multipart/form-data"
RAW = "application/octet-stream"
_SINGLE_TYPES = "image/*, application/octet-stream, application/json or multipart/form-data"
_BATCH_TYPES = "application/octet-stream, application/json or multipart/form-data"

_MAX_FIELDS = 32  # of a form, besides files
_MAX_FIELD = 4096  # bytes of one
_MAX_HEADER = 8192  # bytes of a part's headers
_LISTS_AN_IMAGE = SIDE + 4  # rows, and what they stand in
_QUOTES_AN_IMAGE = 8
_MORE = 1_000  # for options, and for what is wrong with a body in a way that is worth telling
_DATA_URL = re.compile(r"data:[\w.+/-]*(;[\w=.+-]*)*,", re.ASCII)


@dataclass(frozen=True)
class Source:
    """A picture still to be decoded. `decode` raises ImageError; it takes the largest number of pixels."""

    decode: Callable[[int], Pixels]


@dataclass
class Parsed:
    """What a body holds: pictures still to be decoded, or all of them as pixels."""

    sources: list[Source] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    pixels: NDArray[np.uint8] | None = None  # [N, 28, 28]; then there are no sources


def _encoded(data: bytes) -> Source:
    return Source(lambda max_pixels: images.prepare(data, max_pixels=max_pixels))


def _raw(data: bytes | memoryview) -> Source:
    return Source(lambda _: images.from_raw(data))


def _pixels(rows: Any) -> Source:
    return Source(lambda _: images.from_pixels(rows))


def _raw_or_encoded(data: bytes) -> Source:
    """A body of bytes: 784 pixels, unless they begin like a picture."""
    return _encoded(data) if images.looks_encoded(data) else _raw(data)


def of_file(data: bytes) -> Source:
    """A form's file of unknown kind: a picture, unless it is 784 bytes that do not begin like one."""
    return _raw(data) if len(data) == PIXELS and not images.looks_encoded(data) else _encoded(data)


def parse_single(content_type: str, data: bytes) -> Parsed:
    """One picture, with options. Raises Problem."""
    media_type, parameters = _media_type(content_type)
    if media_type and not (media_type in (JSON, MULTIPART, RAW) or media_type.startswith("image/")):
        raise Problem("unsupported-media-type", _SINGLE_TYPES, shown(media_type))
    if not data:
        raise Problem("empty-body", "an image in the body", "0 bytes")
    if media_type == JSON:
        document = _json_object(data, 1)
        return Parsed([_source_of_object(document, "the body")], document)
    if media_type == MULTIPART:
        parsed = _multipart(parameters, data, max_files=1)
        if not parsed.sources:
            raise Problem("missing-image", "a file in the form", "none")
        return parsed
    if media_type.startswith("image/"):
        return Parsed([_encoded(data)])
    if not media_type and len(data) != PIXELS and not images.looks_encoded(data):
        raise Problem("unsupported-media-type", _SINGLE_TYPES, "no Content-Type")
    return Parsed([_raw_or_encoded(data)])


def parse_batch(content_type: str, data: bytes, max_images: int) -> Parsed:
    """Many pictures, in order, with options. Raises Problem."""
    media_type, parameters = _media_type(content_type)
    if media_type not in (JSON, MULTIPART, RAW):
        raise Problem(
            "unsupported-media-type", _BATCH_TYPES, shown(media_type) if media_type else "no Content-Type"
        )
    if not data:
        raise Problem("empty-body", "images in the body", "0 bytes")
    if media_type == RAW:
        parsed = _raw_batch(data, max_images)
    elif media_type == JSON:
        parsed = _json_batch(_json_object(data, max_images), max_images)
    else:
        parsed = _multipart(parameters, data, max_images)
    if not parsed.sources and parsed.pixels is None:
        raise Problem("missing-image", "at least one image", "none")
    return parsed


def _raw_batch(data: bytes, max_images: int) -> Parsed:
    count, rest = divmod(len(data), PIXELS)
    if rest:
        raise Problem("wrong-size", f"a multiple of {PIXELS} bytes, {PIXELS} an image", f"{len(data)} bytes")
    _check_count(count, max_images)
    return Parsed(pixels=np.frombuffer(data, np.uint8).reshape(count, SIDE, SIDE))


def _check_count(count: int, max_images: int) -> None:
    if count > max_images:
        raise Problem("too-many-images", f"at most {max_images} images", f"{count} images")


def _json_batch(document: dict[str, Any], max_images: int) -> Parsed:
    pictures, pixels = document.pop("images", None), document.pop("pixels", None)
    if (pictures is None) == (pixels is None):
        received = "neither" if pictures is None else "both"
        raise Problem("missing-image", "'images' or 'pixels'", received)
    for name, value in (("images", pictures), ("pixels", pixels)):
        if value is not None and not isinstance(value, list):
            raise Problem("malformed-body", f"{name}: a list", images.described(value))
        if value is not None:
            _check_count(len(value), max_images)  # first: a small body can hold millions of empty lists
    if pixels is not None:
        return Parsed([_pixels(rows) for rows in pixels], document)
    return Parsed([_source_of_item(item, index) for index, item in enumerate(pictures)], document)


def _source_of_item(item: Any, index: int) -> Source:
    try:
        if isinstance(item, str):
            return _base64(item)
        if isinstance(item, list):
            return _pixels(item)
        if not isinstance(item, dict):
            expected = "base64, an array of pixels, or an object with 'image' or 'pixels'"
            raise Problem("missing-image", expected, images.described(item))
        rest = dict(item)
        source = _source_of_object(rest, "the object")
        if rest:
            raise Problem("unknown-option", "'image' or 'pixels' alone", shown(next(iter(rest))))
        return source
    except Problem as problem:
        problem.image = index
        raise


def _source_of_object(document: dict[str, Any], where: str) -> Source:
    """Takes the picture out of an object; what stays are options."""
    found = [name for name in ("image", "pixels") if name in document]
    if len(found) != 1:
        raise Problem("missing-image", f"'image' or 'pixels' in {where}", "both" if found else "neither")
    value = document.pop(found[0])
    return _base64(value) if found[0] == "image" else _pixels(value)


def _base64(text: Any) -> Source:
    """A picture in base64, plain or as a data URL."""
    if not isinstance(text, str):
        raise Problem("malformed-body", "image: a picture in base64", images.described(text))
    prefix = _DATA_URL.match(text, 0, 200)
    try:
        data = base64.b64decode("".join(text[prefix.end() if prefix else 0 :].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(
            "malformed-body", "image: a picture in base64", f"{shown(text[:40])} ({error})"
        ) from None
    if not data:
        raise Problem("empty-body", "image: a picture in base64", "0 bytes")
    return _encoded(data)


def _media_type(content_type: str) -> tuple[str, Mapping[bytes, bytes]]:
    media_type, parameters = parse_options_header(content_type)
    return media_type.decode("latin-1").lower(), parameters


def _json_object(data: bytes, max_images: int) -> dict[str, Any]:
    """A JSON object with options and so many pictures. Raises Problem.

    What it is made of is counted first: parsing keeps everybody waiting, and a small body can be millions of lists.
    """
    for what, count, most in (
        ("lists and objects", data.count(b"[") + data.count(b"{"), _LISTS_AN_IMAGE * max_images + _MORE),
        ("quotes", data.count(b'"'), _QUOTES_AN_IMAGE * max_images + _MORE),
    ):
        if count > most:
            raise Problem("malformed-body", f"JSON of at most {most} {what}", f"{count}")
    try:
        document = from_json(data)
    except ValueError as error:
        raise Problem("malformed-body", "JSON", str(error)) from None
    if not isinstance(document, dict):
        raise Problem("malformed-body", "a JSON object", images.described(document))
    return document


class _Form:
    """Collects the parts of a multipart form; the parser calls it."""

    def __init__(self, max_files: int) -> None:
        self.parsed = Parsed()
        self.complete = False
        self._max_files = max_files
        self._headers: dict[str, bytes] = {}
        self._header_name, self._header_value = b"", b""
        self._header_bytes = 0
        self._fields = 0
        self._data: list[bytes] = []

    def on_part_begin(self) -> None:
        self._headers, self._header_bytes, self._data = {}, 0, []

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._count_header(end - start)

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._count_header(end - start)

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_HEADER:
            raise Problem("malformed-body", f"at most {_MAX_HEADER} bytes of headers in a part", "more")

    def on_header_end(self) -> None:
        self._headers[self._header_name.lower().decode("latin-1")] = self._header_value
        self._header_name, self._header_value = b"", b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def on_part_end(self) -> None:
        _, disposition = parse_options_header(self._headers.get("content-disposition", b""))
        name = disposition.get(b"name", b"").decode("utf-8", "replace")
        media_type, _ = parse_options_header(self._headers.get("content-type", b""))
        data = b"".join(self._data)
        if b"filename" in disposition or media_type.startswith(b"image/") or media_type == RAW.encode():
            self._add_file(name, data, media_type)
        else:
            self._add_field(name, data)

    def _add_file(self, name: str, data: bytes, media_type: bytes) -> None:
        sources = self.parsed.sources
        if len(sources) == self._max_files:
            if self._max_files == 1:
                raise Problem("too-many-files", "one file (see /classify/batch)", "more")
            raise Problem("too-many-images", f"at most {self._max_files} images", "more")
        if not data:
            index = len(sources) if self._max_files > 1 else None
            raise Problem("empty-body", f"a picture in the form's file {shown(name)}", "0 bytes", index)
        sources.append(_encoded(data) if media_type.startswith(b"image/") else of_file(data))

    def _add_field(self, name: str, data: bytes) -> None:
        self._fields += 1
        if self._fields > _MAX_FIELDS or len(data) > _MAX_FIELD:
            expected = f"at most {_MAX_FIELDS} form fields of {_MAX_FIELD} bytes"
            raise Problem("malformed-body", expected, f"{self._fields} fields, one of {len(data)} bytes")
        if name in self.parsed.options:
            raise Problem("conflicting-option", f"one form field {shown(name)}", "two")
        self.parsed.options[name] = data.decode("utf-8", "replace")

    def on_end(self) -> None:
        self.complete = True


def _multipart(parameters: Mapping[bytes, bytes], data: bytes, max_files: int) -> Parsed:
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise Problem("malformed-body", "multipart/form-data with a boundary in its Content-Type", "none")
    form = _Form(max_files)
    names = ["part_begin", "header_field", "header_value", "header_end", "part_data", "part_end", "end"]
    callbacks: Any = {f"on_{name}": getattr(form, f"on_{name}") for name in names}
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(data)
        parser.finalize()
    except FormParserError as error:
        raise Problem("malformed-body", "multipart/form-data", str(error)) from None
    if not form.complete:
        raise Problem("malformed-body", "multipart/form-data up to its last boundary", "less")
    return form.parsed
