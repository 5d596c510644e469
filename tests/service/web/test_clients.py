"""Requests as clients write them, byte by byte; each test's id names the client and what it was asked to do."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest

from tests.service.conftest import band
from tests.service.picture_files import png
from tests.service.serving import LONG, serving

PICTURE = png(band(4))
PIXELS = band(4).tobytes()
BASE64 = base64.b64encode(PICTURE).decode()
URL_SAFE = base64.urlsafe_b64encode(PICTURE).decode()
URLENCODED = "Content-Type: application/x-www-form-urlencoded"
CHROME = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
DOTNET = "5c3b7d1e-8a0f-4f5e-9d55-0a1b2c3d4e5f"


@pytest.fixture(scope="module")
def port(models_folder: Path) -> Iterator[int]:
    with serving(models_folder) as (port, _):
        yield port


def request(target: str, headers: list[str], body: bytes, method: str = "POST") -> bytes:
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: 127.0.0.1:8000", *headers, "", ""])
    return head.encode() + body


def sized(headers: list[str], body: bytes, target: str = "/classify?seed=7", method: str = "POST") -> bytes:
    return request(target, [*headers, f"Content-Length: {len(body)}"], body, method)


def chunked(headers: list[str], body: bytes) -> bytes:
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return request("/classify?seed=7", [*headers, "Transfer-Encoding: chunked"], chunks)


def form(boundary: str, *parts: tuple[str, bytes], quoted: bool = False, target: str = "/classify") -> bytes:
    """A multipart form of parts: their headers, and what they hold."""
    body = b"".join(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary.encode(), h.encode(), data) for h, data in parts)
    body += b"--%b--\r\n" % boundary.encode()
    named = f'"{boundary}"' if quoted else boundary
    return sized([f"Content-Type: multipart/form-data; boundary={named}"], body, target)


def field(name: str, more: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"{more}'


SEED = (field("seed"), b"7")
IMAGE_PNG = "\r\nContent-Type: image/png"
OCTETS = "\r\nContent-Type: application/octet-stream"
CURL = ["User-Agent: curl/8.5.0", "Accept: */*"]
OFFER = [
    "Connection: Upgrade, HTTP2-Settings",
    "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA",
]

CLIENTS: dict[str, bytes] = {
    "curl --data-binary @4.png": sized([*CURL, URLENCODED], PICTURE),
    "curl --data-binary @4.raw": sized([*CURL, URLENCODED], PIXELS),
    "curl -X POST -T 4.png": sized(CURL, PICTURE),
    "curl -X POST -T - < 4.png": chunked(CURL, PICTURE),
    "curl -F image=@4.png": form(
        "-" * 24 + "d74496d66958873e", (field("image", '; filename="4.png"') + IMAGE_PNG, PICTURE), SEED
    ),
    "curl -F image=<4.png": form("-" * 24 + "d74496d66958873e", (field("image"), PICTURE), SEED),
    "curl -F image=<4.txt, base64 in lines": form(
        "-" * 24 + "d74496d66958873e", (field("image"), base64.encodebytes(PICTURE)), SEED
    ),
    "curl -d image=..., base64 as it is": sized(
        [*CURL, URLENCODED], f"image={BASE64}&seed=7&confidence=".encode(), "/classify"
    ),
    "curl --data-urlencode image=...": sized(
        [*CURL, URLENCODED], f"image={quote_from_bytes(BASE64.encode(), safe='')}".encode()
    ),
    "curl --data-urlencode image@4.png": sized(
        [*CURL, URLENCODED], b"image=" + quote_from_bytes(PICTURE).encode()
    ),
    "curl -d {...}": sized([*CURL, URLENCODED], json.dumps({"image": BASE64}).encode()),
    "curl --json {...}": sized(
        ["Content-Type: application/json", "Accept: application/json"], json.dumps({"image": BASE64}).encode()
    ),
    "wget --post-file=4.png": sized(
        ["Accept-Encoding: identity", "Connection: Keep-Alive", URLENCODED], PICTURE
    ),
    "requests.post(data=bytes)": sized(["Accept-Encoding: gzip, deflate", "Connection: keep-alive"], PICTURE),
    "requests.post(data=generator)": chunked(["Connection: keep-alive"], PICTURE),
    "requests.post(data=dict)": sized([URLENCODED], f"image={URL_SAFE}&seed=7&raster=".encode(), "/classify"),
    "requests.post(files=dict)": form(
        "8b7bd0cf9bb0f5d1d2a2cb9bb8b1a0a3", (field("image", '; filename="4.png"'), PICTURE), SEED
    ),
    "requests.post(files=dict of bytes without a name)": form(
        "8b7bd0cf9bb0f5d1d2a2cb9bb8b1a0a3", (field("image"), PIXELS), SEED
    ),
    "httpx.post(content=bytes)": sized(["Accept: */*", "Connection: keep-alive"], PIXELS),
    "httpx.post(files=dict)": form(
        "5d2d0c6f26c9ce2d", (field("image", '; filename="upload"') + OCTETS, PIXELS), SEED
    ),
    "aiohttp post(data=JSON as bytes)": sized(
        ["Content-Type: application/octet-stream"], json.dumps({"image": BASE64}).encode()
    ),
    "urllib.request.urlopen(data=bytes)": sized([URLENCODED, "Connection: close"], PICTURE),
    "fetch(body: Blob of type '')": sized(["Origin: http://127.0.0.1:8000"], PICTURE),
    "fetch(body: canvas.toDataURL())": sized(
        ["Content-Type: text/plain;charset=UTF-8"], f"data:image/png;base64,{BASE64}".encode()
    ),
    "fetch(body: JSON.stringify())": sized(
        ["Content-Type: text/plain;charset=UTF-8"], json.dumps({"pixels": band(4).tolist()}).encode()
    ),
    "fetch(body: URLSearchParams)": sized(
        ["Content-Type: application/x-www-form-urlencoded;charset=UTF-8"],
        f"image={quote_from_bytes(f'data:image/png;base64,{BASE64}'.encode(), safe='')}&seed=7".encode(),
        "/classify",
    ),
    "Chrome, FormData with a Blob": form(
        CHROME, (field("image", '; filename="blob"') + OCTETS, PICTURE), SEED
    ),
    "Chrome, FormData with canvas.toDataURL()": form(
        CHROME, (field("image"), f"data:image/png;base64,{BASE64}".encode()), SEED
    ),
    "Chrome, a page's form with empty fields": form(
        CHROME,
        (field("file", '; filename=""') + OCTETS, b""),
        (field("image", '; filename="vier 4.png"') + IMAGE_PNG, PICTURE),
        (field("max_steps"), b""),
        (field("model"), b""),
        SEED,
    ),
    "Firefox, a page's form": form(
        "---------------------------9051914041544843365972754266",
        SEED,
        (field("image", '; filename="4.png"') + IMAGE_PNG, PICTURE),
    ),
    "HTTPie POST @4.png": sized(["Content-Type: image/png", "Connection: keep-alive"], PICTURE),
    "HTTPie POST < 4.png": sized(
        ["Accept: application/json, */*;q=0.5", "Content-Type: application/json"], PICTURE
    ),
    "Java HttpClient, BodyPublishers.ofFile": sized([*OFFER, "Upgrade: h2c"], PICTURE),
    "Apache HttpClient, addBinaryBody": form(
        "_2IJwQ3aZ0s_vTz5hVdXAmMlu",
        (field("image") + OCTETS + "\r\nContent-Transfer-Encoding: binary", PIXELS),
        SEED,
    ),
    'Go http.Post(url, "", file)': chunked(["Content-Type: ", "Accept-Encoding: gzip"], PICTURE),
    "Go multipart.CreateFormFile": form(
        "a7e3c5d0" * 7 + "abcd", (field("image", '; filename="4.png"') + OCTETS, PICTURE), SEED
    ),
    ".NET MultipartFormDataContent, with a file's name": form(
        DOTNET,
        (
            "Content-Type: image/png\r\n"
            "Content-Disposition: form-data; name=image; filename=4.png; filename*=utf-8''4.png",
            PICTURE,
        ),
        ("Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=seed", b"7"),
        quoted=True,
    ),
    ".NET MultipartFormDataContent, ByteArrayContent without one": form(
        DOTNET, ("Content-Disposition: form-data; name=image", PICTURE), SEED, quoted=True
    ),
    ".NET ContentDisposition.FileNameStar alone": form(
        DOTNET,
        ("Content-Disposition: form-data; name=image; filename*=utf-8''%E5%9B%9B", PIXELS),
        SEED,
        quoted=True,
    ),
    "PowerShell Invoke-RestMethod -InFile": sized(
        ["User-Agent: Mozilla/5.0 (Windows NT; Windows NT 10.0; de-DE) WindowsPowerShell/5.1", URLENCODED],
        PICTURE,
    ),
    "PowerShell, JSON from a file with a byte order mark": sized(
        ["Content-Type: application/json"], b"\xef\xbb\xbf" + json.dumps({"image": BASE64}).encode()
    ),
    "Python email.mime, base64 in lines": form(
        "===============7330845974216740156==",
        (
            "Content-Type: image/png\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n"
            + field("image", '; filename="4.png"'),
            base64.encodebytes(PICTURE),
        ),
        SEED,
        quoted=True,
    ),
    "S3's default type": sized(["Content-Type: binary/octet-stream"], PICTURE),
    "JSON, URL-safe without padding": sized(
        ["Content-Type: application/json"], json.dumps({"image": URL_SAFE.rstrip("=")}).encode()
    ),
    "JSON, a data URL in capitals": sized(
        ["Content-Type: application/json"], json.dumps({"image": f"DATA:IMAGE/PNG;BASE64,{BASE64}"}).encode()
    ),
}


def asked(port: int, sent: bytes) -> tuple[int, dict[str, Any]]:
    """Status and document of an answer, whose head says how long it is."""
    with socket.create_connection(("127.0.0.1", port), timeout=LONG) as client:
        client.sendall(sent)
        with client.makefile("rb") as answer:
            status = int(answer.readline().split()[1])
            length = 0
            while line := answer.readline().strip():
                name, _, value = line.lower().partition(b":")
                length = int(value) if name == b"content-length" else length
            return status, json.loads(answer.read(length))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_picture(port: int, client: str) -> None:
    status, document = asked(port, CLIENTS[client])
    assert (status, document.get("prediction"), document.get("seed")) == (200, 4, 7), document


REFUSED: dict[str, tuple[bytes, int, str, str]] = {
    "curl -T 4.png": (sized(CURL, PICTURE, method="PUT"), 405, "method-not-allowed", "POST"),
    "curl -d @4.png, which takes line ends out": (
        sized([*CURL, URLENCODED], PICTURE.translate(None, b"\r\n\0")),
        422,
        "unreadable-image",
        "--data-binary",
    ),
    "curl -F photo=base64": (
        form("x", (field("photo"), BASE64.encode()), SEED),
        422,
        "missing-image",
        "base64 in a field 'image', in the form, got the fields 'photo', 'seed'",
    ),
    "curl -F image=@4.png -F image=@4.png": (
        form("x", *[(field("image", '; filename="4.png"') + IMAGE_PNG, PICTURE)] * 2),
        422,
        "too-many-files",
        "/classify/batch",
    ),
    "requests.post(data=bytes) of a batch": (
        sized([], PICTURE, "/classify/batch"),
        415,
        "unsupported-media-type",
        "see /classify",
    ),
    "a page's form without a file": (
        form(CHROME, (field("image", '; filename=""') + OCTETS, b""), SEED),
        422,
        "missing-image",
        "a file",
    ),
}


@pytest.mark.parametrize("client", REFUSED)
def test_what_helps_is_said(port: int, client: str) -> None:
    sent, expected, kind, said = REFUSED[client]
    status, document = asked(port, sent)
    assert (status, document["type"]) == (expected, f"/problems/{kind}")
    assert said in document["detail"]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('name="images"; filename="a b;c.png"', "a b;c.png"),
        ('name="images"; filename="C:\\dir\\4.png"', "4.png"),
        ('name="images"; filename="vier-ü.png"', "vier-ü.png"),
        ("name=images; filename=\"=?utf-8?B?5Zub?=\"; filename*=utf-8''%E5%9B%9B", "四"),
        ("name=images; filename*=iso-8859-1'de'%FC.png", "ü.png"),
        ("name=images; filename*=idna''4.png", "4.png"),
        ("name=images; filename*=UTF-8''%ff%00", "\ufffd\0"),
        ("name=images; filename*=4.png", "4.png"),
        ("name=images; FileName*=\"utf-8''4.png\"", "4.png"),
        ("name=images; filename=\"; filename*=utf-8''no.png\"", "; filename*=utf-8''no.png"),
        (f'name="images"; filename="{"x" * 300}"', "x" * 255),
        ('name="images"; filename=""', None),
    ],
)
def test_names_of_files(port: int, disposition: str, name: str | None) -> None:
    sent = form("x", (f"Content-Disposition: form-data; {disposition}", PICTURE), target="/classify/batch")
    status, document = asked(port, sent)
    assert status == 200, document
    assert document["results"][0].get("filename") == name
