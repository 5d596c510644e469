"""The command: serves, and refuses to start with a clear message where it cannot."""

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from spikehead.cli.app import EXIT_MODEL, EXIT_SETTINGS

from tests.service.cli.conftest import run as run_here
from tests.service.conftest import band, write_model
from tests.service.serving import LONG, run, serving


def refused(*arguments: str, **settings: str) -> tuple[int, str]:
    code, printed, said = run(*arguments, **settings)
    assert "Traceback" not in said
    assert printed == ""
    return code, said


def test_hash_that_does_not_match(tmp_path: Path) -> None:
    graph = write_model(tmp_path) / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[-1] ^= 1
    graph.write_bytes(data)
    code, message = refused(MODELS=str(tmp_path), DEFAULT_MODEL="tiny")
    assert code == EXIT_MODEL != 0
    assert message.startswith(f"spikehead: expected {graph} with sha256 ")
    assert "(from its card), found " in message


def test_no_models(tmp_path: Path) -> None:
    code, message = refused("serve", MODELS=str(tmp_path))
    assert code == EXIT_MODEL
    assert message == "spikehead: expected a model named spiking-mha (SPIKEHEAD_DEFAULT_MODEL), found none\n"


def test_wrong_setting() -> None:
    code, message = refused(PORT="eighty")
    assert code == EXIT_SETTINGS != 0
    assert message.startswith("spikehead: SPIKEHEAD_PORT: ") and message.endswith("got 'eighty'\n")


def warnings(**settings: str) -> list[str]:
    """Lines that a command says of its settings."""
    _, _, said = run("classify", "nothing.png", **settings)
    return [line for line in said.splitlines() if "SPIKEHEAD_" in line]


def test_a_service_of_kubernetes_named_spikehead_is_said_in_one_line(models_folder: Path) -> None:
    link = "tcp://10.0.0.1:8000"
    links = {"SERVICE_HOST": "10.0.0.1", "SERVICE_PORT": "8000", "SERVICE_PORT_HTTP": "8000", "PORT": link}
    links |= {"PORT_8000_TCP": link, "PORT_8000_TCP_PROTO": "tcp", "PORT_8000_TCP_PORT": "8000"}
    links |= {"PORT_8000_TCP_ADDR": "10.0.0.1"}
    found = warnings(MODELS=str(models_folder), DEFAULT_MODEL="tiny", **links)
    assert found == [
        "spikehead: SPIKEHEAD_PORT: expected a port, got tcp://10.0.0.1:8000, which Kubernetes sets for a Service "
        "named spikehead: it is ignored"
    ]


def test_variables_that_are_no_setting_are_named(models_folder: Path) -> None:
    found = warnings(MODELS=str(models_folder), DEFAULT_MODEL="tiny", HTTP_PORT="8001", LOG_LEVEL="")
    assert found == ["spikehead: SPIKEHEAD_HTTP_PORT is not a setting of the service: it is ignored"]


def test_wrong_database(models_folder: Path) -> None:
    url = "mysql://someone:secret@host/records"
    code, message = refused("serve", MODELS=str(models_folder), DEFAULT_MODEL="tiny", DATABASE_URL=url)
    assert code == EXIT_SETTINGS
    expected = "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME, got mysql"
    assert message == f"spikehead: SPIKEHEAD_DATABASE_URL: {expected}\n"


def test_wrong_command() -> None:
    code, message = refused("dance")
    assert code == 2 and "dance" in message


@pytest.fixture(scope="module")
def server(models_folder: Path) -> Iterator[int]:
    with serving(models_folder, MAX_BODY="65536") as (port, _):
        yield port


def test_serves(server: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server, timeout=LONG)
    connection.request(
        "POST", "/classify?seed=7", band(4).tobytes(), {"Content-Type": "application/octet-stream"}
    )
    response = connection.getresponse()
    assert response.status == 200 and json.load(response)["prediction"] == 4
    assert "server" not in response.headers
    connection.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies_get_their_answer_and_the_connection_goes_on(server: int, chunked: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server, timeout=LONG)
    body = iter([bytes(65536)] * 48) if chunked else bytes(3 * 1024 * 1024)
    connection.request("POST", "/classify", body, {"Content-Type": "image/png"}, encode_chunked=chunked)
    response = connection.getresponse()
    assert response.status == 413
    assert json.load(response)["type"] == "/problems/body-too-large"
    connection.request("GET", "/health/live")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_body_that_never_comes_is_not_waited_for(server: int) -> None:
    with socket.create_connection(("127.0.0.1", server), timeout=LONG) as client:
        client.sendall(b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_goes_away_does_no_harm(server: int) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server), timeout=LONG) as client:
            client.sendall(b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 784\r\n\r\nabc")
    connection = http.client.HTTPConnection("127.0.0.1", server, timeout=LONG)
    connection.request("GET", "/health/ready")
    assert connection.getresponse().status == 200
    connection.close()


def test_unusual_requests_get_no_500(server: int) -> None:
    requests = [
        b"GET /%ff%fe HTTP/1.1\r\nHost: [::\r\n\r\n",
        b"GET //evil.example/%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /spikes?before=%ff&limit=%ff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /classify?%ff=%00 HTTP/1.1\r\nHost: \r\nContent-Type: \xff;boundary=\xff\r\nContent-Length: 1\r\n\r\nx",
        b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary*=x\r\n"
        b"Content-Length: 1\r\n\r\nx",
    ]
    for request in requests:
        with socket.create_connection(("127.0.0.1", server), timeout=LONG) as client:
            client.sendall(request)
            status = int(client.recv(65536).split(b" ")[1])
            assert 400 <= status < 500, request


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\nx",
        b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nx",
        b"POST /classify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx",
        b"no http at all\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_a_problem_too(server: int, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server), timeout=LONG) as client:
        client.sendall(request_bytes)
        answer = b""
        while part := client.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"application/problem+json" in head
    document = json.loads(body)
    assert document["type"] == "/problems/malformed-request"
    assert f"x-request-id: {document['request_id']}".encode() in head


def test_a_hangup_before_there_are_models_is_not_the_end() -> None:
    """As who deploys may send it right after the start."""
    program = """
import os, signal
from spikehead.cli import app

def serve(settings, sockets):
    os.kill(os.getpid(), signal.SIGHUP)
    print("alive")

app._serve_alone = serve
app.serve(None, 0)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert (found.returncode, found.stdout) == (0, "alive\n")


def test_a_signal_whose_exception_is_lost_is_the_end_all_the_same() -> None:
    """As `compile` loses it, which imports call. Afterwards nothing but SIGKILL would end a service that starts."""
    program = """
import os, signal, time
from contextlib import suppress
from spikehead.cli import app as main

def serve(settings, sockets):
    with suppress(SystemExit):
        os.kill(os.getpid(), signal.SIGTERM)
    print("lost", flush=True)
    time.sleep(999)

main._serve_alone = serve
main.serve(None, 0)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert (found.returncode, found.stdout) == (0, "lost\n")


def test_exit_codes_are_in_the_help() -> None:
    for command, codes in (("classify", "0 1 2 4 130"), ("spikes", "0 2 5 130")):
        text = " ".join(run_here(command, "--help").stdout.split())
        assert "Exit codes: " in text
        for code in codes.split():
            assert f" {code} " in text[text.index("Exit codes: ") :]
