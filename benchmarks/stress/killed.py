"""kill -9 of a worker under load, 20 times, with SPIKEHEAD_WORKERS=2.

16 clients send drawings as fast as they are answered, half of the requests on connections that stay, half on a
new connection each. The workers are the processes that answer: a probe on a new connection is answered by the
process that holds its other end (its descriptors in /proc against /proc/net/tcp). They are killed in turn, the
one that is older first. The victim is stopped a moment before, so that its connections can be read; then it is
killed.

    lost      requests that failed on the victim's connections; there can be one on each
    others    requests that failed elsewhere, or were answered with another status than 200 and 429
    back      seconds from the kill until a new process has answered a probe beside the one that was left
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import serving
from benchmarks.serving import Serving
from benchmarks.stress.client import SMALL, Tally, closed_loop, described, helpers, sleep_until, soon
from benchmarks.stress.peak import CLIENTS
from benchmarks.stress.plan import Plan
from benchmarks.stress.requests import drawings_of_both_kinds
from benchmarks.stress.verdicts import Claim, Row

WORKERS = 2
LIMIT = 3.0  # seconds
SECONDS = 4.0  # of load, each time
KILLED_AT = 0.7
GIVEN_UP = 15.0  # seconds for the workers to be there at all
ANSWERS = (200, 429)


@dataclass(frozen=True)
class Kill:
    """One kill."""

    connections: int  # that the victim had
    lost: int
    others: dict[int, int]  # failures elsewhere, by status
    answered: int
    back: float  # seconds; infinite: never


def measure(plan: Plan) -> list[Row]:
    kills = []
    requests = drawings_of_both_kinds()
    with serving.ready(SPIKEHEAD_WORKERS=str(WORKERS)) as service, helpers(1) as pool:
        workers = list(answering(service, set(), WORKERS))
        for _ in range(plan.rounds):
            if len(workers) != WORKERS:
                raise RuntimeError(f"expected {WORKERS} workers to answer, found {len(workers)}")
            begin = soon()
            load = pool.submit(closed_loop, service.port, requests, CLIENTS, begin, SECONDS)
            sleep_until(begin + KILLED_AT)
            victim, *left = workers
            killed, ports = kill(victim, service.port)
            workers = [*left, *answering(service, {victim, *left}, 1)]
            back = time.monotonic() - killed if len(workers) == WORKERS else float("inf")
            if not set(left) <= set(service.processes()):
                raise RuntimeError(f"expected worker {left} to live on, it has ended")
            kills.append(judged_kill(load.result(), ports, back))
    return [judged(kills)]


def connections(port: int) -> dict[str, int]:
    """Map each connected socket of the service, by its descriptor's name, to the port of its other end."""
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(address.partition(":")[2], 16) for address in fields[1:3])
        if local == port and remote and fields[9] != "0":
            found[f"socket:[{fields[9]}]"] = remote
    return found


def sockets(pid: int) -> set[str]:
    """Names of a process's sockets; none of one that has ended."""
    names = set()
    with suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - a name is all that is needed
            with suppress(OSError):
                names.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))  # noqa: PTH115
    return names


def answering(service: Serving, known: set[int], count: int) -> set[int]:
    """Collect `count` processes that answer and are not known yet; fewer if no more have answered after 15 seconds."""
    found: set[int] = set()
    deadline = time.monotonic() + GIVEN_UP
    while len(found) < count and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", service.port), 2) as probe:
            probe.sendall(SMALL)
            if probe.recv(4096).startswith(b"HTTP/1.1 200 "):
                name = {port: name for name, port in connections(service.port).items()}.get(
                    probe.getsockname()[1]
                )
                found |= {pid for pid in service.processes() if pid not in known and name in sockets(pid)}
        time.sleep(0.02)
    return found


def kill(victim: int, port: int) -> tuple[float, set[int]]:
    """Kills a process: when, and the other ends of the connections that it had."""
    os.kill(victim, signal.SIGSTOP)
    while Path(f"/proc/{victim}/stat").read_text().rpartition(")")[2].split()[0] not in "TZ":
        time.sleep(0.001)
    held = sockets(victim)
    ports = {other for name, other in connections(port).items() if name in held}
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    return killed, ports


def judged_kill(tally: Tally, ports: set[int], back: float) -> Kill:
    """Which requests failed, and whose they were."""
    lost = answered = 0
    others: dict[int, int] = {}
    for status, port in zip(tally.status, tally.port, strict=True):
        if status in ANSWERS:
            answered += 1
        elif status < 0 and port in ports:
            lost += 1
        else:
            others[status] = others.get(status, 0) + 1
    return Kill(len(ports), lost, others, answered, back)


def judged(kills: list[Kill]) -> Row:
    """The row of all kills."""
    others: dict[int, int] = {}
    for each in kills:
        for status, count in each.others.items():
            others[status] = others.get(status, 0) + count
    slowest = max(each.back for each in kills)
    return Row(
        f"kill -9 of a worker under load, {len(kills)} times",
        (
            Claim(
                "lost",
                f"{sum(each.lost for each in kills)} requests on {sum(each.connections for each in kills)} connections",
                "at most one on each connection of the killed worker",
                all(each.lost <= each.connections for each in kills),
            ),
            Claim("others", f"{described(others)} failed", "none", not others),
            Claim(
                "back",
                f"after {slowest:.1f} s at most",
                f"{WORKERS} workers answer within {LIMIT:.0f} s",
                slowest < LIMIT,
            ),
        ),
        (f"{sum(each.answered for each in kills):,} answered",),
        {"kills": [vars(each) for each in kills]},
    )
