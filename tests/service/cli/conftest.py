"""What the tests of `spikehead classify` and `spikehead spikes` share."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from spikehead.cli.app import app
from spikehead.web.documents import examples
from typer.testing import CliRunner, Result

from tests.service.conftest import band

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, models_folder: Path, tmp_path: Path) -> None:
    """A folder with the picture `four.raw`, an environment that names the tiny model, a terminal of 80 columns."""
    for name in list(os.environ):
        if name.startswith("SPIKEHEAD_") or name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SPIKEHEAD_MODELS", str(models_folder))
    monkeypatch.setenv("SPIKEHEAD_DEFAULT_MODEL", "tiny")
    monkeypatch.setenv("SPIKEHEAD_ENGINE", "onnxruntime")
    monkeypatch.setenv("SPIKEHEAD_LOG_FORMAT", "json")  # as all tests in this process log
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    Path("four.raw").write_bytes(band(4).tobytes())


def run(*arguments: str, given: bytes = b"") -> Result:
    result = CliRunner().invoke(app, arguments, input=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def lines(text: str) -> list[str]:
    """rich fills the last column of a table up with blanks."""
    return [line.rstrip() for line in text.splitlines()]


def answers(result: Result) -> list[dict[str, Any]]:
    """Documents on standard output: one a line, nothing else."""
    return [json.loads(line) for line in result.stdout.splitlines()]


class Service(ThreadingHTTPServer):
    """Answers with what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.status, self.content = 200, b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def says(self, document: Any, status: int = 200) -> None:
        self.status = status
        self.content = document if isinstance(document, bytes) else json.dumps(document).encode()


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def summaries() -> list[dict[str, Any]]:
    unsure = {**examples.SUMMARY, "id": "18a5c0d2f3b4e6a1c2d3e4f6", "model": "tiny", "steps_used": 8}
    unsure |= {"prediction": 3, "confidence": 0.999999, "time": "2026-01-02T03:04:05.678+01:00", "new": [1]}
    return [examples.SUMMARY, unsure]
