"""Slow clients on the wire: cut off in time, and they slow nobody down."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.service.conftest import band
from tests.service.serving import ask, serving

LIMIT = 0.6
SLACK = 3.0  # of a machine that does other things besides
HEAD = b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: 784\r\n\r\n"


@pytest.fixture(scope="module")
def server(models_folder: Path) -> Iterator[int]:
    with serving(models_folder, CLIENT_TIMEOUT=str(LIMIT), TIMEOUT="5") as (port, _):
        yield port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def everything(client: socket.socket) -> bytes:
    """What comes until the server closes."""
    answer = b""
    while part := client.recv(65536):
        answer += part
    return answer


def answer_of(client: socket.socket) -> bytes:
    """One answer, as long as its head says."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(1)
    length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while length:
        part = client.recv(length)
        answer, length = answer + part, length - len(part)
    return answer


def drip(client: socket.socket, data: bytes) -> None:
    """A byte each tenth of a second, until it is refused."""
    try:
        for byte in data:
            client.sendall(bytes([byte]))
            time.sleep(0.1)
    except OSError:
        pass


@pytest.mark.parametrize("begun", [b"", b"POST /cl", HEAD[:-2], HEAD, HEAD + bytes(500)])
@pytest.mark.parametrize("dripping", [False, True])
def test_a_request_that_does_not_come(server: int, begun: bytes, dripping: bool) -> None:
    """That bytes keep coming does not help."""
    with connect(server) as client:
        began = time.monotonic()
        client.sendall(begun)
        whole = HEAD + bytes(784)
        if dripping:
            rest = whole[len(begun) :]
            thread = threading.Thread(target=drip, args=(client, rest), daemon=True)
            thread.start()
        answer = everything(client)
        took = time.monotonic() - began
    assert LIMIT * 0.9 < took < 2 * LIMIT + SLACK
    if not begun and not dripping:
        assert answer == b""  # it has never spoken: there is nothing to answer
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n") and b"connection: close" in head
    assert json.loads(body)["type"] == "/problems/too-slow"


def test_a_slow_second_request_is_cut_off_too(server: int) -> None:
    with connect(server) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer_of(client).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"GET /hea")
        assert everything(client).startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_is_used_again_and_again_stays(server: int) -> None:
    """Longer than the limit, which each request has for itself."""
    with connect(server) as client:
        for _ in range(5):
            client.sendall(HEAD + band(4).tobytes())
            assert answer_of(client).startswith(b"HTTP/1.1 200 ")
            time.sleep(LIMIT / 3)


def test_an_answer_that_is_not_read(server: int) -> None:
    """plotly's script is far more than any buffer between here and there."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", server))
        client.sendall(b"GET /page/plotly.js HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        time.sleep(3 * LIMIT + 0.5)
        size = 0
        with suppress(ConnectionResetError):
            while part := client.recv(65536):
                size += len(part)
        assert size < 4_000_000  # of nearly 5: what the kernel holds


def test_reading_an_answer_does_not_buy_time_for_a_body(server: int) -> None:
    """The head of a second request comes with the first, and the rest of it never."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(LIMIT + SLACK)
        client.connect(("127.0.0.1", server))
        client.sendall(b"GET /page/plotly.js HTTP/1.1\r\nHost: a\r\n\r\n" + HEAD)
        with suppress(ConnectionResetError):
            answers = everything(client)
    assert answers.startswith(b"HTTP/1.1 200 ")


def test_others_are_answered_meanwhile_and_it_is_counted(server: int) -> None:
    slow = [connect(server) for _ in range(30)]
    for client in slow:
        client.sendall(HEAD[:20])
    body = band(4).tobytes()
    for _ in range(20):
        status, _, answer = ask(
            server, "POST", "/classify", body, {"Content-Type": "application/octet-stream"}
        )
        assert status == 200 and json.loads(answer)["prediction"] == 4
    for client in slow:
        assert everything(client).startswith(b"HTTP/1.1 408 ")
        client.close()
    text = ask(server, "GET", "/metrics")[2].decode()
    (line,) = [
        line for line in text.splitlines() if line.startswith('spikehead_refused_total{reason="too_slow"}')
    ]
    assert float(line.split()[-1]) >= 30
