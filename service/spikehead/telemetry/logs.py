"""Logs by structlog: one line an event, on standard error, for people or as JSON. Every library's logs go there too.

All lines go through LINES, so that they are in order and nobody waits for who reads them.
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
    "python_multipart": logging.ERROR,  # a warning for each form that is none: clients could fill the log
}
"""Libraries that tell more than anyone asked for, and from which level on they are heard."""


LAST_SECONDS = 1.0
"""The end of a process waits at most that long for its last lines to be read."""


def _standard_error() -> int:
    """Its descriptor. If it was closed at the start another file may have got the number since."""
    return sys.__stderr__.fileno() if sys.__stderr__ else os.open(os.devnull, os.O_WRONLY)


LINES = Lines(_standard_error())
"""Those of this process."""


class _Stream:
    """LINES as structlog and logging write to them."""

    def write(self, text: str) -> None:
        LINES.put(str, text)

    def flush(self) -> None:
        """Nothing: lines are written soon, without anyone waiting for it."""


def _json(event: dict[str, Any], **_: Any) -> str:
    first = {name: event.pop(name, None) for name in ("timestamp", "level", "event")}
    return to_json(first | event, fallback=str).decode()


def renderer(form: Format) -> Callable[[Any, str, EventDict], str]:
    """Makes lines of events."""
    last: Any = structlog.processors.JSONRenderer(_json)
    if form == "console":
        last = structlog.dev.ConsoleRenderer(
            colors=bool(sys.__stderr__ and sys.__stderr__.isatty()), pad_event_to=0
        )
    made: Callable[[Any, str, EventDict], str] = last
    return made


def configure(level: str, form: Format) -> None:
    """Logs from `level` on. To be called once a process, before anything is logged."""
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
    """Waits at most that long until all that was logged so far is written: before an end without `atexit`."""
    return LINES.flush(seconds)
