"""`spikehead health`, the image's health check: it asks where the settings say that the service listens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import UnixStreamServer

import pytest
from spikehead.cli.probe import NotReadyError, address_of, status
from spikehead.settings import Settings

from tests.service.serving import run, serving


class Handler(BaseHTTPRequestHandler):
    """Answers with what its server holds, and notes what was asked."""

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.path)  # type: ignore[attr-defined]
        self.wfile.write(server.answer)  # type: ignore[attr-defined]

    def log_message(self, *arguments: object) -> None:
        pass


class UnixServer(UnixStreamServer):
    def get_request(self) -> tuple[object, tuple[str, int]]:  # type: ignore[override]
        return self.socket.accept()[0], ("", 0)


def answer_of(code: int, document: object) -> bytes:
    return f"HTTP/1.0 {code} -\r\n\r\n{json.dumps(document)}".encode()


@contextmanager
def answering(server: HTTPServer | UnixServer, answer: bytes) -> Iterator[list[str]]:
    """Yields what is asked."""
    server.asked, server.answer = [], answer  # type: ignore[union-attr]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.asked  # type: ignore[union-attr]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_ready(host: str) -> None:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    settings = Settings(host=host, port=server.server_port, root_path="/digits")
    with answering(server, answer_of(200, {"status": "degraded"})) as asked:
        assert status(settings) == "degraded"
    assert asked == ["/health/ready"]


def test_ready_on_a_unix_socket(tmp_path: Path) -> None:
    path = f"{tmp_path}/socket"
    with answering(UnixServer(path, Handler), answer_of(200, {"status": "ready"})) as asked:
        assert status(Settings(host=f"unix:{path}")) == "ready"
    assert asked == ["/health/ready"]
    with pytest.raises(NotReadyError, match=rf"^expected a service at unix:{path}, got: Connection refused$"):
        status(Settings(host=f"unix:{path}"))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answer_of(503, {"title": "The service is not ready"}), "got status 503: The service is not ready"),
        (answer_of(404, []), "got status 404: no problem document"),
        (b"HTTP/1.0 502 -\r\n\r\n<html>", "got status 502: no problem document"),
        (b"220 mail.example\r\n", "got: 220 mail.example"),
        (b"", "got: Remote end closed connection without response"),
    ],
)
def test_not_ready(answer: bytes, words: str) -> None:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    with answering(server, answer), pytest.raises(NotReadyError) as caught:
        status(Settings(port=server.server_port))
    assert str(caught.value).strip().endswith(words)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("fd00::1", "http://[fd00::1]:8000"),
        ("digits.example", "http://digits.example:8000"),
        ("unix:/run/spikehead", "unix:/run/spikehead"),
    ],
)
def test_addresses(host: str, address: str) -> None:
    assert address_of(Settings(host=host, port=8000)) == address


def test_spikes_are_listed_by_way_of_a_unix_socket(tmp_path: Path) -> None:
    path = f"{tmp_path}/socket"
    with answering(UnixServer(path, Handler), answer_of(200, {"requests": [], "next": None})) as asked:
        assert run("spikes", HOST=f"unix:{path}") == (0, "no requests yet\n", "")
    assert asked == ["/spikes?limit=20"]
    assert run("spikes", HOST=f"unix:{path}")[0] == 5


@pytest.mark.parametrize("host", ["unix:", "unix:socket", "unix:/run/"])
def test_a_unix_socket_needs_a_whole_path(host: str) -> None:
    code, _, told = run("health", HOST=host)
    expected = "expected the absolute path of a unix socket, as in unix:/run/spikehead/http"
    assert (code, told) == (
        2,
        f"spikehead: SPIKEHEAD_HOST: {expected}, got {host!r}\n",
    )


def test_commands_follow_the_port_and_the_root_path(models_folder: Path, tmp_path: Path) -> None:
    own = f"sqlite:///{tmp_path}/records.db"
    with serving(models_folder, ROOT_PATH="/digits", DATABASE_URL=own) as (port, _):
        given = {"PORT": str(port), "ROOT_PATH": "/digits", "HOST": "0.0.0.0"}
        assert run("health", **given) == (0, "ready\n", "")
        assert run("spikes", **given) == (0, "no requests yet\n", "")
    refused = f"spikehead: expected a service at http://127.0.0.1:{port}, got: Connection refused\n"
    assert run("health", **given) == (1, "", refused)
    assert run("health", PORT="eighty")[0] == 2
