"""The service does what its OpenAPI document says: requests made from the document, answers held against it."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from spikehead.inference.models import load_models
from spikehead.settings import Settings
from spikehead.web.app import create_app

from tests.service.conftest import band

OPERATIONS = [
    ("POST", "/classify"),
    ("POST", "/classify/batch"),
    ("GET", "/spikes"),
    ("DELETE", "/spikes"),
    ("GET", "/spikes/statistics"),
    ("GET", "/spikes/{id}"),
    ("DELETE", "/spikes/{id}"),
    ("GET", "/spikes/{id}/figure"),
    ("GET", "/models"),
    ("GET", "/models/{name}"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/problems/{kind}"),
]


@pytest.fixture(scope="module")
def document(settings: Settings) -> Any:
    # an app of its own: schemathesis starts and stops it around its requests
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(settings, load_models(settings)))


def test_no_operation_is_left_out(document: Any) -> None:
    found = [operation.ok() for operation in document.get_all_operations()]
    assert [(operation.method.upper(), operation.path) for operation in found] == OPERATIONS


CASES = [(*operation, GenerationMode.POSITIVE) for operation in OPERATIONS]
CASES += [(*operation, GenerationMode.NEGATIVE) for operation in OPERATIONS[:3]]  # those with query or body


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_document(document: Any, method: str, path: str, mode: GenerationMode) -> None:
    operation = document[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @examples(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(case: schemathesis.Case[Any]) -> None:
        # A schema cannot say which bytes are a picture of a digit, nor how many steps the model has.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    check()


def test_successful_answers(document: Any) -> None:
    """Generated bodies are hardly ever pictures, so these are: what they lead to is held against the document."""
    raw = {"media_type": "application/octet-stream", "body": band(4).tobytes()}
    for query in ({}, {"raster": "all", "max_steps": 2, "confidence": 1, "seed": 2**64 - 1}):
        for path in ("/classify", "/classify/batch"):
            response = document[path]["POST"].Case(query=query, **raw).call_and_validate()
            assert response.status_code == 200
    for path in ("/classify", "/classify/batch"):
        content = document.raw_schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for example in content["examples"].values():
            case = document[path]["POST"].Case(media_type="application/json", body=example["value"])
            assert case.call_and_validate().status_code == 200
    page = document["/spikes"]["GET"].Case(query={"limit": 1}).call_and_validate()
    assert page.json()["next"] is not None
    known = {"id": page.json()["requests"][0]["id"]}
    stored = document["/spikes/{id}"]["GET"].Case(path_parameters=known).call_and_validate()
    assert stored.json()["answer"]["id"] == known["id"]
    for name in ("tiny", "other"):
        model = document["/models/{name}"]["GET"].Case(path_parameters={"name": name}).call_and_validate()
        assert model.json()["card"]["name"] == name
