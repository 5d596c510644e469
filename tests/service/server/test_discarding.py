"""Bodies that nobody wants: the answer that says so arrives, and only so much is read and thrown away."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from spikehead.server.closing import LINGER, MOST_DISCARDED

from tests.service.conftest import band
from tests.service.serving import LONG, serving

MEGABYTE = 1024 * 1024
FAR_OVER = 40 * MEGABYTE


@pytest.fixture(scope="module")
def port(models_folder: Path) -> Iterator[int]:
    with serving(models_folder, CLIENT_TIMEOUT=str(2 * LONG)) as (port, _):
        yield port


def pieces(size: int) -> Iterator[bytes]:
    """A body of zeros."""
    for _ in range(size // MEGABYTE):
        yield bytes(MEGABYTE)


@pytest.mark.parametrize("path", ["/classify", "/classify/batch", "/nowhere"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("close", [False, True], ids=["http.client", "urllib"])
def test_who_writes_before_reading_gets_the_answer(port: int, path: str, chunked: bool, close: bool) -> None:
    """Python's clients do; urllib says besides that the connection ends."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
    headers = {"Content-Type": "image/png", **({"Connection": "close"} if close else {})}
    body = pieces(FAR_OVER) if chunked else bytes(FAR_OVER)
    connection.request("POST", path, body, headers, encode_chunked=chunked)
    response = connection.getresponse()
    document = json.loads(response.read())
    expected = (404, "not-found") if path == "/nowhere" else (413, "body-too-large")
    assert (response.status, document["type"]) == (expected[0], f"/problems/{expected[1]}")
    if not close:  # and it is good for another request
        connection.request(
            "POST", "/classify", band(4).tobytes(), {"Content-Type": "application/octet-stream"}
        )
        assert connection.getresponse().status == 200
    connection.close()


def test_urllib(port: int) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/classify", bytes(FAR_OVER))
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=LONG)
    with caught.value as response:
        assert response.code == 413 and json.load(response)["type"] == "/problems/body-too-large"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LONG)


def head(length: int, *more: str) -> bytes:
    lines = [
        "POST /classify HTTP/1.1",
        "Host: a",
        "Content-Type: image/png",
        f"Content-Length: {length}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def everything(client: socket.socket) -> bytes:
    """Read until the server closes."""
    answer = b""
    while part := client.recv(65536):
        answer += part
    return answer


@pytest.mark.parametrize("more", [[], ["Connection: close"]], ids=["stays", "closes"])
def test_who_asks_first_is_told_at_once(port: int, more: list[str]) -> None:
    """As curl does with larger bodies: nothing is sent, and nothing can follow on the connection."""
    with connect(port) as client:
        client.sendall(head(FAR_OVER, "Expect: 100-continue", *more))
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 413 ") and b"connection: close" in answer.lower()


def test_who_asks_first_and_is_let_in_stays(port: int) -> None:
    with connect(port) as client:
        for _ in range(2):
            client.sendall(
                head(784, "Expect: 100-continue").replace(b"image/png", b"application/octet-stream")
            )
            assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(band(4).tobytes())
            answer = client.recv(65536)
            while not answer.endswith(b"}"):
                answer += client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ") and b"connection: close" not in answer.lower()


def test_http_1_0(port: int) -> None:
    with connect(port) as client:
        client.sendall(head(FAR_OVER).replace(b"HTTP/1.1", b"HTTP/1.0") + bytes(FAR_OVER))
        assert everything(client).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("more", [[], ["Connection: close"]], ids=["stays", "closes"])
def test_there_is_a_bound_in_bytes(port: int, more: list[str]) -> None:
    sent = 0
    with connect(port) as client, suppress(ConnectionError):
        client.sendall(head(100 * MOST_DISCARDED, *more))
        while sent < 2 * MOST_DISCARDED:
            client.sendall(bytes(MEGABYTE))
            sent += MEGABYTE
    # besides what is read there is what the kernel holds
    assert MOST_DISCARDED <= sent < MOST_DISCARDED + 32 * MEGABYTE


def send_until(end: float, client: socket.socket) -> None:
    """Send some bytes, again and again."""
    while time.monotonic() < end:
        client.sendall(bytes(1000))
        time.sleep(0.05)


@pytest.mark.parametrize("more", [[], ["Connection: close"]], ids=["stays", "closes"])
def test_there_is_a_bound_in_seconds(models_folder: Path, more: list[str]) -> None:
    """Seconds without a byte count too, and are fewer: a machine may stand still so long."""
    with serving(models_folder, CLIENT_TIMEOUT="2") as (port, _), connect(port) as client:
        began = time.monotonic()
        client.sendall(head(FAR_OVER, *more))
        with pytest.raises(ConnectionError):
            send_until(began + LONG, client)
        assert time.monotonic() - began > 0.9 * LINGER
