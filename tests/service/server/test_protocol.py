"""Slow clients on the wire: cut off in time, and they slow nobody down."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from spikehead.server.protocol import ProblemProtocol
from spikehead.settings import Settings
from starlette.types import Receive, Scope, Send

from tests.service.conftest import band
from tests.service.serving import LONG, ask, eventually, served, serving

LIMIT = (
    3.0  # seconds: a client that is not slow takes far less, on a machine that does other things besides too
)
HEAD = b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: 784\r\n\r\n"


@pytest.fixture(scope="module")
def server(models_folder: Path) -> Iterator[int]:
    """A service that has patience."""
    with serving(models_folder) as (port, _):
        yield port


@pytest.fixture(scope="module")
def impatient(models_folder: Path) -> Iterator[int]:
    with serving(models_folder, CLIENT_TIMEOUT=str(LIMIT)) as (port, _):
        yield port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LONG)


def everything(client: socket.socket) -> bytes:
    """Read until the server closes."""
    answer = b""
    while part := client.recv(65536):
        answer += part
    return answer


def answer_of(client: socket.socket) -> bytes:
    """One answer, as long as its head says."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(1)
    length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while length:
        part = client.recv(length)
        answer, length = answer + part, length - len(part)
    return answer


def drip(client: socket.socket, data: bytes) -> None:
    """Send a byte each tenth of a second."""
    for byte in data:
        client.sendall(bytes([byte]))
        time.sleep(0.1)


def cut_off(port: int, begun: bytes, dripping: bool) -> tuple[float, bytes | None]:
    """Seconds until a request that does not come is cut off, and its answer, which one who goes on may not see."""
    began = time.monotonic()
    with connect(port) as client:
        client.sendall(begun)
        if dripping:
            with pytest.raises(ConnectionError):  # before all has been sent
                drip(client, (HEAD + bytes(784))[len(begun) :])
        answer = None
        with suppress(ConnectionError):
            answer = everything(client)
    return time.monotonic() - began, answer


def test_a_request_that_does_not_come(impatient: int) -> None:
    """That bytes keep coming does not help."""
    ways = list(product([b"", b"POST /cl", HEAD[:-2], HEAD, HEAD + bytes(500)], [False, True]))
    with ThreadPoolExecutor(len(ways)) as pool:  # at the same time: each waits for the limit
        found = list(pool.map(lambda way: cut_off(impatient, *way), ways))
    for (begun, dripping), (took, answer) in zip(ways, found, strict=True):
        assert took >= LIMIT
        if not begun and not dripping:
            assert answer == b""  # it has never spoken: there is nothing to answer
            continue
        assert answer is not None or dripping
        if answer is None:
            continue
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n") and b"connection: close" in head
        assert json.loads(body)["type"] == "/problems/too-slow"


def lines_of(process: subprocess.Popen[bytes]) -> list[dict[str, object]]:
    """What a service has logged as JSON, once it has ended."""
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=LONG)
    return [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]


def test_what_is_cut_off_is_logged_as_it_is_answered(models_folder: Path) -> None:
    with serving(models_folder, CLIENT_TIMEOUT=str(LIMIT), LOG_FORMAT="json", DRAIN="0") as (port, process):
        with connect(port) as client:
            client.sendall(HEAD.replace(b"Host", b"X-Request-ID: mine-7\r\nHost") + b"abc")
            slow = everything(client)
        with connect(port) as client:
            client.sendall(b"GARBAGE\r\n\r\n")
            garbage = everything(client)
        logged = {line["id"]: line for line in lines_of(process) if line["event"] == "request"}
    for answer, status in ((slow, 408), (garbage, 400)):
        head = answer.partition(b"\r\n\r\n")[0].decode().lower()
        assert head.startswith(f"http/1.1 {status} ") and "x-content-type-options: nosniff" in head
        identifier = head.partition("x-request-id: ")[2].split("\r\n")[0]
        assert logged[identifier]["status"] == status
    assert b"X-Request-ID: mine-7\r\n" in slow
    assert (logged["mine-7"]["problem"], logged["mine-7"]["route"]) == ("too-slow", "/classify")
    assert len(logged) == 2


