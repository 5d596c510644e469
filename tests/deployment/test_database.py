"""The script that PostgreSQL's container runs once, on a server of this machine; then the service's own URL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from spikehead.records import Store
from spikehead.settings import PREFIX
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.deployment.files import DEPLOY, PASSWORD, service_environment

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="needs PostgreSQL (Debian: postgresql)"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """(host, port) of a server that was set up as the image does it."""
    programs = INSTALLED[-1].parent
    folder = tmp_path_factory.mktemp("postgresql")
    user = (
        ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    )  # PostgreSQL refuses to run as root
    if user:
        for parent in (folder, *list(folder.parents)[:2]):
            parent.chmod(0o755)
        shutil.chown(folder, "postgres")
    (folder / "password").write_text(PASSWORD["POSTGRES_PASSWORD"])
    (folder / "password").chmod(0o644)
    script = shutil.copy(DEPLOY / "postgres" / "role.sh", folder)  # a checkout may be closed to `postgres`
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

    def run(*command: str | Path, **variables: str) -> None:
        subprocess.run(
            [*user, *command],
            env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"} | variables,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    data = folder / "data"
    run(
        programs / "initdb",
        *("-D", data, "-U", "postgres", "-E", "UTF8", "--no-sync", "--data-checksums"),
        *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={folder / 'password'}"),
    )
    options = f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
    run(programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "-t", "120", "-o", options, "start")
    try:
        run(script, POSTGRES_USER="postgres", PGHOST=str(folder), PGPORT=str(port), **PASSWORD)
        yield str(folder), port
    finally:
        run(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


@pytest.fixture
def url(server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> str:
    """The service's, but for the host."""
    environment = service_environment(PASSWORD)
    monkeypatch.setenv("PGPASSWORD", environment["PGPASSWORD"])
    return environment[PREFIX + "DATABASE_URL"].replace("@postgres:5432/", f"@127.0.0.1:{server[1]}/")


def test_service_has_its_database(url: str) -> None:
    store = Store(url)
    store.open()  # makes its tables
    store.close()
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = CURRENT_USER")
        )
        assert found.one() == (False, False, False)
    engine.dispose()


@pytest.mark.parametrize("wrong", ["password", "superuser"])
def test_nobody_else_logs_in_by_network(url: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if wrong == "password":
        monkeypatch.setenv("PGPASSWORD", "another")
    else:
        url = url.replace("spikehead@", "postgres@")
    engine = create_engine(url)
    with pytest.raises(OperationalError, match="password authentication failed"):
        engine.connect()
    engine.dispose()


def test_superuser_logs_in_by_the_socket(server: tuple[str, int]) -> None:
    folder, port = server
    engine = create_engine(f"postgresql+psycopg://postgres@/spikehead?host={folder}&port={port}")
    with engine.connect() as connection:
        owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'spikehead'"
        assert connection.execute(text(owner)).scalar() == "spikehead"
    engine.dispose()
