"""The outermost layer: request ids, the limit on requests under way, deadline, metrics, log line and unexpected errors.

It is plain ASGI, so that a handler sees its client hang up. Requests that a full queue refuses do not come here: `protocol` calls
`refuse_early` once it has the head of a request, and writes the reply itself.
"""

from __future__ import annotations

import logging
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple

from refsynth.service.http.errors import error_body
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
Head = list[tuple[bytes, bytes]]

_REQUEST_ID = re.compile(REQUEST_ID)
UNFORESEEN = "the server failed on this request; its log shows where"
MONITORING_ROUTES = ("/health/live", "/health/ready", "/metrics")
"""Routes that are answered no matter how many requests are under way."""
MODEL_ROUTES = ("/v1/predict", "/predict", "/v1/explain")
"""Routes that ask the model. While the queue is full they are refused before their body is read, so that refusals cost little."""


class NoRoom(NamedTuple):
    """Why a request has no room: the metric's label, the error's code and message, and the seconds after which to retry."""

    reason: str
    code: str
    message: str
    retry_after: float


class Front:
    """The ASGI application around `app`.

    Args:
        app: the wrapped application.
        routes: the paths that metrics may name; all others count as `other`.
        health: knows whether the worker is draining.
        metrics: counts requests and refusals.
        full: returns the seconds to wait while the queue is full, else 0.
        limit: the maximum number of requests under way.
        bodies: bytes that the bodies under way may hold; `protocol` counts them.
        origins: who may call a server without keys; None with keys.
        release: called with the scope of each finished request.
        deadline: seconds per request; handlers find the end in `scope["deadline"]`.
        log: whether to log each request.
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
        started = time.monotonic()  # the loop's clock, but current: `loop.time()` may be cached for a whole iteration
        reply = _Reply(send, _request_id(scope["headers"]), self._health)
        scope["request_id"], scope["deadline"] = reply.request_id, started + self._deadline
        self.inflight += 1
        self._metrics.inflight.set(self.inflight)
        try:
            if refusal := self._no_room(scope["path"], others=self.inflight - 1):
                await reply.refuse(503, refusal.code, refusal.message, self._count(refusal))
            elif self._origins and (foreign := self._origins.refusal(scope["method"], scope["headers"])):
                await reply.refuse(*foreign, {})
            else:
                await self._app(scope, receive, reply.send)
        except Exception as error:  # noqa: BLE001 - uvicorn would log its message, which may quote a text
            event("request failed", level=logging.ERROR, error=error, request_id=reply.request_id)
            await reply.refuse(500, "internal_error", UNFORESEEN, {})
        finally:
            self.inflight -= 1
            self._metrics.inflight.set(self.inflight)
            self._release(scope)
            self._finish(scope, reply.request_id, reply.status, time.monotonic() - started)

    def refuse_early(self, method: str, path: str, headers: Head) -> tuple[Head, bytes] | None:
        """Return the head and body of a 503 if there is no room for a request of which only the head was read; else None."""
        refusal = self._no_room(path, others=self.inflight) if path in MODEL_ROUTES and method == "POST" else None
        if refusal is None:
            return None
        request_id = _request_id(headers)
        self._finish({"path": path, "method": method, "headers": headers}, request_id, 503, None)
        head, body = _error(refusal.code, refusal.message, request_id, self._count(refusal))
        return [*head, *_common(request_id, self._health, head)], body

    def reject(self, status: int, code: str, message: str, retry_after: float | None) -> tuple[Head, bytes]:
        """Return the head and body of an error that closes its connection: for an invalid request, or one too many."""
        request_id = secrets.token_hex(8)
        self._finish({"path": "", "method": "-", "headers": ()}, request_id, status, None)
        retry = {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))}
        head, body = _error(code, message, request_id, {**retry, "Connection": "close"})
        return [*head, *_common(request_id, self._health, head)], body

    def _no_room(self, path: str, *, others: int) -> NoRoom | None:
        if path in MODEL_ROUTES and (wait := self._full()):
            return NoRoom("queue", "queue_full", "the queue is full", wait)
        if others >= self._limit and path not in MONITORING_ROUTES:
            return NoRoom("busy", "busy", "too many requests are under way", 1)
        return None

    def _count(self, refusal: NoRoom) -> dict[str, str]:
        """Count a refusal, and return its headers."""
        self._metrics.refused(refusal.reason)
        return {"Retry-After": str(math.ceil(refusal.retry_after))}

    def _finish(self, scope: Scope, request_id: str, status: int, seconds: float | None) -> None:
        route = scope["path"] if scope["path"] in self._routes else "other"
        self._metrics.request(route, status, seconds)
        if self._log and route not in MONITORING_ROUTES:
            event(
                "request",
                request_id=request_id,
                route=route,
                code=status,
                seconds=round(seconds or 0, 5),
                texts=scope.get("texts", 0),
                key=scope.get("key"),
            )
        if self._tracer and route not in MONITORING_ROUTES:
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
    """Adds our headers to a reply, and remembers its status."""

    def __init__(self, send: Send, request_id: str, health: Health) -> None:
        self._send, self._health = send, health
        self.request_id, self.status = request_id, 499  # stays so if the client hangs up before a reply
        self._started = False

    async def send(self, message: Message) -> None:
        """Pass on an ASGI message."""
        if message["type"] == "http.response.start":
            self._started, self.status = True, message["status"]
            headers = list(message.get("headers", ()))
            message = {**message, "headers": [*headers, *_common(self.request_id, self._health, headers)]}
        await self._send(message)

    async def refuse(self, status: int, code: str, text: str, headers: dict[str, str]) -> None:
        """Send an error, unless a reply has started."""
        if self._started:
            return
        head, body = _error(code, text, self.request_id, headers)
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        await self.send({"type": "http.response.body", "body": body})


def _error(code: str, text: str, request_id: str, headers: Mapping[str, str]) -> tuple[Head, bytes]:
    body = error_body(code, text, request_id)
    fields = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    return [(name.lower().encode(), value.encode()) for name, value in fields.items()], body


def _common(request_id: str, health: Health, head: Iterable[tuple[bytes, bytes]]) -> Head:
    """Return the headers that every reply gets in addition to its own."""
    closing = health.draining and not any(name.lower() == b"connection" for name, _ in head)
    return [(b"x-request-id", request_id.encode()), *([(b"connection", b"close")] if closing else [])]


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the client's request id if it is valid, else a new one."""
    ids = (value.decode("latin-1") for name, value in headers if name == b"x-request-id")
    return next(filter(_REQUEST_ID.fullmatch, ids), None) or secrets.token_hex(8)
