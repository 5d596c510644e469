"""Lines of the log, rendered and written to standard error by a thread of their own, many at a time.

Logging only queues the values of a line. `logging.handlers.QueueListener` would not do: it writes a record at a time,
which costs the most, and its queue has no limit.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

log = logging.getLogger("spikehead")

BATCH_SECONDS = 0.05
"""Seconds for which lines are collected before they are written."""

MOST_WAITING = 10_000
"""Most lines that wait for a slow or stuck reader."""

MOST_BYTES = getattr(select, "PIPE_BUF", 512)
"""Most bytes of a write: a pipe may mix larger writes of several processes."""

Item = tuple[Callable[..., str], tuple[Any, ...]]


class Lines:
    """Lines of one process, written in the order in which they came.

    Those of the last BATCH_SECONDS are lost if the process is killed. If `most_waiting` wait, or if there is no reader,
    lines are dropped; they are counted, and a line in their place says how many.
    """

    def __init__(self, descriptor: int, most_waiting: int = MOST_WAITING) -> None:
        """`descriptor`: that of the open file to write to."""
        self._descriptor, self._most_waiting = descriptor, most_waiting
        self.note: Callable[[int], str] = "{} log lines were dropped\n".format
        self.dropped = 0
        self._begin()
        # a child process does not have the thread
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._untold = 0  # dropped lines that are not reported yet
        # reentrant, because the handler of a signal may log while the lock is held
        self._lock = threading.RLock()

    def put(self, render: Callable[..., str], *about: Any) -> None:
        """Queue a line, which the thread makes by `render(*about)`. Never waits."""
        if self._queue.qsize() >= self._most_waiting:
            self._drop(1)
            return
        if self._untold:
            self._tell()
        self._queue.put((render, about))
        if self._thread is None:
            self._start()

    def flush(self, seconds: float) -> bool:
        """Wait at most that long until all earlier lines are written or dropped, and tell if they are."""
        if self._thread is None:
            return True
        reached = threading.Event()
        self._queue.put((_reached, (reached,)))
        return reached.wait(seconds)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="log", daemon=True)
                # if no thread can be started now, the next line tries again
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def _drop(self, lines: int, told: int = 0) -> None:
        """Count dropped lines; `told`: lines dropped earlier, whose report was dropped too."""
        with self._lock:
            self.dropped += lines
            self._untold += lines + told

    def _tell(self) -> None:
        with self._lock:
            count, self._untold = self._untold, 0
        if count:
            self._queue.put((self.note, (count,)))

    def _run(self) -> None:
        while True:
            items = [self._queue.get()]
            if items[0][0] is not _reached:
                time.sleep(BATCH_SECONDS)
            # no more than wait now, so that flushes end even if logging never stops
            items.extend(self._queue.get() for _ in range(self._queue.qsize()))
            written = True
            for piece in self._pieces(items):
                written = self._write(*piece)
            for render, about in items:
                if render is _reached:
                    about[0].set()
            if written and self._untold and self._queue.empty():
                # there may be no later line to report it
                self._tell()

    def _pieces(self, items: Iterable[Item]) -> Iterator[tuple[bytes, int, int]]:
        """Yield the text of a write, the number of its lines, and the number of dropped ones that they report."""
        made: list[bytes] = []
        size = lines = told = 0
        for render, about in items:
            line = _made(render, about)
            if made and size + len(line) > MOST_BYTES:
                yield b"".join(made), lines, told
                made, size, lines, told = [], 0, 0, 0
            made.append(line)
            size += len(line)
            if render is self.note:
                told += about[0]
            else:
                lines += bool(line)
        yield b"".join(made), lines, told

    def _write(self, text: bytes, lines: int, told: int) -> bool:
        """Write a text, and tell if it was written."""
        rest = memoryview(text)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                # another process with the same file open has made it non-blocking
                except BlockingIOError:
                    select.select([], [self._descriptor], [])
        except OSError:
            self._drop(lines, told)
            return False
        return True


def _reached(event: threading.Event) -> str:
    """Mark a flush in the queue. It has no text; the event is set when all earlier lines are done."""
    return ""


def _made(render: Callable[..., str], about: tuple[Any, ...]) -> bytes:
    try:
        return render(*about).encode("utf-8", "backslashreplace")
    # one bad line must not stop the thread
    except Exception:
        log.exception("a line of the log could not be rendered from %r", about)
        return b""