def too_slow(metrics: bytes) -> float:
    """How many were cut off."""
    name = b'spikehead_refused_total{reason="too_slow"} '
    return next(float(line[len(name) :]) for line in metrics.splitlines() if line.startswith(name))


def test_a_slow_request_after_one_in_progress_does_not_take_its_answer(
    models_folder: Path, tmp_path: Path
) -> None:
    """The first waits for its turn longer than the client may take; the second one's head never ends."""
    with served(models_folder, tmp_path, client_timeout=LIMIT, max_queue=1) as running:
        running.admission.working = 1  # somebody works
        with connect(running.port) as client:
            client.sendall(HEAD + band(4).tobytes() + b"POST /cl")
            metrics = running.worker._app.state.service.metrics
            eventually(lambda: too_slow(metrics.exposition()))
            running.loop.call_soon_threadsafe(running.admission.leave)
            assert answer_of(client).startswith(b"HTTP/1.1 200 ")
            assert everything(client) == b""


def test_a_slow_second_request_is_cut_off_too(impatient: int) -> None:
    with connect(impatient) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer_of(client).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"GET /hea")
        assert everything(client).startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_is_used_again_and_again_stays(impatient: int) -> None:
    """Longer than the limit, which each request has for itself."""
    with connect(impatient) as client:
        for pause in (0.6 * LIMIT, 0.6 * LIMIT, 0.0):
            client.sendall(HEAD + band(4).tobytes())
            assert answer_of(client).startswith(b"HTTP/1.1 200 ")
            time.sleep(pause)


def test_an_answer_that_is_not_read(impatient: int) -> None:
    """plotly's script is far more than any buffer between here and there."""
    before = too_slow(ask(impatient, "GET", "/metrics")[2])
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(LONG)
        client.connect(("127.0.0.1", impatient))
        client.sendall(b"GET /page/plotly.js HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        eventually(lambda: too_slow(ask(impatient, "GET", "/metrics")[2]) > before)
        size = 0
        with suppress(ConnectionResetError):
            while part := client.recv(65536):
                size += len(part)
        assert size < 4_000_000  # of nearly 5: what the kernel holds


def test_reading_an_answer_does_not_buy_time_for_a_body(impatient: int) -> None:
    """The head of a second request comes with the first, and the rest of it never."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(LONG)
        client.connect(("127.0.0.1", impatient))
        client.sendall(b"GET /page/plotly.js HTTP/1.1\r\nHost: a\r\n\r\n" + HEAD)
        with suppress(ConnectionResetError):
            answers = everything(client)
    assert answers.startswith(b"HTTP/1.1 200 ")


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"


def chunked(body: bytes) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("piece", [1, 50, 300, 10_000])
@pytest.mark.parametrize("how", ["length", "chunked"])
def test_an_offer_of_another_protocol_is_passed_over(server: int, how: str, piece: int) -> None:
    """As Java's clients and `curl --http2` make it. The body arrives, and the connection stays."""
    body = band(4).tobytes()
    head = b"POST /classify?seed=1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n" + OFFER
    sized = b"Content-Length: 784\r\n\r\n" + body
    request = head + (sized if how == "length" else chunked(body))
    with connect(server) as client:
        for _ in range(2):
            for start in range(0, len(request), piece):
                client.sendall(request[start : start + piece])
            answer = answer_of(client)
            assert answer.startswith(b"HTTP/1.1 200 ") and b'"prediction":4' in answer
        client.sendall(request + b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + OFFER + b"\r\n")
        assert answer_of(client).startswith(b"HTTP/1.1 200 ")
        assert answer_of(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (
            b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n",
            b"200",
        ),
        (b"GET /health/live HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b"200"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + OFFER + b"Content-Length: x\r\n\r\n", b"400"),
    ],
)
def test_offers_that_end_with_the_answer(server: int, request_: bytes, status: bytes) -> None:
    with connect(server) as client:
        client.sendall(request_)
        assert everything(client).startswith(b"HTTP/1.1 %b " % status)


def get(headers: bytes, path: bytes = b"/health/live") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path, headers)


