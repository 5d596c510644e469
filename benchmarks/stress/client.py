"""A cheap HTTP client for load: sockets that do not block, one epoll loop, requests that are made beforehand.

It shares the machine with the service, so it does no more than it must: it reads a status, a length and whether
the connection stays. Each request leaves one entry in a `Tally`.

    closed_loop   N clients, each sends as soon as it has its answer
    each_once     each request of a list, on N connections
    open_loop     requests arrive at random times of a given rate, whatever happens to the others
    watch         one question, asked again and again on a connection of its own

All times are of `time.monotonic`, which is the same in all processes.
"""

from __future__ import annotations

import errno
import http.client
import multiprocessing
import resource
import select
import socket
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

REFUSED = -1  # no connection
UNANSWERED = -2  # the connection was closed or reset without a byte of answer
CUT = -3  # an answer that is not complete
WAITING = -4  # no answer when the client stopped waiting
UNSENT = -5  # all connections that the client may have were busy: nothing was sent

FAILURES = {
    REFUSED: "refused",
    UNANSWERED: "without answer",
    CUT: "cut short",
    WAITING: "still waiting",
    UNSENT: "not sent",
}

IDLE = 3.0  # seconds after which a connection is not used again: the service closes idle ones after 5
AT_ONCE = 64  # requests that are sent before answers are looked at
SMALL = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"


def _doubles() -> array[float]:
    return array("d")


def _integers() -> array[int]:
    return array("l")


@dataclass
class Tally:
    """One entry for each request, in the order in which they ended."""

    number: array[int] = field(default_factory=_integers)  # of the request, from 0
    status: array[int] = field(default_factory=_integers)  # of the answer, or one of FAILURES
    due: array[float] = field(default_factory=_doubles)  # when it was to be sent
    began: array[float] = field(default_factory=_doubles)  # when it was
    written: array[float] = field(default_factory=_doubles)  # when it was, completely; else infinite
    done: array[float] = field(default_factory=_doubles)  # when it was answered, or failed
    made: array[float] = field(default_factory=_doubles)  # when its connection was
    earlier: array[int] = field(default_factory=_integers)  # answers on its connection before
    port: array[int] = field(default_factory=_integers)  # the client's side of the connection
    processor: float = 0.0  # seconds that the client used

    def add(self, connection: Connection, status: int, now: float) -> None:
        self.number.append(connection.number)
        self.status.append(status)
        self.due.append(connection.due)
        self.began.append(connection.began)
        self.written.append(connection.written)
        self.done.append(now)
        self.made.append(connection.made)
        self.earlier.append(connection.earlier)
        self.port.append(connection.port)

    def counts(self) -> dict[int, int]:
        """How many of each status."""
        values, counts = np.unique(np.array(self.status), return_counts=True)
        return {int(value): int(count) for value, count in zip(values, counts, strict=True)}

    def seconds(self, *status: int, since_due: bool = False) -> np.ndarray:
        """From the first byte of the request (or from its due time) to the last of the answer, of these statuses."""
        began = np.array(self.due if since_due else self.began)
        seconds: np.ndarray = np.array(self.done) - began
        return seconds[np.isin(np.array(self.status), status)]

    def rate(self, status: int, begin: float, end: float) -> float:
        """Answers a second of a status between two times."""
        done = np.array(self.done)[np.array(self.status) == status]
        return float(((done >= begin) & (done < end)).sum() / (end - begin))


def described(counts: dict[int, int]) -> str:
    """For example `200: 5, 429: 3, cut short: 1`."""
    parts = [f"{FAILURES.get(status, status)}: {count:,}" for status, count in sorted(counts.items())]
    return ", ".join(sorted(parts)) or "none"


class Connection:
    """One connection and the request on it."""

    __slots__ = (
        "began", "blocked", "due", "earlier", "idle", "left", "made", "need", "number", "port", "received",
        "socket", "written",
    )  # fmt: skip

    def __init__(self, number: int, due: float) -> None:
        self.made = time.monotonic()
        self.number, self.due = number, due
        self.began, self.written = self.made, float("inf")
        self.earlier, self.idle, self.blocked = 0, False, False
        self.left, self.received, self.need = b"", b"", -1
        self.port = 0
        self.socket = socket.socket()


