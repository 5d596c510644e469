"""Bodies: what they hold, without decoding it."""

import base64
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spikehead.errors import Problem
from spikehead.inference import bodies
from spikehead.inference.bodies import parse_batch, parse_single
from spikehead.pictures.pixels import ImageError

from tests.service.conftest import band
from tests.service.picture_files import png

RAW = "application/octet-stream"
URLENCODED = "application/x-www-form-urlencoded"
JSON = "application/json"
PIXELS = 1_000_000


def form(*parts: tuple[str, bytes], boundary: str = "xyz") -> tuple[str, bytes]:
    """A multipart body of (headers, content) parts."""
    body = b"".join(
        b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary.encode(), headers.encode(), content)
        for headers, content in parts
    )
    return f"multipart/form-data; boundary={boundary}", body + b"--" + boundary.encode() + b"--\r\n"


def file(content: bytes, name: str = "image", media_type: str = "image/png") -> tuple[str, bytes]:
    return (
        f'Content-Disposition: form-data; name="{name}"; filename="a.png"\r\nContent-Type: {media_type}',
        content,
    )


def field(name: str, value: str) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"', value.encode()


def refused(kind: str, content_type: str, data: bytes, batch: bool = False) -> Problem:
    with pytest.raises(Problem) as caught:
        parse_batch(content_type, data, 5) if batch else parse_single(content_type, data)
    assert caught.value.kind == kind, caught.value
    return caught.value


@pytest.mark.parametrize("content_type", [RAW, f"{RAW}; charset=binary", "Application/Octet-Stream", ""])
def test_784_bytes(content_type: str) -> None:
    (source,) = parse_single(content_type, band(3).tobytes()).sources
    assert (source.decode(PIXELS) == band(3)).all()


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "image/*", RAW, "", "IMAGE/PNG; x=y"])
def test_picture_file(content_type: str) -> None:
    (source,) = parse_single(content_type, png(band(5))).sources
    assert (source.decode(PIXELS) == band(5)).all()


def test_json_with_base64_and_options() -> None:
    text = base64.b64encode(png(band(5))).decode()
    for image in (text, f"data:image/png;base64,{text}", text[:40] + "\\n " + text[40:]):
        parsed = parse_single(JSON, f'{{"image": "{image}", "seed": 7}}'.encode())
        assert parsed.options == {"seed": 7}
        assert (parsed.sources[0].decode(PIXELS) == band(5)).all()


def test_json_with_pixels() -> None:
    parsed = parse_single(JSON, f'{{"pixels": {band(2).tolist()}, "raster": "all"}}'.encode())
    assert parsed.options == {"raster": "all"}
    assert (parsed.sources[0].decode(PIXELS) == band(2)).all()


def test_form_with_file_and_fields() -> None:
    parsed = parse_single(
        *form(field("seed", "7"), file(png(band(4)), name="anything"), field("raster", "all"))
    )
    assert parsed.fields == [("seed", "7"), ("raster", "all")]
    assert (parsed.sources[0].decode(PIXELS) == band(4)).all()


def test_form_with_784_bytes() -> None:
    parsed = parse_single(*form(file(band(1).tobytes(), media_type=RAW)))
    assert (parsed.sources[0].decode(PIXELS) == band(1)).all()


def test_form_with_a_text_file() -> None:
    (source,) = parse_single(*form(file(b"some text", media_type="text/plain"))).sources
    with pytest.raises(ImageError, match="expected a PNG, JPEG, WebP, BMP or GIF picture, got 9 bytes"):
        source.decode(PIXELS)


