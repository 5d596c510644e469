"""The end: nothing that was begun is lost, and it comes in time."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from spikehead.server import protocol
from spikehead.server.worker import EXIT_UNFINISHED
from spikehead.settings import Settings

from benchmarks.stress.shutdown import listens
from tests.service.conftest import band, write_model
from tests.service.serving import (
    LONG,
    ROOT,
    ask,
    environment,
    eventually,
    heard,
    is_read,
    served,
    serving,
    started,
    until,
)

RAW = {"Content-Type": "application/octet-stream"}
BODY = band(4).tobytes()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_ends_with_0(models_folder: Path, tmp_path: Path, workers: str, end: signal.Signals) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    with serving(models_folder, WORKERS=workers, DATABASE_URL=url) as (port, process):
        until(port, "/health/ready")
        assert ask(port, "POST", "/classify", BODY, RAW)[0] == 200
        process.send_signal(end)
        _, said = process.communicate(timeout=LONG)
    assert process.returncode == 0
    assert b"were over" not in said and b"killed" not in said  # nothing has used up SPIKEHEAD_SHUTDOWN_GRACE
    with sqlite3.connect(tmp_path / "records.db") as database:
        assert database.execute("SELECT count(*) FROM records").fetchone() == (1,)


def test_it_says_that_it_is_not_ready_and_still_answers(models_folder: Path) -> None:
    with serving(models_folder, DRAIN="60") as (port, process):
        process.send_signal(signal.SIGTERM)
        until(port, "/health/ready", 503)
        status, headers, body = ask(port, "GET", "/health/ready")
        assert (status, json.loads(body)["type"]) == (503, "/problems/shutting-down")
        status, headers, body = ask(port, "POST", "/classify", BODY, RAW)
        assert (status, json.loads(body)["prediction"]) == (200, 4)
        assert headers["connection"] == "close"  # whoever comes again goes elsewhere
        assert ask(port, "GET", "/health/live")[0] == 200


def follow(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> int:
    """Asks on a connection that stays, and says with which status it was answered."""
    connection.request(method, path, body, RAW if body else {})
    response = connection.getresponse()
    response.read()
    return response.status


@pytest.mark.parametrize(
    ("method", "path", "body"), [("POST", "/classify", BODY), ("GET", "/health/live", None)]
)
def test_the_last_answer_on_a_connection_says_so(
    models_folder: Path, method: str, path: str, body: bytes | None
) -> None:
    """However it is answered; then the connection is closed, and not before."""
    with serving(models_folder, DRAIN="60") as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
        assert follow(connection, method, path, body) == 200
        assert connection.sock is not None
        stream = connection.sock.dup()
        process.send_signal(signal.SIGTERM)
        until(port, "/health/ready", 503)
        connection.request(method, path, body, RAW if body else {})
        response = connection.getresponse()
        assert (response.status, response.getheader("connection")) == (200, "close")
        response.read()
        stream.settimeout(LONG)
        assert stream.recv(1) == b""
        stream.close()


def test_what_is_sent_on_idle_connections_as_the_end_begins_is_answered(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listening socket is gone already: a request that was sent just before arrives now."""
    assert protocol.LAST_MOMENT >= 0.5
    monkeypatch.setattr(protocol, "LAST_MOMENT", LONG)
    with served(models_folder, tmp_path, shutdown_grace=3 * LONG) as running:
        idle = [http.client.HTTPConnection("127.0.0.1", running.port, timeout=LONG) for _ in range(8)]
        for connection in idle:
            assert follow(connection, "GET", "/health/live") == 200
        running.worker.should_exit = True
        eventually(lambda: not listens(running.port))
        for connection in idle:
            connection.auto_open = False
            assert follow(connection, "POST", "/classify", BODY) == 200
            connection.close()


def test_connections_that_wait_in_the_queue_at_the_end_are_answered(
    models_folder: Path, tmp_path: Path
) -> None:
    """The loop stands still while they come, and then closes its socket at once."""
    with served(models_folder, tmp_path) as running:
        stands, came = threading.Event(), threading.Event()

        async def end() -> None:
            stands.set()
            assert came.wait(LONG)  # nothing else runs in this loop meanwhile
            await running.worker._stop_listening()

        done = asyncio.run_coroutine_threadsafe(end(), running.loop)
        assert stands.wait(LONG)
        clients = [socket.create_connection(("127.0.0.1", running.port), LONG) for _ in range(20)]
        for client in clients:
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        came.set()
        done.result(LONG)
        for client in clients:
            with client:
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.port))


