"""HTTP on the wire: uvicorn's protocol, with problems where it would answer in plain text, and without patience for
clients that send or read a byte a second."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import httptools
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from spikehead.errors import Problem
from spikehead.server.chunks import without_chunks
from spikehead.server.closing import MOST_DISCARDED, ClosingInStages
from spikehead.server.door import Door
from spikehead.server.listening import plain_address
from spikehead.server.shortcut import Shortcut
from spikehead.telemetry.request import note_problem, request_id
from spikehead.web.middleware import SECURITY
from spikehead.web.problems import problem_on_the_wire


class _Answered:
    """In the place of uvicorn's cycle of a request: its answer is complete, so that its body is read and forgotten."""

    response_started = response_complete = True
    message_event = asyncio.Event()


_ANSWERED: Any = _Answered()

MOST_HEAD = 65_536
"""Bytes of a request's target and headers."""

MOST_TRAILERS = 8_192
"""Bytes of what comes behind a chunked body. Nobody asks for it: it is no part of the head."""

LAST_MOMENT = 0.5
"""Seconds that an idle connection stays at the end: what was sent before the client could know arrives by then."""

_OF_UPGRADES = (b"connection", b"upgrade", b"http2-settings")


class _Patience:
    """A time limit that starts anew each time it is started, and calls `late` when it is over."""

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
    """Close after the answer to a client that asked before sending a body.

    It may send the body or not, and nothing that follows could be understood. Source: RFC 9110, 10.1.1.
    """
    send = cycle.send

    async def send_and_close(message: Any) -> None:
        if message["type"] == "http.response.start" and cycle.waiting_for_100_continue:
            cycle.keep_alive = False
        await send(message)

    cycle.send = send_and_close


