"""Parsing of a request's body into pictures and options: raw bytes, JSON, forms.

The Content-Type tells the kind of a body. Many clients send a default one, or none: then the first bytes tell it.

Nothing is decoded here: a `Source` is a picture still to be decoded, so that a large batch can be decoded in portions,
and a picture that cannot be used does not affect the others.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, unquote_plus, unquote_to_bytes

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from spikehead.errors import Problem
from spikehead.inference.options import quoted
from spikehead.model.encoding import PIXELS, SIDE
from spikehead.pictures.decode import looks_encoded
from spikehead.pictures.normalise import prepare
from spikehead.pictures.pixels import Pixels, described, from_pixels, from_raw

JSON = "application/json"
MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
RAW = "application/octet-stream"
_FORMS = f"{JSON}, {MULTIPART} or {URLENCODED}"
_SINGLE_TYPES = f"image/*, {RAW}, {_FORMS}"
_BATCH_TYPES = f"{RAW}, {_FORMS}"
_UNCHOSEN = ("", RAW, URLENCODED, "text/plain", "binary/octet-stream")
"""Types that clients send by default: none, or those of curl, wget and others for any bytes or text."""

_READ = (*_UNCHOSEN, JSON, MULTIPART)
_PICTURE_FIELDS = ("image", "images", "image[]", "images[]")
"""Form fields with pictures; some clients mark lists by brackets."""

_MAX_FIELDS = 32  # fields of a form, besides pictures
_MAX_FIELD = 4096  # bytes of a field
_MAX_ESCAPES = 500_000  # escaped bytes in an urlencoded form: base64 has one in thirty
_MAX_HEADER = 8192  # bytes of a part's headers
_MAX_PARAMETERS = 32  # parameters of a header, whose parsing takes time with the square of their number
_MAX_FILENAME = 255  # characters of a file's name in an answer
_LISTS_AN_IMAGE = SIDE + 4  # rows, and the lists and objects around them
_QUOTES_AN_IMAGE = 8
_MORE = 1_000  # lists or quotes for options and for mistakes that get a precise error
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TEXT = bytes(range(0x20, 0x7F)) + b"\t\r\n"
_DATA_URL = re.compile(r"data:[\w.+/-]*(;[\w=.+-]*)*,", re.ASCII | re.IGNORECASE)
_CUT_DATA_URL = re.compile(r"data:[\w.+/-]*", re.ASCII | re.IGNORECASE)
_USUAL_ALPHABET = str.maketrans("-_", "+/", " \t\r\n\f\v")
_FIELD = re.compile(rb"[\w.%+\[\]-]{1,80}=")
# The first alternative skips quoted strings, which may contain anything.
_EXTENDED_FILENAME = re.compile(
    r'"(?:\\.|[^"\\])*(?:"|$)|;\s*filename\*\s*=\s*([^;\s]*)', re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True)
class Source:
    """A picture still to be decoded. `decode` takes the most pixels allowed, and raises ImageError or Problem."""

    decode: Callable[[int], Pixels]
    filename: str | None = None


@dataclass
class Parsed:
    """The content of a body: pictures still to be decoded, or all of them as pixels."""

    sources: list[Source] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)  # from JSON
    fields: Sequence[tuple[str, str]] = ()  # options of a form, as text
    pixels: NDArray[np.uint8] | None = None  # [N, 28, 28], in place of sources


def _encoded(data: bytes) -> Source:
    return Source(lambda max_pixels: prepare(data, max_pixels=max_pixels))


def _raw(data: bytes | memoryview) -> Source:
    return Source(lambda _: from_raw(data))


def _pixels(rows: Any) -> Source:
    return Source(lambda _: from_pixels(rows))


def of_file(data: bytes) -> Source:
    """Return the source of a file of unknown kind: a picture, or 784 bytes that do not begin like one."""
    return _raw(data) if len(data) == PIXELS and not looks_encoded(data) else _encoded(data)


def parse_single(content_type: str, data: bytes) -> Parsed:
    """Parse a body with one picture and options. Raises Problem."""
    media_type, parameters = _media_type(content_type)
    says_picture = media_type.startswith("image/")
    if not says_picture and media_type not in _READ:
        raise Problem("unsupported-media-type", _SINGLE_TYPES, quoted(media_type))
    if not data:
        raise Problem("empty-body", "an image in the body", "0 bytes")
    if says_picture or (media_type != MULTIPART and looks_encoded(data)):
        return Parsed([_encoded(data)])
    if media_type in _UNCHOSEN:
        media_type = _by_first_bytes(media_type, data, len(data) == PIXELS) or media_type
    if media_type == RAW:
        return Parsed([_raw(data)])
    if media_type == JSON:
        document = _json_object(data, 1)
        return Parsed([_source_of_object(document, "the body")], document)
    if media_type == MULTIPART:
        parsed = _multipart(parameters, data, max_files=1)
    elif _FIELD.match(data):
        parsed = _urlencoded(data, max_files=1)
    elif data[:5].lower() == b"data:":
        return Parsed([_base64(data.decode("latin-1"))])
    # BMP: many writers put a wrong length into its header
    elif data.startswith(b"BM"):
        return Parsed([_encoded(data)])
    else:
        raise _unknown(_SINGLE_TYPES, media_type, data)
    if not parsed.sources:
        names = ", ".join(quoted(name) for name, _ in parsed.fields[:5])
        received = f"the fields {names}" if names else "none"
        raise Problem("missing-image", "a file, or base64 in a field 'image', in the form", received)
    return parsed


def parse_batch(content_type: str, data: bytes, max_images: int) -> Parsed:
    """Parse a body with many pictures, in order, and options. Raises Problem."""
    media_type, parameters = _media_type(content_type)
    if media_type not in _READ:
        raise Problem("unsupported-media-type", _BATCH_TYPES, quoted(media_type))
    if not data:
        raise Problem("empty-body", "images in the body", "0 bytes")
    if media_type in _UNCHOSEN:
        media_type = _by_first_bytes(media_type, data, len(data) % PIXELS == 0) or media_type
    if media_type == RAW:
        parsed = _raw_batch(data, max_images)
    elif media_type == JSON:
        parsed = _json_batch(_json_object(data, max_images), max_images)
    elif media_type == MULTIPART:
        parsed = _multipart(parameters, data, max_images)
    elif _FIELD.match(data):
        parsed = _urlencoded(data, max_images)
    else:
        raise _unknown(_BATCH_TYPES, media_type, data)
    if not parsed.sources and parsed.pixels is None:
        raise Problem("missing-image", "at least one image", "none")
    return parsed


def _by_first_bytes(media_type: str, data: bytes, fits_pixels: bool) -> str | None:
    """Return the media type of pixels or JSON; None if the bytes are neither.

    Pixels are known by their length; text of that length counts as pixels only if its type is RAW.
    """
    text = data.removeprefix(_BYTE_ORDER_MARK)
    if fits_pixels and (media_type == RAW or not _is_text(text)):
        return RAW
    return JSON if text.lstrip()[:1] in (b"{", b"[") else None


def _is_text(data: bytes) -> bool:
    """Tell if all bytes are printable characters or white space of ASCII."""
    return not data.translate(None, _TEXT)


def _unknown(expected: str, media_type: str, data: bytes) -> Problem:
    """Make the problem of a body whose kind is unknown."""
    if looks_encoded(data):
        return Problem("unsupported-media-type", expected, "a single picture's file (see /classify)")
    if data.startswith(b"\x89PNG"):
        received = "one without its line ends (curl sends files unchanged with --data-binary, not with -d)"
        return Problem("unreadable-image", "a PNG file", received)
    named = quoted(media_type) if media_type else "no Content-Type"
    return Problem("unsupported-media-type", expected, f"{named}, and {len(data)} bytes of an unknown kind")


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
    name, value = ("images", pictures) if pixels is None else ("pixels", pixels)
    if not isinstance(value, list):
        raise Problem("malformed-body", f"{name}: a list", described(value))
    # checked first, because a small body can hold millions of empty lists
    _check_count(len(value), max_images)
    sources = [_later(_source_of_item, item) if pixels is None else _pixels(item) for item in value]
    return Parsed(sources, document)


def _later(make: Callable[..., Source], *values: Any, filename: str | None = None) -> Source:
    """Return the source of a picture of many, which raises its problem only when it is decoded."""
    return Source(lambda max_pixels: make(*values).decode(max_pixels), filename)


def _source_of_item(item: Any) -> Source:
    if isinstance(item, str):
        return _base64(item)
    if isinstance(item, list):
        return _pixels(item)
    if not isinstance(item, dict):
        expected = "base64, an array of pixels, or an object with 'image' or 'pixels'"
        raise Problem("missing-image", expected, described(item))
    rest = dict(item)
    source = _source_of_object(rest, "the object")
    if rest:
        raise Problem("unknown-option", "'image' or 'pixels' alone", quoted(next(iter(rest))))
    return source


def _source_of_object(document: dict[str, Any], where: str) -> Source:
    """Take the picture out of an object and leave the options."""
    found = [name for name in ("image", "pixels") if name in document]
    if len(found) != 1:
        raise Problem("missing-image", f"'image' or 'pixels' in {where}", "both" if found else "neither")
    value = document.pop(found[0])
    return _base64(value) if found[0] == "image" else _pixels(value)


def _base64(text: Any) -> Source:
    """Read base64, plain or as a data URL, in either alphabet, with or without padding and line ends."""
    if not isinstance(text, str):
        raise Problem("malformed-body", "image: a picture in base64", described(text))
    text = text.lstrip()
    if _CUT_DATA_URL.fullmatch(text):
        received = f"{quoted(text)}, which ends before its data (curl -F cuts at ';': use --form-string)"
        raise Problem("malformed-body", "image: a picture in base64", received)
    prefix = _DATA_URL.match(text, 0, 200)
    try:
        if not text.isascii():
            raise ValueError("characters outside of ASCII")
        usual = text[prefix.end() if prefix else 0 :].translate(_USUAL_ALPHABET).rstrip("=")
        data = base64.b64decode(usual + "=" * (-len(usual) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(
            "malformed-body", "image: a picture in base64", f"{quoted(text[:40])} ({error})"
        ) from None
    if not data:
        raise Problem("empty-body", "image: a picture in base64", "0 bytes")
    return _encoded(data)


def _media_type(content_type: str) -> tuple[str, Mapping[bytes, bytes]]:
    parameters_given = content_type.count(";")
    if not parameters_given:
        return content_type.strip(" \t").lower(), {}
    if parameters_given > _MAX_PARAMETERS:
        raise Problem("malformed-body", f"a Content-Type of at most {_MAX_PARAMETERS} parameters", "more")
    media_type, parameters = parse_options_header(content_type)
    return media_type.decode("latin-1").lower(), parameters


def _json_object(data: bytes, max_images: int) -> dict[str, Any]:
    """Parse a JSON object with options and at most `max_images` pictures. Raises Problem.

    Lists and quotes are counted first: parsing blocks other requests, and a small body can hold millions of lists.
    """
    for what, count, most in (
        ("lists and objects", data.count(b"[") + data.count(b"{"), _LISTS_AN_IMAGE * max_images + _MORE),
        ("quotes", data.count(b'"'), _QUOTES_AN_IMAGE * max_images + _MORE),
    ):
        if count > most:
            raise Problem("malformed-body", f"JSON of at most {most} {what}", f"{count}")
    try:
        document = from_json(data.removeprefix(_BYTE_ORDER_MARK))
    except ValueError as error:
        raise Problem("malformed-body", "JSON", str(error)) from None
    if not isinstance(document, dict):
        raise Problem("malformed-body", "a JSON object", described(document))
    return document


class _Form:
    """Collects the parts of a form; the parser of multipart forms calls it."""

    def __init__(self, max_pictures: int) -> None:
        self.sources: list[Source] = []
        self.fields: list[tuple[str, str]] = []
        self.complete = False
        self._max_pictures = max_pictures
        self._headers: dict[str, bytes] = {}
        self._header_name, self._header_value = b"", b""
        self._header_bytes = 0
        self._data: list[bytes] = []

    @property
    def parsed(self) -> Parsed:
        return Parsed(self.sources, fields=self.fields)

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
        if self._header_value.count(b";") > _MAX_PARAMETERS:
            expected = f"at most {_MAX_PARAMETERS} parameters in a header of a part"
            raise Problem("malformed-body", expected, "more")
        self._headers[self._header_name.lower().decode("latin-1")] = self._header_value
        self._header_name, self._header_value = b"", b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def on_part_end(self) -> None:
        header = self._headers.get("content-disposition", b"")
        _, disposition = parse_options_header(header)
        name = disposition.get(b"name", b"").decode("utf-8", "replace")
        media_type, _ = parse_options_header(self._headers.get("content-type", b""))
        data = b"".join(self._data)
        filename = _filename(header, disposition)
        if self._headers.get("content-transfer-encoding", b"").strip().lower() == b"base64":
            self.add_picture(_base64_file, data, filename=filename)
        elif filename == "" and not data:
            return  # a browser sends this if no file was chosen
        elif filename is not None or media_type.startswith(b"image/") or media_type == RAW.encode():
            if not data:
                self.add_picture(_missing, f"a picture in the form's file {quoted(name)}", filename=filename)
            elif media_type.startswith(b"image/"):
                self.add_picture(_encoded, data, filename=filename)
            else:
                self.add_picture(of_file, data, filename=filename)
        elif _is_picture(data):
            self.add_picture(of_file, data)
        elif name in _PICTURE_FIELDS:
            self.add_base64(data)
        else:
            self.add_field(name, data)

    def add_picture(self, make: Callable[..., Source], *values: Any, filename: str | None = None) -> None:
        """Add a picture, whose source is `make(*values)`."""
        if len(self.sources) == self._max_pictures:
            if self._max_pictures == 1:
                raise Problem("too-many-files", "one file (see /classify/batch)", "more")
            raise Problem("too-many-images", f"at most {self._max_pictures} images", "more")
        self.sources.append(_later(make, *values, filename=(filename or "")[:_MAX_FILENAME] or None))

    def add_base64(self, text: bytes) -> None:
        """Add a picture as text, unless the text is empty."""
        if text.strip():
            self.add_picture(_base64, text.decode("latin-1"))

    def add_field(self, name: str, value: bytes) -> None:
        """Add an option."""
        if len(self.fields) == _MAX_FIELDS or len(value) > _MAX_FIELD:
            expected = f"at most {_MAX_FIELDS} form fields of {_MAX_FIELD} bytes"
            received = f"{len(self.fields) + 1} fields, one of {len(value)} bytes"
            raise Problem("malformed-body", expected, received)
        self.fields.append((name, value.decode("utf-8", "replace")))

    def on_end(self) -> None:
        self.complete = True


def _filename(header: bytes, disposition: Mapping[bytes, bytes]) -> str | None:
    """Return the file's name in a part's Content-Disposition; None if the part is not a file.

    The extended form (RFC 8187) is preferred, because the plain one may lack characters. It is not meant for forms
    (RFC 7578, 4.2), and the parser ignores it, but .NET's clients send it.
    """
    extended = _EXTENDED_FILENAME.findall(header.decode("latin-1")) if b"*" in header else []
    for found in filter(None, extended):
        charset, _, value = found.strip('"').partition("'")
        encoding = "latin-1" if charset.lower() == "iso-8859-1" else "utf-8"
        return unquote(value.partition("'")[2] or charset, encoding, "replace")
    plain = disposition.get(b"filename")
    return None if plain is None else plain.decode("utf-8", "replace")


def _is_picture(data: bytes) -> bool:
    """Tell if a form's field is a picture file or pixels, not text."""
    return looks_encoded(data) or (len(data) == PIXELS and not _is_text(data))


