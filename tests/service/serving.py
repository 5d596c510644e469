"""The service in a process of its own or in a thread, and HTTP by hand."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikehead.inference.models import load_models
from spikehead.server.worker import Worker
from spikehead.settings import Settings
from spikehead.web.app import create_app
from spikehead.web.guard.admission import Admission

ROOT = Path(__file__).resolve().parents[2]

LONG = 120.0
"""Seconds after which a test fails that waits: far more than anything takes, on a slow and busy machine too."""


def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    give_up = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < give_up, f"it did not come about within {LONG:g} seconds"
        time.sleep(0.01)


def environment(**settings: str) -> dict[str, str]:
    kept = "SPIKEHEAD_DATABASE_URL"  # away from the checkout: see `tests/conftest.py`
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("SPIKEHEAD_") or name == kept
    }
    return {**clean, **{f"SPIKEHEAD_{name}": value for name, value in settings.items()}}


def run(*arguments: str, **settings: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command, by these settings alone."""
    done = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@contextmanager
def serving(models: Path, **settings: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # nobody is behind a balancer here: it may end at once; and no limit counts unless a test is about it
    limits = {"SHUTDOWN_GRACE": "90", "CLIENT_TIMEOUT": "90", "TIMEOUT": "90"}
    settings = {"DRAIN": "0.2", **limits, "PORT": str(port), "DEFAULT_MODEL": "tiny", **settings}
    env = environment(MODELS=str(models), **settings)
    with started([sys.executable, "-m", "service"], cwd=ROOT, env=env, stderr=subprocess.PIPE) as process:
        eventually(lambda: connects(port) or process.poll() is not None)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        yield port, process


@dataclass
class Running:
    """A worker in a thread."""

    port: int
    admission: Admission
    worker: Worker
    loop: asyncio.AbstractEventLoop


@contextmanager
def served(models_folder: Path, tmp_path: Path, **more: Any) -> Iterator[Running]:
    usual: dict[str, Any] = {
        "default_model": "tiny",
        "max_concurrency": 1,
        "client_timeout": LONG,
        "max_queue": 0,
    }
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/records.db",
        models=models_folder,
        drain=0,
        **usual | more,
    )
    app = create_app(settings, load_models(settings))
    worker = Worker(settings, app)
    # signals are for the main thread alone
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(worker._serve([listening])), daemon=True)
    thread.start()
    try:
        eventually(lambda: worker.started)
        yield Running(port, app.state.service.admission, worker, loop)
    finally:
        worker.should_exit = True
        thread.join(LONG)
    loop.close()


def connects(port: int) -> bool:
    """Tell if a connection can be made."""
    try:
        socket.create_connection(("127.0.0.1", port), LONG).close()
    except OSError:
        return False
    return True


@contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that is killed at the end, and all of its children.

    A worker that stands still survives the process above it and keeps the pipe open, so that reading would never end.
    """
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=LONG)


def heard(process: subprocess.Popen[bytes]) -> list[bytes]:
    """Lines of its standard error, as they come."""
    lines: list[bytes] = []

    def read() -> None:
        with suppress(ValueError):  # closed at the end
            for line in process.stderr or ():
                lines.append(line)

    threading.Thread(target=read, daemon=True).start()
    return lines


def is_read(client: socket.socket) -> bool:
    """Tell if the other end, on this machine, has read all that was sent: the kernel holds none of it."""
    near, far = (f"0100007F:{port:04X}" for port in (client.getsockname()[1], client.getpeername()[1]))

    def waiting(one: str, other: str) -> list[str]:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return next((row[4].split(":") for row in rows if row[1:3] == [one, other]), ["0", "0"])

    return int(waiting(near, far)[0], 16) == 0 and int(waiting(far, near)[1], 16) == 0


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in small letters, and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read()
    finally:
        connection.close()


def until(port: int, path: str, status: int = 200) -> None:
    """Wait until a path answers with a status."""

    def answers() -> bool:
        with suppress(OSError):
            return ask(port, "GET", path)[0] == status
        return False

    eventually(answers)
