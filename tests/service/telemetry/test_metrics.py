"""Figures for Prometheus are those of what was really asked and answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from spikehead.settings import Settings
from spikehead.telemetry.logs import LINES
from spikehead.web.app import create_app

from tests.service.conftest import band

RAW = {"Content-Type": "application/octet-stream"}
Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def client(models_folder: Path, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/records.db", models=models_folder, default_model="tiny"
    )
    with TestClient(create_app(settings)) as client:
        yield client


def figures(client: TestClient) -> Figures:
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def of(found: Figures, metric: str, /, **labels: str) -> float:
    return found.get((f"spikehead_{metric}", tuple(sorted(labels.items()))), 0.0)


def test_requests_by_route_method_and_status(client: TestClient) -> None:
    client.post("/classify", content=band(1).tobytes(), headers=RAW)
    client.post("/classify", content=b"short", headers=RAW)
    client.post("/classify/batch", content=band(1).tobytes() * 3, headers=RAW)
    client.get("/spikes/18a5c0d2f3b4e6a1c2d3e4f5")
    client.head("/models")
    client.get("/nothing/at/all")
    client.get("/")
    found = figures(client)
    for route, method, status in (
        ("/classify", "POST", "200"),
        ("/classify", "POST", "422"),
        ("/classify/batch", "POST", "200"),
        ("/spikes/{id}", "GET", "404"),
        ("/models", "HEAD", "200"),
        ("other", "GET", "404"),
        ("/", "GET", "200"),
    ):
        assert of(found, "requests_total", route=route, method=method, status=status) == 1.0, route
    assert of(found, "request_seconds_count", route="/classify") == 2.0
    assert of(found, "requests_in_flight") == 1.0  # this one
    assert of(figures(client), "request_seconds_count", route="/metrics") == 1.0


def test_what_the_network_has_done_is_what_the_answers_say(client: TestClient) -> None:
    bodies = [band(digit).tobytes() for digit in (4, 4, 7)]
    answers = [client.post("/classify?confidence=1", content=body, headers=RAW).json() for body in bodies]
    batch = client.post("/classify/batch?confidence=1&model=other", content=b"".join(bodies), headers=RAW)
    assert batch.status_code == 200
    found = figures(client)
    assert of(found, "images_total", model="tiny") == of(found, "images_total", model="other") == 3.0
    steps = [answer["steps_used"] for answer in answers]
    assert of(found, "steps_count", model="tiny") == 3.0
    assert of(found, "steps_sum", model="tiny") == sum(steps)
    assert of(found, "steps_bucket", model="tiny", le=f"{max(steps)}.0") == 3.0
    assert of(found, "predictions_total", model="tiny", digit="4") == 2.0
    assert of(found, "predictions_total", model="tiny", digit="7") == 1.0
    hidden = sum(answer["spike_counts"]["layers"]["hidden"] for answer in answers)
    assert of(found, "spikes_total", model="tiny", layer="hidden") == hidden > 0
    assert of(found, "neuron_steps_total", model="tiny", layer="hidden") == 10 * sum(steps)
    for kind, layer in (("accumulates", "hidden"), ("multiply_accumulates", "input")):
        expected = sum(answer["synaptic_operations_by_kind"][kind] for answer in answers)
        operations = of(found, "synaptic_operations_total", model="tiny", layer=layer, kind=kind)
        assert operations == expected > 0
    kinds = [answer["synaptic_operations_by_kind"] for answer in answers]
    joules = sum(one["accumulates"] * 0.03e-12 + one["multiply_accumulates"] * 0.23e-12 for one in kinds)
    assert of(found, "energy_joules_total", model="tiny", precision="int8") == pytest.approx(joules)


def test_phases(client: TestClient) -> None:
    answer = client.post("/classify", content=band(4).tobytes(), headers=RAW).json()
    client.get("/models")  # has no phases
    found = figures(client)
    for phase in ("queue", "decode", "encode", "simulate"):
        assert of(found, "phase_seconds_count", phase=phase) == 1.0
    for phase, milliseconds in answer["timings_ms"].items():
        assert of(found, "phase_seconds_sum", phase=phase) == pytest.approx(milliseconds / 1000, abs=1e-6)


def test_models_and_build(client: TestClient) -> None:
    found = figures(client)
    for name in ("tiny", "other"):
        assert of(found, "model_info", name=name, version="1.2.3", engine="onnxruntime") == 1.0
    assert len([name for name, _ in found if name == "spikehead_build_info"]) == 1


def test_records(client: TestClient) -> None:
    client.post("/classify?record=required", content=band(4).tobytes(), headers=RAW)
    client.post("/classify?record=no", content=band(4).tobytes(), headers=RAW)
    found = figures(client)
    assert (of(found, "records_written_total"), of(found, "records_dropped_total")) == (1.0, 0.0)
    assert (of(found, "records_degraded"), of(found, "records_waiting")) == (0.0, 0.0)


def test_lines_of_the_log_that_were_dropped(client: TestClient) -> None:
    assert of(figures(client), "log_lines_dropped_total") == 0.0
    LINES.dropped += 7
    for _ in range(2):
        assert of(figures(client), "log_lines_dropped_total") == 7.0


def test_a_service_that_starts_again_counts_on(models_folder: Path, tmp_path: Path) -> None:
    app = create_app(
        Settings(database_url=f"sqlite:///{tmp_path}/r.db", models=models_folder, default_model="tiny")
    )
    for expected in (1.0, 2.0):
        with TestClient(app) as client:
            client.post("/classify?record=required", content=band(4).tobytes(), headers=RAW)
            assert of(figures(client), "records_written_total") == expected
