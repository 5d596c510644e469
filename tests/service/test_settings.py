"""Settings: from the environment, frozen, each with a description."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from spikehead.settings import (
    OWN_PATHS,
    PREFIX,
    Settings,
    default_models,
    is_set_by_kubernetes,
    load_settings,
    origin_pattern,
)
from spikehead.web.app import create_app


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEHEAD_PORT", "9001")
    monkeypatch.setenv("SPIKEHEAD_MODELS", "/some/where")
    monkeypatch.setenv("SPIKEHEAD_DEFAULT_MODEL", "glm")
    settings = load_settings()
    assert (settings.port, settings.models, settings.default_model) == (9001, Path("/some/where"), "glm")


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    settings = load_settings()
    assert settings.host == "127.0.0.1" and settings.port == 8000
    assert settings.max_body == 1024**2 and settings.max_batch_body == 16 * 1024**2
    assert settings.models == default_models() == Path(__file__).resolve().parents[2] / "models"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "abc"),
        ("PORT", "70000"),
        ("ENGINE", "quantum"),
        ("MAX_BODY", "0"),
        ("LOG_LEVEL", "loud"),
        ("PORT", "tcp:8000"),
        ("ROOT_PATH", "digits"),
        ("ROOT_PATH", "/digits/../x"),
        ("ROOT_PATH", "/digits?x"),
        ("ROOT_PATH", "https://a.example/digits"),
        ("ROOT_PATH", "/spikes"),
        ("API_KEYS", " , "),
        ("RATE_LIMIT", "0/second"),
        ("RATE_LIMIT", "often"),
        ("CORS_ORIGINS", "app.example"),
        ("TRUSTED_PROXIES", "proxy"),
        ("TRUSTED_PROXIES", "10.0.0.0/99"),
        ("CORS_ORIGINS", "https://a.example,https://b.example/"),
        ("CORS_ORIGINS", "https://*"),
        ("CORS_ORIGINS", "https://*example.com"),
        ("CORS_ORIGINS", "https://a.*.example.com"),
        ("CORS_ORIGINS", "*://a.example.com"),
        ("CORS_ORIGINS", "https://a.example:*"),
    ],
)
def test_wrong_values_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        load_settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_an_empty_variable_counts_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    defaults = load_settings()
    for name in Settings.model_fields:
        monkeypatch.setenv(PREFIX + name.upper(), "")
    assert load_settings() == defaults


@pytest.mark.parametrize("value", ["tcp://10.0.0.1:8000", "udp://[fd00::1]:53", "sctp://10.0.0.1:1"])
def test_what_kubernetes_sets_for_a_service_is_no_port(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SPIKEHEAD_PORT", value)
    assert load_settings().port == 8000


@pytest.mark.parametrize(
    ("name", "value", "kubernetes"),
    [
        ("SPIKEHEAD_SERVICE_HOST", "10.0.0.1", True),
        ("SPIKEHEAD_SERVICE_PORT", "8000", True),
        ("SPIKEHEAD_SERVICE_PORT_HTTP", "8000", True),
        ("SPIKEHEAD_PORT", "tcp://10.0.0.1:8000", True),
        ("SPIKEHEAD_PORT_8000_TCP", "tcp://10.0.0.1:8000", True),
        ("SPIKEHEAD_PORT_8000_TCP_PROTO", "tcp", True),
        ("SPIKEHEAD_PORT_8000_TCP_PORT", "8000", True),
        ("SPIKEHEAD_PORT_8000_TCP_ADDR", "10.0.0.1", True),
        ("SPIKEHEAD_POSTGRES_SERVICE_HOST", "10.0.0.2", True),
        ("SPIKEHEAD_POSTGRES_PORT", "tcp://10.0.0.2:5432", True),
        ("SPIKEHEAD_POSTGRES_PORT_5432_TCP_ADDR", "10.0.0.2", True),
        ("SPIKEHEAD_PORT", "8000", False),
        ("SPIKEHEAD_HTTP_PORT", "8000", False),
        ("SPIKEHEAD_PORTS", "8000", False),
        ("SPIKEHEAD_SERVICE", "8000", False),
    ],
)
def test_variables_of_kubernetes(name: str, value: str, kubernetes: bool) -> None:
    assert is_set_by_kubernetes(name, value) == kubernetes


@pytest.mark.parametrize(
    ("value", "path"), [("/digits", "/digits"), ("/a/b-c_d.~/", "/a/b-c_d.~"), ("/", ""), ("", "")]
)
def test_root_paths(value: str, path: str) -> None:
    assert Settings(root_path=value).root_path == path


def test_a_root_path_is_none_of_the_services_own() -> None:
    own = {path.split("/")[1].split("{")[0] for path in create_app(Settings()).openapi()["paths"]}
    assert own | {"docs", "page", "openapi.json"} <= OWN_PATHS


@pytest.mark.parametrize(
    ("origin", "matched"),
    [
        ("https://a.app.example", True),
        ("https://a.b.app.example", True),
        ("https://app.example", False),
        ("https://.app.example", False),
        ("https://evilapp.example", False),
        ("https://a.app.example.evil", False),
        ("https://a.appxexample", False),
        ("http://a.app.example", False),
        ("https://a.app.example:8443", False),
        ("http://b.dev.example:3000", True),
        ("http://b.dev.example", False),
        ("https://one.example", False),  # among those without a star
    ],
)
def test_a_star_in_an_origin_stands_for_whole_labels(origin: str, matched: bool) -> None:
    settings = Settings(cors_origins="https://*.App.Example,https://one.example, http://*.dev.example:3000")
    pattern = origin_pattern(settings.cors_origins)
    assert pattern is not None
    assert bool(re.fullmatch(pattern, origin)) == matched


def test_origins_without_a_star_need_no_pattern() -> None:
    assert origin_pattern("*") is origin_pattern("https://one.example") is origin_pattern("") is None
