"""The outermost layer: request ids, the bound on requests under way, the deadline, metrics, the log line, and the last resort.

Plain ASGI, so that a refusal under overload costs next to nothing and nothing stands between a handler and its client's hang-up.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from refsynth.serve.errors import body_of
from refsynth.serve.health import Health
from refsynth.serve.logs import event
from refsynth.serve.metrics import Metrics
from refsynth.serve.schema import REQUEST_ID

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID = re.compile(REQUEST_ID)
UNFORESEEN = "the server failed on this request; its log has the place"
ALWAYS = ("/health/live", "/health/ready", "/metrics")
"""Answered however many requests are under way."""
ASKING = ("/v1/predict", "/predict", "/v1/explain")
"""Refused before anything is read while the queue is full: under overload, what is refused must not cost what answers need."""


class Front:
    """Wraps the app.

    Args:
        app: what answers.
        routes: the paths that metrics may name; all others count as `other`.
        health: knows whether the worker is ending.
        metrics: counts.
        full: tells the seconds to wait while the queue is full, else 0.
        limit: the most requests under way.
        deadline: seconds for a request; handlers find its end in `scope["deadline"]`.
        log: whether each request is logged.
    """

    def __init__(
        self,
        app: App,
        *,
        routes: frozenset[str],
        health: Health,
        metrics: Metrics,
        full: Callable[[], float],
        limit: int,
        deadline: float,
        log: bool,
    ) -> None:
        self._app, self._routes, self._health, self._metrics = app, routes, health, metrics
        self._full, self._limit, self._deadline, self._log = full, limit, deadline, log
        self.inflight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        loop = asyncio.get_running_loop()
        started = loop.time()
        reply = _Reply(send, _request_id(scope), self._health)
        scope["request_id"], scope["deadline"] = reply.request_id, started + self._deadline
        self.inflight += 1
        self._metrics.inflight.set(self.inflight)
        try:
            if not await self._refused(scope["path"], reply):
                await self._app(scope, receive, reply.send)
        except Exception as error:  # noqa: BLE001 - further out it would be logged with its message, which may quote a text
            event("request failed", level=logging.ERROR, error=error, request_id=reply.request_id)
            await reply.refuse(500, "internal_error", UNFORESEEN, {})
        finally:
            self.inflight -= 1
            self._metrics.inflight.set(self.inflight)
            self._finish(scope, reply, loop.time() - started)

    async def _refused(self, path: str, reply: _Reply) -> bool:
        """Refuse at once what there is no room for."""
        if path in ASKING and (wait := self._full()):
            self._metrics.rejected.labels("queue").inc()
            await reply.refuse(503, "queue_full", "the queue is full", {"Retry-After": str(math.ceil(wait))})
        elif self.inflight > self._limit and path not in ALWAYS:
            self._metrics.rejected.labels("busy").inc()
            await reply.refuse(503, "busy", "too many requests are under way", {"Retry-After": "1"})
        else:
            return False
        return True

    def _finish(self, scope: Scope, reply: _Reply, seconds: float) -> None:
        route = scope["path"] if scope["path"] in self._routes else "other"
        self._metrics.request(route, reply.status, seconds)
        if self._log and route not in ALWAYS:
            event(
                "request",
                request_id=reply.request_id,
                route=route,
                code=reply.status,
                seconds=round(seconds, 5),
                texts=scope.get("texts", 0),
                key=scope.get("key"),
            )


class _Reply:
    """Adds our headers to a reply and remembers its status."""

    def __init__(self, send: Send, request_id: str, health: Health) -> None:
        self._send, self._health = send, health
        self.request_id, self.status = request_id, 499  # until something is sent: the client went first
        self._begun = False

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self._begun, self.status = True, message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            if self._health.draining and not any(name.lower() == b"connection" for name, _ in headers):
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, status: int, code: str, text: str, headers: dict[str, str]) -> None:
        """Send an error, unless a reply has begun."""
        if self._begun:
            return
        body = body_of(code, text, self.request_id)
        fields = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        head = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        await self.send({"type": "http.response.body", "body": body})


def _request_id(scope: Scope) -> str:
    """Return the client's id where it is a plain one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(given):
                return str(given)
    return secrets.token_hex(8)
