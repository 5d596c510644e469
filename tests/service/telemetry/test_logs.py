"""One line a request, in both formats, with the id that the client knows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import band
from tests.service.serving import LONG, ROOT, ask, serving

RAW = {"Content-Type": "application/octet-stream"}


def test_a_line_a_request(client: TestClient, logged: list[Any]) -> None:
    answer = client.post(
        "/classify?seed=1", content=band(4).tobytes(), headers=RAW | {"X-Request-ID": "mine-7"}
    )
    batch = client.post("/classify/batch", content=band(4).tobytes() * 3, headers=RAW)
    client.get("/spikes/unknown")
    single, many, unknown = [line for line in logged if line["event"] == "request"]
    assert answer.headers["x-request-id"] == single["id"] == "mine-7"
    said = {name: single[name] for name in ("method", "route", "path", "status", "model", "images")}
    assert said == {
        "method": "POST", "route": "/classify", "path": "/classify", "status": 200, "model": "tiny", "images": 1,
    }  # fmt: skip
    assert (single["prediction"], single["steps"]) == (4, answer.json()["steps_used"])
    for phase in ("decode", "encode", "simulate"):
        assert single[f"{phase}_ms"] == pytest.approx(answer.json()["timings_ms"][phase], abs=1e-3)
    assert single["queue_ms"] >= 0 and single["ms"] > single["simulate_ms"]
    assert many["images"] == 3 and "prediction" not in many
    assert many["steps"] == sum(result["steps_used"] for result in batch.json()["results"])
    assert (unknown["route"], unknown["status"], unknown["problem"]) == (
        "/spikes/{id}",
        404,
        "unknown-request",
    )
    assert "model" not in unknown


@pytest.mark.parametrize("given", ["a b", "x" * 129, "", "ä".encode().decode("latin-1"), "a;b"])
def test_an_id_that_cannot_be_used_is_replaced(client: TestClient, given: str) -> None:
    response = client.get("/health/live", headers={b"X-Request-ID": given.encode("latin-1")})
    made = response.headers["x-request-id"]
    assert made != given and len(made) == 16 and int(made, 16) >= 0


def test_json_on_standard_error(models_folder: Path) -> None:
    """Everything that is logged, libraries' lines too, is a line of JSON."""
    with serving(models_folder, LOG_FORMAT="json") as (port, process):
        ask(port, "POST", "/classify", band(4).tobytes(), RAW)
        ask(port, "POST", "/classify", b"", RAW | {"Content-Type": "multipart/form-data; boundary=x"})
        process.terminate()
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert all({"timestamp", "level", "event"} <= set(line) for line in lines)
    assert [list(line)[:3] for line in lines] == [["timestamp", "level", "event"]] * len(lines)
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["status"] for line in requests] == [200, 400]
    assert any(line["event"].startswith("serving on http://") for line in lines)
    assert not any("alembic" in json.dumps(line) or "Context impl" in line["event"] for line in lines)


def test_levels(models_folder: Path) -> None:
    with serving(models_folder, LOG_LEVEL="warning") as (port, process):
        ask(port, "GET", "/models")
        process.terminate()
        assert process.stderr is not None
        lines = process.stderr.read().decode().splitlines()
    assert all("[warning" in line for line in lines)  # tiny is no network for the native engine


FAILS = """
import logging
from spikehead.telemetry import logs
logs.configure("info", "json")
try:
    raise RuntimeError("why")
except RuntimeError:
    logging.getLogger("spikehead").exception("what")
"""


def test_what_is_logged_at_an_error_has_its_traceback() -> None:
    """In a process of its own: logging is set up once in each."""
    said = subprocess.run(
        [sys.executable, "-c", FAILS], cwd=ROOT, capture_output=True, timeout=LONG, check=True
    ).stderr
    line = json.loads(said)
    assert line["event"] == "what" and "RuntimeError: why" in line["exception"]
