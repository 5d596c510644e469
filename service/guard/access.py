"""Who may ask: API keys and a rate for each client, for everything but health."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import KINDS, Problem
from service.guard.rates import Rates
from service.openapi import OPEN
from service.problems import problem_response


class Keys:
    """Keys that are valid. Only their hashes are kept."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._known = [_digest(key.encode()) for key in keys]

    def knows(self, key: bytes) -> bool:
        """Compares with each key, in a time that tells nothing about them."""
        given = _digest(key)
        found = False
        for known in self._known:
            found |= hmac.compare_digest(given, known)
        return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def key_of(scope: Scope) -> bytes | None:
    """The key that a request brings, if it brings one."""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return bytes(value.strip())
        if name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            kind, rest = scheme.lower(), rest.strip()
            if kind == b"bearer":
                return bytes(rest)
            if kind == b"basic":
                try:
                    return base64.b64decode(rest, validate=True).partition(b":")[2]
                except binascii.Error:
                    return b""
    return None


class AccessMiddleware:
    """ASGI middleware: refuses who has no key, or asks too often. What it does not need costs nothing."""

    def __init__(self, app: ASGIApp, keys: Keys | None, rates: Rates | None) -> None:
        self.app = app
        self._keys, self._rates = keys, rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(OPEN):
            try:
                self._check(scope)
            except Problem as problem:
                await problem_response(problem, scope)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raises Problem."""
        key = key_of(scope)
        if self._keys is not None and (key is None or not self._keys.knows(key)):
            received = "none" if key is None else "one that is not known"
            raise Problem("unauthorized", KINDS["unauthorized"].expected, received)
        if self._rates is not None:
            client = scope["client"]
            # a key that nobody checks would be as many clients as its sender likes
            known = self._keys is not None and key is not None
            address = client[0] if client else ""
            self._rates.take(_digest(key).hex() if known and key is not None else address)
