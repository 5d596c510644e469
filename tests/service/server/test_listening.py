"""Addresses to listen on: the same with one worker and with several, on ports and on unix sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from spikehead.server.listening import ListenError, address_of, listening, plain_address, waiting_at
from spikehead.settings import Settings

from tests.service.serving import LONG, ROOT, ask, environment, eventually, serving, started, until


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def settings(host: str, port: int = 0) -> Settings:
    return Settings(host=host, port=port)


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),
        pytest.param("::", ["127.0.0.1", "::1"], marks=needs_ipv6),
        pytest.param("::1", ["::1"], marks=needs_ipv6),
        ("localhost", ["127.0.0.1"]),
    ],
)
def test_addresses_that_can_be_asked(host: str, asked: list[str]) -> None:
    with listening(settings(host)) as sockets:
        ports = {sock.getsockname()[1] for sock in sockets}
        assert len(ports) == 1
        for sock in sockets:
            sock.listen()
        for address in asked:
            socket.create_connection((address, next(iter(ports)))).close()


def test_a_port_refuses_until_somebody_listens() -> None:
    """So nobody waits at a service that is still loading."""
    with listening(settings("127.0.0.1")) as (sock,), pytest.raises(ConnectionRefusedError):
        socket.create_connection(sock.getsockname())


@pytest.mark.parametrize(
    "host", ["no.such.host.invalid", "192.0.2.1", "a" * 300, "..", "unix:/no/such/folder/s"]
)
def test_an_address_that_is_none(host: str) -> None:
    with pytest.raises(ListenError, match="expected an address that is free to listen on") as found:
        listening(settings(host, 8000)).__enter__()
    assert host in str(found.value)


def test_addresses_as_people_write_them(tmp_path: Path) -> None:
    with listening(settings("127.0.0.1")) as (sock,):
        assert address_of(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"
    with listening(settings(f"unix:{tmp_path}/s")) as (sock,):
        assert address_of(sock) == f"unix:{tmp_path}/s"
    assert plain_address(("::ffff:10.1.2.3", 5)) == ("10.1.2.3", 5)
    assert plain_address(("::ffff:0:102:304", 5)) == ("::ffff:0:102:304", 5)
    assert plain_address(("10.1.2.3", 5)) == ("10.1.2.3", 5)


def test_what_waits_is_taken_in_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        clients = [socket.create_connection(sock.getsockname()) for _ in range(5)]
        taken = list(waiting_at(sock))
        assert [each.getpeername() for each in taken] == [client.getsockname() for client in clients]
        assert list(waiting_at(sock)) == []
        for each in (*clients, *taken):
            each.close()


class TestUnixSocket:
    def test_its_file(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with listening(settings(f"unix:{path}")):
            assert stat.S_ISSOCK(path.stat().st_mode) and stat.S_IMODE(path.stat().st_mode) == 0o666
        assert not path.exists()

    def test_one_that_was_left_behind_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
            dead.listen()
        with listening(settings(f"unix:{path}")), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))

    def test_one_that_is_listened_on_is_not(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with listening(settings(f"unix:{path}")), socket.socket(socket.AF_UNIX) as client:
            with pytest.raises(ListenError, match="Address already in use"):
                listening(settings(f"unix:{path}")).__enter__()
            client.connect(str(path))

    def test_a_file_that_is_no_socket_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "records.db"
        path.write_text("kept")
        with pytest.raises(ListenError, match="there is a file that is no socket"):
            listening(settings(f"unix:{path}")).__enter__()
        assert path.read_text() == "kept"

    def test_the_end_does_not_remove_the_file_of_another(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with listening(settings(f"unix:{path}")):
            path.unlink()
            other = socket.socket(socket.AF_UNIX)
            other.bind(str(path))
        assert path.exists()
        other.close()


@contextmanager
def on_unix_socket(models: Path, path: Path, workers: str) -> Iterator[subprocess.Popen[bytes]]:
    env = environment(
        MODELS=str(models),
        DEFAULT_MODEL="tiny",
        HOST=f"unix:{path}",
        WORKERS=workers,
        DRAIN="0.2",
        SHUTDOWN_GRACE="90",
        TRUSTED_PROXIES="*",
        LOG_FORMAT="json",
    )
    with started([sys.executable, "-m", "service"], cwd=ROOT, env=env, stderr=subprocess.PIPE) as process:
        yield process


def over(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LONG)
        client.connect(str(path))
        client.sendall(request)
        answer = b""
        while part := client.recv(65536):
            answer += part
        return answer


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_unix_socket_is_served(models_folder: Path, tmp_path: Path, workers: str) -> None:
    path = tmp_path / "s"
    with on_unix_socket(models_folder, path, workers) as process:
        eventually(path.exists)
        for kept in (b"", b"X-Forwarded-For: 10.1.2.3\r\n"):
            request = b"GET /health/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n" % kept
            assert over(path, request).startswith(b"HTTP/1.1 200 ")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=LONG)
        assert process.returncode == 0 and not path.exists()
        lines = [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]
        assert f"serving on unix:{path}" in [line["event"] for line in lines]
        assert not [line for line in lines if line["level"] == "error"]


@needs_ipv6
@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_address_of_both_families(models_folder: Path, workers: str) -> None:
    """A client that comes by IPv4 is known by its address of IPv4: the proxy that is trusted."""
    trusted = "127.0.0.1"
    with serving(
        models_folder,
        HOST="::",
        WORKERS=workers,
        TRUSTED_PROXIES=trusted,
        RATE_LIMIT="1/day",
        API_KEYS="",
    ) as (port, _):
        until(port, "/health/ready")
        socket.create_connection(("::1", port)).close()
        seen = [ask(port, "GET", "/models", headers={"X-Forwarded-For": f"10.0.0.{n}"})[0] for n in range(5)]
        assert seen == [200] * 5


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken(models_folder: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        env = environment(MODELS=str(models_folder), DEFAULT_MODEL="tiny", PORT=str(port), WORKERS=workers)
        found = subprocess.run(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=env,
            capture_output=True,
            timeout=LONG,
            check=False,
        )
    assert found.returncode == 3
    expected = "expected an address that is free to listen on (SPIKEHEAD_HOST, SPIKEHEAD_PORT)"
    assert found.stderr.decode() == (f"spikehead: {expected}, got 127.0.0.1 port {port}: {os.strerror(98)}\n")
