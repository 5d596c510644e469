"""GET requests to a running service, over TCP or a unix socket."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import BaseHandler, HTTPHandler, ProxyHandler, Request, build_opener

from pydantic import ValidationError

from spikehead.cli.documents import Document
from spikehead.cli.drawing import printable
from spikehead.cli.probe import UNIX, UnixConnection
from spikehead.errors import Problem
from spikehead.inference.options import quoted

TIMEOUT = 10
"""Seconds without a byte from the service after which it counts as unreachable."""

_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")

Answer = TypeVar("Answer", bound=Document)


class ServiceError(RuntimeError):
    """A service cannot be reached, or refuses. The message says what was expected and what came."""


@dataclass(frozen=True)
class Remote:
    """A running service, and the API key to send to it."""

    url: str
    key: str | None = None


def get(remote: Remote, path: str, kind: type[Answer]) -> tuple[Answer, Any]:
    """Return the answer to a GET, and its JSON. Raises ServiceError, and Problem for a wrong address."""
    url = base = remote.url
    handlers: list[BaseHandler] = []
    if url.startswith(UNIX):
        base = "http://localhost"
        handlers = [ProxyHandler({}), _UnixHandler(url.removeprefix(UNIX))]
    else:
        _check_url(url)
        if urlsplit(url).hostname in _THIS_MACHINE:  # a proxy knows nothing of this machine's services
            handlers = [ProxyHandler({})]
    headers = {"Accept": "application/json"}
    if remote.key:
        if not remote.key.isprintable():
            raise Problem("invalid-option", "key: an API key in one line", quoted(remote.key))
        # a header is sent in Latin-1: these are the bytes of UTF-8 in it
        headers["X-API-Key"] = remote.key.encode().decode("latin-1")
    request = Request(base.rstrip("/") + path, headers=headers)
    try:
        with build_opener(*handlers).open(request, timeout=TIMEOUT) as response:
            data = response.read()
    except HTTPError as error:
        raise ServiceError(f"{url}: {_in_words(error)}") from None
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise ServiceError(f"expected a service at {url}, got: {printable(words)}") from None
    try:
        document = json.loads(data)
        return kind.model_validate(document), document
    except ValidationError as error:  # a kind of ValueError
        fault = error.errors()[0]
        where = printable(".".join(str(part) for part in fault["loc"]) or "the answer")
        expected = f"expected a spikehead service at {url}"
        raise ServiceError(f"{expected}, got another one's answer ({where}: {fault['msg']})") from None
    except ValueError:
        raise ServiceError(f"expected JSON from the service at {url}, got something else") from None


class _UnixHandler(HTTPHandler):
    """Opens each request on one unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def http_open(self, req: Request) -> HTTPResponse:
        def connection(host: str, **options: Any) -> UnixConnection:
            return UnixConnection(self._path, TIMEOUT)

        return self.do_open(connection, req)


def _check_url(url: str) -> None:
    """Raise Problem if requests cannot be sent to this address."""
    expected = "url: an address such as http://127.0.0.1:8000 or unix:/PATH"
    fault = Problem("invalid-option", expected, quoted(url))
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise fault from None
    if not named or parts.query or parts.fragment or not re.fullmatch("[!-~]+", url):
        raise fault


def _in_words(error: HTTPError) -> str:
    """Return a problem document's title and detail, or else the status code."""
    try:
        with error:
            document = json.loads(error.read())
        words = f"{document['title']}: {document['detail']}"
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        words = f"expected an answer, got status {error.code} {error.reason}"
    return printable(words)
