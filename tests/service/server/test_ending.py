"""The end: nothing that was begun is lost, and it comes in time."""

from __future__ import annotations

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
from spikehead.server.worker import EXIT_UNFINISHED
from spikehead.settings import Settings

from tests.service.conftest import band
from tests.service.serving import ROOT, ask, environment, serving, until

RAW = {"Content-Type": "application/octet-stream"}
BODY = band(4).tobytes()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_ends_with_0(models_folder: Path, tmp_path: Path, workers: str, end: signal.Signals) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    with serving(models_folder, WORKERS=workers, DATABASE_URL=url) as (port, process):
        until(port, "/health/ready")
        assert ask(port, "POST", "/classify", BODY, RAW)[0] == 200
        began = time.monotonic()
        process.send_signal(end)
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - began < 8  # SPIKEHEAD_SHUTDOWN_GRACE
    with sqlite3.connect(tmp_path / "records.db") as database:
        assert database.execute("SELECT count(*) FROM records").fetchone() == (1,)


def test_it_says_that_it_is_not_ready_and_still_answers(models_folder: Path) -> None:
    with serving(models_folder, DRAIN="2") as (port, process):
        process.send_signal(signal.SIGTERM)
        until(port, "/health/ready", 503)
        status, headers, body = ask(port, "GET", "/health/ready")
        assert (status, json.loads(body)["type"]) == (503, "/problems/shutting-down")
        status, headers, body = ask(port, "POST", "/classify", BODY, RAW)
        assert (status, json.loads(body)["prediction"]) == (200, 4)
        assert headers["connection"] == "close"  # whoever comes again goes elsewhere
        assert ask(port, "GET", "/health/live")[0] == 200
        assert process.wait(timeout=20) == 0
        with pytest.raises(OSError, match=r"refused|reset"):
            ask(port, "GET", "/health/live")


def listens(port: int) -> bool:
    """Tell if there is a listening socket: one that is asked would have a connection more."""
    with Path("/proc/net/tcp").open() as table:
        return any(line.split()[1:4:2] == [f"0100007F:{port:04X}", "0A"] for line in table)


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
    with serving(models_folder, DRAIN="2") as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        assert follow(connection, method, path, body) == 200
        assert connection.sock is not None
        stream = connection.sock.dup()
        process.send_signal(signal.SIGTERM)
        until(port, "/health/ready", 503)
        connection.request(method, path, body, RAW if body else {})
        response = connection.getresponse()
        assert (response.status, response.getheader("connection")) == (200, "close")
        response.read()
        stream.settimeout(1)
        assert stream.recv(1) == b""
        stream.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_sent_on_idle_connections_as_the_end_begins_is_answered(
    models_folder: Path, workers: str
) -> None:
    """The listening socket is gone already: a request that was sent just before arrives now."""
    with serving(models_folder, DRAIN="0", WORKERS=workers) as (port, process):
        until(port, "/health/ready")
        idle = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(8)]
        for connection in idle:
            assert follow(connection, "GET", "/health/live") == 200
        process.send_signal(signal.SIGTERM)
        while listens(port):
            time.sleep(0.002)
        for connection in idle:
            connection.auto_open = False
            assert follow(connection, "POST", "/classify", BODY) == 200
            connection.close()
        assert process.wait(timeout=20) == 0


def test_what_a_client_still_sends_does_not_destroy_its_last_answer(models_folder: Path) -> None:
    """A socket that is closed with something unread on it is reset, and with it what the client has not read."""
    with serving(models_folder) as (port, _), socket.create_connection(("127.0.0.1", port), 20) as client:
        more = threading.Thread(target=client.sendall, args=(bytes(4_000_000),))
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        more.start()
        more.join()
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
        assert statuses.count(503) > 5 and set(statuses) <= {200, 503}
        assert statuses == sorted(statuses)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_person_waits_less_than_a_balancer(models_folder: Path, workers: str, end: signal.Signals) -> None:
    """Ctrl-C drains half a second, SIGTERM as long as the setting says."""
    with serving(models_folder, WORKERS=workers, DRAIN="15", SHUTDOWN_GRACE="60") as (port, process):
        until(port, "/health/ready")
        began = time.monotonic()
        process.send_signal(end)
        assert process.wait(timeout=60) == 0
        assert (time.monotonic() - began < 15) == (end == signal.SIGINT)


