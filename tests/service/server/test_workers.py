"""The process above the workers: how it tells who is alive."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import Pipe
from typing import Any

import pytest

from service.server.workers import WorkerProcess


class Stub:
    """A process that runs as often as it is asked, and then does not."""

    def __init__(self, times: int) -> None:
        self._left = times

    def is_alive(self) -> bool:
        self._left -= 1
        return self._left >= 0


@pytest.fixture
def worker() -> Iterator[Any]:
    process = WorkerProcess.__new__(WorkerProcess)
    process.parent_conn, process.child_conn = Pipe()
    process._server = None
    yield process
    process.parent_conn.close()
    process.child_conn.close()


def test_one_that_dies_while_it_is_asked_is_not_waited_for(worker: Any) -> None:
    worker.process = Stub(3)
    assert not worker.is_alive(timeout=600)


def test_one_that_does_not_answer_is_not_alive(worker: Any) -> None:
    worker.process = Stub(10**9)
    assert not worker.is_alive(timeout=0.1)


def test_one_that_loads_its_models_is_alive(worker: Any) -> None:
    worker.process = Stub(10**9)
    worker.parent_conn.send(b"ping")
    worker.pong()  # there is no server yet, and none is made
    assert worker._server is None
    assert worker.is_alive(timeout=600)


def test_one_whose_pipe_is_gone_is_not_alive(worker: Any) -> None:
    worker.process = Stub(10**9)
    worker.parent_conn.close()
    assert not worker.is_alive(timeout=600)
