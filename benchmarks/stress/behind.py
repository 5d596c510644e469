"""Restarts behind a proxy, 20 of them: two services, each in turn gets SIGTERM under load and is started again.

The proxies are the ones that Debian has, with the configurations in `deploy`; the services have their default settings.
16 clients send pictures as fast as they are answered, half of the requests on connections that stay. Whatever is not
answered with 200 has failed.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from spikehead.settings import Settings

from benchmarks.serving import Serving, free_port, launched
from benchmarks.stress.client import closed_loop, described, helpers, merged, sleep_until, soon
from benchmarks.stress.peak import CLIENTS
from benchmarks.stress.plan import Plan
from benchmarks.stress.requests import drawings_of_both_kinds, raw
from benchmarks.stress.verdicts import Claim, Row, not_measured

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
LOAD = 9.0  # seconds, each time: from before the signal until after the restart
NOTICED = 2.5  # seconds after which a balancer that asks once a second has seen a service that is ready again
LIMIT = 60.0  # seconds for a proxy to start, and for a service to end


@dataclass(frozen=True)
class Proxy:
    """A program and how it is run with a configuration."""

    name: str
    configuration: Path
    program: str

    def command(self, configuration: Path) -> list[str]:
        """It stays in the foreground."""
        if self.name == "haproxy":
            return [self.program, "-db", "-f", str(configuration)]
        folder = configuration.parent
        main = f"daemon off; pid {folder}/pid; error_log {folder}/log;"
        return [self.program, "-p", str(folder), "-e", f"{folder}/log", "-c", str(configuration), "-g", main]


def installed(name: str) -> Proxy | None:
    """`haproxy` or `nginx`; None if it is not."""
    program = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    suffix = {"haproxy": "cfg", "nginx": "conf"}[name]
    return Proxy(name, DEPLOY / name / f"{name}.{suffix}", program) if program else None


def configured(text: str, port: int, services: tuple[int, int], folder: Path) -> str:
    """A configuration of `deploy` with other ports. nginx writes into `folder`, whoever runs it."""
    ports = {8080: port, 8001: services[0], 8002: services[1]}
    for usual, other in ports.items():
        if text.count(f"127.0.0.1:{usual}") < 1:
            raise ValueError(f"expected 127.0.0.1:{usual} in the configuration")
        text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{other}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    own = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    return text.replace("http {\n", "http {\n" + own)


@contextmanager
def running(proxy: Proxy, services: tuple[int, int]) -> Iterator[int]:
    """The proxy in front of two services; gives its port. Raises RuntimeError if it does not start."""
    port = free_port()
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx gives up root's rights
        file = folder / proxy.configuration.name
        file.write_text(configured(proxy.configuration.read_text(), port, services, folder))
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(proxy.command(file), stdout=said, stderr=said)
        try:
            give_up = time.monotonic() + LIMIT
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"expected {proxy.name} to start: {(folder / 'said').read_text()}")
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(LIMIT)


def _answers(port: int) -> bool:
    tally = closed_loop(port, [b"GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n"], 1, time.monotonic(), 0.1)
    return set(tally.counts()) == {200}


def requests() -> list[bytes]:
    """Drawings and raw pixels, on connections that stay and on others."""
    closing = [each.replace(b"Host: a\r\n", b"Host: a\r\nConnection: close\r\n") for each in raw()]
    light = [each for pair in zip(raw(), closing, strict=True) for each in pair]
    return [each for pair in zip(drawings_of_both_kinds(), light, strict=True) for each in pair]


@dataclass(frozen=True)
class Restarts:
    """Outcomes of them."""

    counts: dict[int, int]  # of each status, or failure
    statuses: tuple[int, ...]  # of the exits
    seconds: float  # from a signal to the exit, at most


def restart(proxy: Proxy, rounds: int) -> Restarts:
    """SIGTERM and a new start, `rounds` times, the two services in turn."""
    drain = f"{Settings().drain:g}"  # that of users, and not that of other benchmarks
    random = np.random.default_rng(7)
    tallies, statuses, seconds = [], [], 0.0
    with ExitStack() as stack:
        stacks = (stack.enter_context(ExitStack()), stack.enter_context(ExitStack()))
        ports = (free_port(), free_port())

        def start(index: int) -> Serving:
            stacks[index].close()
            service = stacks[index].enter_context(
                launched(SPIKEHEAD_PORT=str(ports[index]), SPIKEHEAD_DRAIN=drain)
            )
            service.wait_until_ready()
            return service

        services = [start(0), start(1)]
        port = stack.enter_context(running(proxy, ports))
        pool = stack.enter_context(helpers(1))
        for number in range(rounds):
            index = number % 2
            begin = soon()
            load = pool.submit(closed_loop, port, requests(), CLIENTS, begin, LOAD)
            sleep_until(begin + random.uniform(0.7, 1.3))
            signalled = time.monotonic()
            services[index].process.send_signal(signal.SIGTERM)
            statuses.append(services[index].process.wait(2 * LIMIT))
            seconds = max(seconds, time.monotonic() - signalled)
            services[index] = start(index)
            tallies.append(load.result())
            time.sleep(NOTICED)
    return Restarts(merged(tallies).counts(), tuple(statuses), seconds)


def measure(name: str, plan: Plan) -> list[Row]:
    """The row of one proxy."""
    found = installed(name)
    test = f"{plan.rounds} restarts behind {name}"
    if found is None:
        return [not_measured(test, f"{name} is not installed")]
    restarts = restart(found, plan.rounds)
    codes = ", ".join(map(str, sorted(set(restarts.statuses))))
    failed = sum(count for status, count in restarts.counts.items() if status != 200)
    return [
        Row(
            test,
            (
                Claim(
                    "requests",
                    f"{failed} failed of {sum(restarts.counts.values()):,} ({described(restarts.counts)})",
                    "all are answered with 200",
                    not failed,
                ),
                Claim(
                    "exit",
                    f"status {codes}, after {restarts.seconds:.1f} s at most",
                    "status 0",
                    set(restarts.statuses) == {0},
                ),
            ),
            (),
            {"counts": restarts.counts},
        )
    ]


def measure_haproxy(plan: Plan) -> list[Row]:
    """With active checks, one a second."""
    return measure("haproxy", plan)


def measure_nginx(plan: Plan) -> list[Row]:
    """Without active checks."""
    return measure("nginx", plan)
