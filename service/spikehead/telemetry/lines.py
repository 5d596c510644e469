"""Lines of the log on their way to standard error: made and written by a thread of their own, many at a time.

Whoever logs only leaves what a line is to say. `logging.handlers.QueueListener` is no help with that: it takes a record
a line and writes them one by one, which is most of what there is to save, and its queue grows while nobody reads.
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
"""Lines are collected for so long before they are written."""

MOST_WAITING = 10_000
"""Lines that may wait for a reader who is slow, or stuck."""

MOST_BYTES = getattr(select, "PIPE_BUF", 512)
"""Bytes of a write: more would not come through a pipe in one piece if several processes write to it."""

Item = tuple[Callable[..., str], tuple[Any, ...]]


class Lines:
    """Lines of one process, written in the order in which they came.

    Those of the last BATCH_SECONDS are lost if the process is killed. If as many wait as may, or if there is no reader,
    lines are dropped: they are counted, and a line in their place says how many there were.
    """

    def __init__(self, descriptor: int, most_waiting: int = MOST_WAITING) -> None:
        """`descriptor`: of the open file to write to."""
        self._descriptor, self._most_waiting = descriptor, most_waiting
        self.note: Callable[[int], str] = "{} log lines were dropped\n".format
        self.dropped = 0
        self._begin()
        if hasattr(os, "register_at_fork"):  # the thread does not live on in a child
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._untold = 0  # dropped lines that no line has told of yet
        self._lock = threading.RLock()  # the handler of a signal may log in the middle of what is guarded

    def put(self, render: Callable[..., str], *about: Any) -> None:
        """Has a line written: what `render(*about)` returns, which is called in the thread. Never waits."""
        if self._queue.qsize() >= self._most_waiting:
            self._drop(1)
            return
        if self._untold:
            self._tell()
        self._queue.put((render, about))
        if self._thread is None:
            self._start()

    def flush(self, seconds: float) -> bool:
        """Waits at most that long until all lines that came before are written or dropped, and says if they are."""
        if self._thread is None:
            return True
        reached = threading.Event()
        self._queue.put((_reached, (reached,)))
        return reached.wait(seconds)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="log", daemon=True)
                with suppress(RuntimeError):  # there is no room for a thread: the next line tries again
                    thread.start()
                    self._thread = thread

    def _drop(self, lines: int, told: int = 0) -> None:
        """`told`: lines that were dropped before, of which the line that tells was dropped too."""
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
            # no more than what waits now: a process that never stops logging gets to its flushes too
            items.extend(self._queue.get() for _ in range(self._queue.qsize()))
            written = True
            for piece in self._pieces(items):
                written = self._write(*piece)
            for render, about in items:
                if render is _reached:
                    about[0].set()
            if written and self._untold and self._queue.empty():
                self._tell()  # no later line may come that would

    def _pieces(self, items: Iterable[Item]) -> Iterator[tuple[bytes, int, int]]:
        """Whole lines, as many as a write takes; how many they are, and of how many dropped ones they tell."""
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
        """Returns whether the text got out."""
        rest = memoryview(text)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:  # another process that has the file open wants it so
                    select.select([], [self._descriptor], [])
        except OSError:
            self._drop(lines, told)
            return False
        return True


def _reached(event: threading.Event) -> str:
    """Stands in the queue for a flush: no text, and the event is set when all before it is done with."""
    return ""


def _made(render: Callable[..., str], about: tuple[Any, ...]) -> bytes:
    try:
        return render(*about).encode("utf-8", "backslashreplace")
    except Exception:  # the thread and the other lines do not suffer from it
        log.exception("a line of the log could not be made of %r", about)
        return b""
