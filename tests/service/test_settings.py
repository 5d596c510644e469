"""Settings: from the environment, frozen, each with a description."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import PREFIX, Settings, default_models, load_settings


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
        ("LOG_LEVEL", ""),
        ("API_KEYS", " , "),
        ("RATE_LIMIT", "0/second"),
        ("RATE_LIMIT", "often"),
        ("CORS_ORIGINS", "app.example"),
        ("TRUSTED_PROXIES", "proxy"),
        ("TRUSTED_PROXIES", "10.0.0.0/99"),
        ("CORS_ORIGINS", "https://a.example,https://b.example/"),
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
