"""The HTTP interface on the tiny model: whole answers, and what clients may rely on."""

import base64
import html
import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from spikehead.errors import KINDS, type_of
from spikehead.settings import Settings
from spikehead.web.app import create_app
from spikehead.web.documents.explanations import EXPLANATIONS
from spikehead.web.documents.schemas import (
    BatchResult,
    Classification,
    ModelCard,
    ModelList,
    RequestList,
    StoredRequest,
)

from tests.service.conftest import band
from tests.service.picture_files import png

RAW = {"Content-Type": "application/octet-stream"}
PNG = {"Content-Type": "image/png"}
EXACT = "max_steps=2&confidence=1&seed=7"


def same(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from run to run."""
    return {name: value for name, value in answer.items() if name not in ("id", "timings_ms")}


def classify(client: TestClient, digit: int, query: str = EXACT) -> dict[str, Any]:
    response = client.post(f"/classify?{query}", content=band(digit).tobytes(), headers=RAW)
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


def test_whole_answer(client: TestClient) -> None:
    answer = classify(client, 6, "max_steps=2&confidence=1&seed=7&encoder=regular&raster=hidden")
    Classification.model_validate(answer, strict=True)
    assert list(answer) == list(Classification.model_fields)
    assert len(answer.pop("id")) == 24
    assert list(answer.pop("timings_ms")) == ["decode", "encode", "simulate"]
    probabilities = answer.pop("class_probabilities")
    assert answer.pop("confidence") == max(probabilities)
    assert answer["spike_counts"].pop("output") is not None
    assert answer == {
        "model": "tiny",
        "model_version": "1.2.3",
        "engine": "onnxruntime",
        "prediction": 6,
        "spike_counts": {"input": 64, "layers": {"hidden": 2}},
        "steps_used": 2,
        "max_steps": 2,
        "stopped_by": "max_steps",
        "confidence_threshold": 1.0,
        "seed": 7,
        "encoder": "regular",
        "synaptic_operations": 84,
        "synaptic_operations_by_kind": {"accumulates": 20, "multiply_accumulates": 64},
        "raster": {"hidden": {"shape": [10], "events": [[0, 6], [1, 6]]}},
        "recorded": True,
    }


def test_same_image_and_seed_give_the_same_answer_however_they_come(client: TestClient) -> None:
    expected = same(classify(client, 4))
    picture, body = png(band(4)), {"max_steps": 2, "confidence": 1, "seed": 7}
    as_base64 = base64.b64encode(picture).decode()
    responses = [
        client.post(f"/classify?{EXACT}", content=picture, headers=PNG),
        client.post(f"/classify?{EXACT}", content=picture),
        client.post(f"/classify?{EXACT}", content=picture, headers=RAW),
        client.post(f"/classify?{EXACT}", files={"image": ("a.png", picture, "image/png")}),
        client.post("/classify", files={"file": ("a.png", picture)}, data=body),
        client.post("/classify", json={"image": as_base64, **body}),
        client.post("/classify", json={"pixels": band(4).tolist(), **body}),
        client.post("/classify?seed=7&max_steps=2", json={"pixels": band(4).tolist(), **body}),
    ]
    for response in responses:
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        assert same(response.json()) == expected


def test_a_drawn_seed_is_reported_and_repeats_the_answer(client: TestClient) -> None:
    first = classify(client, 4, "raster=all")
    again = classify(client, 4, f"raster=all&seed={first['seed']}")
    assert same(first) == same(again)
    assert first["seed"] < 2**53


def test_no_raster_unless_asked_for(client: TestClient) -> None:
    assert "raster" not in classify(client, 4)
    assert list(classify(client, 4, "raster=all")["raster"]) == ["input", "hidden", "output"]


def test_another_model(client: TestClient) -> None:
    assert classify(client, 4, "model=other")["model"] == "other"


def batch(client: TestClient, query: str, **body: Any) -> list[dict[str, Any]]:
    response = client.post(f"/classify/batch?{query}", **body)
    assert response.status_code == 200, response.text
    BatchResult.model_validate(response.json(), strict=True)
    return response.json()["results"]  # type: ignore[no-any-return]


def test_batch_equals_single_images(client: TestClient) -> None:
    random = np.random.default_rng(3)
    images = [random.integers(0, 256, (28, 28)).astype(np.uint8) for _ in range(200)] + [
        band(k) for k in range(10)
    ]
    data = b"".join(image.tobytes() for image in images)
    results = batch(client, "seed=18446744073709551600&confidence=0.3", content=data, headers=RAW)
    assert len(results) == 210
    assert [result["seed"] for result in results] == [(2**64 - 16 + i) % 2**64 for i in range(210)]
    for i in [*range(0, 200, 23), 209]:
        query = f"seed={results[i]['seed']}&confidence=0.3"
        alone = client.post(f"/classify?{query}", content=images[i].tobytes(), headers=RAW).json()
        assert same(alone) == same(results[i])


def test_batches_in_every_form(client: TestClient) -> None:
    pictures = [band(k) for k in (3, 6, 4)]
    files = [("images", (f"{n}.png", png(picture), "image/png")) for n, picture in enumerate(pictures)]
    options = {"seed": 5, "raster": "output"}
    expected = batch(
        client,
        "seed=5&raster=output",
        content=b"".join(picture.tobytes() for picture in pictures),
        headers=RAW,
    )
    assert [result["prediction"] for result in expected] == [3, 6, 4]
    for body in (
        {"json": {"images": [base64.b64encode(png(picture)).decode() for picture in pictures], **options}},
        {"json": {"images": [{"pixels": picture.tolist()} for picture in pictures], **options}},
        {"json": {"pixels": [picture.tolist() for picture in pictures], **options}},
    ):
        assert [same(result) for result in batch(client, "", **body)] == [same(result) for result in expected]
    named = batch(client, "", files=files, data=options)
    assert [result.pop("filename") for result in named] == ["0.png", "1.png", "2.png"]
    assert [same(result) for result in named] == [same(result) for result in expected]


def test_the_picture_of_a_batch_that_cannot_be_used_is_named(client: TestClient) -> None:
    blank = band(1).tobytes() * 130 + bytes(784) + band(1).tobytes()
    response = client.post("/classify/batch", content=blank, headers=RAW)
    assert response.status_code == 422
    assert response.json()["type"] == "/problems/blank-image" and response.json()["image"] == 130
    assert (
        response.json()["detail"] == "image 130: expected a picture with ink on it, got 784 pixels of value 0"
    )


BLANK = np.zeros((28, 28), np.uint8)
BATCHES: dict[str, dict[str, Any]] = {
    "pixels": {
        "content": b"".join(one.tobytes() for one in (BLANK, band(3), BLANK, band(6))),
        "headers": RAW,
    },
    "JSON": {
        "json": {
            "images": [
                7,
                base64.b64encode(png(band(3))).decode(),
                {"image": "%"},
                {"pixels": band(6).tolist()},
            ]
        }
    },
    "JSON, pixels alone": {"json": {"pixels": [[], band(3).tolist(), [[]] * 28, band(6).tolist()]}},
    "files": {
        "files": [
            ("images", ("empty.png", b"", "image/png")),
            ("images", ("three.png", png(band(3)), "image/png")),
            ("images", ("notes.txt", b"no picture", "text/plain")),
            ("images", ("six.png", png(band(6)))),
        ]
    },
    "urlencoded": {
        "data": {
            "images": [
                "%",
                base64.b64encode(png(band(3))).decode(),
                "aaaa",
                base64.b64encode(png(band(6))).decode(),
            ]
        }
    },
}


@pytest.mark.parametrize("how", BATCHES)
def test_a_batch_answers_for_the_others(client: TestClient, how: str) -> None:
    """Good ones get what they get otherwise; bad ones get what they would have been refused with."""
    response = client.post("/classify/batch?on_error=report&seed=40", **BATCHES[how])
    assert response.status_code == 200, response.text
    BatchResult.model_validate(response.json(), strict=True)
    results = response.json()["results"]
    names = ["empty.png", "three.png", "notes.txt", "six.png"] if how == "files" else [None] * 4
    assert [result.get("filename") for result in results] == names
    for number, digit in ((1, 3), (3, 6)):
        assert (results[number]["prediction"], results[number]["seed"]) == (digit, 40 + number)
        alone = classify(client, digit, f"seed={40 + number}")
        answer = {name: value for name, value in results[number].items() if name != "filename"}
        assert same(answer) == same(alone)
        assert client.get(f"/spikes/{answer['id']}").json()["answer"] == answer
    assert results[1]["id"] < results[3]["id"]
    for number in (0, 2):
        problem = results[number]
        assert problem["image"] == number and problem["type"].startswith("/problems/")
        assert problem["request_id"] == response.headers["x-request-id"]
        assert client.get(problem["type"]).json()["status"] == problem["status"]
    failed = client.post("/classify/batch?seed=40", **BATCHES[how])  # as without the option
    assert failed.status_code == results[0]["status"]
    assert {**failed.json(), "request_id": ""} == {**results[0], "request_id": ""}
    if how == "files":
        assert results[2]["detail"].startswith("image 2 ('notes.txt'): expected a PNG, ")


def test_a_batch_in_which_nothing_can_be_used(client: TestClient, logged: list[Any]) -> None:
    for body in ({"json": {"images": ["%"] * 3, "on_error": "report"}}, {"content": bytes(3 * 784)}):
        results = client.post("/classify/batch?on_error=report", **body).json()["results"]
        assert [result["image"] for result in results] == [0, 1, 2]
        assert (logged[-1]["status"], "images" in logged[-1]) == (200, False)


def test_a_large_batch_with_bad_pictures(client: TestClient) -> None:
    """More than one portion, each with some, and a portion of nothing else."""
    good = [number % 3 != 0 and number >= 260 for number in range(300)]
    body = b"".join(band(number % 10).tobytes() if good[number] else bytes(784) for number in range(300))
    results = client.post(
        "/classify/batch?on_error=report&seed=0&confidence=0.1", content=body, headers=RAW
    ).json()["results"]
    assert ["seed" in result for result in results] == good
    for number, result in enumerate(results):
        assert result["seed" if good[number] else "image"] == number
        if good[number]:
            assert result["spike_counts"]["layers"]["hidden"] == result["steps_used"]
            assert client.get(f"/spikes/{result['id']}").json()["pixels"] == band(number % 10).tolist()


def test_a_raster_limits_the_batch(client: TestClient) -> None:
    response = client.post("/classify/batch?raster=output", content=band(1).tobytes() * 6, headers=RAW)
    assert response.status_code == 413
    assert response.json()["expected"] == "at most 5 images with a raster"


def test_recent_requests(client: TestClient) -> None:
    answers = [classify(client, digit, f"{EXACT}&raster=output") for digit in range(10)]
    listed = client.get("/spikes?limit=4").json()
    RequestList.model_validate(listed, strict=True)
    assert [one["id"] for one in listed["requests"]] == [answer["id"] for answer in answers[:5:-1]]
    assert listed["next"].endswith(answers[6]["id"])
    following = client.get(f"/spikes?limit=4&before={listed['next']}").json()
    assert [one["prediction"] for one in following["requests"]] == [5, 4, 3, 2]
    newest = listed["requests"][0]
    assert {name: newest[name] for name in newest if name not in ("time", "model_version")} == {
        name: answers[9][name] for name in newest if name not in ("time", "model_version")
    }
    assert newest["time"].endswith("Z")


def test_one_recent_request_has_everything(client: TestClient) -> None:
    answer = classify(client, 3, f"{EXACT}&raster=all")
    stored = client.get(f"/spikes/{answer['id']}").json()
    StoredRequest.model_validate(stored, strict=True)
    del answer["raster"]  # no raster is stored: it is replayed
    assert stored["answer"] == answer
    assert stored["pixels"] == band(3).tolist()


def test_each_image_of_a_batch_is_remembered(client: TestClient) -> None:
    results = batch(client, "seed=1", content=band(1).tobytes() + band(2).tobytes(), headers=RAW)
    listed = client.get("/spikes?limit=2").json()["requests"]
    assert [one["id"] for one in listed] == [results[1]["id"], results[0]["id"]]
    assert client.get(f"/spikes/{results[0]['id']}").json()["answer"] == results[0]


def test_models(client: TestClient) -> None:
    document = client.get("/models").json()
    ModelList.model_validate(document, strict=True)
    assert document["default"] == "tiny"
    assert document["models"][1] == {
        "name": "tiny",
        "version": "1.2.3",
        "description": "A network that a test can work out by hand.",
        "engine": "onnxruntime",
        "max_steps": 4,
        "confidence": 0.9,
        "layers": ["input", "hidden", "output"],
    }


def test_one_model(client: TestClient) -> None:
    document = client.get("/models/other").json()
    ModelCard.model_validate(document, strict=True)
    assert document["engine"] == "onnxruntime"
    assert document["card"]["name"] == "other" and document["card"]["layers"][1]["shape"] == [10]


def test_health(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "alive"}
    ready = client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "models": [{"name": name, "version": "1.2.3", "engine": "onnxruntime"} for name in ("other", "tiny")],
        "refused_models": None,
        "records": {
            "status": "ok",
            "reason": None,
            "waiting": ready.json()["records"]["waiting"],
            "dropped": 0,
        },
    }


def test_not_ready_until_the_models_are_loaded(settings: Any) -> None:
    from spikehead.web.app import create_app

    unready = TestClient(create_app(settings))  # outside `with`: the application has not started
    assert unready.get("/health/live").status_code == 200
    for path in ("/health/ready", "/models", "/models/tiny"):
        assert unready.get(path).json()["type"] == "/problems/not-ready"
    response = unready.post("/classify", content=band(1).tobytes(), headers=RAW)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"


def test_kinds_of_problems_are_explained(client: TestClient) -> None:
    problem = client.post("/classify", content=b"", headers=PNG).json()
    about = client.get(problem["type"]).json()
    assert (about["type"], about["title"], about["status"]) == (
        problem["type"],
        problem["title"],
        problem["status"],
    )
    assert (about["cause"], about["remedy"]) == EXPLANATIONS["empty-body"]
    assert about["example"]["type"] == problem["type"]
    assert client.get("/problems/other").status_code == 404


def test_browsers_get_a_page_of_a_kind_of_problem(client: TestClient) -> None:
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    for kind, about in KINDS.items():
        response = client.get(type_of(kind), headers={"Accept": browser})
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["vary"] == "Accept"
        text = html.unescape(response.text)
        cause, remedy = EXPLANATIONS[kind]
        for words in (about.title, type_of(kind), str(about.status), cause, remedy, about.expected):
            assert words in text, words
        assert "$" not in text
        assert "<script" not in response.text and '<base href="../">' in response.text
    for accept in (
        "*/*",
        "application/json",
        "application/problem+json",
        "application/json, text/html;q=0.5",
    ):
        response = client.get("/problems/empty-body", headers={"Accept": accept})
        assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("left", ["", "/digits"])
def test_a_proxy_may_strip_the_root_path_or_leave_it(
    settings: Settings, left: str, logged: list[Any]
) -> None:
    root = settings.model_copy(update={"root_path": "/digits"})
    with TestClient(create_app(root)) as client:
        assert client.get(f"{left}/health/ready").json()["status"] == "ready"
        answer = client.post(f"{left}/classify", content=band(3).tobytes(), headers=RAW)
        assert answer.json()["prediction"] == 3
        assert client.get(f"{left}/spikes/{answer.json()['id']}").status_code == 200
        wrong = client.put(f"{left}/models")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")
        assert client.get(f"{left}/nowhere").json()["received"] == "'/nowhere'"
        assert client.get("/digitsx/models").status_code == 404
        assert client.get("/digits/digits/models").status_code == 404
        requests = [(entry["route"], entry["path"]) for entry in logged if entry["event"] == "request"]
        identifier = answer.json()["id"]
        assert requests[:3] == [
            ("/health/ready", "/health/ready"),
            ("/classify", "/classify"),
            ("/spikes/{id}", f"/spikes/{identifier}"),
        ]


def test_keys_are_asked_for_under_a_root_path_too(settings: Settings) -> None:
    locked = settings.model_copy(update={"root_path": "/digits", "api_keys": SecretStr("secret")})
    with TestClient(create_app(locked)) as client:
        for left in ("", "/digits"):
            assert client.get(f"{left}/health/ready").status_code == 200
            assert client.get(f"{left}/models").status_code == 401
            assert client.get(f"{left}/models", headers={"X-API-Key": "secret"}).status_code == 200


def test_every_response_has_a_request_id(client: TestClient) -> None:
    first, second = client.get("/health/live"), client.get("/health/live")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    given = client.get("/nowhere", headers={"X-Request-ID": "order-66.a_b"})
    assert given.headers["x-request-id"] == given.json()["request_id"] == "order-66.a_b"
    for unusable in ("a b", "x" * 129, "a/b", ""):
        response = client.get("/nowhere", headers={"X-Request-ID": unusable})
        assert response.headers["x-request-id"] == response.json()["request_id"] != unusable


def lines_of(logged: list[Any], identifier: str) -> list[dict[str, Any]]:
    """Lines of the log in which an id stands."""
    return [line for line in logged if line["event"] == "request" and identifier in map(str, line.values())]


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("query", ["", "record=no", "record=required"])
def test_an_answer_its_record_and_the_log_have_one_id(
    client: TestClient, logged: list[Any], accept: str, query: str
) -> None:
    response = client.post(f"/classify?{query}", content=band(1).tobytes(), headers=RAW | {"Accept": accept})
    answer = json.loads(response.text.rpartition("data: ")[2])
    assert response.headers["x-request-id"] == answer["id"]
    (line,) = lines_of(logged, answer["id"])
    assert line["id"] == line["record"] == answer["id"] and "last_record" not in line
    assert client.get(f"/spikes/{line['id']}").status_code == (404 if query == "record=no" else 200)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_an_id_of_the_clients_and_that_of_the_record_lead_to_each_other(
    client: TestClient, logged: list[Any], accept: str
) -> None:
    headers = RAW | {"Accept": accept, "X-Request-ID": "order-66"}
    response = client.post("/classify", content=band(1).tobytes(), headers=headers)
    answer = json.loads(response.text.rpartition("data: ")[2])
    assert response.headers["x-request-id"] == "order-66" != answer["id"]
    (line,) = lines_of(logged, answer["id"])
    assert (line["id"], line["record"]) == ("order-66", answer["id"])


def test_a_batch_is_named_by_its_first_record(client: TestClient, logged: list[Any]) -> None:
    response = client.post("/classify/batch", content=band(1).tobytes() * 300, headers=RAW)
    ids = [answer["id"] for answer in response.json()["results"]]
    assert response.headers["x-request-id"] == ids[0] and ids == sorted(ids)
    (line,) = lines_of(logged, ids[0])
    assert (line["id"], line["record"], line["last_record"]) == (ids[0], ids[0], ids[-1])


def test_a_problem_has_the_id_of_its_line(client: TestClient, logged: list[Any]) -> None:
    problem = client.post("/classify", content=bytes(784), headers=RAW)
    (line,) = lines_of(logged, problem.json()["request_id"])
    assert line["id"] == problem.headers["x-request-id"] and "record" not in line


def test_head_answers_like_get_without_a_body(client: TestClient) -> None:
    for path in ("/health/ready", "/", "/models"):
        head, get = client.head(path), client.get(path)
        assert head.status_code == 200 and head.content == b""
        assert head.headers["content-length"] == str(len(get.content))


def test_answers_are_compact_json_that_keeps_numbers(client: TestClient) -> None:
    response = client.post(f"/classify?seed={2**64 - 1}", content=band(1).tobytes(), headers=RAW)
    assert b'"seed":18446744073709551615,' in response.content
    assert json.loads(response.content)["seed"] == 2**64 - 1


@pytest.mark.parametrize(
    "query", ["", "raster=", "raster=output&seed=0&max_steps=1&confidence=0.1&encoder=regular&model=tiny"]
)
def test_queries_that_are_fine(client: TestClient, query: str) -> None:
    assert classify(client, 8, query)["prediction"] == 8
