"""What Dockerfile, compose file and the files beside them say, as Python values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from spikehead.settings import PREFIX, Settings
from spikehead.web.app import create_app

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KNOWN = {PREFIX + name.upper() for name in Settings.model_fields}
VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?:(:[-+?])([^}]*))?\}")
PASSWORD = {"POSTGRES_PASSWORD": "a p@ss/word"}


@cache
def routes() -> set[str]:
    return set(create_app(Settings()).openapi()["paths"])


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, in order."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def arguments(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def image_environment() -> dict[str, str]:
    return dict(rest.split("=", 1) for rest in arguments("ENV"))


def copies() -> Iterator[tuple[list[str], str]]:
    """(sources, target) of each COPY from the build context."""
    for rest in arguments("COPY"):
        if not rest.startswith("--from"):
            *sources, target = rest.split()
            yield sources, target


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """As Compose does it: `${NAME}`, `${NAME:-default}`, `${NAME:+instead}`, and `$$` for a dollar sign."""
    if isinstance(value, dict):
        return {name: interpolated(part, variables) for name, part in value.items()}
    if isinstance(value, list):
        return [interpolated(part, variables) for part in value]
    if not isinstance(value, str):
        return value

    def replaced(found: re.Match[str]) -> str:
        name, operator, text = found.groups()
        if name is None:
            return "$"
        given = variables.get(name, "")
        if operator == ":+":
            return text if given else ""
        return given or (text if operator == ":-" else "")

    return VARIABLE.sub(replaced, value)


def compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """docker-compose.yml with these variables; as it is written without."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    if variables is not None:
        document = interpolated(document, variables)
    return document


def assignments(path: Path) -> dict[str, str]:
    """NAME=value of an environment file."""
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def service_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What the service's container gets: the image's variables, the environment file's, Compose's own."""
    service = compose(variables)["services"]["service"]
    file: dict[str, str] = interpolated(assignments(ROOT / service["env_file"]), variables)
    own: dict[str, str] = service["environment"]
    return image_environment() | file | own


def seconds(duration: str) -> int:
    """Of "15s" or "1m"."""
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]
