"""Dockerfile and CI, held against the code; the Dockerfile's steps by hand. No Docker needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest
from spikehead.cli import probe
from spikehead.cli.app import app
from spikehead.settings import PREFIX, Settings
from spikehead.web.app import create_app

from tests.deployment.files import (
    KNOWN,
    ROOT,
    arguments,
    compose,
    copies,
    image_environment,
    instructions,
    seconds,
)
from tests.service.serving import LONG, eventually, started


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for sources, _ in copies():
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source


def test_environment_is_known_and_fits() -> None:
    variables = {name: value for name, value in image_environment().items() if name.startswith(PREFIX)}
    assert set(variables) <= KNOWN
    assert variables[PREFIX + "PORT"] == arguments("EXPOSE")[0]
    assert variables[PREFIX + "HOST"] == "0.0.0.0"
    assert variables[PREFIX + "LOG_FORMAT"] == "json"
    assert (["models"], variables[PREFIX + "MODELS"]) in list(copies())


def test_health_check_is_the_command_that_follows_the_settings() -> None:
    """No port of its own: `tests/service/cli/test_probe.py` says what it asks."""
    assert health_check() == ["spikehead", "health"]
    assert health_check()[1] in {
        command.callback.__name__ for command in app.registered_commands if command.callback
    }
    options = dict(re.findall(r"--([a-z-]+)=(\S+)", arguments("HEALTHCHECK")[0]))
    assert probe.SECONDS < seconds(options["timeout"]) < seconds(options["interval"])


def health_check() -> list[str]:
    command: list[str] = json.loads(arguments("HEALTHCHECK")[0].partition("CMD")[2])
    return command


def test_image_runs_as_another_user_than_root() -> None:
    user = arguments("USER")[-1]
    assert any(rest.startswith("useradd") and rest.endswith(f" {user}") for rest in arguments("RUN"))
    names = [instruction for instruction, _ in instructions()]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "COPY")


def test_image_has_no_compiler_and_no_torch() -> None:
    last_stage = [rest for name, rest in instructions()[_last_from() :] if name == "RUN"]
    assert not any("apt-get" in rest or "pip" in rest for rest in last_stage)
    assert not any("[train]" in rest or "torch" in rest for rest in arguments("RUN"))
    assert all("slim" in rest for rest in arguments("FROM"))


def _last_from() -> int:
    return max(i for i, (name, _) in enumerate(instructions()) if name == "FROM")


def test_records_lie_in_the_volume_and_belong_to_the_user() -> None:
    """The root file system is read-only: the database needs a place."""
    (folder,) = arguments("VOLUME")
    assert image_environment()[PREFIX + "DATABASE_URL"] == f"sqlite:///{folder}/records.db"
    assert f"install --directory --owner {arguments('USER')[-1]} {folder}" in arguments("RUN")


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert create_app(Settings()).version == project["version"]
    assert compose()["services"]["service"]["image"] == f"spikehead:{project['version']}"
    least = tuple(int(part) for part in project["requires-python"].removeprefix(">=").split("."))
    for base in arguments("FROM"):
        found = re.search(r"python:(\d+)\.(\d+)-slim", base)
        assert found is not None and (int(found[1]), int(found[2])) >= least


def test_ci_calls_the_readmes_test_command() -> None:
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # it compiles
def test_build_steps_by_hand(tmp_path: Path) -> None:
    """The Dockerfile's steps in a plain virtual environment: install, start, health check."""
    source, image = tmp_path / "src", tmp_path / "app"
    for sources, target in copies():
        for name in sources:
            ignore = shutil.ignore_patterns("__pycache__")
            place = image / Path(target).relative_to("/app") if target.startswith("/app/") else source / name
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, place, ignore=ignore, dirs_exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, place)
    venv = tmp_path / "venv"
    for step in arguments("RUN"):
        if step.startswith(("useradd", "install --directory", "apt-get")):
            continue  # a test leaves the machine as it is; the compiler is there already
        command = step.replace("/opt/venv", str(venv)).replace("python -m venv", f"{sys.executable} -m venv")
        subprocess.run(command.replace(" --no-cache-dir", ""), shell=True, cwd=source, check=True)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    variables = image_environment() | {"SPIKEHEAD_HOST": "127.0.0.1", "SPIKEHEAD_PORT": str(port)}
    variables = {
        name: value.replace("/opt/venv", str(venv))
        .replace("/app", str(image))
        .replace(arguments("VOLUME")[0], str(tmp_path / "records"))
        .replace("$PATH", os.environ["PATH"])
        for name, value in variables.items()
    }
    command = json.loads(arguments("CMD")[-1])
    check = [str(venv / "bin" / health_check()[0]), *health_check()[1:]]
    with started(
        [str(venv / "bin" / command[0]), *command[1:]],
        cwd=image,
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:

        def healthy() -> bool:
            assert service.poll() is None, service.stderr.read() if service.stderr else ""
            return subprocess.run(check, env=variables, capture_output=True, check=False).returncode == 0

        eventually(healthy)
        installed = subprocess.run(
            [str(venv / "bin" / "python"), "-m", "pip", "list", "--format=json"],
            capture_output=True,
            text=True,
            check=True,
        )
        packages = {package["name"] for package in json.loads(installed.stdout)}
        assert "torch" not in packages and "psycopg-binary" in packages
        ready = urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=LONG)
        engine = "native" if shutil.which("g++") else "onnxruntime"
        document = json.load(ready)
        assert document["status"] == "ready"
        engines = {model["name"]: model["engine"] for model in document["models"]}
        assert engines["spiking-mha"] == engine
