"""Access: API keys and rate limits, for all routes but those of health."""

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
"""A route without rate limit, so that monitoring works under load."""

MOST_KEYS = 4
"""Most credentials of a request that are checked."""


class Keys:
    """The valid keys, of which only hashes are kept."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._known = [_digest(key.encode()) for key in keys]

    def knows(self, key: bytes) -> bool:
        """Tell if a key is valid, in a time that does not depend on it."""
        given = _digest(key)
        return sum(hmac.compare_digest(given, known) for known in self._known) > 0

    def of(self, scope: Scope) -> bytes | None:
        """Return the valid key of a request, if it has one."""
        return next((key for key in islice(keys_of(scope), MOST_KEYS) if self.knows(key)), None)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def keys_of(scope: Scope) -> Iterator[bytes]:
    """Yield the keys of a request: one of its headers may hold a proxy's own credentials."""
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
    """Refuses requests without a valid key or over the rate limit (ASGI middleware)."""

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
        """Raise Problem if a request must be refused."""
        client = scope["client"][0] if scope["client"] else ""
        if self._keys is not None:
            known = self._keys.of(scope)
            if known is None:
                if self._rates is not None:
                    self._rates.take(client)  # against guessing
                received = "none" if next(keys_of(scope), None) is None else "one that is not valid"
                raise Problem("unauthorized", KINDS["unauthorized"].expected, received)
            client = _digest(known).hex()
        # without valid keys the address counts: a client could send any number of others
        if self._rates is not None and scope["path"] != UNLIMITED:
            self._rates.take(client)
