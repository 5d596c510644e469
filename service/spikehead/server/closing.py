"""The end of a connection, in stages: an answer that was written is read, whatever the client still sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LINGER = 1.0
"""Seconds without a byte from a client after which a connection that has its last answer is closed."""

MOST_DISCARDED = 67_108_864
"""Bytes of a body that are read although its request has its answer. Many clients read only once they have written."""


def _drop(data: bytes) -> None:
    """Write nothing: the connection has its last answer."""


def _true() -> bool:
    return True


class ClosingInStages:
    """A transport whose `close` ends its own side, and the other one once the client has ended it.

    A socket that is closed while there is something to read on it is reset, and the reset destroys answers that the
    client has not read yet. So what a client still sends is thrown away: `longest` seconds and MOST_DISCARDED bytes at
    most, and until nothing has come for LINGER seconds. `closed` is called at `close`, as `connection_lost` is later.
    Source: RFC 9112, 9.6.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        longest: float,
        closed: Callable[[], None],
    ) -> None:
        self._transport, self._loop, self._longest, self._closed = transport, loop, longest, closed
        self._timer: asyncio.TimerHandle | None = None
        self._over = 0.0  # when the longest time is over, by the loop's clock
        self._discarded = 0
        # asked several times a request: the transport's own, until `close`
        self.write: Callable[[bytes], object] = transport.write
        self.is_closing: Callable[[], bool] = transport.is_closing
        self.get_write_buffer_size = transport.get_write_buffer_size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Begins the end, after what is written already."""
        if self.is_closing():
            return
        self.write, self.is_closing = _drop, _true
        self._over = self._loop.time() + self._longest
        self._wait()
        self._closed()
        try:
            self._transport.resume_reading()
            self._transport.write_eof()
        except OSError:  # the client has gone
            self._transport.close()

    def discard(self, size: int) -> None:
        """Passes over so many bytes that came after `close`."""
        self._discarded += size
        if self._discarded > MOST_DISCARDED:
            self._transport.close()
        else:
            self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = max(0.0, self._over - self._loop.time())
        self._timer = self._loop.call_later(min(LINGER, left), self._transport.close)

    def lost(self) -> None:
        """To be called by `connection_lost`."""
        if self._timer is not None:
            self._timer.cancel()
