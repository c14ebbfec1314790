"""Uvicorn's HTTP protocol with bounds on the head of a request: its bytes, and the time it may take to arrive.

What a full queue refuses is answered here, when the head is there: a quarter of the processor time of a reply through the
application, and under overload most requests are refused.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from refsynth.serve.front import Front, Head

HEAD_BYTES = 64 << 10
HEAD_SECONDS = 20.0
KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open: longer than load balancers and proxies keep theirs, 60 mostly. The client must
be the first to close: a request that meets a closing connection is lost."""


class _Refused:
    """Stands where a cycle of request and reply would: what still comes of the body is read over."""

    response_complete = True
    message_event = asyncio.Event()


class BoundedProtocol(HttpToolsProtocol):
    """A connection that is closed when a head is too large or too slow. The time before a first request counts too."""

    _timer: asyncio.TimerHandle | None = None
    _head = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock.

        In place of uvicorn's own, which asks the kernel for both addresses: nothing here wants them, and they were a fifth of
        what a new connection cost.
        """
        self.connections.add(self)
        self.transport, self.flow, self.scheme = transport, FlowControl(transport), "http"
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head."""
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        if self._head > HEAD_BYTES:
            self.send_400_response("The head of the request is too large.")
        elif self._timer is None:  # most heads arrive whole and need no timer
            self._start()

    def on_message_begin(self) -> None:
        """Expect a head."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head, self._head = False, 0
        self._stop()
        # One that waits behind another of its connection is left to the application, which keeps their order.
        if isinstance(self.app, Front) and (self.cycle is None or self.cycle.response_complete):
            path, method = self.url.partition(b"?")[0].decode("latin-1"), self.parser.get_method().decode("ascii")
            refusal = self.app.refuse_early(method, path, self.headers)
            if refusal is not None:
                self._refuse(*refusal)
                return
        super().on_headers_complete()

    def _refuse(self, head: Head, body: bytes) -> None:
        stays = self.parser.should_keep_alive() and (b"connection", b"close") not in head
        if not stays and (b"connection", b"close") not in head:
            head = [*head, (b"connection", b"close")]
        lines = (name + b": " + value + b"\r\n" for name, value in (*self.server_state.default_headers, *head))
        self.transport.write(b"".join((STATUS_LINE[503], *lines, b"\r\n", body)))
        self.cycle = _Refused()  # type: ignore[assignment]
        self.on_response_complete()
        if not stays:
            self.transport.close()

    def _start(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
