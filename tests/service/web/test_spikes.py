"""Past requests over HTTP: lists, filters, replay, figures, statistics, forgetting, and what happens step by step."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from spikehead.insight.figures import KINDS
from spikehead.settings import Settings
from spikehead.web.app import create_app
from spikehead.web.documents.queries import FigureQuery
from spikehead.web.documents.schemas import RequestList, Statistics, StoredRequest

from tests.service.conftest import band

RAW = {"Content-Type": "application/octet-stream"}
EVENTS = {**RAW, "Accept": "text/event-stream"}


def settings_for(models: Path, folder: Path, **values: Any) -> Settings:
    return Settings(
        models=models, default_model="tiny", database_url=f"sqlite:///{folder}/records.db", **values
    )


@pytest.fixture
def own(models_folder: Path, tmp_path: Path) -> Iterator[TestClient]:
    """A service that has answered nothing yet."""
    with TestClient(create_app(settings_for(models_folder, tmp_path))) as client:
        yield client


def classify(client: TestClient, digit: int, query: str = "") -> dict[str, Any]:
    response = client.post(f"/classify?{query}", content=band(digit).tobytes(), headers=RAW)
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


def listed(client: TestClient, query: str = "") -> list[str]:
    document = client.get(f"/spikes?{query}").json()
    RequestList.model_validate(document, strict=True)
    return [request["id"] for request in document["requests"]]


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (
            "2026-01-01T00:00:00+02:00",
            "since: a time whose + is sent as %2B, as in 2026-01-01T00:00:00%2B02:00, got '2026-01-01T00:00:00 02:00'",
        ),
        (
            "2026-01-01 10:20:30+0200",
            "since: a time whose + is sent as %2B, as in 2026-01-01 10:20:30%2B0200, got '2026-01-01 10:20:30 0200'",
        ),
        (
            "20260101T0000+02",
            "since: a time whose + is sent as %2B, as in 20260101T0000%2B02, got '20260101T0000 02'",
        ),
        (
            "2026-01-01Tnoon",
            "since: a time, ISO 8601 such as 2026-11-25T02:00:00Z; UTC if it has no zone, and + is %2B in a "
            "query, got '2026-01-01Tnoon'",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/spikes", "/spikes/statistics"])
def test_a_time_whose_plus_became_a_space(client: TestClient, path: str, value: str, detail: str) -> None:
    response = client.get(f"{path}?since={value}")
    assert (response.status_code, response.json()["detail"]) == (422, f"expected {detail}")
    if "%2B" in detail and "whose" in detail:
        assert client.get(f"{path}?since={value.replace('+', '%2B')}").status_code == 200


def test_what_a_page_s_form_leaves_empty_was_not_given(own: TestClient) -> None:
    ids = [classify(own, digit, "seed=&model=&confidence=&raster=")["id"] for digit in (3, 4)]
    assert listed(own, "limit=&before=&model=&prediction=4&confidence_below=&since=&order=") == ids[1:]
    assert own.get("/spikes/statistics?model=&since=&limit=&replays=0").json()["requests"] == 2
    assert own.get(f"/spikes/{ids[0]}?include=").json()["answer"]["id"] == ids[0]
    figure = own.get(f"/spikes/{ids[0]}/figure?kind=")
    assert (figure.status_code, figure.json()["received"]) == (422, "none")
    deleted = own.delete("/spikes?until=")
    assert (deleted.status_code, deleted.json()["received"], listed(own)) == (422, "none", ids[::-1])


def test_filters_and_pages(own: TestClient) -> None:
    answers = [
        classify(own, 3, "seed=1"),
        classify(own, 4, "seed=2&max_steps=1"),
        classify(own, 3, "seed=3&confidence=1"),
        classify(own, 3, "seed=4&model=other"),
    ]
    ids = [answer["id"] for answer in answers]
    assert listed(own) == ids[::-1]
    assert listed(own, "prediction=4") == [ids[1]]
    assert listed(own, "model=other") == [ids[3]]
    assert listed(own, "steps_at_least=4") == [one["id"] for one in answers[::-1] if one["steps_used"] >= 4]
    least = min(answers, key=lambda answer: (answer["confidence"], answer["id"]))
    assert listed(own, "order=confidence")[0] == least["id"]
    assert listed(own, f"confidence_below={least['confidence']}") == []
    assert listed(own, "since=2020-01-01T00:00:00Z&until=2021-01-01T00:00:00Z") == []
    assert listed(own, "since=2020-01-01T00:00:00Z") == ids[::-1]
    for order in ("newest", "confidence"):
        seen, query = [], f"limit=3&order={order}"
        while True:
            page = own.get(f"/spikes?{query}").json()
            seen += [request["id"] for request in page["requests"]]
            if page["next"] is None:
                break
            query = f"limit=3&order={order}&before={page['next']}"
        assert seen == listed(own, f"order={order}")


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("prediction=10", "invalid-option"),
        ("confidence_below=2", "invalid-option"),
        ("since=yesterday", "invalid-option"),
        ("order=random", "invalid-option"),
        ("before=not-a-cursor", "invalid-option"),
        ("order=confidence&before=abc", "invalid-option"),
        ("colour=red", "unknown-option"),
    ],
)
def test_bad_filters(own: TestClient, query: str, kind: str) -> None:
    response = own.get(f"/spikes?{query}")
    assert (response.status_code, response.json()["type"]) == (422, f"/problems/{kind}"), response.text


def test_replay(own: TestClient) -> None:
    answer = classify(own, 5, "seed=9&raster=all")
    rasters = answer.pop("raster")
    stored = own.get(f"/spikes/{answer['id']}?include=all").json()
    StoredRequest.model_validate(stored)
    assert stored["answer"] == answer
    assert stored["pixels"] == band(5).tolist()
    assert stored["replay"] == {"equal": True, "differences": []}
    assert stored["raster"] == rasters
    plain = own.get(f"/spikes/{answer['id']}").json()
    assert set(plain) == {"time", "pixels", "answer"}
    arrays = own.get(f"/spikes/{answer['id']}?include=raster", headers={"Accept": "application/x-npz"})
    assert arrays.headers["content-type"] == "application/x-npz"
    with np.load(io.BytesIO(arrays.content)) as found:
        assert found["raster.hidden"].sum() == len(rasters["hidden"]["events"])
    bad = own.get(f"/spikes/{answer['id']}?include=weights")
    assert (bad.status_code, bad.json()["type"]) == (422, "/problems/invalid-option")
    assert "attention" in bad.json()["expected"]


def test_replays_equal_their_rasters(own: TestClient) -> None:
    """On random pictures; the shipped model's are in `tests/test_replays.py`."""
    random = np.random.default_rng(3)
    for seed in range(30):
        picture = (band(int(random.integers(10))) * random.random((28, 28)) + 1).astype(np.uint8)
        response = own.post(f"/classify?raster=all&seed={seed}", content=picture.tobytes(), headers=RAW)
        answer = response.json()
        again = own.get(f"/spikes/{answer['id']}?include=raster").json()
        assert again["replay"]["equal"]
        assert again["raster"] == answer["raster"]