def test_what_a_client_still_sends_does_not_destroy_its_last_answer(models_folder: Path) -> None:
    """A socket that is closed with something unread on it is reset, and with it what the client has not read."""
    with serving(models_folder) as (port, _), socket.create_connection(("127.0.0.1", port), LONG) as client:
        client.sendall(
            b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + bytes(4_000_000)
        )
        answer = b""
        while part := client.recv(65536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.count(b"HTTP/1.1") == 1


def test_health_is_told_until_the_socket_is_gone(models_folder: Path) -> None:
    """Each check is answered, on a connection of its own as balancers make them."""
    with serving(models_folder, DRAIN="1", LOG_LEVEL="warning") as (port, process):
        process.send_signal(signal.SIGTERM)
        statuses = []
        with suppress(ConnectionRefusedError):
            while process.poll() is None:
                statuses.append(ask(port, "GET", "/health/ready")[0])
        assert set(statuses) <= {200, 503} and statuses == sorted(statuses)
        assert process.wait(LONG) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("end", "drain"), [(signal.SIGINT, 2 * LONG), (signal.SIGTERM, 2)])
def test_a_person_waits_less_than_a_balancer(
    models_folder: Path, workers: str, end: signal.Signals, drain: float
) -> None:
    """Ctrl-C drains half a second, SIGTERM as long as the setting says."""
    grace = str(3 * LONG)
    with serving(models_folder, WORKERS=workers, DRAIN=str(drain), SHUTDOWN_GRACE=grace) as (port, process):
        until(port, "/health/ready")
        began = time.monotonic()
        process.send_signal(end)
        assert process.wait(LONG) == 0
        assert end == signal.SIGINT or time.monotonic() - began >= drain


def test_the_drain_is_long_enough_for_a_balancer_and_short_enough_for_the_grace() -> None:
    """Three checks, one a second, the first of them up to a second after the signal."""
    assert Settings().drain > 3.5
    assert Settings().shutdown_grace < 10  # `docker stop` waits so long
    assert Settings(shutdown_grace=3).drain_seconds == 1.5  # who shortens the grace alone makes no mistake
    with pytest.raises(ValueError, match="expected SPIKEHEAD_DRAIN below SPIKEHEAD_SHUTDOWN_GRACE"):
        Settings(shutdown_grace=3, drain=4)


def test_a_request_that_is_being_sent_is_answered(models_folder: Path) -> None:
    """Its body comes after the signal, and after the drain."""
    with serving(models_folder, DRAIN="0.2") as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
        connection.putrequest("POST", "/classify")
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", "784")
        connection.endheaders(BODY[:400])
        eventually(lambda: is_read(connection.sock))
        process.send_signal(signal.SIGTERM)
        eventually(lambda: not listens(port))
        connection.send(BODY[400:])
        response = connection.getresponse()
        assert response.status == 200 and json.load(response)["prediction"] == 4
        assert process.wait(LONG) == 0


