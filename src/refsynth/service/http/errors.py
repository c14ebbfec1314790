"""The server's errors. Each has a status and a code, and all share one JSON body."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from refsynth.core.errors import RefsynthError


class Problem(BaseModel):
    """What went wrong."""

    code: str
    message: str
    request_id: str


class ErrorBody(BaseModel):
    """The body of every error reply."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"error": {"code": "queue_full", "message": "the queue is full", "request_id": "5f0c2f9be4ec4ce9"}}
        }
    )
    error: Problem


class Refusal(NamedTuple):
    """The status, code and message of an error that is sent before the application gets the request."""

    status: int
    code: str
    message: str


MEANINGS = {
    400: "Not an HTTP/1.1 request, or its head is too large",
    401: "No key, or one that is unknown, expired or revoked",
    403: "The key may not do this; without keys: the Host is unknown, or a page from another site sent the request",
    404: "Not found",
    405: "This route expects another method",
    408: "The body did not arrive in time",
    413: "The body, a text or the number of texts is too large; or a text is longer than the model reads, and truncate is false",
    415: "The body is compressed; without keys: its Content-Type is not JSON",
    422: "The body does not match the schema, or a text is empty",
    429: "The key is over its quota, or has too much under way; Retry-After says when to retry",
    500: "The model failed on the text",
    503: "The server is full or shutting down; Retry-After says when to retry",
    504: "The deadline passed",
}


class ServeError(RefsynthError):
    """A refused request. `retry_after` is in seconds; `hang_up` closes the connection after the reply."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, retry_after: float | None = None, hang_up: bool = False) -> None:
        super().__init__(message)
        self.reason = code or self.code
        self.retry_after, self.hang_up = retry_after, hang_up

    def headers(self) -> dict[str, str]:
        """Return the headers that the reply needs."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        if self.hang_up:
            headers["Connection"] = "close"
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


class Unauthorized(ServeError):
    """No valid key."""

    status, code = 401, "unauthorized"


class Forbidden(ServeError):
    """The key lacks the scope."""

    status, code = 403, "forbidden"


class NotFound(ServeError):
    """There is no such thing."""

    status, code = 404, "not_found"


class TooSlow(ServeError):
    """The client sends its body too slowly."""

    status, code = 408, "body_timeout"


class TooLarge(ServeError):
    """The request exceeds a size limit."""

    status, code = 413, "too_large"


class Compressed(ServeError):
    """The body is compressed."""

    status, code = 415, "compressed"


class Invalid(ServeError):
    """The body does not match the schema."""

    status, code = 422, "invalid"


class OverQuota(ServeError):
    """The key is over its quota or its share."""

    status, code = 429, "over_quota"


class Gone(ServeError):
    """The client hung up; nobody reads this reply."""

    status, code = 499, "client_gone"


class Failed(ServeError):
    """The model failed on the text."""

    status, code = 500, "prediction_failed"


class Unavailable(ServeError):
    """The server is full, shutting down or lacks a dependency."""

    status, code = 503, "queue_full"


class Late(ServeError):
    """The deadline passed."""

    status, code = 504, "deadline"


def error_body(code: str, message: str, request_id: str) -> bytes:
    """Return the JSON body of an error reply."""
    return ErrorBody(error=Problem(code=code, message=message, request_id=request_id)).model_dump_json().encode()
