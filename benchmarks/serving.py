"""Processes that serve, for benchmarks: started on a free port of the loopback interface, ended afterwards."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

START_LIMIT = 120.0  # seconds
LOG_SHOWN = 2000  # characters


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@contextmanager
def started(
    command: list[str],
    port: int,
    python: Path | str = sys.executable,
    folder: Path | None = None,
    log: IO[bytes] | None = None,
    **environment: str,
) -> Iterator[int]:
    """Runs a server that will listen on `port`; gives the port once it does. Raises RuntimeError if it does not.

    `folder`: to run it in (default: this one). `log`: takes its standard error (default: shown).
    """
    process = subprocess.Popen(
        [python, *command],
        env={**os.environ, **environment},
        cwd=folder,
        stderr=log,
        start_new_session=True,
    )
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
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):  # LitServe's workers outlive it
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def spikehead(checkout: Path | None = None, **environment: str) -> Iterator[int]:
    """The service with its default settings, recording and logging into files that go away.

    `checkout`: another one that `make setup` was run in (default: this one).
    """
    port = free_port()
    python = sys.executable if checkout is None else checkout.absolute() / ".venv/bin/python"
    with TemporaryDirectory() as folder, Path(folder, "log").open("wb") as log:
        settings = {
            "SPIKEHEAD_PORT": str(port),
            "SPIKEHEAD_DATABASE_URL": f"sqlite:///{folder}/records.db",
            "SPIKEHEAD_DRAIN": "0",  # no balancer has to notice the end
            **environment,
        }
        command = ["-m", "service", "serve"]
        try:
            with started(command, port, python=python, folder=checkout, log=log, **settings):
                yield port
        except RuntimeError:
            print(Path(log.name).read_text("utf-8", "replace")[-LOG_SHOWN:], file=sys.stderr)
            raise


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


@dataclass(frozen=True)
class Serving:
    """A running `python -m service serve` that may be signalled, killed and looked into. Linux only."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_ready(self) -> float:
        """The time (of `time.monotonic`) of the first 200 of /health/ready. Raises RuntimeError without one."""
        deadline = time.monotonic() + START_LIMIT
        while self.process.poll() is None and time.monotonic() < deadline:
            with (
                closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection,
                suppress(OSError, http.client.HTTPException),
            ):
                connection.request("GET", "/health/ready")
                with connection.getresponse() as response:
                    if response.status == 200:
                        return time.monotonic()
            time.sleep(0.005)
        raise RuntimeError(f"expected the service to be ready within {START_LIMIT:.0f} s, it is not")

    def processes(self) -> list[int]:
        """The process and all that descend from it."""
        parents: dict[int, int] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended meanwhile
                parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        found = [self.process.pid]
        for pid in found:
            found.extend(child for child, parent in parents.items() if parent == pid)
        return found

    def resident(self) -> float:
        """Megabytes resident, of all processes together."""
        return sum(_resident(pid) for pid in self.processes()) / 1000

    def seconds_of_processor(self) -> float:
        """Processor time used so far, of all processes together."""
        ticks = 0
        for pid in self.processes():
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    """Kilobytes (of 1000 bytes); 0 for a process that has ended."""
    try:
        found = re.search(r"^Rss:\s+(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) * 1.024 if found else 0.0


@contextmanager
def launched(**environment: str) -> Iterator[Serving]:
    """The service in a process group of its own, just started, recording into a file that goes away.

    It sees no SPIKEHEAD_* variable but these. The first error that it logs is shown afterwards.
    """
    port = int(environment.get("SPIKEHEAD_PORT") or free_port())
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        settings = {
            "SPIKEHEAD_PORT": str(port),
            "SPIKEHEAD_LOG_LEVEL": "warning",
            "SPIKEHEAD_DATABASE_URL": f"sqlite:///{folder}/records.db",
            "SPIKEHEAD_DRAIN": "0",
            **environment,
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith("SPIKEHEAD_")}
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve"],
                env={**others, **settings},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Serving(port, process, log)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers, where the process has left some
            process.wait()
            text = log.read_text("utf-8", "replace")
            found = re.search(r"ERROR|Traceback", text)
            if found:
                print(f"the service logged:\n{text[found.start() :][:LOG_SHOWN]}", file=sys.stderr)


@contextmanager
def ready(**environment: str) -> Iterator[Serving]:
    """The service, ready."""
    with launched(**environment) as serving:
        serving.wait_until_ready()
        yield serving
