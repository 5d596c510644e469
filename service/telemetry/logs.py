"""Logs by structlog: one line an event, on standard error, for people or as JSON. Every library's logs go there too."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog
from pydantic_core import to_json

Format = Literal["console", "json"]

QUIET = {
    "alembic": logging.WARNING,
    "PIL": logging.WARNING,
    "matplotlib": logging.WARNING,
    "python_multipart": logging.ERROR,  # a warning for each form that is none: clients could fill the log
}
"""Libraries that tell more than anyone asked for, and from which level on they are heard."""


def _json(event: dict[str, Any], **_: Any) -> str:
    first = {name: event.pop(name, None) for name in ("timestamp", "level", "event")}
    return to_json(first | event, fallback=str).decode()


def configure(level: str, form: Format) -> None:
    """Logs from `level` on. To be called once a process, before anything is logged."""
    last: Any
    if form == "json":
        last = structlog.processors.JSONRenderer(_json)
    else:
        last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
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
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(number, least))
