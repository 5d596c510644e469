"""Deadlines, clients that have gone, and the headers of every answer."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.settings import Settings
from spikehead.web.app import create_app

from tests.service.conftest import band
from tests.service.serving import LONG, eventually

RAW = {"Content-Type": "application/octet-stream"}
BODY = band(4).tobytes()


class Held:
    """Simulations wait until they are released."""

    def __init__(self) -> None:
        self.started, self.release = threading.Semaphore(0), threading.Event()
        self.simulated = 0

    def hold(self, classify: Callable[..., Any]) -> Callable[..., Any]:
        def held(engine: OnnxruntimeEngine, *arguments: Any) -> Any:
            self.started.release()
            assert self.release.wait(LONG)
            self.simulated += 1
            return classify(engine, *arguments)

        return held


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held()
    monkeypatch.setattr(OnnxruntimeEngine, "classify", held.hold(OnnxruntimeEngine.classify))
    yield held
    held.release.set()


def client_with(models: Path, folder: Path, held: Held, **settings: Any) -> TestClient:
    held.release.set()  # the models are warmed up
    known = Settings(
        database_url=f"sqlite:///{folder}/records.db", models=models, default_model="tiny", **settings
    )
    return TestClient(create_app(known))


def test_too_many_are_refused_at_once(models_folder: Path, tmp_path: Path, held: Held) -> None:
    with (
        client_with(models_folder, tmp_path, held, max_concurrency=1, max_queue=2) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        held.release.clear()
        while held.started.acquire(blocking=False):
            pass
        asked = [pool.submit(client.post, "/classify", content=BODY, headers=RAW) for _ in range(3)]
        assert held.started.acquire(timeout=LONG)
        admission = client.app.state.service.admission  # type: ignore[attr-defined]
        eventually(lambda: admission.waiting == 2)
        refused = client.post("/classify", content=BODY, headers=RAW)
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/overloaded")
        assert refused.headers["retry-after"] == "1"
        assert client.post("/classify/batch", content=BODY, headers=RAW).status_code == 429
        for path in ("/health/live", "/health/ready", "/metrics", "/models", "/spikes"):
            assert client.get(path).status_code == 200  # nothing else is refused
        text = client.get("/metrics").text
        assert "spikehead_requests_waiting 2.0" in text
        assert 'spikehead_refused_total{reason="overloaded"} 2.0' in text
        held.release.set()
        assert [one.result().status_code for one in asked] == [200] * 3
        assert client.post("/classify", content=BODY, headers=RAW).status_code == 200


def test_a_deadline(models_folder: Path, tmp_path: Path, held: Held) -> None:
    with client_with(models_folder, tmp_path, held, timeout=2, max_concurrency=1) as client:
        held.release.clear()
        late = client.post("/classify", content=BODY, headers=RAW)
        assert (late.status_code, late.json()["type"]) == (503, "/problems/timed-out")
        assert late.json()["expected"] == "an answer within 2 seconds"
        assert 'spikehead_refused_total{reason="timed_out"} 1.0' in client.get("/metrics").text
        held.release.set()
        assert client.post("/classify", content=BODY, headers=RAW).status_code == 200


def test_a_deadline_of_a_stream(models_folder: Path, tmp_path: Path, held: Held) -> None:
    """Steps have been sent: the last event says what happened, and nothing is logged as a mistake."""
    with client_with(models_folder, tmp_path, held, timeout=2) as client:
        held.release.clear()
        answer = client.post("/classify", content=BODY, headers=RAW | {"Accept": "text/event-stream"})
        held.release.set()
        events = [event.split("\n") for event in answer.text.strip().split("\n\n")]
        assert [event[0] for event in events[:-1]] == ["event: step"] * (len(events) - 1) and len(events) > 1
        assert events[-1][0] == "event: problem"
        assert json.loads(events[-1][1].removeprefix("data: "))["type"] == "/problems/timed-out"
        assert 'spikehead_refused_total{reason="timed_out"} 1.0' in client.get("/metrics").text


def test_work_for_a_client_that_has_gone_is_dropped(models_folder: Path, tmp_path: Path) -> None:
    """With a real connection: the one in the middle hangs up while it waits for its turn."""
    import asyncio
    import socket

    import uvicorn

    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/records.db",
        models=models_folder,
        default_model="tiny",
        max_concurrency=1,
        engine="onnxruntime",
    )
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        service = app.state.service
        admission = service.admission
        held = Held()
        classify = service.classifier.classify

        def slowly(*arguments: Any) -> Any:
            held.started.release()
            assert held.release.wait(LONG)
            held.simulated += 1
            return classify(*arguments)

        service.classifier.classify = slowly

        def send() -> socket.socket:
            sock = socket.create_connection(("127.0.0.1", port), timeout=LONG)
            head = b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
            sock.sendall(head + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
            return sock

        first = send()
        assert held.started.acquire(timeout=LONG)
        second, third = send(), send()
        eventually(lambda: admission.waiting == 2)
        second.close()
        eventually(lambda: admission.waiting == 1)
        held.release.set()
        for sock in (first, third):
            response = http.client.HTTPResponse(sock)
            response.begin()
            assert response.status == 200
            response.read()
            sock.close()
        assert held.simulated == 2
        assert 'spikehead_refused_total{reason="gone"} 1.0' in service.metrics.exposition().decode()
        assert 'route="/classify",status="499"} 1.0' in service.metrics.exposition().decode()
    finally:
        server.should_exit = True
        thread.join(LONG)


@pytest.mark.parametrize(
    ("method", "path", "policy"),
    [
        ("POST", "/classify", "default-src 'none'"),
        ("GET", "/nothing", "default-src 'none'"),
        ("GET", "/metrics", "default-src 'none'"),
        ("GET", "/", "default-src 'self'"),
        ("GET", "/docs", "default-src 'self'"),
        ("GET", "/page/main.js", "default-src 'self'"),
    ],
)
def test_headers_of_security(client: TestClient, method: str, path: str, policy: str) -> None:
    response = client.request(method, path, content=BODY if method == "POST" else None, headers=RAW)
    headers = response.headers
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers.get_list("referrer-policy") == ["no-referrer"]
    (found,) = headers.get_list("content-security-policy")
    assert found.startswith(policy) and "frame-ancestors 'none'" in found and "script-src" not in found