def test_forgetting(own: TestClient) -> None:
    first, second = classify(own, 1), classify(own, 2)
    assert own.delete(f"/spikes/{first['id']}").status_code == 204
    assert own.delete(f"/spikes/{first['id']}").status_code == 404
    assert own.get(f"/spikes/{first['id']}").status_code == 404
    assert listed(own) == [second["id"]]
    assert own.delete("/spikes?until=2020-01-01T00:00:00Z").json() == {"deleted": 0}
    assert own.delete("/spikes?until=2999-01-01T00:00:00Z").json() == {"deleted": 1}
    assert listed(own) == []
    assert own.delete("/spikes").status_code == 422


def test_figures(own: TestClient) -> None:
    answer = classify(own, 7)
    png = own.get(f"/spikes/{answer['id']}/figure?kind=membrane-potentials")
    assert png.headers["content-type"] == "image/png"
    assert png.content.startswith(b"\x89PNG")
    svg = own.get(f"/spikes/{answer['id']}/figure?kind=spike-trains&format=svg")
    assert svg.headers["content-type"] == "image/svg+xml"
    assert b"<svg" in svg.content
    assert own.get(f"/spikes/{answer['id']}/figure?kind=spike-trains&format=svg").content == svg.content
    missing = own.get(f"/spikes/{answer['id']}/figure?kind=decay-kernels")  # the tiny card has no kernel B
    assert (missing.status_code, missing.json()["type"]) == (422, "/problems/no-such-figure")
    assert own.get(f"/spikes/{answer['id']}/figure?kind=portrait").status_code == 422
    assert own.get(f"/spikes/{'0' * 24}/figure?kind=sheet").status_code == 404


