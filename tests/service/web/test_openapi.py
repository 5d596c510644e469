"""The OpenAPI document: complete, with examples that are true."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from spikehead.errors import KINDS, MEDIA_TYPE
from spikehead.inference.options import BATCH_OPTION_NAMES, OPTION_NAMES
from spikehead.pictures.normalise import prepare
from spikehead.pictures.pixels import from_pixels
from spikehead.settings import Settings
from spikehead.web.app import create_app
from spikehead.web.documents import examples, openapi, schemas

from tests.service.conftest import band
from tests.service.picture_files import png

URLENCODED = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    return client.get("/openapi.json").json()  # type: ignore[no-any-return]


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_routes(document: dict[str, Any]) -> None:
    assert [name for name, _ in operations(document)] == [
        "POST /classify",
        "POST /classify/batch",
        "GET /spikes",
        "DELETE /spikes",
        "GET /spikes/statistics",
        "GET /spikes/{id}",
        "DELETE /spikes/{id}",
        "GET /spikes/{id}/figure",
        "GET /models",
        "GET /models/{name}",
        "GET /health/live",
        "GET /health/ready",
        "GET /metrics",
        "GET /problems/{kind}",
    ]


def test_every_body_and_answer_has_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        bodies = [operation.get("requestBody", {"content": {}}), *operation["responses"].values()]
        for body in bodies:
            for media_type, content in body.get("content", {}).items():
                assert "example" in content or content.get("examples"), (name, media_type)


def test_every_kind_of_problem_is_documented_somewhere(document: dict[str, Any]) -> None:
    found: set[str] = set()
    for _, operation in operations(document):
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                if media_type != MEDIA_TYPE:
                    continue
                for kind, example in content["examples"].items():
                    assert KINDS[kind].status == int(status) == example["value"]["status"]
                    schemas.ProblemDocument.model_validate(example["value"], strict=True)
                    found.add(kind)
    assert found == set(KINDS) - {"method-not-allowed"}  # that one belongs to no method


def test_options_are_the_ones_that_are_parsed(document: dict[str, Any]) -> None:
    for path, names in (("/classify", OPTION_NAMES), ("/classify/batch", BATCH_OPTION_NAMES)):
        operation = document["paths"][path]["post"]
        assert tuple(parameter["name"] for parameter in operation["parameters"]) == names
        content = operation["requestBody"]["content"]
        forms = [content[f"{kind}"]["schema"] for kind in ("multipart/form-data", URLENCODED)]
        for schema in [*content["application/json"]["schema"]["oneOf"], *forms]:
            assert tuple(list(schema["properties"])[1:]) == names


def test_no_reference_leads_nowhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    found = set(references(document))
    assert "#/components/schemas/ProblemDocument" in found
    for reference in found:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (schemas.Classification, examples.CLASSIFICATION),
        (schemas.BatchResult, examples.BATCH),
        (schemas.RequestList, examples.REQUESTS),
        (schemas.StoredRequest, examples.STORED),
        (schemas.ModelList, examples.MODELS),
        (schemas.ModelCard, examples.MODEL_CARD),
        (schemas.Ready, examples.READY),
        (schemas.Live, examples.LIVE),
    ],
)
def test_examples_of_answers_fit_their_schemas(model: type[Any], example: Any) -> None:
    model.model_validate(example, strict=True)


def test_example_of_an_answer_has_the_fields_of_a_real_one(client: TestClient) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    answer = client.post("/classify?raster=output", content=band(1).tobytes(), headers=headers).json()
    assert list(answer) == list(examples.CLASSIFICATION)
    for name in ("spike_counts", "timings_ms", "synaptic_operations_by_kind"):
        assert list(answer[name]) == list(examples.CLASSIFICATION[name])


def test_example_bodies_are_accepted(client: TestClient, document: dict[str, Any]) -> None:
    for path in ("/classify", "/classify/batch"):
        examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        for example in examples.values():
            response = client.post(path, json=example["value"])
            assert response.status_code == 200, response.text
        content = document["paths"][path]["post"]["requestBody"]["content"]
        response = client.post(path, data=content[URLENCODED]["example"])
        assert response.status_code == 200, response.text


def test_example_picture_is_the_example_pixels() -> None:
    data = base64.b64decode(examples.PNG_BASE64)
    assert (np.asarray(Image.open(io.BytesIO(data))) == from_pixels(examples.PIXELS)).all()
    assert (prepare(data, max_pixels=784) == from_pixels(examples.PIXELS)).all()


def test_problem_lists_name_known_kinds() -> None:
    assert set(openapi.CLASSIFY_PROBLEMS) | set(openapi.BATCH_PROBLEMS) <= set(KINDS)


def test_documented_statuses_are_the_ones_that_come(client: TestClient, document: dict[str, Any]) -> None:
    responses = document["paths"]["/classify"]["post"]["responses"]
    for content_type, data in (
        ("image/png", b""),
        ("text/x", b"x"),
        ("image/png", b"x"),
        ("image/png", bytes(70_000)),
    ):
        status = client.post("/classify", content=data, headers={"Content-Type": content_type}).status_code
        assert str(status) in responses
    assert (
        client.post("/classify", content=png(band(5)), headers={"Content-Type": "image/png"}).status_code
        == 200
    )


def test_servers_are_named_under_a_root_path(settings: Settings, document: dict[str, Any]) -> None:
    assert "servers" not in document
    with TestClient(create_app(settings.model_copy(update={"root_path": "/digits"}))) as client:
        for path in ("/openapi.json", "/digits/openapi.json"):
            assert client.get(path).json() == document | {"servers": [{"url": "/digits"}]}


def test_optional_options_of_a_query_may_be_empty(client: TestClient) -> None:
    """As pages' forms send them; what has to be given has not."""
    paths = client.get("/openapi.json").json()["paths"]
    empty = {"type": "string", "maxLength": 0}
    recent = {one["name"]: one["schema"] for one in paths["/spikes"]["get"]["parameters"]}
    assert empty in recent["until"]["anyOf"] and empty in recent["model"]["anyOf"]
    (until,) = paths["/spikes"]["delete"]["parameters"]
    assert empty not in until["schema"].get("anyOf", [])
    assert client.get("/spikes?until=&model=").status_code == 200
    assert client.delete("/spikes?until=").status_code == 422
