"""Build replies: JSON, errors in one format, and a short path to the endpoints that must be fast."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from refsynth.service.http.errors import MEANINGS, ServeError, error_body
from refsynth.service.http.front import UNFORESEEN, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class Json(Response):
    """A JSON reply from a pydantic model or plain data."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the content as JSON bytes."""
        if isinstance(content, BaseModel):
            return content.model_dump_json().encode()
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


async def dispatch(api: FastAPI, hot: Mapping[str, Endpoint], scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request. Endpoints in `hot` skip FastAPI's layers, which cost a sixth of a request.

    The hot endpoints are still registered with FastAPI, for the OpenAPI description.
    """
    endpoint = hot.get(scope["path"])
    if endpoint is None or scope["method"] != "POST":
        await api(scope, receive, send)
        return
    request = Request(scope, receive)
    try:
        response = await endpoint(request)
    except ServeError as error:
        response = _error_reply(request, error)
    await response(scope, receive, send)


def _error_reply(request: Request, error: ServeError) -> Response:
    content = error_body(error.reason, error.found, request.scope["request_id"])
    return Response(content, error.status, error.headers(), "application/json")


def add_errors(api: FastAPI) -> None:
    """Make every error reply have our format, including those of the framework."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServeError)
        return _error_reply(request, error)

    async def framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid")
        content = error_body(code, MEANINGS.get(error.status_code, "refused"), request.scope["request_id"])
        return Response(content, error.status_code, error.headers, "application/json")

    async def unforeseen(request: Request, error: Exception) -> Response:
        content = error_body("internal_error", UNFORESEEN, request.scope["request_id"])
        return Response(content, 500, media_type="application/json")

    api.add_exception_handler(ServeError, refused)
    api.add_exception_handler(Exception, unforeseen)  # Starlette raises it again, and the front logs it
    api.add_exception_handler(HTTPException, framework)
