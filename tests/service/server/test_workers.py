"""The process above the workers: how it tells who is alive, and that it waits for those that start slowly."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from spikehead.server import workers
from spikehead.server.workers import WorkerProcess, Workers
from spikehead.settings import Settings

from tests.service.server.test_ending import count, workers_of
from tests.service.serving import LONG, eventually, heard, serving

START, USUAL = 60.0, 5.0  # seconds: SPIKEHEAD_START_TIMEOUT, and of a worker that serves


class Stub:
    """A process that runs until it is said that it does not."""

    runs = True

    def is_alive(self) -> bool:
        return self.runs


class Dead(Stub):
    """A process that has died."""

    runs, pid, exitcode = False, 0, -9

    def kill(self) -> None:
        """Nothing is left to kill."""

    def join(self) -> None:
        """It has ended."""


class Clock:
    """A time that passes only when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(workers, "time", clock)
    return clock


@pytest.fixture
def worker() -> Iterator[Any]:
    process = WorkerProcess(Settings(start_timeout=START), [])
    process.process = Stub()  # type: ignore[assignment]
    yield process
    process.parent_conn.close()
    process.child_conn.close()


class Serving:
    started = True


def test_one_that_has_died_is_not_alive(worker: Any, clock: Clock) -> None:
    assert worker.is_alive(USUAL)
    worker.process.runs = False
    assert not worker.is_alive(USUAL)


def test_one_that_starts_has_time_until_it_answers(worker: Any, clock: Clock) -> None:
    """Asking never waits: one that is slow keeps nobody from looking at the others."""
    assert worker.is_alive(USUAL)
    clock.now = START
    assert worker.is_alive(USUAL) and not worker.serves
    clock.now = START + 0.1
    assert not worker.is_alive(USUAL)


def test_one_that_loads_its_models_is_alive_and_has_the_same_time_again(worker: Any, clock: Clock) -> None:
    assert worker.is_alive(USUAL)
    clock.now = START
    worker.pong()  # there is no server yet, and none is made
    assert worker._server is None
    assert worker.is_alive(USUAL) and not worker.serves
    assert worker.is_alive(USUAL)  # asks again
    clock.now = 2 * START
    assert worker.is_alive(USUAL)
    clock.now = 2 * START + 0.1
    assert not worker.is_alive(USUAL)


def test_one_that_serves_has_to_answer_soon(worker: Any, clock: Clock) -> None:
    worker._server = Serving()
    assert worker.is_alive(USUAL)
    worker.pong()
    assert worker.is_alive(USUAL) and worker.serves is True
    assert worker.is_alive(USUAL)
    clock.now = USUAL
    assert worker.is_alive(USUAL)
    clock.now = USUAL + 0.1
    assert not worker.is_alive(USUAL)


def test_an_answer_that_lies_there_counts_however_late_it_is_read(worker: Any, clock: Clock) -> None:
    worker._server = Serving()
    assert worker.is_alive(USUAL)
    worker.pong()
    clock.now = 10 * START
    assert worker.is_alive(USUAL)


def test_one_whose_pipe_is_gone_is_not_alive(worker: Any, clock: Clock) -> None:
    worker.parent_conn = Pipe()[0]
    worker.parent_conn.close()
    assert not worker.is_alive(USUAL)


@pytest.mark.slow
def test_workers_whose_start_takes_longer_than_a_ping_start(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process, the one above too, sleeps before it imports anything."""
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(models_folder, WORKERS="2", LOG_FORMAT="json") as (_, process):
        said = heard(process)
        first = workers_of(process.pid)
        eventually(lambda: count(said, b"serving on http://") == 2)
        assert workers_of(process.pid) == first and len(first) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0
    assert count(said, b"killed") == count(said, b"has died") == 0


def test_one_that_does_not_answer_keeps_nobody_from_looking_at_the_others(
    worker: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one stands still, the second one has died: it is replaced before any time has passed."""
    monkeypatch.setattr(
        signal, "signal", lambda *_: None
    )  # its handlers are not for the process of the tests
    monkeypatch.setattr(workers, "_forget_gauges", lambda process: None)
    dead, replacement = WorkerProcess(Settings(), []), object()
    dead.process = Dead()  # type: ignore[assignment]
    above = Workers(Settings(workers=2), [])
    above.processes = [worker, dead]
    monkeypatch.setattr(above, "_started", lambda: replacement)
    above.keep_subprocess_alive()
    assert above.processes == [worker, replacement] and clock.now == 0.0


def test_the_end_comes_although_a_worker_stands_still(models_folder: Path) -> None:
    with serving(models_folder, WORKERS="2", SHUTDOWN_GRACE="3") as (_, process):
        said = heard(process)
        eventually(lambda: count(said, b"serving on http://") == 2)  # both handle SIGTERM
        os.kill(min(workers_of(process.pid)), signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0
        eventually(lambda: count(said, b"has not ended, it is killed"))
