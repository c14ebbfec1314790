"""Uvicorn's HTTP protocol with bounds on the head of a request: its bytes, and the time it may take to arrive."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
HEAD_SECONDS = 20.0
KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open: longer than load balancers and proxies keep theirs, 60 mostly. The client must
be the first to close: a request that meets a closing connection is lost."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that is closed when a head is too large or too slow. The time before a first request counts too."""

    _timer: asyncio.TimerHandle | None = None
    _head = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
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
        super().on_headers_complete()

    def _start(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