class Client:
    """Connections to one port; `send` and `poll` are all there is."""

    def __init__(self, port: int, most: int) -> None:
        self.tally = Tally()
        self.busy = 0
        self.refused = 0
        self._address = ("127.0.0.1", port)
        self._most = most
        self._epoll = select.epoll()
        self._all: dict[int, Connection] = {}
        self._free: list[Connection] = []
        self._processor = time.process_time()

    @property
    def free(self) -> int:
        return len(self._free)

    def send(self, request: bytes, number: int, due: float) -> None:
        """Sends on a free connection, else on a new one; an entry UNSENT where there are too many."""
        connection = self._take(number, due)
        if connection is None:
            return
        self.busy += 1
        connection.left = request
        self._write(connection)

    def poll(self, timeout: float) -> None:
        """Take answers; wait at most `timeout` seconds for the first one."""
        for descriptor, event in self._epoll.poll(max(timeout, 0.0)):
            connection = self._all.get(descriptor)
            if connection is None:
                continue
            if event & select.EPOLLOUT and connection.left:
                self._write(connection)
            if event & ~select.EPOLLOUT and descriptor in self._all:
                self._read(connection)

    def finish(self, patience: float) -> Tally:
        """Waits for what is not answered yet, then closes everything."""
        deadline = time.monotonic() + patience
        while self.busy and (wait := deadline - time.monotonic()) > 0:
            self.poll(min(wait, 0.1))
        for connection in list(self._all.values()):
            if not connection.idle:
                self._end(connection, WAITING)
            else:
                self._close(connection)
        self._epoll.close()
        self.tally.processor = time.process_time() - self._processor
        return self.tally

    def _take(self, number: int, due: float) -> Connection | None:
        now = time.monotonic()
        while self._free:
            connection = self._free.pop()
            if connection.began > now - IDLE:
                connection.idle = False
                connection.number, connection.due = number, due
                connection.began, connection.written = now, float("inf")
                return connection
            self._close(connection)
        connection = Connection(number, due)
        if len(self._all) >= self._most:
            connection.socket.close()
            self.tally.add(connection, UNSENT, connection.made)
            return None
        connection.socket.setblocking(False)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if connection.socket.connect_ex(self._address) not in (0, errno.EINPROGRESS):
            connection.socket.close()
            self.refused += 1
            self.tally.add(connection, REFUSED, connection.made)
            return None
        connection.port = connection.socket.getsockname()[1]
        self._all[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
        return connection

    def _write(self, connection: Connection) -> None:
        try:
            connection.left = connection.left[connection.socket.send(connection.left) :]
        except BlockingIOError:
            pass
        except ConnectionRefusedError:
            self.refused += 1
            self._end(connection, REFUSED)
            return
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # an answer may still be there: reading will tell
                connection.left = b""
        else:
            if not connection.left:
                connection.written = time.monotonic()
        if connection.blocked != bool(connection.left):
            connection.blocked = not connection.blocked
            wanted = select.EPOLLIN | select.EPOLLOUT if connection.blocked else select.EPOLLIN
            self._epoll.modify(connection.socket.fileno(), wanted)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(262_144)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            self.refused += 1
            self._end(connection, REFUSED)
            return
        except OSError:
            data = b""
        if not data:
            if connection.idle:
                self._free.remove(connection)
                self._close(connection)
            else:
                self._end(connection, CUT if connection.received else UNANSWERED)
            return
        connection.received = received = connection.received + data if connection.received else data
        if connection.need < 0:
            head = received.find(b"\r\n\r\n")
            if head < 0:
                return
            at = received.lower().find(b"content-length:", 0, head)
            if at < 0:
                raise RuntimeError(f"expected an answer with a Content-Length, got {received[:head]!r}")
            connection.need = head + 4 + int(received[at + 15 : received.index(b"\r\n", at)])
        if len(received) >= connection.need:
            self._answered(connection)

    def _answered(self, connection: Connection) -> None:
        received = connection.received
        head = received[: received.find(b"\r\n\r\n")].lower()
        now = time.monotonic()
        self.tally.add(connection, int(received[9:12]), now)
        self.busy -= 1
        if connection.left or b"connection: close" in head:
            self._close(connection)
            return
        connection.earlier += 1
        connection.received, connection.need = b"", -1
        connection.idle, connection.began = True, now
        self._free.append(connection)

    def _end(self, connection: Connection, failure: int) -> None:
        self.tally.add(connection, failure, time.monotonic())
        self.busy -= 1
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        del self._all[connection.socket.fileno()]
        connection.socket.close()


def closed_loop(
    port: int,
    requests: Sequence[bytes],
    clients: int,
    begin: float,
    seconds: float,
    patience: float = 10.0,
    leaving: bool = False,
) -> Tally:
    """`clients` requests are under way at any time, from `begin` on.

    leaving: no new connection is made once one was refused; those that are there are used to their end.
    """
    client = Client(port, most=clients)
    number = 0
    sleep_until(begin)
    while (now := time.monotonic()) < begin + seconds:
        while client.busy < clients and (client.free or not (leaving and client.refused)):
            refused = client.refused
            client.send(requests[number % len(requests)], number, now)
            number += 1
            if client.refused > refused:
                time.sleep(0.001)
                break
        if leaving and client.refused and not client.busy and not client.free:
            break
        client.poll(0.02)
    return client.finish(patience)


def each_once(port: int, requests: Sequence[bytes], clients: int, patience: float = 60.0) -> Tally:
    """Each request once, on `clients` connections."""
    client = Client(port, most=clients)
    for number, request in enumerate(requests):
        while client.busy >= clients:
            client.poll(0.1)
        client.send(request, number, time.monotonic())
    return client.finish(patience)


def open_loop(
    port: int,
    requests: Sequence[bytes],
    rate: float,
    begin: float,
    seconds: float,
    most: int,
    seed: int,
    patience: float = 10.0,
) -> Tally:
    """`rate` requests a second at random times (a Poisson process), on at most `most` connections.

    None waits for the answer of another. One that finds all connections busy is not sent, which is an entry too.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    client = Client(port, most)
    for number, due in enumerate(_arrivals(rate, begin, seconds, seed)):
        while (wait := due - time.monotonic()) > 0:
            client.poll(wait)
        client.send(requests[number % len(requests)], number, due)
        if number % AT_ONCE == 0:
            client.poll(0.0)
    return client.finish(patience)


def _arrivals(rate: float, begin: float, seconds: float, seed: int) -> Iterator[float]:
    """Draw arrival times from `begin` on, for `seconds`, with exponentially distributed gaps."""
    random = np.random.default_rng(seed)
    at = begin
    while True:
        for gap in random.exponential(1 / rate, 1024).tolist():
            at += gap
            if at >= begin + seconds:
                return
            yield at


def watch(port: int, begin: float, seconds: float, every: float = 0.2, limit: float = 5.0) -> list[float]:
    """Seconds that GET /health/live took each time, on one connection; infinite without a 200 within `limit`."""
    took = []
    connection: socket.socket | None = None
    for number in range(round(seconds / every)):
        sleep_until(begin + number * every)
        began = time.monotonic()
        try:
            connection = connection or socket.create_connection(("127.0.0.1", port), limit)
            connection.settimeout(limit)
            connection.sendall(SMALL)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            answer.read()
            answer.close()
            if answer.status != 200 or answer.will_close:
                raise ConnectionError(answer.status)
        except (OSError, http.client.HTTPException):
            took.append(float("inf"))
            if connection is not None:
                connection.close()
            connection = None
        else:
            took.append(time.monotonic() - began)
    if connection is not None:
        connection.close()
    return took


@contextmanager
def helpers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for load, started and warm."""
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(time.sleep, 0.3) for _ in range(count)]:
            future.result()
        yield pool


def soon() -> float:
    """A time to begin at: a helper has its requests by then."""
    return time.monotonic() + 0.3


def sleep_until(at: float) -> None:
    """Not at all, where that has passed."""
    time.sleep(max(at - time.monotonic(), 0.0))


def merged(tallies: Iterable[Tally]) -> Tally:
    """Entries of several clients."""
    whole = Tally()
    for tally in tallies:
        for name, value in vars(tally).items():
            if name == "processor":
                whole.processor += tally.processor
            else:
                getattr(whole, name).extend(value)
    return whole
