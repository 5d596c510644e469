"""200 slow clients, one byte a second, beside 16 normal ones; SPIKEHEAD_CLIENT_TIMEOUT is 5 seconds.

Half of the slow ones send a request's head so slowly, half send the head at once and then the body. One that is
cut off comes again at once, so that there are always 200. Measured are

    normal   latency of 16 clients that send drawings one after the other: the 99th percentile beside the slow
             ones, against that of the same 16 alone (measured before and after, together)
    slow     seconds from the connection to its end, of every slow client. One that could have been cut off but
             was not when the test ended counts as what it had lasted by then.
"""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass

import numpy as np

from benchmarks import serving
from benchmarks.stress.client import closed_loop, helpers, sleep_until, soon
from benchmarks.stress.peak import CLIENTS
from benchmarks.stress.plan import Plan
from benchmarks.stress.requests import drawings
from benchmarks.stress.verdicts import Claim, Row

SLOW = 200
LIMIT = 5.0  # seconds, SPIKEHEAD_CLIENT_TIMEOUT
GRACE = 1.0  # seconds over it
MOST_TIMES = 2.0

HEAD = (
    b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nX-Slow: " + b"a" * 500
)
BODY_HEAD = (
    b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Length: 784\r\n\r\n"
)


@dataclass
class Slow:
    """A slow client: what became of it."""

    part: str  # "head" or "body"
    made: float
    lasted: float = 0.0
    cut: bool = False
    status: int = 0  # of the answer; 0: none


def trickle(port: int, count: int, begin: float, seconds: float) -> list[Slow]:
    """`count` slow clients at any time; all that there were."""
    poll = select.epoll()
    clients: dict[int, tuple[socket.socket, Slow]] = {}
    due: dict[int, tuple[float, int]] = {}  # when the next byte is sent, how many there were
    all_of_them: list[Slow] = []

    def come(part: str) -> None:
        connection = socket.create_connection(("127.0.0.1", port), 5)
        connection.setblocking(False)
        connection.send(HEAD[:1] if part == "head" else BODY_HEAD)
        slow = Slow(part, time.monotonic())
        clients[connection.fileno()] = connection, slow
        due[connection.fileno()] = slow.made + 1, 1
        poll.register(connection.fileno(), select.EPOLLIN)
        all_of_them.append(slow)

    sleep_until(begin)
    for number in range(count):
        come("head" if number % 2 else "body")
    while (now := time.monotonic()) < begin + seconds:
        for descriptor, (at, sent) in list(due.items()):
            if at <= now:
                connection, slow = clients[descriptor]
                due[descriptor] = at + 1, sent + 1
                try:
                    connection.send(HEAD[sent : sent + 1] if slow.part == "head" else b"\xff")
                except OSError:
                    due[descriptor] = float("inf"), sent  # it has been cut off, as reading will tell
        for descriptor, _ in poll.poll(0.05):
            connection, slow = clients[descriptor]
            try:
                data = connection.recv(65_536)
            except OSError:
                data = b""
            if data.startswith(b"HTTP/1.1 "):
                slow.status = int(data[9:12])
            if not data:
                slow.cut, slow.lasted = True, time.monotonic() - slow.made
                connection.close()
                del clients[descriptor], due[descriptor]
                come(slow.part)
    poll.close()
    for connection, slow in clients.values():
        slow.lasted = time.monotonic() - slow.made
        connection.close()
    return all_of_them


def measure(plan: Plan) -> list[Row]:
    requests = drawings()
    with serving.ready(SPIKEHEAD_CLIENT_TIMEOUT=f"{LIMIT:g}") as service, helpers(2) as pool:

        def normal(begin: float, seconds: float) -> np.ndarray:
            tally = pool.submit(closed_loop, service.port, requests, CLIENTS, begin, seconds).result()
            return tally.seconds(200) * 1000

        before = normal(soon(), plan.beside / 2)
        begin = soon()
        slow = pool.submit(trickle, service.port, SLOW, begin, plan.beside + 1)
        beside = normal(begin + 1, plan.beside)
        clients = slow.result()
        after = normal(soon(), plan.beside / 2)
    return [judged(np.concatenate([before, after]), beside, clients)]


def judged(alone: np.ndarray, beside: np.ndarray, slow: list[Slow]) -> Row:
    """The row: latencies in milliseconds, and what became of the slow clients."""
    p99_alone, p99_beside = (float(np.percentile(times, 99)) for times in (alone, beside))
    longest = {
        part: max(client.lasted for client in slow if client.part == part) for part in ("head", "body")
    }
    cut = sum(client.cut for client in slow)
    stayed = sum(client.lasted > LIMIT + GRACE for client in slow)
    answered = sum(client.status == 408 for client in slow)
    return Row(
        f"{SLOW} slow clients beside {CLIENTS}",
        (
            Claim(
                "normal",
                f"p99 {p99_beside:.0f} ms beside them, {p99_alone:.0f} ms alone ({p99_beside / p99_alone:.2f} times)",
                "p99 less than doubled",
                p99_beside < MOST_TIMES * p99_alone,
            ),
            Claim(
                "slow",
                f"{stayed} of {len(slow)} stayed longer than {LIMIT + GRACE:.0f} s "
                f"(longest: {longest['head']:.1f} s in the head, {longest['body']:.1f} s in the body)",
                f"cut off within {LIMIT + GRACE:.0f} s",
                stayed == 0 and cut > 0,
            ),
        ),
        (f"{cut} were cut off, {answered} of them with 408",),
        {
            "p99_alone_ms": p99_alone,
            "p99_beside_ms": p99_beside,
            "longest_s": longest,
            "cut": cut,
            "408": answered,
        },
    )