@pytest.mark.parametrize(
    ("kind", "content_type", "data"),
    [
        ("empty-body", "image/png", b""),
        ("empty-body", "", b""),
        ("empty-body", JSON, b""),
        ("empty-body", JSON, b'{"image": ""}'),
        ("unsupported-media-type", "text/csv", b"1,2"),
        ("unsupported-media-type", URLENCODED, b"x"),
        ("unsupported-media-type", URLENCODED, b" " * 784),
        ("unsupported-media-type", "", b"x" * 784),
        ("unsupported-media-type", "text/plain", b"x" * 784),
        ("unsupported-media-type", "text/csv", png(band(5))),
        ("malformed-body", "", b"[1]"),
        ("malformed-body", URLENCODED, b"{"),
        ("malformed-body", URLENCODED, b"image=" + b"&" * 100),
        ("malformed-body", "text/plain", b"data:image/png;base64,%"),
        ("malformed-body", 'image/png; a="' + '";"' * 40, png(band(5))),
        ("malformed-body", *form((f'Content-Disposition: form-data; name=a; b="{";" * 40}"', b""))),
        ("malformed-body", JSON, '{"image": "YQ\u2003"}'.encode()),
        ("missing-image", URLENCODED, b"seed=7"),
        ("missing-image", URLENCODED, b"image=&seed=7"),
        ("unsupported-media-type", URLENCODED, b"=7"),
        ("too-many-files", URLENCODED, b"image=YQ&image=YQ"),
        ("unsupported-media-type", "", b"no picture"),
        ("unsupported-media-type", "nonsense", b"x"),
        ("malformed-body", JSON, b"{"),
        ("malformed-body", JSON, b"\xff\xfe"),
        ("malformed-body", JSON, b"[" * 100_000),
        ("malformed-body", JSON, b'{"a":' * 5000),
        ("malformed-body", JSON, b"[]"),
        ("malformed-body", JSON, b"7"),
        ("malformed-body", JSON, b'{"image": 7}'),
        ("malformed-body", JSON, b'{"image": null}'),
        ("malformed-body", JSON, b'{"image": "%%%%"}'),
        ("malformed-body", JSON, b'{"image": "abcde"}'),
        ("malformed-body", JSON, '{"image": "äöü"}'.encode()),
        ("missing-image", JSON, b"{}"),
        ("missing-image", JSON, b'{"seed": 7}'),
        ("missing-image", JSON, b'{"image": "aaaa", "pixels": []}'),
        ("malformed-body", "multipart/form-data", b"--x"),
        ("malformed-body", "multipart/form-data; boundary=", b"--x"),
        ("malformed-body", "multipart/form-data; boundary=x", b"no boundary at all"),
        ("malformed-body", "multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data"),
        ("missing-image", *form(field("seed", "7"))),
        ("too-many-files", *form(file(b"a"), file(b"b"))),
        ("malformed-body", *form(*[field(f"f{n}", "1") for n in range(40)])),
        ("malformed-body", *form(field("seed", "1" * 5000))),
        ("malformed-body", *form((f'Content-Disposition: form-data; name="a"\r\nX-Long: {"x" * 9000}', b""))),
    ],
)
def test_what_is_refused(kind: str, content_type: str, data: bytes) -> None:
    refused(kind, content_type, data)


def test_an_urlencoded_form_has_a_bound() -> None:
    """A body that is encoded byte by byte takes many times its memory."""
    refused("malformed-body", URLENCODED, b"image=" + b"%41" * 500_001, batch=True)


def test_truncated_form() -> None:
    content_type, data = form(file(png(band(1))))
    problem = refused("malformed-body", content_type, data[:-6])
    assert problem.expected == "multipart/form-data up to its last boundary"


def decoded(content_type: str, data: bytes) -> list[np.ndarray]:
    parsed = parse_batch(content_type, data, 5)
    if parsed.pixels is not None:
        return list(parsed.pixels)
    return [source.decode(PIXELS) for source in parsed.sources]


def test_batches_keep_the_order() -> None:
    pictures = [band(3), band(6), band(4)]
    encoded = [base64.b64encode(png(picture)).decode() for picture in pictures]
    rows = [picture.tolist() for picture in pictures]
    mixed: list[Any] = [encoded[0], {"pixels": rows[1]}, rows[2]]
    bodies = [
        (RAW, b"".join(picture.tobytes() for picture in pictures)),
        (JSON, str({"images": encoded}).replace("'", '"').encode()),
        (JSON, str({"images": mixed}).replace("'", '"').encode()),
        (JSON, str({"pixels": rows}).encode().replace(b"'", b'"')),
        form(*[file(png(picture), name=f"i{n}") for n, picture in enumerate(pictures)]),
        form(*[file(picture.tobytes(), media_type=RAW) for picture in pictures]),
    ]
    for content_type, data in bodies:
        assert [picture.tolist() for picture in decoded(content_type, data)] == rows


@pytest.mark.parametrize(
    ("kind", "content_type", "data"),
    [
        ("empty-body", RAW, b""),
        ("wrong-size", RAW, bytes(783)),
        ("wrong-size", RAW, bytes(785)),
        ("too-many-images", RAW, bytes(784 * 6)),
        ("unsupported-media-type", "image/png", b"x"),
        ("unsupported-media-type", "", b"x"),
        ("missing-image", JSON, b"{}"),
        ("missing-image", JSON, b'{"images": []}'),
        ("missing-image", JSON, b'{"images": [], "pixels": []}'),
        ("malformed-body", JSON, b'{"images": "aaaa"}'),
        ("malformed-body", JSON, b'{"pixels": {"a": 1}}'),
        ("too-many-images", JSON, b'{"images": ["aaaa", "aaaa", "aaaa", "aaaa", "aaaa", "aaaa"]}'),
        ("missing-image", *form(field("seed", "7"))),
        ("too-many-images", *form(*[file(b"a")] * 6)),
        ("too-many-images", URLENCODED, b"&".join([b"images=YQ"] * 6)),
        ("malformed-body", URLENCODED, b"&".join([b"image=YQ"] * 40)),
        ("unsupported-media-type", URLENCODED, png(band(5))),
    ],
)
def test_which_batches_are_refused(kind: str, content_type: str, data: bytes) -> None:
    refused(kind, content_type, data, batch=True)


