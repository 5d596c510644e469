"""Several workers: processes that share a listening socket, under one that replaces those that die.

uvicorn's supervisor starts and watches them. What differs: SIGHUP is passed on, so that each worker looks for new
models; the end is one that the workers finish; and their figures are added up.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import socket
import tempfile
import threading
import time
from types import FrameType

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from spikehead.server.worker import ENDING, LAST_WORDS, Worker, app_of, config_of
from spikehead.settings import Settings
from spikehead.telemetry import SHARED, logs

log = logging.getLogger("spikehead")

RETRY_SECONDS = 2.0
"""After which a worker is tried again that could not take the place of another, doubled each time."""

LONGEST_RETRY_SECONDS = 60.0

LOOK_SECONDS = 0.1
"""How long a worker that has died may go unnoticed, about."""

SLOW_END_SECONDS = 1.0
"""That a worker may take to end after its grace."""


class WorkerProcess(Process):
    """One worker as the process above sees it; `target` runs in the worker itself."""

    def __init__(self, settings: Settings, sockets: list[socket.socket]) -> None:
        self._settings, self._above = settings, os.getpid()  # before the process: it takes this object along
        self._asked: float | None = None  # when a ping was sent that is not answered yet
        self.serves = False  # as far as it has said so
        self.reload_wanted = False
        super().__init__(config_of(settings), sockets)

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves on the sockets. Exits with STARTUP_FAILURE where a model cannot be used."""
        from spikehead.model.card import ModelError
        from spikehead.telemetry.traces import TracesError

        settings = self._settings
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the process above passes it on
        logs.configure(settings.log_level, settings.log_format)
        threading.Thread(target=self.always_pong, daemon=True).start()  # alive, however long loading takes
        try:
            server = self._server = Worker(settings, app_of(settings), self._above)
        except (ModelError, TracesError) as error:
            log.error("%s", error)
            raise SystemExit(STARTUP_FAILURE) from None
        server.run(sockets)

    def is_alive(self, timeout: float = 5) -> bool:
        """Tell if it runs, and no ping has been unanswered for too long: for the time to start, until it serves.

        Unlike uvicorn's it never waits: an answer is read the next time.
        """
        if not self.process.is_alive():
            return False
        now = time.monotonic()
        try:
            if self._asked is not None and self.parent_conn.poll():
                self.serves, self._asked = self.parent_conn.recv(), None
            elif self._asked is None:
                self.parent_conn.send(b"ping")
                self._asked = now
        except (OSError, EOFError, pickle.UnpicklingError):
            return False
        patience = timeout if self.serves else self._settings.start_timeout
        return self._asked is None or now - self._asked <= patience

    def reload(self) -> None:
        """Has it look for new models, if that is wanted. Before it serves, it would die of the signal."""
        if self.reload_wanted and self.pid is not None:
            self.reload_wanted = False
            os.kill(self.pid, signal.SIGHUP)

    def pong(self) -> None:
        """Answers a ping with whether it serves. uvicorn's would make a server of its own while ours is loading."""
        self.child_conn.recv()
        self.child_conn.send(self._server is not None and self._server.started)


def _forget_gauges(process: int) -> None:
    """What a dead worker had in hand does not count any more; what it had done does."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(process)  # type: ignore[no-untyped-call]


class _Looks(threading.Event):
    """The event of the end, waited for in short turns: uvicorn looks at its workers between two of them."""

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(LOOK_SECONDS if timeout is None else min(timeout, LOOK_SECONDS))


class Workers(Multiprocess):
    """`run` returns at the end; then `failed` says whether none could start."""

    processes: list[WorkerProcess]  # type: ignore[assignment]

    def __init__(self, settings: Settings, sockets: list[socket.socket]) -> None:
        self._settings = settings
        self._interrupted = False
        self.failed = False
        self._empty: dict[int, float] = {}  # place whose worker could not start -> when to try again
        self._waits: dict[int, float] = {}  # place -> how long it waited for that
        super().__init__(config_of(settings), sockets)
        self.should_exit = _Looks()
        for sig in ENDING:
            signal.signal(sig, self._end)

    def run(self) -> None:
        """Until a signal, or until no worker can start."""
        with tempfile.TemporaryDirectory(prefix="spikehead-metrics-") as folder:
            os.environ[SHARED] = folder
            super().run()
        log.info("all workers have ended")

    def init_processes(self) -> None:
        self.processes = [self._started() for _ in range(self.processes_num)]

    def keep_subprocess_alive(self) -> None:
        """Replaces workers that have died or do not answer any more.

        One that cannot start, because a model on disk cannot be used, is tried again: the others go on with what
        they have. Where there are no others, that is the end.
        """
        for index, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if index in self._empty:
                if time.monotonic() >= self._empty[index]:
                    del self._empty[index]
                    self.processes[index] = self._started()
                continue
            if process.is_alive(timeout=self.config.timeout_worker_healthcheck):
                if process.serves:
                    self._waits.pop(index, None)
                    process.reload()
                continue
            if process.process.is_alive():
                log.error("worker %d does not answer, it is killed", process.pid)
            process.kill()
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                wait = min(2 * self._waits.get(index, RETRY_SECONDS / 2), LONGEST_RETRY_SECONDS)
                self._waits[index], self._empty[index] = wait, time.monotonic() + wait
                if len(self._empty) == len(self.processes):
                    self.failed = True
                    self.should_exit.set()
                    return
                log.error("a worker could not start: another one is tried in %g seconds", wait)
                continue
            if self.should_exit.is_set():
                return
            log.error("worker %d has died (%s), another one takes its place", process.pid, process.exitcode)
            if process.pid is not None:
                _forget_gauges(process.pid)
            self.processes[index] = self._started()

    def terminate_all(self) -> None:
        """Workers end by themselves: nobody but them listens from here on."""
        for sock in self.sockets:
            sock.close()
        if self._interrupted:  # before SIGTERM: it says that a person waits
            for process in self.processes:
                if process.pid is not None and process.process.is_alive():
                    os.kill(process.pid, signal.SIGINT)
        super().terminate_all()

    def join_all(self) -> None:
        """Waits until all have ended; one that does not within the grace, as it ends by itself, stands still."""
        give_up = time.monotonic() + self._settings.shutdown_grace + SLOW_END_SECONDS
        for process in self.processes:
            process.process.join(max(give_up - time.monotonic(), 0.0))
            if process.process.is_alive():
                log.error("worker %d has not ended, it is killed", process.pid)
                process.process.kill()
                process.join()

    def handle_hup(self) -> None:
        """Each worker looks for new models, as soon as it serves."""
        for process in self.processes:
            process.reload_wanted = True

    def _started(self) -> WorkerProcess:
        process = WorkerProcess(self._settings, self.sockets)
        process.start()
        return process

    def _end(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, a second one is the end."""
        if not self.should_exit.is_set():
            log.info("ending: the workers finish what is in flight")
            self._interrupted = sig == signal.SIGINT
            self.should_exit.set()
            return
        for process in self.processes:
            process.process.kill()
        shutil.rmtree(os.environ.get(SHARED, ""), ignore_errors=True)
        logs.flush(LAST_WORDS)
        os._exit(128 + sig)
