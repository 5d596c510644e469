"""The health check of a service on this machine: `spikehead health`, which the container image uses.

It needs neither a key nor a root path, only the address in the settings.
"""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from typing import Any

from spikehead.settings import Settings

SECONDS = 2.0
"""Seconds to wait for the answer."""

_READY = "/health/ready"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that stand for all addresses of this machine, and one of these to connect to."""

UNIX = "unix:"
"""Prefix of the path of a unix socket."""


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


def address_of(settings: Settings) -> str:
    """Return the URL of the service; a unix socket as in the settings."""
    host = _ANY.get(settings.host, settings.host)
    if host.startswith(UNIX):
        return host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def status(settings: Settings) -> str:
    """Return the `status` of a ready service: `ready` or `degraded`. Raises NotReadyError."""
    address = address_of(settings)
    host, port = settings.host, settings.port
    connection = (
        UnixConnection(host.removeprefix(UNIX), SECONDS)
        if host.startswith(UNIX)
        else HTTPConnection(_ANY.get(host, host), port, timeout=SECONDS)
    )
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
    """Parse a JSON object; return an empty one if it is something else."""
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
