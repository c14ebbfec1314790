"""Uvicorn's HTTP protocol with limits on what one connection may hold, and for how long.

Requests that a full queue refuses are answered here, as soon as their head is complete. That takes a quarter of the processor
time of a reply through the application, and under overload most requests are refused.

A connection that exceeds a limit gets the replies that are under way, then an error, and is closed; nothing more is read from it.
Everything that it held is released explicitly, because the garbage collector visits old objects so rarely that a cycle would
stay. When nobody reads the replies, a worker with uvicorn's own protocol grew to 714 MB in three seconds, with this one to 79 MB
(medians of five pairs, design note 027).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from refsynth.service.http.errors import Refusal
from refsynth.service.http.front import Front, Head
from refsynth.service.http.intake import Intake

HEAD_SECONDS = 20.0
"""Time for a head, and for the rest of a body whose request is already answered."""
PIPELINED = 16
"""Requests of one connection that may be under way."""
STALL_SECONDS = 60.0
"""Time for a client that has stopped reading to read again."""
LINGER = 5.0
"""Seconds for which a refused client may keep sending. If its connection were closed at once, it would lose the error reply."""
KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open: longer than in load balancers and proxies, mostly 60. The client must close
first, because a request that meets a closing connection is lost."""


class _Refused:
    """Takes the place of a request-response cycle. The rest of the body is discarded."""

    response_complete = True
    keep_alive = True
    message_event = asyncio.Event()


class _Stop(Exception):
    """Stops the parser: nothing more is read from this connection."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that is closed when it exceeds a limit. The time before the first request counts too."""

    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None
    _last: bytes | None = None
    """The reply before the connection closes; once set, nothing more is read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock.

        Replaces uvicorn's version, which asks the kernel for both addresses. Nothing here needs them. In a flood of new
        connections the server answered 0.86 of its peak with them, 0.94 without (design note 007).
        """
        assert isinstance(self.app, Front)
        self._front = self.app
        self._intake = Intake()
        self._held: deque[int] = deque()  # body bytes of each request under way
        self.connections.add(self)
        self.transport, self.flow, self.scheme = transport, FlowControl(transport), "http"
        self._start(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the requests under way, and release everything that belongs to the connection."""
        self._stop()
        for cycle in self._under_way():
            cycle.disconnected = True
            cycle.message_event.set()
            cycle.on_response = lambda: None
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self.resume_writing()
        self.pipeline.clear()
        while self._held:
            self._release()
        self._running = self.cycle = self.scope = self.headers = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse, and count."""
        if self._last is not None:
            return
        before = self._intake.mark
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # not supported: the request is answered without it, then the connection closes
            self.cycle.keep_alive = False
            self._end_after(b"")
        except httptools.HttpParserError:
            if self._last is None:
                self._end(400, "bad_request", "this is not an HTTP/1.1 request")
        if self._last is not None or self.transport.is_closing():
            return
        if exceeded := self._intake.arrived(len(data), before):
            self._end(*exceeded)
        elif self._intake.in_head and self._timer is None:  # most heads arrive whole and need no timer
            self._start(HEAD_SECONDS)

    def on_message_begin(self) -> None:
        """Expect a head."""
        super().on_message_begin()
        self._intake.begin()

    def on_url(self, url: bytes) -> None:
        """Count the request target."""
        self._check(self._intake.target(len(url)))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header field. Trailers are ignored, because the application already has the head."""
        if self._intake.in_head:
            self._check(self._intake.field(name, value))
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Refuse the request if there is no room; otherwise hand it to the application."""
        self._stop()
        if self._running is not None and len(self.pipeline) + 1 >= PIPELINED:
            self._end(503, "busy", f"{PIPELINED} requests of this connection are under way", retry_after=1)
            raise _Stop
        self._held.append(0)
        refusal = None
        if self._running is None:  # pipelined requests go to the application, which keeps their order
            path, method = self.url.partition(b"?")[0].decode("latin-1"), self.parser.get_method().decode("ascii")
            refusal = self._front.refuse_early(method, path, self.headers)
        if refusal is None:
            super().on_headers_complete()
        elif self.flow.write_paused:  # the client does not read, and refusals would pile up
            self._end_after(b"")
            raise _Stop
        else:
            self._refuse(*refusal)
        self._intake.in_head = False

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body, if the worker's budget for bodies allows it."""
        self._intake.part(len(body))
        if self.cycle.response_complete:
            return
        if self._front.bodies.take("", len(body)):
            self._held[-1] += len(body)
            super().on_body(body)
            return
        self._end(503, "busy", "too many bodies are under way", retry_after=1)
        raise _Stop

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._intake.whole = True
        self._stop()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A reply was written: continue with the next request, or close."""
        self._release()
        self._running = None
        super().on_response_complete()  # starts the next request
        if self.transport.is_closing():  # it closes once the client has read what was written
            self._start(STALL_SECONDS)
        elif any(self._under_way()):
            return
        elif self._last is not None:
            self._finish()
        elif not self._intake.whole:
            self._start(HEAD_SECONDS)

    def pause_writing(self) -> None:
        """The client has stopped reading; it has `STALL_SECONDS` to start again."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if its client has not read the last reply."""
        self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _under_way(self) -> Iterator[RequestResponseCycle]:
        if self._running is not None:
            yield self._running
        for cycle, _ in self.pipeline:
            yield cycle

    def _check(self, exceeded: Refusal | None) -> None:
        if exceeded is not None:
            self._end(*exceeded)
            raise _Stop

    def _refuse(self, head: Head, body: bytes) -> None:
        stays = self.parser.should_keep_alive() and (b"connection", b"close") not in head
        if not stays and (b"connection", b"close") not in head:
            head = [*head, (b"connection", b"close")]
        self.transport.write(self._reply(503, head, body))
        self.cycle = _Refused()  # type: ignore[assignment]
        self.on_response_complete()
        if not stays:
            self.transport.close()

    def _reply(self, status: int, head: Head, body: bytes) -> bytes:
        lines = (name + b": " + value + b"\r\n" for name, value in (*self.server_state.default_headers, *head))
        return b"".join((STATUS_LINE[status], *lines, b"\r\n", body))

    def _end(self, status: int, code: str, message: str, *, retry_after: float | None = None) -> None:
        """Read nothing more, and send an error after the replies under way."""
        if not (self._intake.whole or self._intake.in_head or self.cycle.response_complete):
            self._abandon()
        self._end_after(self._reply(status, *self._front.reject(status, code, message, retry_after)))

    def _abandon(self) -> None:
        """Drop the newest request, whose body will stay incomplete."""
        if self._running is not self.cycle:
            self.pipeline.popleft()
        elif self.cycle.response_started:
            self.transport.abort()
        else:  # tell the application that its client hung up
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._running = None

    def _end_after(self, last: bytes) -> None:
        self._last = last
        if self._running is None:
            self._finish()

    def _finish(self) -> None:
        """Write the last reply, and discard what still arrives for a moment."""
        if self._last:
            self.transport.write(self._last)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._start(STALL_SECONDS if self.transport.get_write_buffer_size() else LINGER)

    def _release(self) -> None:
        """Give back the body bytes of the oldest request."""
        if self._held:
            self._front.bodies.give("", self._held.popleft())

    def _start(self, seconds: float) -> None:
        self._stop()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
