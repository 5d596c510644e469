"""The compose file, held against image, code and the files that it mounts. No Docker needed.

Compose 2.26 and 2.40 were asked too, by hand, against a stand-in for the engine that answers as it does for a folder
that is missing: `up service` starts one container, `up` without a password none, and with one all four.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from spikehead.settings import PREFIX, Settings

from tests.deployment.files import (
    DEPLOY,
    KNOWN,
    PASSWORD,
    ROOT,
    VARIABLE,
    arguments,
    assignments,
    compose,
    image_environment,
    interpolated,
    seconds,
    service_environment,
)

SERVICES: dict[str, dict[str, Any]] = compose({})["services"]
FETCH = ["wget", "-q", "-T", "2", "-O", "/dev/null"]  # BusyBox: both images have it
EVERY = pytest.mark.parametrize("name", SERVICES)
PORT = {"service": arguments("EXPOSE")[0], "prometheus": "9090", "grafana": "3000"}


def binds(name: str) -> list[tuple[str, str, bool]]:
    """(source, target, read-only) of the folders that a container gets from this checkout."""
    found = []
    for volume in compose(PASSWORD)["services"][name]["volumes"]:
        if isinstance(volume, dict):
            source = os.path.normpath(volume["source"])  # as Compose does, by the text
            found.append((source, volume["target"], volume["read_only"]))
        elif volume.startswith("."):
            source, target, *mode = volume.split(":")
            found.append((source, target, mode == ["ro"]))
    return found


def named(name: str) -> dict[str, str]:
    """Volume -> where it is mounted."""
    volumes = [one for one in SERVICES[name]["volumes"] if isinstance(one, str) and not one.startswith(".")]
    return dict(volume.split(":") for volume in volumes)


def writable(name: str) -> list[str]:
    return [*named(name).values(), *(one.split(":")[0] for one in SERVICES[name]["tmpfs"])]


def test_all_four() -> None:
    assert set(SERVICES) == {"service", "postgres", "prometheus", "grafana"}
    assert not any("profiles" in service for service in SERVICES.values())


@EVERY
def test_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & set(service)
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert "/tmp" in writable(name)
    assert all("size=" in one for one in service["tmpfs"])
    if "build" in service:
        assert arguments("USER")
    else:
        assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])


@EVERY
def test_health_is_checked(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        assert arguments("HEALTHCHECK") and "healthcheck" not in service  # test_image.py looks at it
        return
    check = service["healthcheck"]
    assert set(check) == {"test", "interval", "timeout", "start_period", "retries"}
    kind, *command = check["test"]
    assert kind == "CMD"
    assert seconds(check["timeout"]) < seconds(check["interval"])
    asked = {
        "postgres": [
            "pg_isready",
            "--quiet",
            "--host=127.0.0.1",
            "--username=spikehead",
            "--dbname=spikehead",
        ],
        "prometheus": [*FETCH, "http://127.0.0.1:9090/-/ready"],
        "grafana": [*FETCH, "http://127.0.0.1:3000/api/health"],
    }
    assert command == asked[name]


@EVERY
def test_image_is_pinned(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        assert service["build"] == "." and (ROOT / "Dockerfile").is_file()
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"])


@EVERY
def test_ports_are_this_machines(name: str) -> None:
    ports = [f"127.0.0.1:{PORT[name]}:{PORT[name]}"] if name in PORT else []
    assert SERVICES[name].get("ports", []) == ports


@EVERY
def test_what_it_names_exists(name: str) -> None:
    service, document = SERVICES[name], compose({})
    assert set(named(name)) <= set(document["volumes"])
    assert set(service["networks"]) <= set(document["networks"])
    assert set(service.get("depends_on", [])) <= set(SERVICES)
    for source, _, read_only in binds(name):
        assert (ROOT / source).is_dir() and read_only, source


def test_volumes_and_networks_are_used() -> None:
    document = compose({})
    assert {volume for name in SERVICES for volume in named(name)} == set(document["volumes"])
    assert {network for service in SERVICES.values() for network in service["networks"]} == set(
        document["networks"]
    )


def test_service_mounts_what_the_image_uses() -> None:
    assert binds("service") == [("./models", image_environment()[PREFIX + "MODELS"], True)]
    assert named("service") == {"records": arguments("VOLUME")[0]}


def test_settings_are_known_and_good(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in ({}, PASSWORD, assignments(ROOT / ".env.example"), {"SERVICE_CPUS": "1"}):
        given = {
            name: value for name, value in service_environment(variables).items() if name.startswith(PREFIX)
        }
        assert set(given) <= KNOWN
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            settings = Settings()
        cores = SERVICES["service"]["deploy"]["resources"]["limits"]["cpus"]
        assert settings.max_concurrency == int(variables.get("SERVICE_CPUS", cores))
        assert seconds(SERVICES["service"]["stop_grace_period"]) > settings.shutdown_grace + 1


def test_service_alone_needs_nothing() -> None:
    """`docker compose up service`: Compose interpolates the whole file, whatever it is to start."""
    text = (ROOT / "docker-compose.yml").read_text()
    used = re.sub(r"^ *#.*", "", text, flags=re.MULTILINE)
    assert {operator for _, operator, _ in VARIABLE.findall(used)} <= {"", ":-", ":+"}  # "": of $$
    assert all(name for name, operator, _ in VARIABLE.findall(used) if operator)
    assert not re.search(r"\$\{\w+\}", used)
    assert "depends_on" not in SERVICES["service"]
    assert SERVICES["service"]["env_file"] == "deploy/records.env"
    assert service_environment({})[PREFIX + "DATABASE_URL"] == image_environment()[PREFIX + "DATABASE_URL"]
    assert not any(name.startswith("PG") for name in service_environment({}))


def test_missing_password_ends_it_with_a_message() -> None:
    """The folder that PostgreSQL's container needs is missing then; its name says why."""
    (mount,) = [one for one in SERVICES["postgres"]["volumes"] if isinstance(one, dict)]
    assert mount["type"] == "bind" and mount["bind"] == {"create_host_path": False}
    missing = Path(mount["source"])
    assert not (ROOT / missing).exists()
    assert missing.name == "POSTGRES_PASSWORD-is-not-set--copy-.env.example-to-.env"
    assert missing.parts[0] == "deploy" and len(missing.parts) == 2
    # Compose makes paths absolute by their text: what goes before /.. need not exist
    (given,) = [one for one in compose(PASSWORD)["services"]["postgres"]["volumes"] if isinstance(one, dict)]
    assert given["source"] == f"./{missing}/../postgres" and (DEPLOY / "postgres").is_dir()


