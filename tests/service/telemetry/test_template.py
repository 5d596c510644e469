"""A template fills in exactly what structlog's renderer prints."""

from __future__ import annotations

import json
from typing import Any

import pytest
import structlog
from spikehead.telemetry import logs
from spikehead.telemetry.template import Template, printable

FIELDS = {"id": "s", "path": "s", "status": "d", "ms": ".3f"}
AT = 1_795_888_546.000_25
TEXTS = ("plain", "", "/a b", "a=b", "'", '"', "\\", "\t", "\r\n", "%s", "%(id)s", "ä", "数", "100%")


def event(identifier: str, path: str) -> dict[str, Any]:
    stamp = {"timestamp": "2026-11-28T17:55:46.000250Z", "level": "info", "event": "request"}
    return stamp | {"id": identifier, "path": path, "status": 200, "ms": 1.234}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("colors", [False, True])
def test_for_people(text: str, colors: bool) -> None:
    renderer: Any = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0)
    line = Template(renderer, "request", FIELDS).fill(AT, "7", text, 200, 1.2341)
    assert line == renderer(None, "info", event("7", text)) + "\n"


@pytest.mark.parametrize("text", [*TEXTS, "\x00", "\x1b[2J", "\u2028"])
def test_json(text: str) -> None:
    line = Template(logs.renderer("json"), "request", FIELDS).fill(AT, "7", text, 200, 1.2341)
    assert line.endswith("}\n") and line.count("\n") == 1
    assert list(json.loads(line).items()) == list(event("7", text).items())


@pytest.mark.parametrize(("text", "quoted"), [("\x1b[2J", "'\\x1b[2J'"), ("\u202e", "'\\u202e'"), ("é", "é")])
def test_what_a_terminal_would_obey_is_quoted(text: str, quoted: str) -> None:
    assert printable(text) == quoted


def test_the_time_is_that_of_the_event() -> None:
    template = Template(logs.renderer("json"), "tick", {})
    stamps = [json.loads(template.fill(at))["timestamp"] for at in (0.0, 0.999_999, 1.0, 86_400.5, 0.25)]
    assert stamps == [
        "1970-01-01T00:00:00.000000Z",
        "1970-01-01T00:00:00.999999Z",
        "1970-01-01T00:00:01.000000Z",
        "1970-01-02T00:00:00.500000Z",
        "1970-01-01T00:00:00.250000Z",
    ]