def test_figures_without_matplotlib(own: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = classify(own, 7)
    monkeypatch.setattr("spikehead.web.routes.spikes.find_spec", lambda name: None)
    response = own.get(f"/spikes/{answer['id']}/figure?kind=sheet")
    assert (response.status_code, response.json()["type"]) == (501, "/problems/no-figures")


def test_the_kinds_of_figures_are_those_that_can_be_drawn() -> None:
    schema = FigureQuery.model_json_schema()["properties"]["kind"]
    assert schema["enum"] == list(KINDS)


def test_statistics(own: TestClient) -> None:
    for digit in (3, 3, 8):
        classify(own, digit, "confidence=1")
    found = own.get("/spikes/statistics").json()
    Statistics.model_validate(found, strict=True)
    assert found["requests"] == 3
    assert found["predictions"] == [0, 0, 0, 2, 0, 0, 0, 0, 1, 0]
    assert found["steps"] == [0, 0, 0, 3]
    assert [layer["name"] for layer in found["layers"]] == ["input", "hidden", "output"]
    assert found["layers"][1]["silent"] == 8
    assert own.get("/spikes/statistics?until=2020-01-01T00:00:00Z").json()["requests"] == 0
    assert own.get("/spikes/statistics?model=none").status_code == 404


# ------------------------------------------------------------------------------------ whether it is remembered


def test_record_options(own: TestClient) -> None:
    no = classify(own, 1, "record=no")
    assert no["recorded"] is False
    yes, required = classify(own, 1), classify(own, 1, "record=required")
    assert yes["recorded"] is required["recorded"] is True
    assert listed(own) == [required["id"], yes["id"]]
    assert own.get(f"/spikes/{no['id']}").status_code == 404
    bad = own.post("/classify?record=perhaps", content=band(1).tobytes(), headers=RAW)
    assert bad.json()["expected"] == "record: one of yes, no, required"


def test_batches_are_remembered_too(own: TestClient) -> None:
    body = b"".join(band(digit).tobytes() for digit in (1, 2, 3))
    results = own.post("/classify/batch?seed=1", content=body, headers=RAW).json()["results"]
    assert [result["recorded"] for result in results] == [True] * 3
    assert listed(own) == [result["id"] for result in results[::-1]]


@pytest.mark.parametrize(("policy", "some"), [("off", False), ("sample:0", False), ("sample:1", True)])
def test_policies(models_folder: Path, tmp_path: Path, policy: str, some: bool) -> None:
    with TestClient(create_app(settings_for(models_folder, tmp_path, record=policy))) as client:
        assert classify(client, 1)["recorded"] is some
        assert len(listed(client)) == int(some)
        response = client.post("/classify?record=required", content=band(1).tobytes(), headers=RAW)
        assert response.status_code == (200 if some else 503)  # what is off is off
        assert len(listed(client)) == 2 * int(some)


def test_times_are_up_to_their_millisecond(own: TestClient) -> None:
    """A request's own time, as it is shown, finds it from both sides."""
    classify(own, 1)
    (request,) = own.get("/spikes").json()["requests"]
    time = request["time"]
    for query in (f"since={time}", f"until={time}", f"since={time}&until={time}"):
        assert [one["id"] for one in own.get(f"/spikes?{query}").json()["requests"]] == [request["id"]]
    assert own.delete(f"/spikes?until={time}").json() == {"deleted": 1}


def test_a_database_that_is_away(models_folder: Path, tmp_path: Path) -> None:
    """Classification goes on; what cannot be stored or read is said."""
    (tmp_path / "records.db").write_bytes(b"this is no database, and longer than its header would be" * 20)
    with TestClient(create_app(settings_for(models_folder, tmp_path))) as client:
        assert classify(client, 3)["prediction"] == 3
        response = client.get("/spikes")
        assert (response.status_code, response.json()["type"]) == (503, "/problems/records-away")
        required = client.post("/classify?record=required", content=band(3).tobytes(), headers=RAW)
        assert (required.status_code, required.json()["type"]) == (503, "/problems/not-recorded")
        ready = client.get("/health/ready").json()
        assert ready["status"] == "degraded"
        assert ready["records"]["reason"]


def test_metrics_count_records(own: TestClient) -> None:
    classify(own, 1, "record=required")
    response = own.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    lines = response.text.splitlines()
    assert "spikehead_records_written_total 1.0" in lines
    assert "spikehead_records_dropped_total 0.0" in lines
    assert "spikehead_records_degraded 0.0" in lines
    assert 'spikehead_model_info{engine="onnxruntime",name="tiny",version="1.2.3"} 1.0' in lines


# ----------------------------------------------------------------------------------------------- step by step


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events by name."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_step_by_step(own: TestClient) -> None:
    query = "seed=7&confidence=1&max_steps=3"
    response = own.post(f"/classify?{query}", content=band(6).tobytes(), headers=EVENTS)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response.text)
    assert [name for name, _ in found] == ["step"] * 3 + ["result"]
    result = found[-1][1]
    plain = classify(own, 6, query)
    assert {k: v for k, v in result.items() if k not in ("id", "timings_ms")} == {
        k: v for k, v in plain.items() if k not in ("id", "timings_ms")
    }
    replayed = own.get(f"/spikes/{result['id']}?include=all").json()
    for t, (_, step) in enumerate(found[:-1]):
        assert step["step"] == t + 1
        assert step["class_probabilities"] == replayed["probabilities"]["class"][t]
        assert step["spike_probabilities"] == replayed["probabilities"]["spike"][t]
        assert step["potentials"] == replayed["potentials"][t]
        assert step["output_spikes"] == step["spikes"]["output"]
        for layer, raster in replayed["raster"].items():
            assert step["spikes"][layer] == [index for time, index in raster["events"] if time == t]


def test_problems_before_the_first_step_are_ordinary_ones(own: TestClient) -> None:
    response = own.post("/classify?max_steps=0", content=band(6).tobytes(), headers=EVENTS)
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")


def test_problems_on_the_way_are_an_event(models_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "records.db").write_bytes(b"this is no database, and longer than its header would be" * 20)
    with TestClient(create_app(settings_for(models_folder, tmp_path))) as client:
        response = client.post("/classify?record=required", content=band(6).tobytes(), headers=EVENTS)
    name, problem = events(response.text)[-1]
    assert (name, problem["type"]) == ("problem", "/problems/not-recorded")
