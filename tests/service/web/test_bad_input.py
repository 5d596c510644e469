"""Bad input: a clear problem document each, never a 500, and the service goes on."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from spikehead.errors import KINDS, MEDIA_TYPE
from spikehead.web.documents.schemas import ProblemDocument

from tests.service.conftest import band
from tests.service.picture_files import animated, encode, huge_png, png

RAW, PNG, JSON = "application/octet-stream", "image/png", "application/json"
URLENCODED = "application/x-www-form-urlencoded"
GOOD = band(1).tobytes()


def problem(response: Any, status: int, kind: str) -> dict[str, Any]:
    """The response is that problem."""
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["type"]) == (status, f"/problems/{kind}"), response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    assert document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["expected"] in document["detail"] and document["received"] in document["detail"]
    ProblemDocument.model_validate(document, strict=True)
    return document


def pixels_with(value: str) -> bytes:
    rows: list[list[Any]] = band(1).tolist()
    rows[3][5] = "@"
    return json.dumps({"pixels": rows}).replace('"@"', value).encode()


BODIES: list[tuple[str, int, str, str, bytes]] = [
    ("empty body", 400, "empty-body", PNG, b""),
    ("text", 422, "unreadable-image", PNG, b"This is not a picture."),
    ("truncated PNG", 422, "unreadable-image", PNG, png(band(1))[:60]),
    ("truncated header", 422, "unreadable-image", PNG, png(band(1))[:12]),
    ("truncated JPEG", 422, "unreadable-image", "image/jpeg", encode(Image.fromarray(band(1)), "JPEG")[:200]),
    ("truncated WebP", 422, "unreadable-image", "image/webp", encode(Image.fromarray(band(1)), "WEBP")[:40]),
    ("truncated BMP", 422, "unreadable-image", "image/bmp", encode(Image.fromarray(band(1)), "BMP")[:1200]),
    ("truncated GIF", 422, "unreadable-image", "image/gif", encode(Image.fromarray(band(1)), "GIF")[:-60]),
    ("animated GIF", 422, "animated-image", "image/gif", animated("GIF")),
    ("animated WebP", 422, "animated-image", "image/webp", animated("WEBP")),
    ("animated PNG", 422, "animated-image", PNG, animated("PNG")),
    ("20,000 x 20,000", 413, "image-too-large", PNG, huge_png(20_000, 20_000)),
    ("2,000 x 2,000", 413, "image-too-large", PNG, huge_png(2_000, 2_000)),
    ("60,000 x 1", 422, "unreadable-image", PNG, huge_png(60_000, 1)),
    ("TIFF", 415, "unsupported-image-format", "image/tiff", encode(Image.fromarray(band(1)), "TIFF")),
    ("ICO", 415, "unsupported-image-format", "image/x-icon", encode(Image.fromarray(band(1)), "ICO")),
    ("PDF as PNG", 415, "unsupported-image-format", PNG, b"%PDF-1.7 ..."),
    ("SVG", 415, "unsupported-image-format", "image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ("white sheet", 422, "blank-image", PNG, png(np.full((300, 200), 255, np.uint8))),
    ("black 28 x 28", 422, "blank-image", PNG, png(np.zeros((28, 28), np.uint8))),
    ("transparent sheet", 422, "blank-image", PNG, encode(Image.new("RGBA", (90, 90), (0, 0, 0, 0)))),
    ("one pixel", 422, "blank-image", PNG, png(np.zeros((1, 1), np.uint8))),
    ("raw without ink", 422, "blank-image", RAW, bytes(784)),
    ("raw all white", 422, "blank-image", RAW, b"\xff" * 784),
    ("783 bytes", 422, "wrong-size", RAW, bytes(783)),
    ("1568 bytes", 422, "wrong-size", RAW, bytes(1568)),
    ("over the limit", 413, "body-too-large", RAW, bytes(64 * 1024 + 1)),
    ("CSV", 415, "unsupported-media-type", "text/csv", b"1,2,3"),
    ("form-urlencoded text", 415, "unsupported-media-type", URLENCODED, b"a picture"),
    ("PNG by curl -d", 422, "unreadable-image", URLENCODED, png(band(1)).translate(None, b"\r\n\0")),
    ("base64 cut short", 400, "malformed-body", URLENCODED, b"image=aaaaa"),
    ("form without a picture", 422, "missing-image", URLENCODED, b"image=&seed=7"),
    ("unknown option in a form", 422, "unknown-option", URLENCODED, b"image=aaaa&steps=3"),
    ("option twice in a form", 422, "conflicting-option", URLENCODED, b"image=aaaa&seed=3&seed=4"),
    ("UTF-16", 400, "malformed-body", JSON, '{"image": "aaaa"}'.encode("utf-16")),
    ("two byte order marks", 400, "malformed-body", JSON, b"\xef\xbb\xbf" * 2 + b"{}"),
    ("XML", 415, "unsupported-media-type", "application/xml", b"<a/>"),
    ("no JSON", 400, "malformed-body", JSON, b"{'image': 1}"),
    ("JSON bomb", 400, "malformed-body", JSON, b"[" * 50_000 + b"]" * 10_000),
    ("JSON list", 400, "malformed-body", JSON, b"[1, 2]"),
    ("JSON without image", 422, "missing-image", JSON, b'{"seed": 7}'),
    ("no base64", 400, "malformed-body", JSON, b'{"image": "!!!"}'),
    (
        "base64 of text",
        422,
        "unreadable-image",
        JSON,
        json.dumps({"image": base64.b64encode(b"text").decode()}).encode(),
    ),
    ("pixel 256", 422, "wrong-pixels", JSON, pixels_with("256")),
    ("pixel -1", 422, "wrong-pixels", JSON, pixels_with("-1")),
    ("pixel 0.5", 422, "wrong-pixels", JSON, pixels_with("0.5")),
    ("pixel NaN", 422, "wrong-pixels", JSON, pixels_with("NaN")),
    ("pixel Infinity", 422, "wrong-pixels", JSON, pixels_with("Infinity")),
    ("pixel -Infinity", 422, "wrong-pixels", JSON, pixels_with("-Infinity")),
    ("pixel 1e999", 422, "wrong-pixels", JSON, pixels_with("1e999")),
    ("pixel true", 422, "wrong-pixels", JSON, pixels_with("true")),
    ("pixel null", 422, "wrong-pixels", JSON, pixels_with("null")),
    ("pixel as text", 422, "wrong-pixels", JSON, pixels_with('"7"')),
    ("pixel of many digits", 422, "wrong-pixels", JSON, pixels_with("9" * 400)),
    ("pixel as list", 422, "wrong-pixels", JSON, pixels_with("[[[[1]]]]")),
    ("lone surrogate", 400, "malformed-body", JSON, pixels_with('"\\ud800"')),
    ("27 rows", 422, "wrong-pixels", JSON, json.dumps({"pixels": band(1).tolist()[1:]}).encode()),
    (
        "short row",
        422,
        "wrong-pixels",
        JSON,
        json.dumps({"pixels": [*band(1).tolist()[:27], [0] * 27]}).encode(),
    ),
    ("pixels no list", 422, "wrong-pixels", JSON, b'{"pixels": "784"}'),
    ("pixels of text", 422, "wrong-pixels", JSON, json.dumps({"pixels": ["0" * 28] * 28}).encode()),
    ("pixels without ink", 422, "blank-image", JSON, json.dumps({"pixels": [[9] * 28] * 28}).encode()),
    ("unknown option in JSON", 422, "unknown-option", JSON, b'{"image": "aaaa", "steps": 3}'),
    ("seed null", 422, "invalid-option", JSON, pixels_with("0")[:-1] + b', "seed": null}'),
    ("max_steps true", 422, "invalid-option", JSON, pixels_with("0")[:-1] + b', "max_steps": true}'),
    ("confidence NaN", 422, "invalid-option", JSON, pixels_with("0")[:-1] + b', "confidence": NaN}'),
]


@pytest.mark.parametrize(
    ("status", "kind", "media_type", "data"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES]
)
def test_bodies(client: TestClient, status: int, kind: str, media_type: str, data: bytes) -> None:
    problem(client.post("/classify", content=data, headers={"Content-Type": media_type}), status, kind)


QUERIES = [
    ("max_steps=0", 422, "invalid-option"),
    ("max_steps=10000", 422, "invalid-option"),
    ("steps=", 422, "unknown-option"),
    ("seed=&seed=1&seed=2", 422, "conflicting-option"),
    ("confidence=1.5", 422, "invalid-option"),
    ("confidence=0", 422, "invalid-option"),
    ("confidence=nan", 422, "invalid-option"),
    ("confidence=-1", 422, "invalid-option"),
    (f"seed={2**64}", 422, "invalid-option"),
    ("seed=-1", 422, "invalid-option"),
    ("seed=1.5", 422, "invalid-option"),
    ("seed=%00", 422, "invalid-option"),
    ("seed=%ff%fe", 422, "invalid-option"),
    ("seed=1&seed=2", 422, "conflicting-option"),
    ("encoder=poisson", 422, "invalid-option"),
    ("raster=stem9", 422, "unknown-layer"),
    ("raster=Input", 422, "unknown-layer"),
    ("model=resnet", 404, "unknown-model"),
    ("model=../tiny", 404, "unknown-model"),
    ("steps=3", 422, "unknown-option"),
    ("Seed=3", 422, "unknown-option"),
    ("=3", 422, "unknown-option"),
]


@pytest.mark.parametrize(("query", "status", "kind"), QUERIES)
@pytest.mark.parametrize("path", ["/classify", "/classify/batch"])
def test_queries(client: TestClient, path: str, query: str, status: int, kind: str) -> None:
    problem(client.post(f"{path}?{query}", content=GOOD, headers={"Content-Type": RAW}), status, kind)


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ("/classify", "report", "unknown-option"),
        ("/classify/batch", "ignore", "invalid-option"),
        ("/classify/batch", "fail&on_error=report", "conflicting-option"),
    ],
)
def test_what_to_do_on_an_error(client: TestClient, path: str, value: str, kind: str) -> None:
    response = client.post(f"{path}?on_error={value}", content=GOOD, headers={"Content-Type": RAW})
    problem(response, 422, kind)


def test_whole_document(client: TestClient) -> None:
    headers = {"Content-Type": RAW, "X-Request-ID": "abc"}
    response = client.post("/classify?max_steps=10000", content=GOOD, headers=headers)
    assert response.json() == {
        "type": "/problems/invalid-option",
        "title": "An option has an invalid value",
        "status": 422,
        "detail": "expected max_steps: a whole number from 1 to 4, got '10000'",
        "expected": "max_steps: a whole number from 1 to 4",
        "received": "'10000'",
        "request_id": "abc",
    }


def test_query_and_body_that_differ(client: TestClient) -> None:
    body = {"pixels": band(1).tolist(), "seed": 8}
    document = problem(client.post("/classify?seed=7", json=body), 422, "conflicting-option")
    assert document["detail"] == "expected one value of seed, got '7' and 8"


@pytest.mark.parametrize(
    ("path", "data", "status", "kind"),
    [
        ("/classify/batch", b"", 400, "empty-body"),
        ("/classify/batch", bytes(783), 422, "wrong-size"),
        ("/classify/batch", bytes(784 * 301), 413, "too-many-images"),
        ("/classify/batch", bytes(784), 422, "blank-image"),
        ("/classify/batch", bytes(1024 * 1024 + 1), 413, "body-too-large"),
    ],
)
def test_batches(client: TestClient, path: str, data: bytes, status: int, kind: str) -> None:
    problem(client.post(path, content=data, headers={"Content-Type": RAW}), status, kind)


def test_chunked_body_over_the_limit(client: TestClient) -> None:
    chunks = (bytes(10_000) for _ in range(8))
    document = problem(
        client.post("/classify", content=chunks, headers={"Content-Type": RAW}), 413, "body-too-large"
    )
    assert document["expected"] == "at most 65536 bytes"


def test_announced_size_of_any_length(client: TestClient) -> None:
    for digits in ("65537", "9" * 30, "9" * 5000):
        headers = {"Content-Type": RAW, "Content-Length": digits}
        problem(client.post("/classify", content=GOOD, headers=headers), 413, "body-too-large")
    headers = {"Content-Type": RAW, "Content-Length": "000784"}
    assert client.post("/classify", content=GOOD, headers=headers).status_code == 200


def test_compressed_bodies_are_refused(client: TestClient) -> None:
    headers = {"Content-Type": RAW, "Content-Encoding": "gzip"}
    problem(client.post("/classify", content=GOOD, headers=headers), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("POST", "/", 405, "method-not-allowed"),
        ("GET", "/classify", 405, "method-not-allowed"),
        ("DELETE", "/classify/batch", 405, "method-not-allowed"),
        ("PUT", "/spikes", 405, "method-not-allowed"),
        ("OPTIONS", "/classify", 405, "method-not-allowed"),
        ("BREW", "/classify", 405, "method-not-allowed"),
        ("POST", "/classify/", 404, "not-found"),
        ("GET", "/models/resnet", 404, "unknown-model"),
        ("GET", "/models/..%2f..", 404, "not-found"),
        ("GET", "/page/..%2fapp.py", 404, "not-found"),
        ("GET", "/page/__init__.py", 404, "not-found"),
        ("GET", "/spikes/42", 404, "unknown-request"),
        ("GET", "/spikes/%F0%9F%92%A9", 404, "unknown-request"),
        ("GET", "/spikes?limit=0", 422, "invalid-option"),
        ("GET", "/spikes?limit=1001", 422, "invalid-option"),
        ("GET", "/spikes?limit=x", 422, "invalid-option"),
        ("GET", "/spikes?before=../x", 422, "invalid-option"),
        ("GET", "/spikes?colour=red", 422, "unknown-option"),
        ("GET", "/spikes?limit=1&limit=2", 422, "conflicting-option"),
        ("DELETE", "/spikes?until=2020-01-01&until=2020-01-02", 422, "conflicting-option"),
        ("DELETE", "/spikes/18a5c0d2f3b4e6a1c2d3e4f5?until=2020-01-01", 422, "unknown-option"),
        ("DELETE", "/spikes?until=20200101000000", 422, "invalid-option"),
        ("DELETE", "/spikes?until=1577836800", 422, "invalid-option"),
        ("DELETE", "/spikes?until=tomorrow", 422, "invalid-option"),
        ("DELETE", "/spikes", 422, "invalid-option"),
        ("GET", "/spikes?since=2026-11-25T02:00:00+00:00", 422, "invalid-option"),
        ("GET", "/spikes?limit=&colour=", 422, "unknown-option"),
        ("DELETE", "/spikes?until=", 422, "invalid-option"),
        ("GET", "/spikes/18a5c0d2f3b4e6a1c2d3e4f5/figure", 422, "invalid-option"),
    ],
)
def test_routes_and_methods(client: TestClient, method: str, path: str, status: int, kind: str) -> None:
    response = client.request(method, path)
    problem(response, status, kind)
    if status == 405:
        assert response.headers["allow"] in ("POST", "GET, HEAD", "DELETE, GET, HEAD")


def test_an_error_of_ours_is_a_problem_document_too(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("spikehead.inference.classifier.Classifier.classify", fail)
    response = client.post("/classify", content=GOOD, headers={"Content-Type": RAW})
    document = problem(response, 500, "internal-error")
    assert "secret" not in response.text
    (failure,) = [line for line in logged if line["event"] == "failed"]
    assert failure["id"] == document["request_id"] and "a secret" in failure["exception"]


def test_the_service_goes_on(client: TestClient) -> None:
    for _, _, _, media_type, data in BODIES:
        client.post("/classify", content=data, headers={"Content-Type": media_type})
    assert client.post("/classify", content=GOOD, headers={"Content-Type": RAW}).json()["prediction"] == 1


def harmless(response: Any) -> None:
    """Either an answer or a documented problem."""
    if response.status_code == 200:
        assert 0 <= response.json()["prediction"] <= 9
        return
    document = response.json()
    kind = document["type"].removeprefix("/problems/")
    assert response.status_code == KINDS[kind].status < 500, response.text


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = [
    (PNG, png(band(1))),
    (PNG, encode(Image.fromarray(band(1)).convert("P"))),
    (PNG, encode(Image.fromarray(np.kron(255 - band(1), np.ones((3, 3), np.uint8))).convert("RGBA"))),
    ("image/jpeg", encode(Image.fromarray(band(1)).resize((60, 80)), "JPEG")),
    ("image/webp", encode(Image.fromarray(band(1)).resize((60, 80)), "WEBP")),
    ("image/bmp", encode(Image.fromarray(band(1)), "BMP")),
    ("image/gif", encode(Image.fromarray(band(1)), "GIF")),
    (JSON, json.dumps({"pixels": band(1).tolist(), "seed": 7}).encode()),
    (JSON, json.dumps({"image": base64.b64encode(png(band(1))).decode(), "confidence": 0.5}).encode()),
    (URLENCODED, b"seed=7&image=" + base64.urlsafe_b64encode(png(band(1)))),
    (
        "multipart/form-data; boundary=xyz",
        b"--xyz\r\nContent-Disposition: form-data; name=seed\r\n\r\n7\r\n--xyz\r\n"
        b"Content-Disposition: form-data; name=image; filename*=UTF-8''3%20%e4.png\r\n\r\n"
        + png(band(1))
        + b"\r\n--xyz--\r\n",
    ),
]


@FUZZ
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6),
    st.integers(0, 5000) | st.none(),
)
def test_mutated_bodies(
    client: TestClient, body: tuple[str, bytes], changes: list[tuple[int, int]], cut: int | None
) -> None:
    media_type, data = body
    mutated = bytearray(data)
    for place, value in changes:
        mutated[place % len(mutated)] = value
    for headers in ({"Content-Type": media_type}, {"Content-Type": URLENCODED}, {}):
        harmless(client.post("/classify", content=bytes(mutated[:cut]), headers=headers))
    batch = client.post(
        "/classify/batch?on_error=report", content=bytes(mutated[:cut]), headers={"Content-Type": media_type}
    )
    assert batch.status_code < 500


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from(["model", "max_steps", "confidence", "seed", "encoder", "raster"])
        | st.text(max_size=5),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.lists(st.text(max_size=4), max_size=3),
    )
)
def test_any_json_options(client: TestClient, options: dict[str, Any]) -> None:
    body = json.dumps({"pixels": band(1).tolist(), **options})
    harmless(client.post("/classify", content=body.encode(), headers={"Content-Type": JSON}))
