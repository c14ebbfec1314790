"""The outermost layer: request ids, the bound on requests under way, the deadline, metrics, the log line, and the last resort.

Plain ASGI, so that nothing stands between a handler and its client's hang-up. What a full queue refuses does not even come here:
`serve.protocol` asks `refuse_early` when the head of a request is there, and writes the reply itself.
"""

from __future__ import annotations

import logging
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple

from refsynth.service.http.errors import body_of
from refsynth.service.http.health import Health
from refsynth.service.http.interfaces import Tracer
from refsynth.service.http.logs import event
from refsynth.service.http.metrics import Metrics
from refsynth.service.http.origin import Origins
from refsynth.service.http.schema import REQUEST_ID
from refsynth.service.http.shares import Shares

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


Head = list[tuple[bytes, bytes]]


class NoRoom(NamedTuple):
    """Why there is no room: the metric's label, the code and message of the error, and the seconds after which to come back."""

    reason: str
    code: str
    message: str
    retry_after: float


class Front:
    """Wraps the app.

    Args:
        app: what answers.
        routes: the paths that metrics may name; all others count as `other`.
        health: knows whether the worker is ending.
        metrics: counts.
        full: tells the seconds to wait while the queue is full, else 0.
        limit: the most requests under way.
        bodies: the bytes that bodies under way may hold; `serve.protocol` counts them.
        origins: where a server without keys may be called from; None where keys are on.
        release: is told of each request that is over.
        deadline: seconds for a request; handlers find its end in `scope["deadline"]`.
        log: whether each request is logged.
        tracer: takes a span for each request.
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
        bodies: Shares,
        origins: Origins | None,
        release: Callable[[Scope], None],
        deadline: float,
        log: bool,
        tracer: Tracer | None,
    ) -> None:
        self._app, self._routes, self._health, self._metrics = app, routes, health, metrics
        self._full, self._limit, self._deadline, self._log, self._tracer = full, limit, deadline, log, tracer
        self._origins, self._release = origins, release
        self.bodies, self.inflight = bodies, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        started = time.monotonic()  # the loop's clock, but not rounded to its turns
        reply = _Reply(send, _request_id(scope["headers"]), self._health)
        scope["request_id"], scope["deadline"] = reply.request_id, started + self._deadline
        self.inflight += 1
        self._metrics.inflight.set(self.inflight)
        try:
            if refusal := self._refusal(scope["path"], others=self.inflight - 1):
                await reply.refuse(503, refusal.code, refusal.message, self._counted(refusal))
            elif self._origins and (foreign := self._origins.refusal(scope["method"], scope["headers"])):
                await reply.refuse(*foreign, {})
            else:
                await self._app(scope, receive, reply.send)
        except Exception as error:  # noqa: BLE001 - further out it would be logged with its message, which may quote a text
            event("request failed", level=logging.ERROR, error=error, request_id=reply.request_id)
            await reply.refuse(500, "internal_error", UNFORESEEN, {})
        finally:
            self.inflight -= 1
            self._metrics.inflight.set(self.inflight)
            self._release(scope)
            self._finish(scope, reply.request_id, reply.status, time.monotonic() - started)

    def refuse_early(self, method: str, path: str, headers: Head) -> tuple[Head, bytes] | None:
        """Return the head and body of a 503, where there is no room for a request of which nothing but its head was read."""
        refusal = self._refusal(path, others=self.inflight) if path in ASKING and method == "POST" else None
        if refusal is None:
            return None
        request_id = _request_id(headers)
        self._finish({"path": path, "method": method, "headers": headers}, request_id, 503, None)
        head, body = _error(refusal.code, refusal.message, request_id, self._counted(refusal))
        return [*head, *_common(request_id, self._health, head)], body

    def reject(self, status: int, code: str, message: str, retry_after: float | None) -> tuple[Head, bytes]:
        """Return the head and body of a refusal that ends its connection, of what is no request or one too many."""
        request_id = secrets.token_hex(8)
        self._finish({"path": "", "method": "-", "headers": ()}, request_id, status, None)
        again = {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))}
        head, body = _error(code, message, request_id, {**again, "Connection": "close"})
        return [*head, *_common(request_id, self._health, head)], body

    def _refusal(self, path: str, *, others: int) -> NoRoom | None:
        if path in ASKING and (wait := self._full()):
            return NoRoom("queue", "queue_full", "the queue is full", wait)
        if others >= self._limit and path not in ALWAYS:
            return NoRoom("busy", "busy", "too many requests are under way", 1)
        return None

    def _counted(self, refusal: NoRoom) -> dict[str, str]:
        """Count a refusal and return its headers."""
        self._metrics.refused(refusal.reason)
        return {"Retry-After": str(math.ceil(refusal.retry_after))}

    def _finish(self, scope: Scope, request_id: str, status: int, seconds: float | None) -> None:
        route = scope["path"] if scope["path"] in self._routes else "other"
        self._metrics.request(route, status, seconds)
        if self._log and route not in ALWAYS:
            event(
                "request",
                request_id=request_id,
                route=route,
                code=status,
                seconds=round(seconds or 0, 5),
                texts=scope.get("texts", 0),
                key=scope.get("key"),
            )
        if self._tracer and route not in ALWAYS:
            end = time.time_ns()
            attributes = {
                "http.request.method": scope["method"],
                "http.route": route,
                "http.response.status_code": status,
                "refsynth.request_id": request_id,
                "refsynth.texts": scope.get("texts", 0),
            }
            parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), "")
            name = f"{scope['method']} {route}"
            self._tracer.request(name, attributes, parent=parent, start=end - int((seconds or 0) * 1e9), end=end)


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
            headers = list(message.get("headers", ()))
            message = {**message, "headers": [*headers, *_common(self.request_id, self._health, headers)]}
        await self._send(message)

    async def refuse(self, status: int, code: str, text: str, headers: dict[str, str]) -> None:
        """Send an error, unless a reply has begun."""
        if self._begun:
            return
        head, body = _error(code, text, self.request_id, headers)
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        await self.send({"type": "http.response.body", "body": body})


def _error(code: str, text: str, request_id: str, headers: Mapping[str, str]) -> tuple[Head, bytes]:
    body = body_of(code, text, request_id)
    fields = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    return [(name.lower().encode(), value.encode()) for name, value in fields.items()], body


def _common(request_id: str, health: Health, head: Iterable[tuple[bytes, bytes]]) -> Head:
    """Return what every reply's head has beside its own."""
    closing = health.draining and not any(name.lower() == b"connection" for name, _ in head)
    return [(b"x-request-id", request_id.encode()), *([(b"connection", b"close")] if closing else [])]


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the client's id where it is a plain one, else a new one."""
    for name, value in headers:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(given):
                return str(given)
    return secrets.token_hex(8)
