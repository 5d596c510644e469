"""Settings of the service: one frozen object, read from the environment by `load_settings`."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

EngineName = Literal["auto", "native", "onnxruntime"]
Simd = Literal["auto", "avx512", "avx2", "baseline"]

PREFIX = "SPIKEHEAD_"
FLUSH_SHARE = 0.3


def default_models() -> Path:
    """Find the models in an installed package, else beside a checkout's package, else use ./models."""
    package = Path(__file__).resolve().parent
    found = [folder for folder in (package / "models", package.parents[1] / "models") if folder.is_dir()]
    return found[0] if found else Path("models")


class Settings(BaseSettings):
    """All settings, with defaults. A setting's environment variable is SPIKEHEAD_ and its name in capitals; an empty
    variable counts as not set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", allow_inf_nan=False
    )

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address to listen on: `::` for every address of IPv6 and IPv4, `unix:/PATH` for a unix socket",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    root_path: str = Field(
        default="",
        description="path under which a proxy serves the service, such as `/digits`; the proxy may strip it or not",
    )
    models: Path = Field(
        default_factory=default_models,
        description="folder with one folder for each model (default: the models that come with the service)",
    )
    default_model: str = Field(
        default="spiking-mha", description="model that answers if a request names none"
    )
    engine: EngineName = Field(
        default="auto",
        description="engine that simulates: `native`, `onnxruntime`, or `auto` for the fastest one installed",
    )
    simd: Simd = Field(
        default="auto",
        description="instruction set of the native engine: `avx512`, `avx2`, `baseline`, or `auto` for the best one",
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=256,
        description="threads that onnxruntime uses for one time step; the native engine always uses one",
    )
    max_body: int = Field(
        default=1024 * 1024, ge=1024, description="largest body of `POST /classify`, in bytes"
    )
    max_batch_body: int = Field(
        default=16 * 1024 * 1024, ge=1024, description="largest body of `POST /classify/batch`, in bytes"
    )
    max_batch_images: int = Field(default=10_000, ge=1, description="most images in one batch")
    max_raster_images: int = Field(
        default=50, ge=1, description="most images in one batch that asks for a raster"
    )
    max_pixels: int = Field(
        default=16_000_000, ge=784, description="most pixels (width times height) of a picture"
    )
    workers: int = Field(default=1, ge=1, le=256, description="worker processes")
    max_concurrency: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="requests that a worker processes at the same time; 0: four for each core",
    )
    max_queue: int = Field(
        default=64, ge=0, description="requests that may wait in a worker; more are refused with 429"
    )
    timeout: float = Field(
        default=30.0,
        gt=0,
        description="seconds from a request's head to its answer; after that, the answer is 503",
    )
    client_timeout: float = Field(
        default=10.0,
        gt=0,
        description="seconds that a client has to send a head or a body, or to take an answer; then it is disconnected",
    )
    start_timeout: float = Field(
        default=60.0,
        ge=1,
        description="seconds in which a worker that is starting has to show that it lives; after that, it is replaced",
    )
    keep_alive: int = Field(
        default=75,
        ge=1,
        le=86_400,
        description="seconds that a connection may be idle; longer than the limit of a proxy in front, usually 60",
    )
    shutdown_grace: float = Field(
        default=9.0, ge=1, description="most seconds from SIGTERM to the end; requests in flight are finished"
    )
    drain: float = Field(
        default=4.0,
        ge=0,
        description="seconds of the grace in which requests are still accepted while `/health/ready` says 503; "
        "if not set, at most half of the grace",
    )
    api_keys: SecretStr = Field(
        default=SecretStr(""),
        description="keys, separated by commas; if set, every route but `/health/...` asks for one of them",
    )
    rate_limit: str = Field(
        default="",
        description="requests allowed to each key, or without keys to each address, in a worker, "
        "such as `100/second`; empty: no limit",
    )
    cors_origins: str = Field(
        default="",
        description="origins of other pages that may call the service, separated by commas, "
        "such as `https://app.example` or `https://*.app.example`; `*`: all; empty: none",
    )
    reload_seconds: float = Field(
        default=5.0, ge=0, description="seconds between two checks of the folder of models; 0: only on SIGHUP"
    )
    trusted_proxies: str = Field(
        default="",
        description="addresses or networks of proxies whose `X-Forwarded-For` names the client, separated by commas",
    )
    traces: bool = Field(
        default=False, description="send OpenTelemetry traces, as the OTEL_... variables say (extra `traces`)"
    )
    record: str = Field(
        default="all",
        description="which requests are stored: `all`, `off`, or a random share such as `sample:0.01`",
    )
    database_url: str = Field(
        default="sqlite:///spikehead.db",
        min_length=1,
        description="database of the records: `sqlite:///FILE`, or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`",
    )
    record_queue: int = Field(
        default=10_000,
        ge=1,
        description="most records that may wait to be written; more are dropped and counted",
    )
    retention: int = Field(
        default=1_000_000,
        ge=0,
        le=10**12,
        description="about how many records are kept: older ones are deleted every minute; 0: no limit",
    )
    retention_days: float = Field(
        default=30.0, ge=0, le=36_500, description="days after which a record is deleted; 0: never"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest level that is logged: `debug`, `info`, `warning` or `error`"
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="`console` for people, `json` for machines: one line for each event"
    )

    @property
    def simulation(self) -> tuple[EngineName, Simd, int]:
        """Engine, instruction set and threads, as `load_engine` takes them."""
        return self.engine, self.simd, self.threads

    @property
    def keys(self) -> list[str]:
        """Return the valid API keys; if there are none, no key is needed."""
        return listed(self.api_keys.get_secret_value())

    @property
    def drain_seconds(self) -> float:
        """Return the seconds of the grace in which requests are still accepted; the default shrinks with the grace."""
        return self.drain if "drain" in self.model_fields_set else min(self.drain, self.shutdown_grace / 2)

    @property
    def flush_seconds(self) -> float:
        """Return the seconds of the grace that are kept for writing records, after requests are finished."""
        return FLUSH_SHARE * self.shutdown_grace

    @field_validator("port", mode="before")
    @classmethod
    def _port_is_no_link(cls, value: object) -> object:
        """Use the default instead of the value that Kubernetes sets for a Service named `spikehead`."""
        return cls.model_fields["port"].default if is_service_link(value) else value

    @field_validator("host")
    @classmethod
    def _socket_has_a_whole_path(cls, value: str) -> str:
        if value.startswith("unix:") and (not value.startswith("unix:/") or value.endswith("/")):
            raise ValueError("expected the absolute path of a unix socket, as in unix:/run/spikehead/http")
        return value

    @field_validator("root_path")
    @classmethod
    def _root_is_a_path_of_its_own(cls, value: str) -> str:
        path = value.rstrip("/")
        if path and not _ROOT_PATH.fullmatch(path):
            raise ValueError("expected a path such as /digits, of letters, digits and . _ ~ -")
        first = path.split("/")[1] if path else ""
        if first in OWN_PATHS:
            raise ValueError(
                f"expected a path that does not begin with /{first}, which the service uses itself"
            )
        return path

    @field_validator("record")
    @classmethod
    def _record_is_known(cls, value: str) -> str:
        if not re.fullmatch(r"all|off|sample:(0(\.\d+)?|1(\.0+)?)", value):
            raise ValueError("expected all, off, or a share from 0 to 1 such as sample:0.01")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _limits_are_readable(cls, value: str) -> str:
        if value:
            # imported here, because most services set no limit
            from limits import parse_many

            try:
                limits = parse_many(value)
            except ValueError as error:
                raise ValueError("expected a limit such as 100/second or 5000/minute") from error
            if any(limit.amount < 1 for limit in limits):
                raise ValueError("expected at least 1 request, as in 1/second")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_addresses(cls, value: str) -> str:
        return _all(value, _is_network, "expected addresses or networks such as 10.0.0.1 or 10.0.0.0/8")

    @field_validator("api_keys")
    @classmethod
    def _keys_are_some(cls, value: SecretStr) -> SecretStr:
        given = value.get_secret_value()
        # a template that has lost its keys must not open the service
        if given and not listed(given):
            raise ValueError("expected keys separated by commas, got no key")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: str) -> str:
        expected = (
            "expected origins such as https://app.example, http://localhost:3000 or https://*.app.example, without "
            "a path; * allows all origins, or stands for the first labels of a host name"
        )
        # browsers send origins in lower case
        return _all(value.lower(), _ORIGIN.fullmatch, expected)

    @model_validator(mode="after")
    def _grace_is_longer_than_the_drain(self) -> Settings:
        if self.drain_seconds >= self.shutdown_grace:
            raise ValueError(
                f"expected SPIKEHEAD_DRAIN below SPIKEHEAD_SHUTDOWN_GRACE ({self.shutdown_grace}), got {self.drain}"
            )
        return self


OWN_PATHS = {
    "classify", "docs", "health", "metrics", "models", "openapi.json", "page", "problems", "read", "spikes", "v2",
}  # fmt: skip
"""First parts of the service's own paths. As a root path, they would make paths ambiguous."""

