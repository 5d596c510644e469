"""Processes that serve, for benchmarks: started on a free port of the loopback interface, ended afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

START_LIMIT = 60.0  # seconds


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@contextmanager
def started(command: list[str], port: int, **environment: str) -> Iterator[int]:
    """Runs a server that will listen on `port`; gives the port once it does. Raises RuntimeError where it does not."""
    process = subprocess.Popen([sys.executable, *command], env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"expected {' '.join(command)} to listen within {START_LIMIT:.0f} s, it does not"
                    ) from None
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def spikehead(**environment: str) -> Iterator[int]:
    """The service with its default settings, quiet, recording into a file that goes away."""
    port = free_port()
    with TemporaryDirectory() as folder:
        settings = {
            "SPIKEHEAD_PORT": str(port),
            "SPIKEHEAD_LOG_LEVEL": "warning",
            "SPIKEHEAD_DATABASE_URL": f"sqlite:///{folder}/records.db",
            **environment,
        }
        with started(["-m", "service", "serve"], port, **settings):
            yield port


@contextmanager
def litserve() -> Iterator[int]:
    """LeNet-5 under LitServe."""
    port = free_port()
    with started(["-m", "benchmarks.litserve_app", str(port)], port):
        yield port


@contextmanager
def uvicorn(app: str) -> Iterator[int]:
    """An application of `benchmarks.bare`, under the server that the service uses."""
    port = free_port()
    arguments = ["--port", str(port), "--log-level", "warning", "--no-access-log"]
    with started(["-m", "uvicorn", f"benchmarks.bare:{app}", *arguments], port):
        yield port
