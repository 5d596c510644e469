"""The shortcut: light requests that have come whole are answered on the wire, as the application would."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from spikehead.engine import native
from spikehead.server.shortcut import Shortcut, is_free
from spikehead.settings import Settings

from tests.service.conftest import band
from tests.service.server.test_door import Running, served
from tests.service.serving import LONG, eventually, is_read

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

    def head(self) -> tuple[int, dict[str, str]]:
        """Status, and headers in small letters: each comes once."""
        status = int(self.file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self.file.readline().strip().decode():
            name, _, value = line.partition(": ")
            assert name.lower() not in headers
            headers[name.lower()] = value
        return status, headers

    def body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return self.file.read(int(headers["content-length"]))
        parts = []
        while size := int(self.file.readline(), 16):  # chunked
            parts.append(self.file.read(size))
            self.file.readline()
        self.file.readline()
        return b"".join(parts)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers, and the document."""
        status, headers = self.head()
        return status, headers, json.loads(self.body(headers))

    def ended(self) -> bool:
        return self.file.read(1) == b""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request that might be light: whether the shortcut has answered it."""
    found: list[bool] = []
    answer = Shortcut.answer

    def noting(self: Shortcut, *arguments: Any) -> bytes | None:
        result = answer(self, *arguments)
        found.append(result is not None)
        return result

    monkeypatch.setattr(Shortcut, "answer", noting)
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


def lasting(answer: tuple[int, dict[str, str], Any]) -> tuple[int, dict[str, str], Any]:
    """What the same request always gets."""
    status, headers, document = answer
    own = ("date", "x-request-id", "content-length")
    document = {
        name: value for name, value in document.items() if name not in ("id", "timings_ms", "request_id")
    }
    return status, {name: value for name, value in headers.items() if name not in own}, document


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request(target="/classify?seed=7&max_steps=1&record=no"),
        request(target="/classify?steps=3"),
        request(bytes(784)),
        request(target="/classify?model=gone"),
        request(content_type="text/csv"),
        request(more="X-Request-ID: mine\r\n"),
    ],
)
def test_it_answers_as_the_application(wire: Wire, taken: list[bool], asked: bytes) -> None:
    wire.send(asked)
    at_once = wire.answer()
    seen = list(taken)
    wire.send(asked[:-100], asked[-100:])  # does not come whole
    assert lasting(wire.answer()) == lasting(at_once)
    assert taken == seen
    if at_once[0] == 200:
        assert taken == [True]
    if b"mine" in asked:
        assert at_once[1]["x-request-id"] == "mine"


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
        text = wire.body(wire.head()[1]).decode()
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


@pytest.mark.parametrize(
    "setting", [{"api_keys": "one"}, {"rate_limit": "5/second"}, {"cors_origins": "https://a.example"}]
)
def test_nothing_goes_past_who_has_to_look_first(
    tmp_path: Path, taken: list[bool], setting: dict[str, str]
) -> None:
    with shipped(tmp_path, **setting) as running, connected(running) as wire:
        wire.send(request())
        assert wire.answer()[0] == (401 if "api_keys" in setting else 200)
    assert taken == []
    assert not is_free(Settings(**setting))  # type: ignore[arg-type]
    assert is_free(Settings())
    assert not is_free(Settings(traces=True))


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