def test_the_drain_is_long_enough_for_a_balancer_and_short_enough_for_the_grace() -> None:
    """Three checks, one a second, the first of them up to a second after the signal."""
    assert Settings().drain > 3.5
    assert Settings().shutdown_grace < 10  # `docker stop` waits so long
    assert Settings(shutdown_grace=3).drain_seconds == 1.5  # who shortens the grace alone makes no mistake
    with pytest.raises(ValueError, match="expected SPIKEHEAD_DRAIN under SPIKEHEAD_SHUTDOWN_GRACE"):
        Settings(shutdown_grace=3, drain=4)


def test_a_request_that_is_being_sent_is_answered(models_folder: Path) -> None:
    """Its body comes after the signal, and after the drain."""
    with serving(models_folder, DRAIN="0.2") as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.putrequest("POST", "/classify")
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", "784")
        connection.endheaders(BODY[:400])
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        connection.send(BODY[400:])
        response = connection.getresponse()
        assert response.status == 200 and json.load(response)["prediction"] == 4
        assert process.wait(timeout=20) == 0


def test_under_load_every_request_is_answered(models_folder: Path) -> None:
    """Clients on connections that stay: what was sent before the signal gets its answer."""
    # nobody reads its log meanwhile: a line for each request would fill the pipe
    with serving(models_folder, LOG_LEVEL="warning") as (port, process):
        lost: list[str] = []
        signalled = threading.Event()

        def ask_on() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            while True:
                before = not signalled.is_set()
                try:
                    connection.request("POST", "/classify?record=no", BODY, RAW)
                    response = connection.getresponse()
                    response.read()
                    if response.status != 200:
                        lost.append(f"{response.status}")
                    if response.getheader("connection") == "close":
                        return
                except OSError as error:
                    if before:
                        lost.append(repr(error))
                    return

        threads = [threading.Thread(target=ask_on) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        signalled.set()
        for thread in threads:
            thread.join(timeout=20)
        assert process.wait(timeout=20) == 0
        assert lost == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_at_once(models_folder: Path, workers: str) -> None:
    with serving(models_folder, WORKERS=workers, DRAIN="5", SHUTDOWN_GRACE="10") as (port, process):
        until(port, "/health/ready")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 4
        time.sleep(0.2)
        with pytest.raises(OSError, match=r"refused|reset"):
            ask(port, "GET", "/health/live")


def test_a_client_that_never_ends_does_not_keep_it(models_folder: Path) -> None:
    with (
        serving(models_folder, SHUTDOWN_GRACE="3", CLIENT_TIMEOUT="60") as (port, process),
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        client.sendall(b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nabc")
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - began < 6  # of which the interpreter takes some to end
        client.settimeout(5)
        answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"/problems/shutting-down" in answer
        said = process.stderr.read() if process.stderr else b""
        assert b"given up at the end" in said and b"Traceback" not in said


@pytest.mark.parametrize(("signals", "status"), [(1, 0), (2, 128 + signal.SIGTERM)])
def test_a_log_that_nobody_reads_does_not_keep_it(models_folder: Path, signals: int, status: int) -> None:
    """The pipe is full: requests are answered all the same, and the end comes as it would have."""
    with serving(models_folder, SHUTDOWN_GRACE="3", DRAIN="0.5") as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for _ in range(1_000):  # lines of more than 100 bytes, where a pipe takes 65,536
            connection.request("GET", "/health/live")
            response = connection.getresponse()
            response.read()
            assert response.status == 200
        connection.close()
        began = time.monotonic()
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert process.wait(timeout=20) == status
        assert time.monotonic() - began < 6  # of which the interpreter takes some to end


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_end_writes_every_line(models_folder: Path, workers: str) -> None:
    """Those of the last requests too, whole and once, where several processes write to one pipe."""
    with serving(models_folder, WORKERS=workers, LOG_FORMAT="json", DRAIN="0") as (port, process):
        until(port, "/health/ready")
        told = [f"{number:04}" for number in range(400)]
        read = threading.Thread(target=lambda: said.extend(process.stderr or ()))
        said: list[bytes] = []
        read.start()

        def ask_for(identifiers: list[str]) -> None:
            for identifier in identifiers:
                assert ask(port, "POST", "/classify", BODY, RAW | {"X-Request-ID": identifier})[0] == 200

        threads = [threading.Thread(target=ask_for, args=(told[first::4],)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        read.join(timeout=20)
    lines = [json.loads(line) for line in said]
    seen = [line["id"] for line in lines if line["event"] == "request" and line["id"] in told]
    assert sorted(seen) == told


def test_it_says_that_the_grace_was_over() -> None:
    """The line is written before an end that waits for nothing."""
    code = """
from types import SimpleNamespace
from spikehead.server.worker import Worker
from spikehead.telemetry import logs
logs.configure("info", "json")
Worker._give_up(SimpleNamespace(_settings=SimpleNamespace(shutdown_grace=8.0)))
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60)
    assert ended.returncode == EXIT_UNFINISHED
    assert json.loads(ended.stderr)["event"] == "ended before everything was done: 8 seconds were over"


def test_a_database_that_is_locked_does_not_keep_it(models_folder: Path, tmp_path: Path) -> None:
    """What cannot be written is given up within the grace, and that is an end as it was asked for."""
    file = tmp_path / "records.db"
    with serving(models_folder, SHUTDOWN_GRACE="3", DATABASE_URL=f"sqlite:///{file}") as (port, process):
        assert ask(port, "POST", "/classify?record=required", BODY, RAW)[0] == 200
        other = sqlite3.connect(file)
        other.execute("BEGIN EXCLUSIVE")
        try:
            assert ask(port, "POST", "/classify", BODY, RAW)[0] == 200
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
            assert time.monotonic() - began < 3.5
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
        until(port, "/health/ready")
        while len(before := workers_of(process.pid)) < 2:
            time.sleep(0.05)
        for _ in range(20):
            assert ask(port, "POST", "/classify", BODY, RAW)[0] == 200
        time.sleep(1.5)  # until all has been published
        victim = next(iter(before))
        os.kill(victim, signal.SIGKILL)
        give_up = time.monotonic() + 10
        while len(now := workers_of(process.pid) - {victim}) < 2:
            assert time.monotonic() < give_up
            with suppress(ConnectionResetError):  # of one that the victim had taken
                assert ask(port, "GET", "/health/live")[0] == 200  # the other one goes on
            time.sleep(0.05)
        assert len(now & before) == 1
        for _ in range(20):
            assert ask(port, "POST", "/classify", BODY, RAW)[0] == 200
        time.sleep(1.5)
        text = ask(port, "GET", "/metrics")[2].decode()
        assert 'spikehead_images_total{model="tiny"} 40.0' in text
        assert 'spikehead_requests_total{method="POST",route="/classify",status="200"} 40.0' in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_a_worker_that_finds_a_bad_model_does_not_end_the_others(tmp_path: Path) -> None:
    """A bad model is refused by those that run; who takes the place of one that dies waits until it is mended."""
    from tests.service.conftest import write_model

    models = tmp_path / "models"
    write_model(models)
    card = models / "tiny" / "card.json"
    good = card.read_text()
    with serving(models, WORKERS="2", RELOAD_SECONDS="0") as (port, process):
        until(port, "/health/ready")
        while len(before := workers_of(process.pid)) < 2:
            time.sleep(0.05)
        time.sleep(1.0)
        card.write_text("{")
        os.kill(next(iter(before)), signal.SIGKILL)
        give_up = time.monotonic() + 6  # so long that a second one is tried too
        while time.monotonic() < give_up:
            with suppress(ConnectionResetError):
                assert ask(port, "POST", "/classify", BODY, RAW)[0] == 200
            assert process.poll() is None
            time.sleep(0.05)
        card.write_text(good)
        give_up = time.monotonic() + 20
        while True:
            now = workers_of(process.pid)
            if len(now) == 2 and len(now & before) == 1:
                break
            assert time.monotonic() < give_up
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_workers_end_when_nobody_is_above_them(models_folder: Path) -> None:
    with serving(models_folder, WORKERS="2") as (port, process):
        until(port, "/health/ready")
        process.kill()
        process.wait()
        give_up = time.monotonic() + 15
        while True:
            try:
                ask(port, "GET", "/health/live")
            except OSError:
                break
            assert time.monotonic() < give_up, "the workers still serve"
            time.sleep(0.1)


def test_a_hangup_reloads_in_every_worker(tmp_path: Path) -> None:
    from tests.service.conftest import write_model

    models = tmp_path / "models"
    write_model(models)
    with serving(models, WORKERS="2", RELOAD_SECONDS="0") as (port, process):
        until(port, "/health/ready")
        while len(workers_of(process.pid)) < 2:
            time.sleep(0.05)
        time.sleep(1.0)  # until both have their handlers
        card = models / "tiny" / "card.json"
        card.write_text(json.dumps(json.loads(card.read_text()) | {"version": "9.9.9"}))
        process.send_signal(signal.SIGHUP)
        give_up, streak = time.monotonic() + 15, 0
        while streak < 20:  # whichever worker answers
            answer = json.loads(ask(port, "POST", "/classify", BODY, RAW)[2])
            streak = streak + 1 if answer["model_version"] == "9.9.9" else 0
            assert time.monotonic() < give_up


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
    process = subprocess.Popen(
        [sys.executable, "-m", "service"], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"handled\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, b"serving on" in said) == (0, False)