_ROOT_PATH = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)+")
_LINK = re.compile(r"(tcp|udp|sctp)://\S+")
_LINKS = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)"
)
_ORIGIN = re.compile(r"\*|https?://(\*\.)?([a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(:\d{1,5})?")


def is_service_link(value: object) -> bool:
    """Tell if Kubernetes set this value in a variable `<SERVICE>_PORT`, such as tcp://10.0.0.1:8000."""
    return isinstance(value, str) and _LINK.fullmatch(value) is not None


def is_set_by_kubernetes(name: str, value: str) -> bool:
    """Tell if Kubernetes sets this variable in a pod for a Service named `spikehead...`. Source: Kubernetes'
    documentation, Service, "Environment variables"."""
    return _LINKS.fullmatch(name) is not None or (name.endswith("_PORT") and is_service_link(value))


def origin_pattern(origins: str) -> str | None:
    """Return a regular expression for the origins that have a star, or None if there are none. The star stands for
    one or more labels of a host name."""
    starred = [re.escape(origin) for origin in listed(origins) if "//*." in origin]
    return "|".join(one.replace(r"\*", r"[a-z0-9_-]+(\.[a-z0-9_-]+)*") for one in starred) or None


def _is_network(text: str) -> bool:
    try:
        return text == "*" or bool(ip_network(text))
    except ValueError:
        return False


def _all(value: str, good: Callable[[str], object], expected: str) -> str:
    """Return the value if all parts between its commas are good. Raises ValueError(expected)."""
    if not all(map(good, listed(value))):
        raise ValueError(expected)
    return value


def listed(value: str) -> list[str]:
    """Split a text at its commas."""
    return [part for part in (part.strip() for part in value.split(",")) if part]


def recorded_share(record: str) -> float:
    """Return the share of requests that the setting `record` asks to store."""
    if record.startswith("sample:"):
        return float(record.removeprefix("sample:"))
    return 1.0 if record == "all" else 0.0


def load_settings() -> Settings:
    """Read the settings from the environment. Raises pydantic.ValidationError, which names the field."""
    return Settings()
