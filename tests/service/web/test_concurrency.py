"""Requests at the same time: simulation never blocks the event loop, and threads do not mix answers up."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from spikehead.engine.onnxruntime import OnnxruntimeEngine

from tests.service.conftest import band
from tests.service.serving import LONG

RAW = {"Content-Type": "application/octet-stream"}


def test_others_are_answered_while_a_simulation_runs(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, release = threading.Event(), threading.Event()
    classify = OnnxruntimeEngine.classify

    def held(self: OnnxruntimeEngine, *arguments: Any) -> Any:
        started.set()
        assert release.wait(LONG)
        return classify(self, *arguments)

    monkeypatch.setattr(OnnxruntimeEngine, "classify", held)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, "/classify", content=band(4).tobytes(), headers=RAW)
        try:
            assert started.wait(LONG)
            assert client.get("/health/live").status_code == 200
            assert not waiting.done()
        finally:
            release.set()
        assert waiting.result().json()["prediction"] == 4


def test_parallel_requests_do_not_mix(client: TestClient) -> None:
    def classify(number: int) -> dict[str, Any]:
        query = f"seed={number % 7}&confidence=1&raster=all"
        return client.post(f"/classify?{query}", content=band(number % 10).tobytes(), headers=RAW).json()  # type: ignore[no-any-return]

    def without(answer: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in answer.items() if name not in ("id", "timings_ms")}

    expected = [without(classify(number)) for number in range(70)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(classify, range(70)))
    assert [without(answer) for answer in answers] == expected
    assert len({answer["id"] for answer in answers}) == 70


def test_parallel_batches_keep_their_order(client: TestClient) -> None:
    data = b"".join(band(k % 10).tobytes() for k in range(300))

    def batch(_: int) -> list[int]:
        results = client.post("/classify/batch?seed=3", content=data, headers=RAW).json()["results"]
        return [result["seed"] for result in results]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(batch, range(4))) == [list(range(3, 303))] * 4
