"""The end of a connection, in stages: an answer that was written is read, whatever the client still sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LINGER = 1.0
"""Seconds in which what a client still sends is read and thrown away, after the last answer."""


class ClosingInStages:
    """A transport whose `close` ends its own side, and the other one once the client has ended it, or after LINGER.

    A socket that is closed while there is something to read on it is reset, and the reset destroys answers that the
    client has not read yet. `closed` is called at `close`, as `connection_lost` is later. Source: RFC 9112, 9.6.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, closed: Callable[[], None]
    ) -> None:
        self._transport, self._loop, self._closed = transport, loop, closed
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Writes, before `close`; drops it afterwards."""
        if self._timer is None:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing is written or read any more."""
        return self._timer is not None or self._transport.is_closing()

    def close(self) -> None:
        """Begins the end, after what is written already."""
        if self.is_closing():
            return
        self._timer = self._loop.call_later(LINGER, self._transport.close)
        self._closed()
        try:
            self._transport.resume_reading()
            self._transport.write_eof()
        except OSError:  # the client has gone
            self._transport.close()

    def lost(self) -> None:
        """To be called by `connection_lost`."""
        if self._timer is not None:
            self._timer.cancel()