def test_under_load_every_request_is_answered(models_folder: Path) -> None:
    """Clients on connections that stay: what was sent before the signal gets its answer."""
    # nobody reads its log meanwhile: a line for each request would fill the pipe
    with serving(models_folder, LOG_LEVEL="warning") as (port, process):
        lost: list[str] = []
        signalled = threading.Event()

        def ask_on() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
            while True:
                sent_before = False
                try:
                    connection.request("POST", "/classify?record=no", BODY, RAW)
                    sent_before = not signalled.is_set()
                    response = connection.getresponse()
                    response.read()
                    if response.status != 200:
                        lost.append(f"{response.status}")
                    if response.getheader("connection") == "close":
                        return
                except OSError as error:
                    if sent_before or not signalled.is_set():
                        lost.append(repr(error))
                    return

        threads = [threading.Thread(target=ask_on) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        signalled.set()
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(LONG)
        assert process.wait(LONG) == 0
        assert lost == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_at_once(models_folder: Path, workers: str) -> None:
    drain, grace = str(2 * LONG), str(3 * LONG)
    with serving(models_folder, WORKERS=workers, DRAIN=drain, SHUTDOWN_GRACE=grace) as (port, process):
        until(port, "/health/ready")
        process.send_signal(signal.SIGTERM)
        until(port, "/health/ready", 503)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 128 + signal.SIGTERM
        eventually(lambda: not listens(port))


def test_a_client_that_never_ends_does_not_keep_it(models_folder: Path) -> None:
    with (
        serving(models_folder, SHUTDOWN_GRACE="8", CLIENT_TIMEOUT=str(2 * LONG)) as (port, process),
        socket.create_connection(("127.0.0.1", port), LONG) as client,
    ):
        client.sendall(b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nabc")
        eventually(lambda: is_read(client))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=LONG)
        answer = client.recv(65536)
    assert process.returncode == 0
    assert answer.startswith(b"HTTP/1.1 503 ") and b"/problems/shutting-down" in answer
    assert b"given up at the end" in said and b"Traceback" not in said


@pytest.mark.parametrize(("signals", "drain", "status"), [(1, "0.5", 0), (2, "60", 128 + signal.SIGTERM)])
def test_a_log_that_nobody_reads_does_not_keep_it(
    models_folder: Path, signals: int, drain: str, status: int
) -> None:
    """The pipe is full: requests are answered all the same, and the end comes as it would have."""
    with serving(models_folder, DRAIN=drain) as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
        for _ in range(1_000):  # lines of more than 100 bytes, where a pipe takes 65,536
            assert follow(connection, "GET", "/health/live") == 200
        connection.close()
        process.send_signal(signal.SIGTERM)
        if signals == 2:
            until(port, "/health/ready", 503)
            process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == status


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_end_writes_every_line(models_folder: Path, workers: str) -> None:
    """Those of the last requests too, whole and once, where several processes write to one pipe."""
    with serving(models_folder, WORKERS=workers, LOG_FORMAT="json", DRAIN="0") as (port, process):
        until(port, "/health/ready")
        told = [f"{number:04}" for number in range(400)]
        said = heard(process)

        def ask_for(identifiers: list[str]) -> None:
            for identifier in identifiers:
                assert ask(port, "POST", "/classify", BODY, RAW | {"X-Request-ID": identifier})[0] == 200

        threads = [threading.Thread(target=ask_for, args=(told[first::4],)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0

        def seen() -> list[str]:
            lines = [json.loads(line) for line in list(said)]
            return sorted(line["id"] for line in lines if line["event"] == "request" and line["id"] in told)

        eventually(lambda: len(seen()) >= len(told))
        assert seen() == told


def test_it_says_that_the_grace_was_over() -> None:
    """The line is written before an end that waits for nothing."""
    code = """
from types import SimpleNamespace
from spikehead.server.worker import Worker
from spikehead.telemetry import logs
logs.configure("info", "json")
Worker._give_up(SimpleNamespace(_settings=SimpleNamespace(shutdown_grace=8.0)))
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=LONG)
    assert ended.returncode == EXIT_UNFINISHED
    assert json.loads(ended.stderr)["event"] == "ended before everything was done: 8 seconds were over"


def test_a_database_that_is_locked_does_not_keep_it(models_folder: Path, tmp_path: Path) -> None:
    """What cannot be written is given up within the grace, and that is an end as it was asked for."""
    file = tmp_path / "records.db"
    with serving(models_folder, SHUTDOWN_GRACE="8", DATABASE_URL=f"sqlite:///{file}") as (port, process):
        assert ask(port, "POST", "/classify?record=required", BODY, RAW)[0] == 200
        other = sqlite3.connect(file)
        other.execute("BEGIN EXCLUSIVE")
        try:
            assert ask(port, "POST", "/classify", BODY, RAW)[0] == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 0
        finally:
            other.close()


def workers_of(process: int) -> set[int]:
    """Ids of the worker processes: those children that serve."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return {
        int(child)
        for child in children
        if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text()
    }


def test_a_worker_that_is_killed_is_replaced(models_folder: Path) -> None:
    """Its figures stay in the sum."""
    with serving(models_folder, WORKERS="2") as (port, process):
        eventually(lambda: len(workers_of(process.pid)) == 2)
        before = workers_of(process.pid)

        def classify(count: int) -> None:
            """Classify 20 pictures. Each worker publishes what it has done within a second."""
            for _ in range(20):
                assert ask(port, "POST", "/classify", BODY, RAW)[0] == 200
            told = (
                'images_total{model="tiny"}',
                'requests_total{method="POST",route="/classify",status="200"}',
            )
            lines = {f"spikehead_{name} {count}.0" for name in told}
            eventually(lambda: lines <= set(ask(port, "GET", "/metrics")[2].decode().splitlines()))

        classify(20)
        victim = next(iter(before))
        os.kill(victim, signal.SIGKILL)

        def is_replaced() -> bool:
            with suppress(ConnectionResetError):  # of one that the victim had taken
                assert ask(port, "GET", "/health/live")[0] == 200  # the other one goes on
            return len(workers_of(process.pid) - {victim}) == 2

        eventually(is_replaced)
        assert len(workers_of(process.pid) & before) == 1
        classify(40)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0


def test_a_worker_that_finds_a_bad_model_does_not_end_the_others(tmp_path: Path) -> None:
    """A bad model is refused by those that run; who takes the place of one that dies waits until it is mended."""
    models = tmp_path / "models"
    write_model(models)
    card = models / "tiny" / "card.json"
    good = card.read_text()
    with serving(models, WORKERS="2", RELOAD_SECONDS="0") as (port, process):
        said = heard(process)
        eventually(lambda: count(said, b"serving on http://") == 2)
        before = workers_of(process.pid)
        card.write_text("{")
        os.kill(next(iter(before)), signal.SIGKILL)

        def were_tried(workers: int) -> bool:
            with suppress(ConnectionResetError):
                assert ask(port, "POST", "/classify", BODY, RAW)[0] == 200
            assert process.poll() is None
            return count(said, b"a worker could not start") >= workers

        eventually(lambda: were_tried(2))
        card.write_text(good)
        eventually(lambda: len(workers_of(process.pid)) == 2 and count(said, b"serving on http://") == 3)
        assert len(workers_of(process.pid) & before) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0


def count(said: list[bytes], what: bytes) -> int:
    """Count the lines that say it."""
    return sum(what in line for line in said)


def test_workers_end_when_nobody_is_above_them(models_folder: Path) -> None:
    with serving(models_folder, WORKERS="2") as (port, process):
        until(port, "/health/ready")
        process.kill()
        process.wait(LONG)
        eventually(lambda: not listens(port))


def test_a_hangup_reloads_in_every_worker(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_model(models)
    with serving(models, WORKERS="2", RELOAD_SECONDS="0") as (port, process):
        said = heard(process)
        eventually(lambda: count(said, b"serving on http://") == 2)  # both have their handlers
        card = models / "tiny" / "card.json"
        card.write_text(json.dumps(json.loads(card.read_text()) | {"version": "9.9.9"}))
        process.send_signal(signal.SIGHUP)

        def version() -> str:
            return str(json.loads(ask(port, "POST", "/classify", BODY, RAW)[2])["model_version"])

        eventually(lambda: {version() for _ in range(20)} == {"9.9.9"})  # whichever worker answers


def test_a_worker_that_cannot_start_ends_all(tmp_path: Path) -> None:
    from tests.service.cli.test_app import refused

    code, message = refused(MODELS=str(tmp_path), WORKERS="2")
    assert code == 4
    assert "expected a model named spiking-mha" in message and "a worker could not start" in message


def test_a_signal_while_it_starts_is_handled(models_folder: Path, tmp_path: Path) -> None:
    """The first process of a container ends by no signal that it does not handle."""
    (tmp_path / "sitecustomize.py").write_text(
        "import signal, sys, threading, time\n"
        "def tell():\n"
        "    while signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, None):\n"
        "        time.sleep(0.001)\n"
        "    print('handled', flush=True)\n"
        "threading.Thread(target=tell, daemon=True).start()\n"
    )
    env = environment(MODELS=str(models_folder), DEFAULT_MODEL="tiny", PORT="0") | {
        "PYTHONPATH": str(tmp_path)
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started([sys.executable, "-m", "service"], cwd=ROOT, env=env, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"handled\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG)
    assert process.returncode == 0
