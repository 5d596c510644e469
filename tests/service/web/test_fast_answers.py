"""Answers of the fast path on the wire: the bytes that the application would send."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from spikehead.engine import native
from spikehead.settings import Settings
from spikehead.web.fast_path import WireFastPath
from spikehead.web.service import Service

from tests.service.conftest import band
from tests.service.serving import LONG, Running, eventually, is_read, served

pytestmark = pytest.mark.skipif(
    not native.available(), reason="only what the native engine answers is light, and it was not built"
)
MODELS = Path(__file__).resolve().parents[3] / "models"
LIGHT = band(3).tobytes()
RAW = "application/octet-stream"


@dataclass
class Wire:
    """A connection, byte by byte."""

    sock: socket.socket
    file: BinaryIO

    def send(self, *parts: bytes) -> None:
        """Each part arrives alone."""
        for part in parts:
            eventually(lambda: is_read(self.sock))
            self.sock.sendall(part)

    def head(self) -> bytes:
        return b"".join(iter(self.file.readline, b"\r\n"))

    def body(self, head: bytes) -> bytes:
        length = re.search(rb"content-length: (\d+)\r", head)
        if length is not None:
            return self.file.read(int(length[1]))
        parts = []
        while size := int(self.file.readline(), 16):  # chunked
            parts.append(self.file.read(size))
            self.file.readline()
        self.file.readline()
        return b"".join(parts)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers in small letters, each of which comes once, and the document."""
        head = self.head()
        first, *lines = head.decode().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines)
        assert len(headers) == len(lines)
        return int(first.split()[1]), headers, json.loads(self.body(head))

    def ended(self) -> bool:
        return self.file.read(1) == b""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request that might be light: True if it was answered on the wire."""
    found: list[bool] = []
    answer = WireFastPath.answer

    def noting(self: WireFastPath, *arguments: Any) -> bytes | None:
        result = answer(self, *arguments)
        found.append(result is not None)
        return result

    monkeypatch.setattr(WireFastPath, "answer", noting)
    return found


@contextmanager
def shipped(tmp_path: Path, **more: Any) -> Iterator[Running]:
    """A worker that serves the shipped models, of which nothing but their speed matters here."""
    settings = {"default_model": "spiking-mha", "max_concurrency": 2, "log_format": "json"}
    with served(MODELS, tmp_path, **settings | more) as running:
        yield running


@pytest.fixture
def running(tmp_path: Path, taken: list[bool]) -> Iterator[Running]:
    with shipped(tmp_path) as running:
        yield running


@pytest.fixture
def wire(running: Running) -> Iterator[Wire]:
    with connected(running) as wire:
        yield wire


@contextmanager
def connected(running: Running) -> Iterator[Wire]:
    with (
        socket.create_connection(("127.0.0.1", running.port), timeout=LONG) as sock,
        sock.makefile("rb") as file,
    ):
        yield Wire(sock, file)


def request(
    body: bytes = LIGHT, target: str = "/classify?seed=7", content_type: str = RAW, more: str = ""
) -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{more}\r\n".encode() + body


def chunked(asked: bytes) -> bytes:
    """The same request for the route: no fast path takes a body of unknown length."""
    head, _, body = asked.partition(b"\r\n\r\n")
    head = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    return b"%b\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (head, len(body), body)


def lasting(answer: bytes) -> bytes:
    """Bytes that the same request always gets."""
    answer = re.sub(rb"(date: |content-length: )[^\r]+", rb"\1-", answer)
    answer = re.sub(rb'"timings_ms":{[^}]+}', b"", answer)
    return re.sub(rb'(x-request-id: |"id":"|"request_id": ")[\w.-]+', rb"\1-", answer)


@pytest.mark.parametrize(
    ("asked", "taken_then"),
    [
        (request(), [True]),
        (request(target="/classify?seed=7&max_steps=1&record=no"), [True]),
        (request(target="/classify?steps=3"), [True]),
        (request(bytes(784)), [True]),
        (request(target="/classify?model=gone"), [False]),
        (request(content_type="text/csv"), [False]),
        (request(more="X-Request-ID: mine\r\n"), [True]),
    ],
)
def test_its_bytes_are_those_of_the_route(
    wire: Wire, taken: list[bool], asked: bytes, taken_then: list[bool]
) -> None:
    """On the wire, of the route, and of the fast path within the application."""
    answers = []
    for same in (asked, chunked(asked), asked.replace(b"Host: a", b"Connection: close", 1)):
        wire.send(same)
        head = wire.head()
        answers.append(head + b"\r\n" + wire.body(head))
        assert (b"x-request-id: mine\r\n" in head) == (b"mine" in asked)
    assert wire.ended()
    at_once, by_route, at_the_end = map(lasting, answers)
    assert at_once == by_route == at_the_end.replace(b"connection: close\r\n", b"", 1)
    assert at_once != at_the_end
    assert taken == taken_then


@pytest.mark.parametrize("parts", [(-784,), (-784, -100), (20, -784, -500, -300)])
def test_a_body_that_comes_in_parts_is_waited_for(wire: Wire, taken: list[bool], parts: tuple[int]) -> None:
    """Many clients send head and body one after the other."""
    asked = request()
    for _ in range(2):
        wire.send(*(asked[start:end] for start, end in pairwise((0, *parts, len(asked)))))
        assert wire.answer()[0] == 200
    assert taken == [True, True]


def test_a_client_that_goes_before_its_body_is_logged(running: Running, logged: list[Any]) -> None:
    with connected(running) as wire:
        wire.send(request(more="X-Request-ID: mine\r\n")[:-100])
        eventually(lambda: is_read(wire.sock))
    eventually(lambda: [line for line in logged if line["event"] == "request"])
    (line,) = (line for line in logged if line["event"] == "request")
    assert (line["id"], line["route"], line["status"]) == ("mine", "/classify", 499)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request(target="/classify?seed=7&record=required"), 200),
        (request(target="/classify?raster=output"), 200),
        (request(json.dumps({"pixels": band(3).tolist()}).encode(), content_type="application/json"), 200),
        (request(target="/classify/batch"), 200),
        (request(target="/classify#top"), 200),
        (request(more="Content-Encoding: gzip\r\n"), 415),
        (request().replace(b"POST", b"PUT"), 405),
    ],
)
def test_what_it_does_not_answer_the_application_does(
    wire: Wire, taken: list[bool], asked: bytes, status: int
) -> None:
    wire.send(asked)
    found, headers, _ = wire.answer()
    assert (found, any(taken)) == (status, False)
    assert headers["x-request-id"]


def test_answers_come_in_order(wire: Wire, taken: list[bool]) -> None:
    """Whatever is under way: a light one waits for a heavy one before it on the same connection."""
    heavy = request(LIGHT * 40, "/classify/batch?seed=1")
    wire.send(request(target="/classify?seed=1") + heavy + request(target="/classify?seed=2") + request())
    assert wire.answer()[2]["seed"] == 1
    assert len(wire.answer()[2]["results"]) == 40
    assert [wire.answer()[2]["seed"] for _ in range(2)] == [2, 7]
    assert taken == [True]


def test_a_connection_goes_on_and_ends_as_asked(wire: Wire) -> None:
    for seed in range(3):
        wire.send(request(target=f"/classify?seed={seed}"))
        assert wire.answer()[2]["seed"] == seed
    wire.send(request(more="Connection: close\r\n"))
    assert wire.answer()[1]["connection"] == "close"
    assert wire.ended()


def test_each_request_is_counted_once(wire: Wire, taken: list[bool]) -> None:

    def count() -> float:
        wire.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        text = wire.body(wire.head()).decode()
        name = 'spikehead_requests_total{method="POST",route="/classify",status="200"} '
        return next((float(line[len(name) :]) for line in text.splitlines() if line.startswith(name)), 0.0)

    before = count()
    for _ in range(3):
        wire.send(request())
        assert wire.answer()[0] == 200
    assert count() == before + 3
    assert taken == [True] * 3


def test_a_failure_is_told_by_the_application(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("spikehead.inference.classifier.Classifier.classify", fail)
    wire.send(request())
    status, _, document = wire.answer()
    assert status == 500
    assert document["type"].endswith("/internal-error")


def test_too_many_at_once_are_refused(tmp_path: Path) -> None:
    """What has come together is answered in one turn of the event loop: one may work, none may wait."""
    with shipped(tmp_path, max_concurrency=1) as running, connected(running) as wire:
        wire.send(request() * 3)
        answers = [wire.answer() for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 429, 429]
    assert answers[1][1]["retry-after"] == "1"


ORIGIN = {"cors_origins": "https://a.example"}


@pytest.mark.parametrize(
    ("setting", "more", "status", "taken_then"),
    [
        ({"api_keys": "one"}, "", 401, []),
        ({"api_keys": "one"}, "X-API-Key: two\r\n", 401, []),
        ({"api_keys": "one"}, "X-API-Key: one\r\n", 200, [True]),
        ({"rate_limit": "5/second"}, "", 200, []),
        (ORIGIN, "Origin: https://a.example\r\n", 200, []),
        (ORIGIN, "", 200, []),  # and says that it varies by origin
        ({}, "Origin: https://a.example\r\n", 200, [True]),
    ],
)
def test_a_request_that_has_to_be_looked_at_first_goes_to_the_application(
    tmp_path: Path,
    taken: list[bool],
    setting: dict[str, str],
    more: str,
    status: int,
    taken_then: list[bool],
) -> None:
    with shipped(tmp_path, **setting) as running, connected(running) as wire:
        wire.send(request(more=more))
        found, headers, _ = wire.answer()
        assert (found, taken) == (status, taken_then)
        assert ("vary" in headers) == ("cors_origins" in setting)
        assert ("access-control-allow-origin" in headers) == ("Origin" in more and "cors_origins" in setting)


def test_a_request_that_is_traced_goes_to_the_application() -> None:
    found = [
        WireFastPath(Service(Settings(traces=traces))).look(
            b"POST", b"/classify", [(b"content-length", b"784")], []
        )
        for traces in (False, True)
    ]
    assert found == [("", [], b""), None]


@pytest.mark.parametrize("whole", [True, False])
def test_the_answers_id_is_the_requests(wire: Wire, whole: bool, logged: list[Any]) -> None:
    for more, name in (("", None), ("X-Request-ID: mine\r\n", "mine")):
        asked = request(more=more)
        wire.send(*([asked] if whole else [asked[:-100], asked[-100:]]))
        status, headers, document = wire.answer()
        assert (status, headers["x-request-id"]) == (200, name or document["id"])

        def lines(record: str = document["id"]) -> list[str]:
            return [line["id"] for line in logged if line.get("record") == record]

        eventually(lines)  # they come after the answer
        assert lines() == [headers["x-request-id"]]


def test_it_is_taken_with_the_root_path_and_without(tmp_path: Path, taken: list[bool]) -> None:
    with shipped(tmp_path, root_path="/digits") as running, connected(running) as wire:
        for target in ("/classify", "/digits/classify", "/digits/classify?seed=1", "/classify?seed=1"):
            wire.send(request(target=target))
            assert wire.answer()[0] == 200
        assert taken == [True] * 4
        for target in ("/digits/digits/classify", "/digitsclassify", "/digits"):
            wire.send(request(target=target))
            assert wire.answer()[0] in (404, 405)
        assert taken == [True] * 4
