"""The stress tests' own parts: verdicts, the table, mutations, and the client against servers that misbehave."""

from __future__ import annotations

import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from benchmarks.stress import contract, killed, mutated, overload, shutdown, slow, soak, start
from benchmarks.stress.__main__ import TESTS, run
from benchmarks.stress.client import (
    CUT,
    REFUSED,
    SMALL,
    UNANSWERED,
    UNSENT,
    WAITING,
    Client,
    Connection,
    Tally,
    _arrivals,
    closed_loop,
    described,
    each_once,
    merged,
    open_loop,
    watch,
)
from benchmarks.stress.plan import QUICK
from benchmarks.stress.requests import post
from benchmarks.stress.verdicts import Claim, Row, not_measured, table
from tests.service.serving import LONG

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll and /proc")

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FULL = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"


@contextmanager
def server(answer: Callable[[int, int], bytes | None], piece: int = 1000) -> Iterator[int]:
    """Answers request number k (from 0) on connection number c with answer(c, k); closes where that is None."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)
    over = threading.Event()

    def receive(connection: socket.socket) -> bytes:
        """What has come; nothing once it is over."""
        while not over.is_set():
            try:
                return connection.recv(65_536)
            except TimeoutError:
                continue
            except OSError:
                break
        return b""

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            connection.settimeout(0.05)
            received, done = b"", 0
            while not over.is_set():
                data = receive(connection)
                received += data
                while b"\r\n\r\n" in received:
                    head, _, received = received.partition(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
                    while len(received) < length and (data := receive(connection)):
                        received += data
                    received = received[length:]
                    sent = answer(number, done)
                    if sent is None:
                        return
                    for begin in range(0, len(sent), piece):
                        connection.sendall(sent[begin : begin + piece])
                        time.sleep(0.002)
                    done += 1
                if not data:
                    return

    threads: list[threading.Thread] = []

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            threads.append(threading.Thread(target=serve, args=(connection, len(threads))))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        over.set()
        accepting.join()
        for thread in threads:
            thread.join()
        listening.close()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def tally(*entries: dict[str, Any]) -> Tally:
    """Entries with what is given; the rest is that of an answer of 200 after 10 ms."""
    made = Tally()
    for number, entry in enumerate(entries):
        connection = Connection(number, 0.0)
        connection.socket.close()
        values = {"due": 0.0, "began": 0.0, "written": 0.0, "made": 0.0, "earlier": 1, "port": 1, **entry}
        for name in ("due", "began", "written", "made", "earlier", "port"):
            setattr(connection, name, values[name])
        made.add(connection, entry.get("status", 200), entry.get("done", connection.began + 0.01))
    return made


class TestClient:
    def test_closed_loop_keeps_its_connections(self) -> None:
        connections = set()

        def answer(connection: int, number: int) -> bytes:
            connections.add(connection)
            return GOOD

        with server(answer) as port:
            found = closed_loop(port, [SMALL], 3, time.monotonic(), 1.0)
        assert set(found.counts()) == {200} and len(found.status) > 10
        assert connections == {0, 1, 2}
        assert sorted(found.number) == list(range(len(found.number)))
        assert max(found.earlier) > 1 and len(set(found.port)) == 3
        assert all(began <= written <= done for began, written, done in zip(
            found.began, found.written, found.done, strict=True
        ))  # fmt: skip

    def test_a_body_larger_than_the_kernel_takes_at_once(self) -> None:
        with server(lambda *_: GOOD) as port:
            found = each_once(port, [post("/", "image/png", bytes(20_000_000))] * 3, 2)
        assert found.counts() == {200: 3}

    def test_an_answer_that_asks_to_close(self) -> None:
        with server(lambda *_: GOOD.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)) as port:
            found = each_once(port, [SMALL] * 4, 1)
        assert found.counts() == {200: 4} and set(found.earlier) == {0} and len(set(found.port)) == 4

    def test_an_answer_in_pieces(self) -> None:
        with server(lambda *_: GOOD, piece=7) as port:
            found = each_once(port, [SMALL] * 3, 1)
        assert found.counts() == {200: 3} and list(found.earlier) == [0, 1, 2]

    @pytest.mark.parametrize(
        ("sent", "status"), [(None, UNANSWERED), (GOOD[:-1], CUT), (GOOD[:30], CUT), (FULL, 429)]
    )
    def test_failures(self, sent: bytes | None, status: int) -> None:
        # the second request ends the connection
        with server(lambda _, number: None if number else sent) as port:
            client = Client(port, 1)
            client.send(SMALL, 0, time.monotonic())
            deadline = time.monotonic() + 0.3
            while not client.tally.status and time.monotonic() < deadline:
                client.poll(0.01)
            for connection in list(client._all.values()):
                connection.socket.send(SMALL)
            assert client.finish(LONG).counts() == {status: 1}

    def test_no_answer(self) -> None:
        with server(lambda *_: b"") as port:
            client = Client(port, 1)
            client.send(SMALL, 0, time.monotonic())
            client.send(SMALL, 1, time.monotonic())
            assert client.finish(0.1).counts() == {WAITING: 1, UNSENT: 1}

    def test_refused(self) -> None:
        found = each_once(closed_port(), [SMALL] * 3, 1)
        assert found.counts() == {REFUSED: 3}

    def test_leaving_after_the_first_refusal(self) -> None:
        began = time.monotonic()
        found = closed_loop(closed_port(), [SMALL], 4, began, LONG, leaving=True)
        assert set(found.counts()) == {REFUSED} and time.monotonic() - began < LONG / 2

    def test_open_loop_waits_for_no_answer(self) -> None:
        with server(lambda connection, _: FULL if connection else b"") as port:
            found = open_loop(port, [SMALL], 100.0, time.monotonic(), 0.5, most=100, seed=1, patience=2)
        sent = len(list(_arrivals(100.0, 0.0, 0.5, 1)))
        assert found.counts() == {WAITING: 1, 429: sent - 1} and sent > 25
        assert min(np.array(found.began) - np.array(found.due)) >= 0

    def test_open_loop_says_what_it_could_not_send(self) -> None:
        with server(lambda *_: b"") as port:
            found = open_loop(port, [SMALL], 100.0, time.monotonic(), 0.3, most=2, seed=1, patience=0.0)
        assert found.counts() == {WAITING: 2, UNSENT: len(list(_arrivals(100.0, 0.0, 0.3, 1))) - 2}

    def test_watch(self) -> None:
        with server(lambda _, number: GOOD if number < 2 else None) as port:
            took = watch(port, time.monotonic(), 0.3, every=0.05)
        assert [math.isinf(seconds) for seconds in took] == [False, False, True] * 2

    def test_merged(self) -> None:
        both = merged([tally({}, {"status": 429}), tally({"status": CUT})])
        assert described(both.counts()) == "200: 1, 429: 1, cut short: 1"

    def test_rate_counts_what_was_answered_in_time(self) -> None:
        found = tally({"done": 1.5}, {"done": 2.5}, {"done": 3.5}, {"done": 2.0, "status": 429})
        assert found.rate(200, 1.0, 3.0) == 1.0


class TestVerdicts:
    GOOD = Claim("goodput", "5/s", "at least 4/s", True)
    BAD = Claim("refusals", "30 ms", "under 20 ms", False)

    def test_a_row_holds_where_all_claims_do(self) -> None:
        assert Row("load", (self.GOOD,)).held and not Row("load", (self.GOOD, self.BAD)).held

    def test_table(self) -> None:
        rows = [Row("load", (self.GOOD, self.BAD), ("a|b",)), Row("other", (self.GOOD,))]
        assert table(rows).splitlines() == [
            "| test | measured | must hold | verdict |",
            "| --- | --- | --- | --- |",
            "| load | goodput 5/s; refusals 30 ms; a\\|b | goodput: at least 4/s; refusals: under 20 ms "
            "| **fails**: refusals |",
            "| other | goodput 5/s | goodput: at least 4/s | holds |",
        ]

    def test_document(self) -> None:
        assert Row("load", (self.BAD,), figures={"x": 1}).document() == {
            "test": "load",
            "held": False,
            "claims": [{"name": "refusals", "measured": "30 ms", "must": "under 20 ms", "held": False}],
            "notes": [],
            "figures": {"x": 1},
        }

    def test_what_cannot_be_measured_does_not_hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: object) -> list[Row]:
            raise RuntimeError("no service")

        monkeypatch.setitem(TESTS, "start", fail)
        monkeypatch.setitem(TESTS, "soak", lambda _: [Row("soak", (self.GOOD,))])
        rows = run(["start", "soak"], QUICK)
        assert [row.held for row in rows] == [False, True]
        assert rows[0] == not_measured("start", "RuntimeError: no service")


def failed(row: Row) -> list[str]:
    return [claim.name for claim in row.claims if not claim.held]


class TestOverload:
    @staticmethod
    def judged(
        served: int = 90, refusal: float = 0.019, liveness: float = 0.09, unsent: int = 0
    ) -> list[str]:
        entries = [{"began": 0.5, "done": 0.6}] * served
        entries += [{"began": 0.5, "done": 0.5 + refusal, "status": 429}] * 300
        entries += [{"status": UNSENT}] * unsent
        return failed(overload.judged("load", 100.0, tally(*entries), [0.01, liveness], 0.0, 1.0, 1.0))

    def test_verdicts(self) -> None:
        assert self.judged() == []
        assert self.judged(served=89) == ["goodput"]
        assert self.judged(refusal=0.021) == ["refusals"]
        assert self.judged(liveness=0.101) == ["liveness"]
        assert self.judged(liveness=math.inf) == ["liveness"]
        assert self.judged(unsent=10) == ["offered"]

    def test_a_service_that_refuses_nothing(self) -> None:
        row = overload.judged("load", 1.0, tally({"done": 0.5}), [0.01], 0.0, 1.0, 1.0)
        assert failed(row) == ["refusals"]


class TestShutdown:
    """The signal comes at 10.0, the socket is gone at 10.5."""

    @staticmethod
    def judged(**entry: Any) -> tuple[int, int, int]:
        found = shutdown.judged_round(tally(entry), 10.0, 10.5, 0, 1.0)
        return found.answered, found.refused, len(found.failures)

    @pytest.mark.parametrize("status", [200, 429])
    def test_answered(self, status: int) -> None:
        assert self.judged(status=status, written=9.0) == (1, 0, 0)
        assert self.judged(status=status, written=10.9) == (1, 0, 0)

    @pytest.mark.parametrize(
        ("status", "written", "made", "earlier", "refused"),
        [
            (REFUSED, math.inf, 10.6, 0, True),
            (UNANSWERED, 9.0, 8.0, 1, False),  # before the signal
            (UNANSWERED, 9.99, 9.98, 0, False),  # the same, on a new connection
            (UNANSWERED, 10.2, 8.0, 1, False),  # before the socket was gone
            (UNANSWERED, 10.2, 10.1, 0, False),  # the same, on a new connection
            (UNANSWERED, 10.49, 10.48, 0, False),  # in the kernel's queue, which is emptied
            (UNANSWERED, 10.51, 8.0, 1, True),  # after it was gone
            (UNANSWERED, math.inf, 8.0, 1, True),  # never sent whole
            (CUT, 10.51, 8.0, 1, False),
            (WAITING, 9.0, 8.0, 1, False),
            (503, 10.2, 8.0, 1, False),
        ],
    )
    def test_what_is_not_answered(
        self, status: int, written: float, made: float, earlier: int, refused: bool
    ) -> None:
        found = self.judged(status=status, written=written, made=made, earlier=earlier)
        assert found == ((0, 1, 0) if refused else (0, 0, 1))

    def test_verdicts(self) -> None:
        good = shutdown.Round(5, 1, (), 0, 2.0, 0.5)
        assert failed(shutdown.judged([good])) == []
        assert failed(shutdown.judged([good, shutdown.Round(5, 1, ("cut short",), 0, 2.0, 0.5)])) == [
            "admitted"
        ]
        for status, seconds in ((-15, 2.0), (None, 16.0), (0, shutdown.GRACE + 0.1)):
            assert failed(shutdown.judged([good, shutdown.Round(5, 1, (), status, seconds, 0.5)])) == ["exit"]

    def test_whether_a_port_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            assert shutdown.listens(port)
        assert not shutdown.listens(port)


class TestKilled:
    def test_whose_requests_failed(self) -> None:
        found = killed.judged_kill(
            tally(
                {"port": 5}, {"port": 5, "status": UNANSWERED}, {"port": 6, "status": CUT}, {"status": 503}
            ),
            {5, 7},
            1.0,
        )
        assert found == killed.Kill(connections=2, lost=1, others={CUT: 1, 503: 1}, answered=1, back=1.0)

    def test_verdicts(self) -> None:
        good = killed.Kill(2, 2, {}, 100, 2.9)
        assert failed(killed.judged([good])) == []
        assert failed(killed.judged([good, killed.Kill(2, 3, {}, 100, 2.9)])) == ["lost"]
        assert failed(killed.judged([good, killed.Kill(2, 2, {CUT: 1}, 100, 2.9)])) == ["others"]
        assert failed(killed.judged([good, killed.Kill(2, 2, {}, 100, math.inf)])) == ["back"]

    def test_who_holds_a_connection(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listening,
            socket.create_connection(listening.getsockname()) as client,
            listening.accept()[0],
        ):
            names = {port: name for name, port in killed.connections(listening.getsockname()[1]).items()}
            assert names.keys() == {client.getsockname()[1]}
            assert set(names.values()) <= killed.sockets(os.getpid())


class TestSlow:
    @pytest.mark.parametrize("last", [5.9, 9.0])
    def test_verdicts(self, last: float) -> None:
        alone = np.linspace(1, 10, 100)
        clients = [slow.Slow("head", 0.0, 5.0, True, 408), slow.Slow("body", 0.0, last, last < 6)]
        row = slow.judged(alone, 1.9 * alone, clients)
        assert failed(row) == ([] if last < 6 else ["slow"])
        assert row.figures["408"] == 1
        assert "normal" in failed(slow.judged(alone, 2.1 * alone, clients))

    def test_nobody_was_cut_off(self) -> None:
        assert failed(
            slow.judged(np.ones(9), np.ones(9), [slow.Slow("head", 0, 1), slow.Slow("body", 0, 1)])
        ) == ["slow"]

    def test_slow_clients_come_again(self) -> None:
        timeout = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
        with socket.create_server(("127.0.0.1", 0)) as listening:
            over = threading.Event()

            def cut() -> None:
                listening.settimeout(0.05)
                while not over.is_set():
                    try:
                        connection, _ = listening.accept()
                    except TimeoutError:
                        continue
                    with connection:
                        connection.recv(1000)
                        time.sleep(0.1)
                        connection.sendall(timeout)

            thread = threading.Thread(target=cut)
            thread.start()
            clients = slow.trickle(listening.getsockname()[1], 2, time.monotonic(), 3.0)
            over.set()
            thread.join()
        gone = [client for client in clients if client.cut]
        assert len(gone) >= 3 and len(clients) == len(gone) + 2
        assert {client.part for client in gone} == {"head", "body"}
        assert {client.status for client in gone} == {408}
        assert all(0 < client.lasted < LONG for client in gone)


class TestMemoryAndStart:
    @pytest.mark.parametrize(("last", "held"), [(101.9, True), (98.1, True), (102.1, False), (97.9, False)])
    def test_soak(self, last: float, held: bool) -> None:
        samples = [(float(at), 50.0 if at < 60 else 100.0 if at < 240 else last) for at in range(300)]
        assert soak.judged(samples, 300.0, 80.0, {200: 24_000}).held is held

    def test_start(self) -> None:
        assert start.judged([1.0, 1.9, 9.0], [199.0]).held
        assert failed(start.judged([1.0, 2.1, 9.0], [199.0, 201.0])) == ["ready", "resident"]


class TestMutated:
    def test_a_number_gives_its_request_again(self) -> None:
        first = [mutated.mutation(number) for number in range(200)]
        assert first == [mutated.mutation(number) for number in range(200)]
        assert len(set(first)) > 190
        assert {request.split(b" ")[1] for request in first} == {b"/classify", b"/classify/batch"}
        for request in first:
            head, _, body = request.partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head

    def test_most_are_changed(self) -> None:
        whole = {data for group in mutated.bodies() for _, _, data in group}
        bodies = [mutated.mutation(number).partition(b"\r\n\r\n")[2] for number in range(500)]
        assert 1 <= sum(body in whole for body in bodies) <= 60

    @pytest.mark.parametrize("change", mutated.MUTATIONS)
    def test_mutations_take_any_body(self, change: Callable[..., bytes]) -> None:
        for seed in range(50):
            random = np.random.default_rng(seed)
            assert isinstance(change(bytes(1 + seed % 3), b"x", random), bytes)

    def test_verdicts(self) -> None:
        counts = {200: 10, 422: 90}
        assert failed(mutated.judged(counts, {}, 100.0, 104.9, 0.1)) == []
        assert failed(mutated.judged(counts, {7: 500}, 100.0, 105.1, 0.1)) == ["answers", "memory"]


class TestContract:
    REPORT: dict[str, Any] = {  # noqa: RUF012
        "failures": [],
        "errors": [],
        "complete": True,
        "operations": {"tested": 14, "total": 14},
        "test_cases": {"generated": 1000},
        "running_time": 60.0,
    }

    def test_verdicts(self) -> None:
        failure = {"title": "Server error", "count": 2, "operations": ["GET /spikes"]}
        assert failed(contract.judged(self.REPORT)) == []
        row = contract.judged({**self.REPORT, "failures": [failure]})
        assert failed(row) == ["failures"] and "Server error (2: GET /spikes)" in row.claims[0].measured
        assert failed(contract.judged({**self.REPORT, "errors": [{"title": "x", "count": 1}]})) == [
            "failures"
        ]
        assert failed(contract.judged({**self.REPORT, "complete": False})) == ["failures"]
        assert failed(contract.judged({**self.REPORT, "operations": {"tested": 13, "total": 14}})) == [
            "operations"
        ]
