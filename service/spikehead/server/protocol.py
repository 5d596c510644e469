"""HTTP on the wire: uvicorn's protocol with problems instead of plain text, with time limits for clients that send or
read a byte a second, and with the fast path in front of the application."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, cast

import httptools
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from spikehead.errors import Problem
from spikehead.server.chunks import without_chunks
from spikehead.server.closing import MOST_DISCARDED, ClosingInStages
from spikehead.server.listening import plain_address
from spikehead.telemetry.request import note_problem, request_id
from spikehead.web.fast_path import Light, WireFastPath
from spikehead.web.wire import problem_bytes

MOST_HEAD = 65_536
"""Bytes of a request's target and headers."""

MOST_TRAILERS = 8_192
"""Bytes of headers behind a chunked body. Nobody asks for them: they are no part of the head."""

LAST_MOMENT = 0.5
"""Seconds that an idle connection stays at the end: a request that was on its way arrives by then."""

_OF_UPGRADES = (b"connection", b"upgrade", b"http2-settings")


class Reading(Enum):
    """The state of a connection: what its client has to send next."""

    FIRST_BYTE = auto()
    HEAD = auto()
    # for the application, which may have answered already
    BODY = auto()
    # kept here until it is whole: then the fast path may answer
    LIGHT_BODY = auto()
    # of a request that the fast path has refused
    UNWANTED_BODY = auto()
    # between two requests
    NOTHING = auto()


