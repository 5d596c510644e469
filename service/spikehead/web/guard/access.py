"""Access: API keys and a rate for each client, for everything but health."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from itertools import islice

from starlette.types import ASGIApp, Receive, Scope, Send

from spikehead.errors import KINDS, Problem
from spikehead.web.documents.openapi import OPEN
from spikehead.web.guard.rate_limits import RateLimits
from spikehead.web.problems import problem_response

UNLIMITED = "/metrics"
"""Who watches must not be refused when it matters."""

MOST_KEYS = 4
"""Credentials of a request that are looked at."""


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

    def of(self, scope: Scope) -> bytes | None:
        """The valid key that a request brings."""
        return next((key for key in islice(keys_of(scope), MOST_KEYS) if self.knows(key)), None)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def keys_of(scope: Scope) -> Iterator[bytes]:
    """The keys that a request brings: a proxy may have credentials of its own in one of the places."""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            yield bytes(value.strip())
        elif name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            kind, rest = scheme.lower(), rest.strip()
            if kind == b"bearer":
                yield bytes(rest)
            elif kind == b"basic":
                try:
                    yield base64.b64decode(rest, validate=True).partition(b":")[2]
                except binascii.Error:
                    yield b""


class AccessMiddleware:
    """ASGI middleware: refuses who has no key, or asks too often. What it does not need costs nothing."""

    def __init__(self, app: ASGIApp, keys: Keys | None, rates: RateLimits | None) -> None:
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
        who = scope["client"][0] if scope["client"] else ""
        if self._keys is not None:
            known = self._keys.of(scope)
            if known is None:
                if self._rates is not None:
                    self._rates.take(who)  # who guesses
                received = "none" if next(keys_of(scope), None) is None else "one that is not known"
                raise Problem("unauthorized", KINDS["unauthorized"].expected, received)
            who = _digest(known).hex()
        # A key that nobody checks would be as many clients as its sender likes, so then the address counts.
        if self._rates is not None and scope["path"] != UNLIMITED:
            self._rates.take(who)
