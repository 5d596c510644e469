"""`spikehead.Client` and `AsyncClient`: a service's answers, and what is none."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, UnixStreamServer
from typing import Any

import numpy as np
import pytest
import spikehead
from spikehead.errors import example
from spikehead.inference.options import OPTION_NAMES
from spikehead.library import answers
from spikehead.library.client import RemoteProblem
from spikehead.library.options import ServiceOptions
from spikehead.web.documents import examples, schemas

from tests.service.conftest import band
from tests.service.serving import LONG


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (answers.Classification, schemas.Classification),
        (answers.SpikeCounts, schemas.SpikeCounts),
        (answers.OperationsByKind, schemas.OperationsByKind),
        (answers.Timings, schemas.Timings),
        (answers.LayerRaster, schemas.LayerRaster),
        (answers.RequestSummary, schemas.RequestSummary),
        (answers.RequestList, schemas.RequestList),
    ],
)
def test_fields_are_those_of_the_json(kind: Any, schema: Any) -> None:
    assert {field.name for field in fields(kind)} == set(schema.model_fields)


def test_options_are_those_of_the_service() -> None:
    assert {"model", *inspect.get_annotations(ServiceOptions)} == set(OPTION_NAMES)


def test_the_methods_are_the_same() -> None:
    here, there, awaited = (
        {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}
        for kind in (spikehead.Network, spikehead.Client, spikehead.AsyncClient)
    )
    assert here < there
    assert awaited - {"aclose"} == there - {"close"}


def test_an_answer_holds_every_value_of_the_json() -> None:
    document = {**examples.CLASSIFICATION, "new": [1]}
    answer = answers.read(answers.Classification, json.dumps(document).encode())
    plain = json.loads(answers._reader(answers.Classification).dump_json(answer))
    assert plain == {"raster": None, **examples.CLASSIFICATION}


@pytest.mark.parametrize(
    "options",
    [
        {"seed": np.uint64(2**64 - 1), "max_steps": 3, "confidence": 0.1 + 0.2, "encoder": "regular"},
        {"seed": 7, "raster": ["output", "hidden"]},
        {"seed": 7, "raster": None, "confidence": 1e-9},
    ],
)
def test_options_mean_the_same(network: spikehead.Network, client: spikehead.Client, options: Any) -> None:
    answer = network.classify(band(4), **options)
    assert client.classify(band(4), **options) == answer
    assert answer.confidence_threshold == options.get("confidence", 0.9)
    images = [band(digit) for digit in range(10)]
    assert client.classify_many([]) == []
    assert client.classify_many(images, **options) == network.classify_many(images, **options)


def test_a_service_under_a_path() -> None:
    with spikehead.Client("http://a/digits/", model="b c") as client:
        request = client._post("/classify", {"raster": ["input", "output"], "seed": 7})
    assert str(request.url) == "http://a/digits/classify?model=b+c&raster=input%2Coutput&seed=7"


def test_another_model_than_the_default(url: str) -> None:
    with spikehead.Client(url + "/", model="other", key="clé", timeout=LONG) as client:
        assert client.classify(band(4)).model == "other"


def test_past_requests(client: spikehead.Client) -> None:
    answer = client.classify(band(4), seed=7, record="required")
    assert answer.recorded
    page = client.spikes(limit=1)
    assert (page.requests[0].id, page.requests[0].seed) == (answer.id, 7)
    assert client.spikes(limit=1, before=page.next).requests[0].id < answer.id
    stored = client.spike(answer.id)
    assert stored.answer == answer and stored.time == page.requests[0].time
    assert np.array_equal(stored.pixels, band(4))
    assert client.get(f"/spikes/{answer.id}", include="all")["replay"] == {"equal": True, "differences": []}
    assert client.get("/models")["default"] == "tiny"


def test_awaited_answers_are_the_same(network: spikehead.Network, url: str) -> None:
    async def ask() -> None:
        async with spikehead.AsyncClient(url, key="clé", timeout=LONG) as client:
            several = await asyncio.gather(*(client.classify(band(4), seed=seed) for seed in range(5)))
            assert several == [network.classify(band(4), seed=seed) for seed in range(5)]
            assert await client.classify_many([band(4)] * 5, seed=0) == several
            known = await client.classify(band(3), record="required")
            assert (await client.spikes(limit=1)).requests[0].id == known.id
            assert (await client.spike(known.id)).answer == known
            assert (await client.get("/models"))["default"] == "tiny"
            assert await client.classify_many([]) == []

    asyncio.run(ask())


# ------------------------------------------------------------------------------------------- refused


def test_a_problem_carries_its_document(client: spikehead.Client) -> None:
    with pytest.raises(spikehead.Problem) as caught:
        client.classify(band(4), seed=-1)
    problem, document = caught.value, caught.value.document()
    assert (problem.kind, problem.status, problem.retry_after) == ("invalid-option", 422, None)
    assert document["received"] == problem.received == "'-1'" and len(document["request_id"]) > 8
    assert str(problem) == f"{document['title']}: {document['detail']}"


def test_a_key_is_needed(url: str) -> None:
    for key in (None, "cle"):
        with spikehead.Client(url, key=key) as client, pytest.raises(spikehead.Problem) as caught:
            client.classify(band(4))
        assert (caught.value.kind, caught.value.status) == ("unauthorized", 401)
    with pytest.raises(spikehead.Problem, match="key: an API key of printable characters"):
        spikehead.Client(url, key="a\nb")


def test_a_problem_of_a_newer_service() -> None:
    document = {**example("overloaded"), "type": "/problems/too-early", "image": 3}
    problem = RemoteProblem(document, 425, "2")
    assert (problem.kind, problem.status, problem.retry_after, problem.image) == ("too-early", 425, 2, 3)
    assert problem.document() == document


@pytest.mark.parametrize(
    "url", ["", "a:80", "ftp://a", "http://", "http://a:b", "http://a:0", "http://a?b", "http://a b"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(spikehead.Problem, match="expected url: an address such as"):
        spikehead.Client(url)


# ---------------------------------------------------------------------------------- no answer at all


@contextmanager
def saying(status: int, content: bytes, unix: Path | None = None) -> Iterator[str]:
    """A program that answers everything with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    made = UnixStreamServer(str(unix), Handler) if unix else TCPServer(("127.0.0.1", 0), Handler)
    with made as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"unix:{unix}" if unix else f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (
            502,
            b"<html>Bad Gateway</html>",
            "expected an answer from the service at {}, got status 502 Bad Gateway",
        ),
        (
            404,
            b'{"detail": "Not Found"}',
            "expected an answer from the service at {}, got status 404 Not Found",
        ),
        (500, b"[]", "expected an answer from the service at {}, got status 500 Internal Server Error"),
        (
            200,
            b"{}",
            "expected an answer from the service at {}, got another program's (requests: Field required)",
        ),
        (
            200,
            b"[]",
            "expected an answer from the service at {}, got another program's (the answer: Input should be ",
        ),
        (
            200,
            b"<html>",
            "expected an answer from the service at {}, got another program's (the answer: Invalid JSON",
        ),
    ],
)
def test_another_program_answers(
    monkeypatch: pytest.MonkeyPatch, status: int, content: bytes, message: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # which is not asked for this machine's services
    with (
        saying(status, content) as url,
        spikehead.Client(url) as client,
        pytest.raises(spikehead.ServiceError) as caught,
    ):
        client.spikes()
    assert str(caught.value).startswith(message.format(url))


def test_nobody_answers() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"  # bound, but nobody listens
        with spikehead.Client(url) as client, pytest.raises(spikehead.ServiceError) as caught:
            client.spikes()
        assert str(caught.value) == f"expected a service at {url}, got: Connection refused"
        bound.listen()
        with spikehead.Client(url, timeout=0.1) as client, pytest.raises(spikehead.ServiceError) as caught:
            client.spikes()
        assert str(caught.value) == f"expected an answer from the service at {url} within 0.1 s, got none"


def test_a_unix_socket(tmp_path: Path) -> None:
    known = json.dumps(examples.REQUESTS).encode()
    with saying(200, known, unix=tmp_path / "http") as url, spikehead.Client(url) as client:
        assert client.spikes().requests[0].id == examples.ID