class _Patience:
    """A time limit that begins anew each time it is started, and calls `late` when it is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, late: Callable[[], None]) -> None:
        self._loop, self._late = loop, late
        self._timer: asyncio.TimerHandle | None = None

    @property
    def started(self) -> bool:
        return self._timer is not None

    def start(self, seconds: float) -> None:
        self.stop()
        self._timer = self._loop.call_later(seconds, self._end)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        self._late()


def _close_unless_asked_for_more(cycle: Any) -> None:
    """Close the connection after the answer if its client was not asked for the body that it announced.

    It may send the body or not, so nothing that follows could be understood. Source: RFC 9110, 10.1.1.
    """
    send = cycle.send

    async def send_and_close(message: Any) -> None:
        if message["type"] == "http.response.start" and cycle.waiting_for_100_continue:
            cycle.keep_alive = False
        await send(message)

    cycle.send = send_and_close


class ProblemProtocol(HttpToolsProtocol):
    """One connection. Bytes that are no HTTP at all get a problem too, and an id.

    A client has `client_timeout` seconds for each of these: to send a head, to send a body, to make room for more of
    an answer. Each is timed from its beginning, however many bytes keep coming.
    """

    client_timeout = 10.0
    fast_path: WireFastPath | None = None
    on_too_slow: Callable[[], None] = staticmethod(lambda: None)
    on_refused: Callable[[Problem, str], None] = staticmethod(lambda problem, identifier: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading = Reading.FIRST_BYTE
        # the bytes that are being read; if they have changed the state; if the parser has found anything in them
        self._latest, self._changed, self._found = b"", False, False
        # bytes: of the head that is coming, of trailers, and those that came since the parser last found anything
        self._head = self._trailers = self._unread = 0
        # the cycle that is being answered; `cycle` is that of the newest request
        self._running: Any = None
        # the request of a LIGHT_BODY, and the part of the body that has come
        self._light: Light | None = None
        self._kept = b""
        # a request that offers another protocol, to be read again without that
        self._offered: bytes | None = None
        self._incoming = _Patience(self.loop, self._too_slow)
        self._outgoing = _Patience(self.loop, self._not_taken)
        # bytes of a body that came after its request's answer
        self._discarded = 0
        # answers that are complete: now, and when patience with the outgoing ones began
        self._answers = self._answers_before = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._stages = ClosingInStages(transport, self.loop, self.client_timeout, self._nobody_waits)
        super().connection_made(cast(asyncio.Transport, self._stages))
        if self.client is not None:
            self.client = plain_address(self.client)
        self._incoming.start(self.client_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._incoming.stop()
        self._outgoing.stop()
        self._stages.lost()
        if self._reading is Reading.LIGHT_BODY:
            # the application logs that the client has gone
            self._let_in()
        self._nobody_waits()
        super().connection_lost(exc)

    def _nobody_waits(self) -> None:
        # uvicorn tells the newest request alone, and not before the connection is lost
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def shutdown(self) -> None:
        """Answer requests that are under way or were sent before; accept no others."""
        if self._is_idle():
            # in two parts: between them the loop reads what has come, however late it is
            self.loop.call_later(LAST_MOMENT / 2, self.loop.call_later, LAST_MOMENT / 2, self._leave)
        else:
            super().shutdown()

    def _leave(self) -> None:
        """Close an idle connection; one on which a request has begun ends with its answer."""
        if self._is_idle() and self._reading not in (Reading.HEAD, Reading.LIGHT_BODY):
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            self._stages.discard(len(data))
            return
        if self._reading is Reading.FIRST_BYTE:
            self._reading = Reading.HEAD
        self._changed = False
        self._read(data)
        while self._offered is not None:
            again, self._offered = self._offered, None
            self.parser = httptools.HttpRequestParser(self)
            with suppress(AttributeError):  # as uvicorn does
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._read(again)
        self._unread = 0 if self._found else self._unread + len(data)
        if self.transport.is_closing():
            return
        if self._is_too_much():
            limit = f"at most {MOST_HEAD} bytes of target and headers, {MOST_TRAILERS} of trailers"
            self._give_up(Problem("head-too-large", limit, "more"))
        elif self._reading is Reading.NOTHING:
            self._incoming.stop()
            # uvicorn has stopped this timer: it takes any byte for the beginning of a request
            if self._is_idle() and self.timeout_keep_alive_task is None:
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
        elif self._changed:
            self._incoming.start(self.client_timeout)

    def _read(self, data: bytes) -> None:
        self._latest, self._found = data, False
        super().data_received(data)
        self._latest = b""

    def _is_idle(self) -> bool:
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._found = True
        self._head = self._trailers = 0
        self._reading, self._changed = Reading.HEAD, True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._found = True
        self._head += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._found = True
        if self._reading is not Reading.HEAD:
            self._trailers += len(name) + len(value)
            return
        super().on_header(name, value)
        self._head += len(name) + len(value)

    def on_headers_complete(self) -> None:
        if self._is_too_much():
            return
        # the parser stops here: see `_unsupported_upgrade_warning`
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return
        self._head = self._discarded = 0
        self._reading, self._changed = self._opened(), True

    def _opened(self) -> Reading:
        """Refuse a request, keep it for the fast path, or give it to the application. Returns the state after that.

        The fast path serves connections on which nothing else is under way, and that stay.
        """
        parser, found = self.parser, None
        stays = parser.get_http_version() == "1.1" and parser.should_keep_alive()
        if self.fast_path is not None and stays and self._is_idle() and not self.flow.write_paused:
            defaults = self.server_state.default_headers
            found = self.fast_path.look(parser.get_method(), self.url, self.headers, defaults)
        if found is None:
            self._begin_cycle()
            return Reading.BODY
        if isinstance(found, bytes):
            self._answer(found)
            return Reading.UNWANTED_BODY
        self._light, self._kept = found, b""
        return Reading.LIGHT_BODY

    def _answer(self, answer: bytes) -> None:
        self.server_state.total_requests += 1
        self.transport.write(answer)
        self._note_answer()

    def _let_in(self) -> None:
        """Give a request that was kept here to the application, with the part of its body that has come."""
        self._reading = Reading.BODY
        self._begin_cycle()
        super().on_body(self._kept)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if cycle.scope["http_version"] != "1.1":
            app = without_chunks(cast(ASGIApp, app), cycle)
        super()._start_asgi_task(cycle, app)

    def _begin_cycle(self) -> None:
        super().on_headers_complete()
        if self.expect_100_continue:
            _close_unless_asked_for_more(self.cycle)
        if not self.pipeline:
            self._running = self.cycle

    def on_body(self, body: bytes) -> None:
        self._found = True
        if self._reading is Reading.LIGHT_BODY:
            self._kept += body
        elif self._reading is Reading.BODY:
            super().on_body(body)
            if self.cycle.response_complete:
                self._discard(len(body))
        elif self._reading is Reading.UNWANTED_BODY:
            self._discard(len(body))

    def _discard(self, size: int) -> None:
        """Count bytes of a body whose request has its answer; beyond a bound, end the connection."""
        self._discarded += size
        if self._discarded > MOST_DISCARDED and not self.transport.is_closing():
            self.transport.abort()

    def on_message_complete(self) -> None:
        if self._reading is Reading.HEAD:
            return
        if self._reading is Reading.LIGHT_BODY:
            assert self.fast_path is not None and self._light is not None
            answer = self.fast_path.answer(self._light, self._kept, self.server_state.default_headers)
            if answer is None:
                self._let_in()
            else:
                self._answer(answer)
        if self._reading is Reading.BODY:
            super().on_message_complete()
        self._found = True
        self._reading, self._changed = Reading.NOTHING, True

    def _is_too_much(self) -> bool:
        """Tell if head or trailers are over their limits.

        A single header counts once it is complete; until then it may take the whole limit once more.
        """
        return max(self._head, self._unread) > MOST_HEAD or self._trailers > MOST_TRAILERS

    def _unsupported_upgrade_warning(self) -> None:
        """Pass over an offer of HTTP/2 or WebSocket, which a client may make: it gets HTTP/1.1, as if it had not.

        Java's clients do so with every request. The parser would leave out the body (uvicorn's issue 2722), so the
        request is read again without the offer. Source: RFC 9110, 7.8.
        """
        stopped = sys.exc_info()[1]
        if not isinstance(stopped, httptools.HttpParserUpgrade) or self._reading is not Reading.HEAD:
            return
        if self._is_too_much():
            return
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in _OF_UPGRADES]
        if not self.parser.should_keep_alive():
            lines.append(b"connection: close")
        self._offered = b"\r\n".join(lines) + b"\r\n\r\n" + self._latest[stopped.args[0] :]

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.transport.get_write_buffer_size():
            self._wait_for_reader()
        else:
            self._outgoing.stop()

    def on_response_complete(self) -> None:
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        self._running = following
        self._note_answer()

    def _note_answer(self) -> None:
        self._answers += 1
        # uvicorn would wait for ever until it has been read
        if self.transport.get_write_buffer_size() and not self._outgoing.started:
            self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        self._answers_before = self._answers
        self._outgoing.start(self.client_timeout)

    def _not_taken(self) -> None:
        """Cut off a client that made no room for more of an answer, or did not read a complete one to its end."""
        if not self.transport.get_write_buffer_size():
            return
        if self._answers > self._answers_before:
            # the bytes that are unread now may be those of a later answer
            self._wait_for_reader()
            return
        self.on_too_slow()
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 and close the connection: nothing that follows can be understood."""
        self._give_up(
            Problem("malformed-request", "a request in HTTP/1.1", "something that cannot be parsed as one")
        )

    def _too_slow(self) -> None:
        """Give up a request whose head or body has not come in time."""
        if self.transport.is_closing():
            return
        # browsers connect before they have anything to ask
        if self._reading is Reading.FIRST_BYTE:
            self.transport.close()
            return
        # it may have come: nobody has looked
        if self.flow.read_paused:
            self._incoming.start(self.client_timeout)
            return
        self.on_too_slow()
        limit = f"a whole request within {self.client_timeout:g} seconds each for its head and its body"
        self._give_up(Problem("too-slow", limit, "a part of it"))

    def _give_up(self, problem: Problem) -> None:
        """Read no more. Answer with the problem, unless that would be taken for another request's answer."""
        if self.transport.is_closing():
            return
        if self._reading is Reading.LIGHT_BODY:
            self._let_in()
        cycle = self.cycle
        if self.pipeline:
            self.transport.abort()
        elif cycle is None or cycle.response_complete:
            # the rest of a request that has its answer
            if self._reading in (Reading.BODY, Reading.UNWANTED_BODY):
                self.transport.close()
                return
            identifier = secrets.token_hex(8)
            self.on_refused(problem, identifier)
            self._close_with(problem, identifier)
        elif not cycle.more_body:
            # it is whole, and is answered; bytes after it are not
            cycle.keep_alive = False
            self.flow.pause_reading()
        elif cycle.response_started:
            self.transport.abort()
        else:
            # the application will find that its client has gone, and log what is noted here
            scope = cast(Scope, cycle.scope)
            note_problem(scope, problem.kind)
            self._close_with(problem, request_id(scope))

    def _close_with(self, problem: Problem, identifier: str) -> None:
        defaults = self.server_state.default_headers
        self.transport.write(problem_bytes(problem, identifier, defaults, b"connection: close\r\n"))
        self.transport.close()