def test_database_is_the_one_that_the_service_asks() -> None:
    environment = service_environment(PASSWORD)
    url = re.fullmatch(r"postgresql\+psycopg://(\w+)@(\w+):5432/(\w+)", environment[PREFIX + "DATABASE_URL"])
    assert url is not None
    role, host, database = url.groups()
    program = DEPLOY / "postgres" / "role.sh"
    script = program.read_text()
    assert os.access(program, os.X_OK)  # or the image would not run it, but take it into its own shell
    assert environment["PGPASSWORD"] == PASSWORD["POSTGRES_PASSWORD"]
    assert (
        compose(PASSWORD)["services"][host]["environment"]["POSTGRES_PASSWORD"] == environment["PGPASSWORD"]
    )
    assert f"CREATE ROLE {role} LOGIN" in script
    assert f"CREATE DATABASE {database} OWNER {role};" in script
    common = set(SERVICES["service"]["networks"]) & set(SERVICES[host]["networks"])
    assert common == {"records"} and compose({})["networks"]["records"] == {"internal": True}
    assert any("'.[postgres]'" in step for step in arguments("RUN"))


def test_postgres_runs_without_capabilities() -> None:
    postgres = SERVICES["postgres"]
    uid, gid = postgres["user"].split(":")
    assert postgres["image"].endswith("-bookworm")  # there `postgres` is 999; in Alpine it is 70
    (socket,) = [one for one in postgres["tmpfs"] if one.startswith("/var/run/postgresql:")]
    assert f"uid={uid},gid={gid}" in socket and uid == "999"
    assert named("postgres") == {"database": "/var/lib/postgresql/data"}


