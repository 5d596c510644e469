"""API keys and rates, through the whole application."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from spikehead.server.worker import config_of
from spikehead.settings import Settings
from spikehead.web.app import create_app
from spikehead.web.guard.access import Keys
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from tests.service.conftest import band

RAW = {"Content-Type": "application/octet-stream"}


@contextmanager
def asking(models: Path, folder: Path, **settings: Any) -> Iterator[TestClient]:
    known = Settings(
        database_url=f"sqlite:///{folder}/records.db", models=models, default_model="tiny", **settings
    )
    with TestClient(create_app(known)) as client:
        yield client


def basic(key: str, name: str = "anyone") -> str:
    return "Basic " + base64.b64encode(f"{name}:{key}".encode()).decode()


@pytest.fixture
def locked(models_folder: Path, tmp_path: Path) -> Iterator[TestClient]:
    with asking(models_folder, tmp_path, api_keys="first-key, second:key ,") as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer first-key"},
        {"Authorization": "bearer  second:key "},
        {"X-API-Key": "first-key"},
        {"Authorization": basic("first-key")},
        {"Authorization": basic("second:key", "")},
        {"Authorization": basic("of-a-proxy"), "X-API-Key": "first-key"},
        {"Authorization": "Bearer first-key", "X-API-Key": "something else"},
    ],
)
def test_a_key_opens_everything(locked: TestClient, headers: dict[str, str]) -> None:
    for path in ("/", "/docs", "/models", "/spikes", "/metrics", "/openapi.json", "/health/ready"):
        assert locked.get(path, headers=headers).status_code == 200, path
    answer = locked.post("/classify", content=band(4).tobytes(), headers=headers | RAW)
    assert answer.json()["prediction"] == 4


@pytest.mark.parametrize(
    ("headers", "received"),
    [
        ({}, "none"),
        ({"Authorization": "Bearer third"}, "one that is not valid"),
        ({"Authorization": "Bearer "}, "one that is not valid"),
        ({"Authorization": "Bearer first-key,second:key"}, "one that is not valid"),
        ({"Authorization": "Basic !!!"}, "one that is not valid"),
        ({"Authorization": basic("")}, "one that is not valid"),
        ({"Authorization": "Digest first-key"}, "none"),
        ({"X-API-Key": ""}, "one that is not valid"),
        ({"X-API-Key": "first-keY"}, "one that is not valid"),
        ({"Cookie": "key=first-key"}, "none"),
    ],
)
def test_without_one_only_health_is_open(locked: TestClient, headers: dict[str, str], received: str) -> None:
    for path in ("/health/live", "/health/ready"):
        assert locked.get(path, headers=headers).status_code == 200
    for method, path in (
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
        ("GET", "/health"),
        ("POST", "/classify"),
        ("DELETE", "/spikes?until=2030-01-01"),
    ):
        response = locked.request(method, path, headers=headers | RAW, content=band(1).tobytes())
        assert response.status_code == 401, path
        assert response.json()["received"] == received
        assert response.headers["www-authenticate"].startswith("Bearer ")
        assert "Basic realm=" in response.headers["www-authenticate"]
        assert response.headers["x-request-id"] == response.json()["request_id"]


def test_health_tells_no_reasons_to_who_has_no_key(locked: TestClient, models_folder: Path) -> None:
    """They name files and hosts."""
    locked.app.state.service.refused_models = "expected a model card at /secret/place"  # type: ignore[attr-defined]
    ready = locked.get("/health/ready")
    assert ready.json()["status"] == "degraded" and ready.json()["refused_models"] == "the log says why"
    assert "secret" not in ready.text


def test_refusals_are_counted(locked: TestClient) -> None:
    locked.get("/models")
    text = locked.get("/metrics", headers={"X-API-Key": "first-key"}).text
    assert 'spikehead_refused_total{reason="unauthorized"} 1.0' in text
    assert 'spikehead_requests_total{method="GET",route="other",status="401"} 1.0' in text


def test_the_document_says_that_keys_are_needed(locked: TestClient) -> None:
    document = locked.get("/openapi.json", headers={"X-API-Key": "first-key"}).json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header", "basic"}
    assert {name for one in document["security"] for name in one} == {"bearer", "header", "basic"}
    assert document["paths"]["/health/live"]["get"]["security"] == []
    assert "security" not in document["paths"]["/classify"]["post"]


def test_every_key_is_compared() -> None:
    keys = Keys(["a", "b", "c"])
    assert [keys.knows(key) for key in (b"a", b"b", b"c", b"d", b"", b"ab")] == [True] * 3 + [False] * 3


def test_a_rate_by_address(models_folder: Path, tmp_path: Path) -> None:
    with asking(models_folder, tmp_path, rate_limit="3/minute") as client:
        statuses = [client.get("/models", headers={"X-API-Key": str(i)}).status_code for i in range(5)]
        assert statuses == [200, 200, 200, 429, 429]  # keys that nobody checks are no clients
        refusal = client.get("/models")
        assert refusal.json()["type"] == "/problems/rate-limited"
        assert refusal.json()["expected"] == "at most 3 per 1 minute"
        assert 1 <= int(refusal.headers["retry-after"]) <= 60
        assert client.get("/health/ready").status_code == 200  # health is never refused


def test_a_rate_by_key(models_folder: Path, tmp_path: Path) -> None:
    with asking(models_folder, tmp_path, rate_limit="2/minute", api_keys="a,b") as client:

        def statuses(key: str) -> list[int]:
            return [client.get("/models", headers={"X-API-Key": key}).status_code for _ in range(3)]

        assert statuses("a") == [200, 200, 429]
        assert statuses("b") == [200, 200, 429]
        assert statuses("c") == [401, 401, 429]  # who guesses
        assert [client.get("/metrics", headers={"X-API-Key": "a"}).status_code for _ in range(4)] == [200] * 4
        assert client.get("/metrics", headers={"X-API-Key": "c"}).status_code == 429


def test_other_pages_may_ask_only_where_they_were_named(models_folder: Path, tmp_path: Path) -> None:
    wish = {
        "Origin": "https://lab.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key",
    }
    with asking(models_folder, tmp_path) as client:
        assert client.options("/classify", headers=wish).status_code == 405
        assert "access-control-allow-origin" not in client.get("/models", headers=wish).headers
    with asking(
        models_folder, tmp_path, cors_origins="https://lab.example, https://b.example", api_keys="k"
    ) as client:
        allowed = client.options("/classify", headers=wish)  # a browser asks without a key
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://lab.example"
        answer = client.get("/models", headers={"X-API-Key": "k", "Origin": "https://b.example"})
        assert answer.headers["access-control-allow-origin"] == "https://b.example"
        assert (
            client.options("/classify", headers=wish | {"Origin": "https://evil.example"}).status_code == 400
        )


def test_other_pages_may_be_named_by_the_end_of_their_host(models_folder: Path, tmp_path: Path) -> None:
    with asking(models_folder, tmp_path, cors_origins="https://*.lab.example,https://b.example") as client:

        def allowed(origin: str) -> str | None:
            wish = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            asked = client.options("/classify", headers=wish).headers.get("access-control-allow-origin")
            assert asked == client.get("/models", headers=wish).headers.get("access-control-allow-origin")
            return asked

        for origin in ("https://a.lab.example", "https://a.b.lab.example", "https://b.example"):
            assert allowed(origin) == origin
        for origin in ("https://lab.example", "https://evil-lab.example", "https://a.b.example"):
            assert allowed(origin) is None


@pytest.mark.parametrize(
    ("trusted", "address"), [("", "127.0.0.1"), ("127.0.0.1", "10.0.0.9"), ("10.0.0.0/8", "127.0.0.1")]
)
def test_who_asks_is_said_by_trusted_proxies_alone(
    models_folder: Path, tmp_path: Path, trusted: str, address: str
) -> None:
    settings = Settings(
        models=models_folder,
        default_model="tiny",
        database_url=f"sqlite:///{tmp_path}/records.db",
        trusted_proxies=trusted,
    )
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"][0])

    config = config_of(settings, create_app(settings))
    config.load()
    outermost = config.loaded_app
    proxied = (
        ProxyHeadersMiddleware(cast(Any, app), settings.trusted_proxies) if config.proxy_headers else app
    )
    assert isinstance(outermost, ProxyHeadersMiddleware) == config.proxy_headers
    scope = {
        "type": "http",
        "client": ("127.0.0.1", 1),
        "headers": [(b"x-forwarded-for", b"10.0.0.9")],
        "scheme": "http",
    }
    asyncio.run(proxied(scope, None, None))  # type: ignore[arg-type]
    assert seen == [address]
