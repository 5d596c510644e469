"""The service in a process of its own, and HTTP by hand."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


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
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@contextmanager
def serving(models: Path, **settings: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # nobody is behind a balancer here: it may end at once, unless a test says otherwise
    settings = {"DRAIN": "0.2", "PORT": str(port), "DEFAULT_MODEL": "tiny", **settings}
    env = environment(MODELS=str(models), **settings)
    process = subprocess.Popen(
        [sys.executable, "-m", "service"], cwd=ROOT, env=env, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                time.sleep(0.1)
        yield port, process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a service that was started with a session of its own, and all of its workers.

    A worker that stands still survives the process above it and keeps the pipe open, so that reading would never end.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in small letters, and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read()
    finally:
        connection.close()


def until(port: int, path: str, status: int = 200, seconds: float = 20.0) -> None:
    """Waits until a path answers with a status."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            if ask(port, "GET", path)[0] == status:
                return
        except OSError:
            pass
        assert time.monotonic() < give_up, f"expected {status} of {path} within {seconds} s"
        time.sleep(0.05)
