"""A service on this machine, asked if it is ready: `spikehead health`, the image's health check.

It needs neither a key nor a root path, so what decides is where the settings say that the service listens.
"""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from typing import Any

from spikehead.settings import Settings

SECONDS = 2.0
"""For the answer."""

_READY = "/health/ready"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that stand for all of this machine, and one of them that can be asked."""


UNIX = "unix:"
"""Before the path of a unix socket."""


class NotReadyError(RuntimeError):
    """The service cannot be reached, or is not ready. The message says what was expected and what came."""


class UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(settings: Settings) -> HTTPConnection:
    if settings.host.startswith(UNIX):
        return UnixConnection(settings.host.removeprefix(UNIX), SECONDS)
    return HTTPConnection(_ANY.get(settings.host, settings.host), settings.port, timeout=SECONDS)


def address_of(settings: Settings) -> str:
    """The address at which the service can be asked, as a URL; a unix socket's as it is set."""
    host = _ANY.get(settings.host, settings.host)
    if host.startswith(UNIX):
        return host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def status(settings: Settings) -> str:
    """The `status` of a service that is ready: `ready` or `degraded`. Raises NotReadyError."""
    address = address_of(settings)
    connection = _connection(settings)
    try:
        connection.request("GET", _READY)
        answer = connection.getresponse()
        code, document = answer.status, _object(answer.read())
    except (OSError, HTTPException) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NotReadyError(f"expected a service at {address}, got: {words}") from None
    finally:
        connection.close()
    if code != 200:
        words = document.get("title", "no problem document")
        raise NotReadyError(f"expected the service at {address} to be ready, got status {code}: {words}")
    return str(document.get("status", ""))


def _object(data: bytes) -> dict[str, Any]:
    """A JSON object; an empty one if it is something else."""
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
