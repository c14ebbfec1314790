"""How replies are made: JSON, refusals in one form, and the short way to the endpoints that must be fast."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from refsynth.service.http.errors import MEANINGS, ServeError, body_of
from refsynth.service.http.front import UNFORESEEN, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class Json(Response):
    """A reply that is JSON already, or becomes it here."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes."""
        if isinstance(content, BaseModel):
            return content.model_dump_json().encode()
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


async def dispatch(api: FastAPI, hot: Mapping[str, Endpoint], scope: Scope, receive: Receive, send: Send) -> None:
    """Call the endpoints of `hot` paths without the layers of FastAPI, a sixth of what a request costs; it describes them."""
    endpoint = hot.get(scope["path"])
    if endpoint is None or scope["method"] != "POST":
        await api(scope, receive, send)
        return
    request = Request(scope, receive)
    try:
        response = await endpoint(request)
    except ServeError as error:
        response = _refusal(request, error)
    await response(scope, receive, send)


def _refusal(request: Request, error: ServeError) -> Response:
    content = body_of(error.reason, error.found, request.scope["request_id"])
    return Response(content, error.status, error.headers(), "application/json")


def add_errors(api: FastAPI) -> None:
    """Say every error in our form, those of the framework too."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServeError)
        return _refusal(request, error)

    async def foreign(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid")
        content = body_of(code, MEANINGS.get(error.status_code, "refused"), request.scope["request_id"])
        return Response(content, error.status_code, error.headers, "application/json")

    async def unforeseen(request: Request, error: Exception) -> Response:
        content = body_of("internal_error", UNFORESEEN, request.scope["request_id"])
        return Response(content, 500, media_type="application/json")

    api.add_exception_handler(ServeError, refused)
    api.add_exception_handler(Exception, unforeseen)  # raised again for the front, which logs it
    api.add_exception_handler(HTTPException, foreign)
