"""Logs by structlog: one line for each event on standard error, for people or as JSON, also from libraries.

All lines go through LINES, so that they are in order and a slow reader delays no request.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Literal

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict

from spikehead.telemetry.lines import Lines

Format = Literal["console", "json"]

QUIET = {
    "alembic": logging.WARNING,
    "httpx2": logging.WARNING,
    "PIL": logging.WARNING,
    "matplotlib": logging.WARNING,
    # it warns of each malformed form, so that clients could fill the log
    "python_multipart": logging.ERROR,
}
"""Libraries that log too much, and the lowest level that is kept of each."""

LAST_SECONDS = 1.0
"""Most seconds that a process waits at its end for its last lines to be written."""


def _standard_error() -> int:
    """Return its descriptor. If it was closed at the start, another file may have its number by now."""
    return sys.__stderr__.fileno() if sys.__stderr__ else os.open(os.devnull, os.O_WRONLY)


LINES = Lines(_standard_error())
"""The lines of this process."""


class _Stream:
    """LINES as a stream for structlog and logging."""

    def write(self, text: str) -> None:
        LINES.put(str, text)

    def flush(self) -> None:
        """Do nothing: lines are written soon, and no caller waits for it."""


def _json(event: dict[str, Any], **_: Any) -> str:
    first = {name: event.pop(name, None) for name in ("timestamp", "level", "event")}
    return to_json(first | event, fallback=str).decode()


def renderer(form: Format) -> Callable[[Any, str, EventDict], str]:
    """Return the function that renders events as lines."""
    last: Any = structlog.processors.JSONRenderer(_json)
    if form == "console":
        last = structlog.dev.ConsoleRenderer(
            colors=bool(sys.__stderr__ and sys.__stderr__.isatty()), pad_event_to=0
        )
    made: Callable[[Any, str, EventDict], str] = last
    return made


def configure(level: str, form: Format) -> None:
    """Set up logging from `level` on. Call it once in a process, before anything is logged."""
    last = renderer(form)
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    number = logging.getLevelNamesMapping()[level.upper()]
    stream: Any = _Stream()
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                last,
            ],
        )
    )

    def note(lost: int) -> str:
        words = "%d log lines were dropped: standard error did not take them"
        record = logging.LogRecord("spikehead", logging.WARNING, "", 0, words, (lost,), None)
        return handler.format(record) + "\n"

    LINES.note = note
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(number, least))
    atexit.register(LINES.flush, LAST_SECONDS)


def flush(seconds: float) -> bool:
    """Wait at most that long until the lines so far are written: before an end without `atexit`."""
    return LINES.flush(seconds)
