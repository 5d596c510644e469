"""A service over HTTP, synchronous (`Client`) and asynchronous (`AsyncClient`): the methods of `load()`'s network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self, TypeVar, Unpack
from urllib.parse import quote, urlsplit

import httpx2

from spikehead.errors import Problem, ServiceError
from spikehead.library.answers import Batch, Classification, RequestList, StoredRequest, read
from spikehead.library.images import Image, all_to_bytes, to_bytes
from spikehead.library.options import ServiceOptions, as_text
from spikehead.model.encoding import PIXELS

T = TypeVar("T")

_UNIX = "unix:"
_LOCAL = ("127.0.0.1", "::1", "localhost")
_RAW = "application/octet-stream"


class RemoteProblem(Problem):
    """A problem that a service sent."""

    def __init__(self, document: dict[str, Any], status: int, retry_after: str) -> None:
        Exception.__init__(self, f"{document['title']}: {document['detail']}")
        # a newer service may have other kinds
        self.kind = str(document["type"]).rpartition("/")[2]
        self.expected, self.received = document.get("expected", ""), document.get("received", "")
        self.image, self.filename = document.get("image"), document.get("filename")
        self.retry_after = int(retry_after) if retry_after.isdecimal() else None
        self._document, self._status = document, status

    @property
    def status(self) -> int:
        return self._status

    def document(self, request_id: str = "") -> dict[str, Any]:
        """Return the problem document as the service sent it."""
        return self._document


class _Requests:
    """Builds requests and reads answers, and sends nothing."""

    _open: ClassVar[Callable[..., Any]]
    _open_transport: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        model: str | None = None,
        key: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        """`url` is the service's address, or unix:/PATH; `model` is the one to use instead of the service's default;
        `key` is an API key; `timeout` is in seconds, for connecting, for sending and for each wait for bytes.

        Raises Problem if `url` or `key` is invalid.
        """
        self.url, self._model, self._timeout = url, model, timeout
        if key is not None and not key.isprintable():
            raise Problem("invalid-option", "key: an API key of printable characters", repr(key)[:80])
        local = url.startswith(_UNIX)
        if not local:
            _check(url)
        self._http = type(self)._open(
            base_url="http://localhost" if local else url,
            headers={} if key is None else {"X-API-Key": key.encode()},
            timeout=timeout,
            transport=type(self)._open_transport(uds=url.removeprefix(_UNIX)) if local else None,
            # no proxy reaches the services of this machine
            trust_env=not local and urlsplit(url).hostname not in _LOCAL,
        )

    def _get(self, path: str, **query: Any) -> httpx2.Request:
        return self._request("GET", path, params=query)

    def _classify(self, image: Image, options: ServiceOptions) -> httpx2.Request:
        data = to_bytes(image)
        # the service takes 784 bytes for pixels unless they begin like a picture file
        headers = {"Content-Type": _RAW if len(data) == PIXELS else "image/*"}
        return self._post("/classify", options, content=data, headers=headers)

    def _classify_many(self, images: Iterable[Image], options: ServiceOptions) -> httpx2.Request | None:
        files = [("images", (None, data, _RAW)) for data in all_to_bytes(images)]
        return self._post("/classify/batch", options, files=files) if files else None

    def _post(self, path: str, options: ServiceOptions, **body: Any) -> httpx2.Request:
        return self._request("POST", path, params=as_text({"model": self._model, **options}), **body)

    def _request(self, method: str, path: str, **parts: Any) -> httpx2.Request:
        request: httpx2.Request = self._http.build_request(method, path, **parts)
        return request

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn errors of the connection into ServiceError."""
        try:
            yield
        except httpx2.TimeoutException as error:
            expected = f"an answer from the service at {self.url} within {self._timeout:g} s"
            raise ServiceError(f"expected {expected}, got none") from error
        except httpx2.HTTPError as error:
            words = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
            raise ServiceError(f"expected a service at {self.url}, got: {words}") from error

    def _content(self, response: httpx2.Response) -> bytes:
        """Return the JSON of an answer. Raises RemoteProblem and ServiceError."""
        if response.status_code == 200:
            return response.content
        try:
            document = json.loads(response.content)
            problem = RemoteProblem(document, response.status_code, response.headers.get("Retry-After", ""))
        # not a problem document but, for example, a proxy's page
        except (ValueError, LookupError, TypeError):
            got = f"status {response.status_code} {response.reason_phrase}"
            raise ServiceError(f"expected an answer from the service at {self.url}, got {got}") from None
        raise problem

    def _read(self, kind: type[T], content: bytes) -> T:
        return read(kind, content, f"the service at {self.url}")


class Client(_Requests):
    """A service over HTTP. Threads can share it. Use it in a `with` statement, or close it.

    All methods raise Problem if the service refuses a request, and ServiceError if it does not answer.
    """

    _open, _open_transport = httpx2.Client, httpx2.HTTPTransport

    def classify(self, image: Image, **options: Unpack[ServiceOptions]) -> Classification:
        """Classify one picture; see `Network.classify`."""
        return self._read(Classification, self._send(self._classify(image, options)))

    def classify_many(
        self, images: Iterable[Image], **options: Unpack[ServiceOptions]
    ) -> list[Classification]:
        """Classify pictures in one request; see `Network.classify_many`."""
        request = self._classify_many(images, options)
        return list(self._read(Batch, self._send(request)).results) if request else []

    def spikes(self, **query: Any) -> RequestList:
        """List past requests, newest first. Options are those of `GET /spikes`: limit, before, model, ..."""
        return self._read(RequestList, self._send(self._get("/spikes", **query)))

    def spike(self, identifier: str) -> StoredRequest:
        """Return one past request. Its replay: `get("/spikes/ID", include="all")`."""
        return self._read(StoredRequest, self._send(self._get(path_of(identifier))))

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return the JSON of any other route, such as /models or /spikes/statistics."""
        return self._read(dict, self._send(self._get(path, **query)))

    def _send(self, request: httpx2.Request) -> bytes:
        with self._faults():
            response = self._http.send(request)
        return self._content(response)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Requests):
    """`Client` with methods to be awaited. Use it in an `async with` statement, or `aclose` it."""

    _open, _open_transport = httpx2.AsyncClient, httpx2.AsyncHTTPTransport

    async def classify(self, image: Image, **options: Unpack[ServiceOptions]) -> Classification:
        return self._read(Classification, await self._send(self._classify(image, options)))

    async def classify_many(
        self, images: Iterable[Image], **options: Unpack[ServiceOptions]
    ) -> list[Classification]:
        request = self._classify_many(images, options)
        return list(self._read(Batch, await self._send(request)).results) if request else []

    async def spikes(self, **query: Any) -> RequestList:
        return self._read(RequestList, await self._send(self._get("/spikes", **query)))

    async def spike(self, identifier: str) -> StoredRequest:
        return self._read(StoredRequest, await self._send(self._get(path_of(identifier))))

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._read(dict, await self._send(self._get(path, **query)))

    async def _send(self, request: httpx2.Request) -> bytes:
        with self._faults():
            response = await self._http.send(request)
        return self._content(response)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def path_of(identifier: str) -> str:
    """Return the path of one past request."""
    return f"/spikes/{quote(identifier, safe='')}"


def _check(url: str) -> None:
    """Raise Problem if `url` is not an address."""
    expected = "url: an address such as http://127.0.0.1:8000 or unix:/PATH"
    fault = Problem("invalid-option", expected, repr(url)[:80])
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise fault from None
    if not named or parts.query or parts.fragment or not re.fullmatch("[!-~]+", url):
        raise fault