def _base64_file(data: bytes) -> Source:
    return _base64(data.decode("latin-1"))


def _missing(expected: str) -> Source:
    raise Problem("empty-body", expected, "0 bytes")


def _urlencoded(data: bytes, max_files: int) -> Parsed:
    """Parse an urlencoded form, which pages without files send. A picture is base64, or its bytes."""
    if data.count(b"&") > max_files + _MAX_FIELDS:
        raise Problem("malformed-body", f"a form of at most {max_files + _MAX_FIELDS} fields", "more")
    if data.count(b"%") > _MAX_ESCAPES:
        raise Problem(
            "malformed-body", f"a form of at most {_MAX_ESCAPES} encoded bytes (see {MULTIPART})", "more"
        )
    form = _Form(max_files)
    for pair in data.strip().split(b"&"):
        if not pair:
            continue
        key, _, value = pair.partition(b"=")
        name = unquote_plus(key.decode("latin-1"))
        content = unquote_to_bytes(value.replace(b"+", b" "))
        if name not in _PICTURE_FIELDS:
            form.add_field(name, content)
        elif _is_picture(content):
            form.add_picture(of_file, content)
        else:
            # in base64, a + that was not encoded looks like a space
            form.add_base64(content.replace(b" ", b"+"))
    return form.parsed


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