class ProblemProtocol(HttpToolsProtocol):
    """One connection. What is no HTTP at all gets a problem too, and an id.

    A client has `client_timeout` seconds for each of these: to send a head, to send a body, to make room for more of
    an answer. Each is timed from its beginning: that bytes keep coming does not help.
    """

    client_timeout = 10.0
    door: Door | None = None
    shortcut: Shortcut | None = None
    on_too_slow: Callable[[], None] = staticmethod(lambda: None)
    on_refused: Callable[[Problem, str], None] = staticmethod(lambda problem, identifier: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._awaited: object | None = (
            None  # what has to come from the client: a head, a body, or nothing now
        )
        self._has_sent = False
        self._head: int | None = None  # bytes of the head that is coming, as far as it is read; None: none is
        self._trailers = 0  # bytes of them
        self._unread = 0  # bytes that came since the parser has last found something in them
        self._found = False
        self._latest = b""  # what is being read
        self._running: Any = None  # the cycle that is being answered; `cycle` is that of the newest request
        self._held: list[bytes] | None = None  # the body of a request that may take the shortcut
        self._offered: bytes | None = (
            None  # a request that offers another protocol, to be read again without that
        )
        self._incoming = _Patience(self.loop, self._too_slow)
        self._outgoing = _Patience(self.loop, self._not_taken)
        self._discarded = 0  # bytes of a body that came after its request's answer
        self._answers = self._answers_before = (
            0  # complete now, and when patience with the outgoing ones began
        )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._stages = ClosingInStages(transport, self.loop, self.client_timeout, self._nobody_waits)
        super().connection_made(cast(asyncio.Transport, self._stages))
        if self.client is not None:
            self.client = plain_address(self.client)
        self._awaited = object()
        self._incoming.start(self.client_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._incoming.stop()
        self._outgoing.stop()
        self._stages.lost()
        self._nobody_waits()
        super().connection_lost(exc)

    def _nobody_waits(self) -> None:
        self.pipeline.clear()  # uvicorn tells the newest request alone, and that when the connection is lost
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def shutdown(self) -> None:
        """Nothing is accepted any more: answers what is under way, and what was sent before."""
        if self._is_idle():
            # in two parts: between them the loop reads what has come, however late it is
            self.loop.call_later(LAST_MOMENT / 2, self.loop.call_later, LAST_MOMENT / 2, self._leave)
        else:
            super().shutdown()

    def _leave(self) -> None:
        """An idle connection is closed; one on which a request has begun ends with its answer."""
        if self._is_idle() and (self._awaited is None or not self._has_sent):
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            self._stages.discard(len(data))
            return
        before, self._has_sent = self._awaited, True
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
        elif self._awaited is None:
            self._incoming.stop()
            if self._is_idle() and self.timeout_keep_alive_task is None:
                self._keep_alive()  # uvicorn takes any byte for the beginning of a request
        elif self._awaited is not before:
            self._incoming.start(self.client_timeout)

    def _read(self, data: bytes) -> None:
        self._latest, self._found = data, False
        super().data_received(data)
        self._latest = b""
        if self._held is not None and not self.transport.is_closing():
            self._let_in()  # it has not come whole: who waits for the rest is the application

    def _is_idle(self) -> bool:
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    def _keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._found = True
        self._awaited, self._head, self._trailers = object(), 0, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._found = True
        self._head = (self._head or 0) + len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._found = True
        if self._head is None:
            self._trailers += len(name) + len(value)
            return
        super().on_header(name, value)
        self._head += len(name) + len(value)

    def on_headers_complete(self) -> None:
        if self._is_too_much():
            return
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # the parser stops here: see `_unsupported_upgrade_warning`
        if not self._is_refused():
            if self._may_take_shortcut():
                self._held = []
            else:
                self._begin_cycle()
        self._awaited, self._head, self._discarded = object(), None, 0

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
        if self._held is not None:
            self._held.append(body)
        elif self._head is None:
            super().on_body(body)
            if self.cycle.response_complete:
                self._discard(len(body))

    def _discard(self, size: int) -> None:
        """Count what comes of a body whose request has its answer; beyond a bound, end the connection."""
        self._discarded += size
        if self._discarded > MOST_DISCARDED and not self.transport.is_closing():
            self.transport.abort()

    def on_message_complete(self) -> None:
        if self._head is not None:
            return
        if self._held is None or not self._answer_at_once(b"".join(self._held)):
            super().on_message_complete()
        self._awaited, self._found = None, True

    def _may_take_shortcut(self) -> bool:
        """On connections where nothing else is under way and that stay, as for `_is_refused`."""
        if self.shortcut is None or self.flow.write_paused or not self._is_idle_and_stays():
            return False
        return self.shortcut.may_take(self.parser.get_method(), self.url, self.headers)

    def _answer_at_once(self, body: bytes) -> bool:
        """A request that has come whole, unless the application has to."""
        assert self.shortcut is not None
        answer = self.shortcut.answer(self.url, self.headers, body, self.server_state.default_headers)
        if answer is None:
            self._let_in()
            return False
        self._held, self.cycle = None, _ANSWERED
        self.server_state.total_requests += 1
        self.transport.write(answer)
        self._note_answer()
        return True

    def _let_in(self) -> None:
        """To the application, with what there is of its body."""
        parts, self._held = self._held or [], None
        self._begin_cycle()
        for part in parts:
            super().on_body(part)

    def _is_too_much(self) -> bool:
        """A single header counts once it is complete; until then it may take the whole limit once more."""
        head = self._head is not None and self._head > MOST_HEAD
        return head or self._trailers > MOST_TRAILERS or self._unread > MOST_HEAD

    def _unsupported_upgrade_warning(self) -> None:
        """The client offers HTTP/2 or WebSocket, which it may: it gets HTTP/1.1, as if it had not.

        Java's clients do so with every request. The parser would leave out the body (uvicorn's issue 2722), so the
        request is read again without the offer. Source: RFC 9110, 7.8.
        """
        stopped = sys.exc_info()[1]
        if not isinstance(stopped, httptools.HttpParserUpgrade) or self._head is None or self._is_too_much():
            return
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in _OF_UPGRADES]
        if not self.parser.should_keep_alive():
            lines.append(b"connection: close")
        self._offered = b"\r\n".join(lines) + b"\r\n\r\n" + self._latest[stopped.args[0] :]

    def _is_refused(self) -> bool:
        """Answers at once where there is no room, on connections where nothing else is under way and that stay."""
        if self.door is None or not self._is_idle_and_stays():
            return False
        defaults = self.server_state.default_headers
        answer = self.door.refusal(self.parser.get_method(), self.url, self.headers, defaults)
        if answer is None:
            return False
        self.transport.write(answer)
        self.cycle = _ANSWERED
        return True

    def _is_idle_and_stays(self) -> bool:
        if not (self.cycle is None or self.cycle.response_complete):
            return False
        return bool(self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive())

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
        """There was no room for more of an answer, or a complete one was not read to its end."""
        if not self.transport.get_write_buffer_size():
            return
        if self._answers > self._answers_before:
            self._wait_for_reader()  # what is unread now may be a later answer
            return
        self.on_too_slow()
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 and close the connection: nothing that follows can be understood."""
        self._give_up(
            Problem("malformed-request", "a request in HTTP/1.1", "something that cannot be parsed as one")
        )

    def _too_slow(self) -> None:
        """The head or the body has not come in time."""
        if self.transport.is_closing():
            return
        if not self._has_sent:  # connected and never spoken, as browsers do
            self.transport.close()
            return
        if self.flow.read_paused:  # it may have come: nobody has looked
            self._incoming.start(self.client_timeout)
            return
        self.on_too_slow()
        limit = f"a whole request within {self.client_timeout:g} seconds each for its head and its body"
        self._give_up(Problem("too-slow", limit, "a part of it"))

    def _give_up(self, problem: Problem) -> None:
        """Nothing more is read. Answers with the problem, unless that would be taken for another request's answer."""
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if self.pipeline:
            self.transport.abort()
        elif cycle is None or cycle.response_complete:
            if cycle is not None and self._awaited is not None and self._head is None:
                self.transport.close()  # the rest of a request that has its answer
                return
            identifier = secrets.token_hex(8)
            self.on_refused(problem, identifier)
            self._close_with(problem, identifier)
        elif not cycle.more_body:
            cycle.keep_alive = False  # it is whole, and is answered; what comes after it is not
            self.flow.pause_reading()
        elif cycle.response_started:
            self.transport.abort()
        else:  # the application will find that its client has gone, and log what is noted here
            scope = cast(Scope, cycle.scope)
            note_problem(scope, problem.kind)
            self._close_with(problem, request_id(scope))

    def _close_with(self, problem: Problem, identifier: str) -> None:
        headers = (*SECURITY, *self.server_state.default_headers, (b"connection", b"close"))
        self.transport.write(problem_on_the_wire(problem, identifier, headers))
        self.transport.close()