LARGE = {
    "one header": b"X-A: " + b"a" * 70_000 + b"\r\n",
    "many": b"".join(b"X-%d: a\r\n" % i for i in range(20_000)),
    "with an offer": OFFER + b"X-A: " + b"a" * 70_000 + b"\r\n",
    "without an end": b"X-A: " + b"a" * 1_000_000,
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("piece", [1_000, 10_000_000])
def test_a_head_that_is_too_large(server: int, name: str, piece: int) -> None:
    request = get(LARGE[name])
    with connect(server) as client:
        client.sendall(get(b""))
        assert answer_of(client).startswith(b"HTTP/1.1 200 ")
        with suppress(ConnectionError):  # it may have closed while more is being sent
            for start in range(0, len(request), piece):
                client.sendall(request[start : start + piece])
        answer = b""
        with suppress(ConnectionResetError):
            answer = everything(client)
    if answer:
        assert answer.startswith(b"HTTP/1.1 431 ") and b"/problems/head-too-large" in answer


def test_a_large_head_is_told_so_and_one_at_the_limit_is_read(server: int) -> None:
    for size, status in ((65_000, b"200"), (66_000, b"431")):
        for piece in (500, 100_000):
            with connect(server) as client:
                request = get(b"X-A: " + b"a" * size + b"\r\nConnection: close\r\n")
                for start in range(0, len(request), piece):
                    client.sendall(request[start : start + piece])
                assert everything(client).startswith(b"HTTP/1.1 %b " % status), (size, piece)


CHUNKED = HEAD.replace(b"Content-Length: 784", b"Transfer-Encoding: chunked")


def test_trailers_are_no_headers_and_no_end_of_them_is_read(models_folder: Path) -> None:
    with serving(models_folder, API_KEYS="k", CLIENT_TIMEOUT=str(2 * LONG)) as (port, _):
        with connect(port) as client:
            body = band(4).tobytes()
            trailers = b"%x\r\n%b\r\n0\r\nX-API-Key: k\r\n\r\n" % (len(body), body)
            client.sendall(CHUNKED + trailers)  # at once: who is asked next has all of it
            assert answer_of(client).startswith(b"HTTP/1.1 401 ")
        for endless in (b"a: b\r\n" * 50_000, b"a: " + b"b" * 300_000):
            with connect(port) as client:
                client.sendall(CHUNKED.replace(b"Host", b"X-API-Key: k\r\nHost") + b"0\r\n")
                answer = b""
                with suppress(ConnectionError):
                    for start in range(0, len(endless), 10_000):
                        client.sendall(endless[start : start + 10_000])
                with suppress(ConnectionError):
                    answer = everything(client)
                assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("rest", [b"\r\n", b"hello"])
def test_a_connection_without_a_request_does_not_stay(rest: bytes) -> None:
    """Bytes that are no request take the idle connection's time, and do not give it another for ever."""
    protocol = idle_protocol(keep_alive=0.2)
    length = b"Content-Length: 5\r\n" if rest == b"hello" else b""
    asyncio.run(protocol(get(length), rest))


def idle_protocol(keep_alive: float) -> Callable[[bytes, bytes], Coroutine[Any, Any, None]]:
    """A connection that is answered at once, on which something comes later: it has to close."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def run(request: bytes, rest: bytes) -> None:
        config = uvicorn.Config(app, timeout_keep_alive=keep_alive, log_config=None)  # type: ignore[arg-type]
        config.load()
        state = uvicorn.server.ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: ProblemProtocol(config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(request)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.write(rest)
            assert await asyncio.wait_for(reader.read(), LONG) == b""
            writer.close()

    return run


def whole(answer: bytes) -> tuple[bytes, bytes]:
    """The head in small letters, and the body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.lower(), body


def test_a_client_of_http_1_0_gets_a_stream_without_chunks(server: int) -> None:
    """It ends with the connection, which is what such a client expects."""
    old = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: a", b"Host: a\r\nAccept: text/event-stream")
    with connect(server) as client:
        client.sendall(old.replace(b"/classify", b"/classify?seed=1") + band(4).tobytes())
        head, body = whole(everything(client))
    assert head.startswith(b"http/1.1 200 ") and b"\r\ncontent-type: text/event-stream" in head
    assert b"transfer-encoding" not in head and b"content-length" not in head and b"connection: close" in head
    events = [event.split(b"\n")[0] for event in body.removesuffix(b"\n\n").split(b"\n\n")]
    assert events[0].startswith(b"event: ") and events[-1] == b"event: result"
    assert all(event.startswith(b"event: ") for event in events)


@pytest.mark.parametrize("path", [b"/metrics", b"/health/live", b"/page/style.css", b"/nothing"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_client_of_http_1_0_gets_what_others_get(server: int, path: bytes, method: bytes) -> None:
    answers = []
    for version in (b"1.0", b"1.1"):
        with connect(server) as client:
            request = get(b"X-Request-ID: 1\r\nConnection: close\r\n", path).replace(b"1.1", version)
            client.sendall(request.replace(b"GET", method))
            head, body = whole(everything(client))
        lines = [line for line in head.split(b"\r\n") if not line.startswith((b"date:", b"content-length:"))]
        answers.append((sorted(lines), body if path != b"/metrics" else bool(body)))
    assert answers[0] == answers[1]


def test_an_idle_connection_stays_as_long_as_the_setting_says(models_folder: Path) -> None:
    """Longer than proxies keep theirs, by default."""
    assert Settings().keep_alive > 60
    with serving(models_folder, KEEP_ALIVE="1") as (port, _), connect(port) as client:
        client.settimeout(60)
        began = time.monotonic()
        client.sendall(get(b""))
        assert answer_of(client).startswith(b"HTTP/1.1 200 ")
        assert client.recv(1) == b""
        assert time.monotonic() - began >= 1


def test_what_comes_after_a_request_does_not_break_its_answer(server: int) -> None:
    """Neither in the middle of a stream, nor in its place."""
    stream = HEAD.replace(b"Host: a", b"Host: a\r\nAccept: text/event-stream") + band(4).tobytes()
    garbage = b"\x00\x01\r\n\r\n"
    for whole, apart in ((stream, True), (stream, False), (get(b"", b"/metrics"), False)):
        with connect(server) as client:
            client.sendall(whole if apart else whole + garbage)
            answer = client.recv(200)
            if apart:
                client.sendall(garbage)
            answer += everything(client)
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.count(b"HTTP/1.1 ") == 1


def test_many_offers_at_once(models_folder: Path) -> None:
    count = 1_000
    with serving(models_folder, LOG_LEVEL="warning") as (port, _), connect(port) as client:
        client.sendall(get(OFFER) * count)
        for _ in range(count):
            assert answer_of(client).startswith(b"HTTP/1.1 200 ")


def test_who_pipelines_and_goes_leaves_nothing_behind(models_folder: Path) -> None:
    """The request that is being answered is given up too, and nothing is logged as a mistake."""
    with serving(models_folder, LOG_FORMAT="json", MAX_CONCURRENCY="1", DRAIN="0") as (port, process):
        batch = band(4).tobytes() * 8_000
        head = HEAD.replace(b"784", b"%d" % len(batch)).replace(b"/classify ", b"/classify/batch ")
        for _ in range(3):
            with connect(port) as client:
                client.sendall(head + batch + get(b""))
                time.sleep(0.1)
        lines = lines_of(process)
    assert not [line for line in lines if "exception" in line or line.get("level") == "error"]
    assert {line["status"] for line in lines if line["event"] == "request"} <= {499, 200}


def test_others_are_answered_meanwhile_and_it_is_counted(impatient: int) -> None:
    before = too_slow(ask(impatient, "GET", "/metrics")[2])
    slow = [connect(impatient) for _ in range(30)]
    for client in slow:
        client.sendall(HEAD[:20])
    body = band(4).tobytes()
    for _ in range(20):
        status, _, answer = ask(
            impatient, "POST", "/classify", body, {"Content-Type": "application/octet-stream"}
        )
        assert status == 200 and json.loads(answer)["prediction"] == 4
    for client in slow:
        assert everything(client).startswith(b"HTTP/1.1 408 ")
        client.close()
    assert too_slow(ask(impatient, "GET", "/metrics")[2]) == before + 30