def test_prometheus_reads_what_is_mounted() -> None:
    prometheus = SERVICES["prometheus"]
    options = dict(option.removeprefix("--").split("=") for option in prometheus["command"])
    ((source, target, _),) = binds("prometheus")
    assert options["config.file"] == f"{target}/prometheus.yml"
    assert (ROOT / source / "prometheus.yml").is_file()
    assert options["storage.tsdb.path"] == named("prometheus")["metrics"]


@pytest.mark.parametrize(("keys", "first"), [("", ""), ("one", "one"), ("one,two", "one")])
def test_prometheus_starts_with_the_first_key(keys: str, first: str, tmp_path: Path) -> None:
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    file = configuration["scrape_configs"][0]["authorization"]["credentials_file"]
    assert str(Path(file).parent) in writable("prometheus")
    shell, option, script, *rest = SERVICES["prometheus"]["entrypoint"]
    assert shell == "/bin/sh" and f"> {file}\n" in script
    program = tmp_path / "prometheus"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    started = subprocess.run(
        [
            shell,
            option,
            script.replace(file, str(tmp_path / "key")),
            *rest,
            *SERVICES["prometheus"]["command"],
        ],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SPIKEHEAD_API_KEYS": keys},
        capture_output=True,
        text=True,
        check=True,
    )
    assert started.stdout.splitlines() == SERVICES["prometheus"]["command"]
    assert (tmp_path / "key").read_text() == first
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


def test_grafana_has_no_account() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_USERS_ALLOW_SIGN_UP"] == "false"


def test_grafana_reads_what_is_mounted() -> None:
    mounts = {target: ROOT / source for source, target, _ in binds("grafana")}
    provisioning = "/etc/grafana/provisioning"  # the image's GF_PATHS_PROVISIONING
    assert set(mounts) == {
        f"{provisioning}/datasources",
        f"{provisioning}/dashboards",
        "/etc/grafana/dashboards",
    }
    (providers,) = mounts[f"{provisioning}/dashboards"].iterdir()
    (provider,) = yaml.safe_load(providers.read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (mounts[str(home.parent)] / home.name).is_file()
    assert named("grafana") == {"grafana": "/var/lib/grafana"}


def test_example_names_each_variable() -> None:
    example = assignments(ROOT / ".env.example")
    files = [ROOT / "docker-compose.yml", *DEPLOY.glob("*.env")]
    used = {name: text for path in files for name, _, text in VARIABLE.findall(path.read_text()) if name}
    assert set(example) == set(used)
    defaults = {
        name: text
        for name, operator, text in VARIABLE.findall((ROOT / "docker-compose.yml").read_text())
        if operator == ":-"
    }
    assert example == {name: defaults[name] for name in example}


def test_there_is_no_secret_in_the_files() -> None:
    secret = re.compile(r"PASSWORD|SECRET_|TOKEN|KEYS?$|CREDENTIAL")
    assert {name for name in assignments(ROOT / ".env.example") if secret.search(name)} == {
        "POSTGRES_PASSWORD",
        "SPIKEHEAD_API_KEYS",
    }
    places = [service.get("environment", {}) for service in compose()["services"].values()]
    places += [assignments(path) for path in DEPLOY.glob("*.env")]
    places.append(assignments(ROOT / ".env.example"))
    for environment in places:
        for name, value in environment.items():
            if secret.search(name):
                assert interpolated(value, {}) == "", name
            assert not re.search(r"://[^/@]*:[^/@]*@", value), name  # a password in a URL
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored and not any(line.startswith("!.env") for line in ignored)