@pytest.mark.parametrize("name", ["images", "pixels"])
def test_pictures_are_counted_before_they_are_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_at(*_: Any) -> Any:
        raise AssertionError("a picture of a batch that is too large was looked at")

    monkeypatch.setattr(bodies, "_later", looked_at)
    monkeypatch.setattr(bodies, "_pixels", looked_at)
    data = f'{{"{name}": [{"[]," * 5}[]]}}'.encode()
    assert refused("too-many-images", JSON, data, batch=True).received == "6 images"


@pytest.mark.parametrize(
    ("kind", "content_type", "data"),
    [
        ("missing-image", JSON, b'{"images": ["aaaa", 7]}'),
        ("missing-image", JSON, b'{"images": ["aaaa", {}]}'),
        ("unknown-option", JSON, b'{"images": ["aaaa", {"image": "aaaa", "seed": 1}]}'),
        ("malformed-body", JSON, b'{"images": ["aaaa", "%"]}'),
        ("empty-body", *form(file(b"a"), file(b""))),
    ],
)
def test_what_is_wrong_with_a_picture_is_said_when_its_turn_comes(
    kind: str, content_type: str, data: bytes
) -> None:
    """And not before: the others may be wanted all the same."""
    first, second = parse_batch(content_type, data, 5).sources
    with pytest.raises(ImageError):
        first.decode(PIXELS)
    with pytest.raises(Problem) as caught:
        second.decode(PIXELS)
    assert caught.value.kind == kind


CONTENT_TYPES = st.sampled_from(
    [
        RAW,
        JSON,
        URLENCODED,
        "text/plain;charset=UTF-8",
        "image/png",
        "",
        "multipart/form-data; boundary=xyz",
        'multipart/form-data; boundary="a b"; x',
    ]
) | st.text(st.characters(max_codepoint=255), max_size=30)
FRAGMENTS = st.lists(
    st.sampled_from(
        [
            b"--xyz",
            b"--xyz--",
            b"\r\n",
            b"\r\n\r\n",
            b'Content-Disposition: form-data; name="a"; filename="b"',
            b"Content-Disposition: form-data; name=image; filename*=",
            b"UTF-8''%ff%00.png",
            b"Content-Transfer-Encoding: base64",
            b"\xef\xbb\xbf",
            b"image=",
            b"images%5B%5D=",
            b"&seed=",
            b"%ff+",
            b"data:image/png;base64,",
            b"{",
            b"}",
            b"[",
            b"]",
            b'"image"',
            b'"pixels"',
            b":",
            b",",
            b"1e999",
            b"NaN",
            b'"\\ud800"',
            b"\x89PNG\r\n\x1a\n",
            bytes(784),
        ]
    )
    | st.binary(max_size=20),
    max_size=12,
).map(b"".join)


@given(CONTENT_TYPES, FRAGMENTS)
def test_any_body_is_parsed_or_refused(content_type: str, data: bytes) -> None:
    for parse in (parse_single, lambda kind, body: parse_batch(kind, body, 5)):
        try:
            parsed = parse(content_type, data)
        except Problem:
            continue
        assert parsed.sources or parsed.pixels is not None
        for source in parsed.sources:
            with suppress(Problem, ImageError):
                source.decode(PIXELS)


@pytest.mark.parametrize(
    "body",
    [
        b'{"pixels":[' + b"[]," * 400_000 + b"[]]}",
        b'{"images":[' + b"{}," * 400_000 + b"{}]}",
        b"{" + b",".join(b'"%d":0' % i for i in range(50_000)) + b"}",
    ],
    ids=["lists", "objects", "keys"],
)
def test_json_of_millions_of_parts_is_not_even_parsed(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def from_json(data: bytes) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr("spikehead.inference.bodies.from_json", from_json)
    with pytest.raises(Problem, match="expected JSON of at most"):
        parse_batch(JSON, body, 10_000)
    with pytest.raises(Problem, match="expected JSON of at most"):
        parse_single(JSON, body)
