"""Refusals of the fast path on the wire: they come at once, and the connection goes on."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.service.conftest import band
from tests.service.serving import LONG, Running, served

HEAVY = b"\x00" * 300_000
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def running(models_folder: Path, tmp_path: Path) -> Iterator[Running]:
    with served(models_folder, tmp_path) as running:
        yield running


@contextmanager
def connected(running: Running) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=LONG)
    try:
        yield connection
    finally:
        connection.close()


def post(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str] = RAW
) -> tuple[int, dict[str, str], bytes]:
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def test_refused_and_served_on_one_connection(running: Running) -> None:
    with connected(running) as connection:
        connection.connect()
        sock = connection.sock
        for _ in range(3):
            running.admission.working = 1  # somebody works, nobody may wait
            small = band(4).tobytes()  # it may be light, which the model makes it not: it runs on onnxruntime
            for path, body in (("/classify?seed=7", HEAVY), ("/classify/batch", HEAVY), ("/classify", small)):
                status, headers, body = post(connection, path, body, RAW | {"X-Request-ID": "mine"})
                document = json.loads(body)
                assert (status, document["type"], document["request_id"]) == (
                    429,
                    "/problems/overloaded",
                    "mine",
                )
                assert (headers["retry-after"], headers["x-request-id"]) == ("1", "mine")
                assert headers["content-type"] == "application/problem+json"
                assert headers["x-content-type-options"] == "nosniff" and "date" in headers
            running.admission.working = 0
            status, _, body = post(connection, "/classify?model=other", band(4).tobytes())
            assert status == 200 and json.loads(body)["prediction"] == 4
        assert connection.sock is sock  # the same one all the time
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    assert 'spikehead_refused_total{reason="overloaded"} 9.0' in text
    assert 'spikehead_requests_total{method="POST",route="/classify",status="429"} 6.0' in text


def test_a_refusal_at_the_end_is_the_last_answer(running: Running) -> None:
    running.admission.working = 1
    running.worker._app.state.service.ending = True
    with connected(running) as connection:
        status, headers, _ = post(connection, "/classify?seed=7", HEAVY)
        assert (status, headers["connection"]) == (429, "close")
        assert connection.sock is None  # closed, as it said
    running.worker._app.state.service.ending = False


def test_the_same_document_as_the_application_gives(running: Running) -> None:
    """HTTP/1.0 and `Connection: close` go through the application: what it says must be the same."""
    running.admission.working = 1
    answers = []
    for headers in (RAW, RAW | {"Connection": "close"}):
        with connected(running) as connection:
            named = headers | {"X-Request-ID": "same"}
            status, found, body = post(connection, "/classify", HEAVY, named)
        found.pop("date")
        found.pop("connection", None)
        answers.append((status, found, json.loads(body)))
    running.admission.working = 0
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/models", b""),
        ("GET", "/health/ready", b""),
        ("POST", "/nothing", HEAVY),
        ("GET", "/classify", b""),
    ],
)
def test_who_needs_no_room_is_let_in(running: Running, method: str, path: str, body: bytes) -> None:
    running.admission.working = 1
    with connected(running) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        response.read()
        assert response.status != 429
    running.admission.working = 0


def test_who_has_no_key_is_told_that_first(models_folder: Path, tmp_path: Path) -> None:
    with served(models_folder, tmp_path, api_keys="k") as running, connected(running) as connection:
        running.admission.working = 1
        found = [post(connection, "/classify", HEAVY, RAW | one)[0] for one in ({}, {"X-API-Key": "no"})]
        assert found == [401, 401]
        assert post(connection, "/classify", HEAVY, RAW | {"X-API-Key": "k"})[0] == 429
        running.admission.working = 0


def test_a_page_of_another_origin_may_read_the_refusal(models_folder: Path, tmp_path: Path) -> None:
    origin = {"Origin": "https://lab.example"}
    with (
        served(models_folder, tmp_path, cors_origins=origin["Origin"]) as running,
        connected(running) as connection,
    ):
        running.admission.working = 1
        status, headers, _ = post(connection, "/classify", HEAVY, RAW | origin)
        running.admission.working = 0
    assert (status, headers["access-control-allow-origin"]) == (429, origin["Origin"])
