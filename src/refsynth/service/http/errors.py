"""What the server refuses, and how it says so: one JSON body for every status that is no success."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from refsynth.core.errors import RefsynthError


class Problem(BaseModel):
    """What went wrong."""

    code: str
    message: str
    request_id: str


class ErrorBody(BaseModel):
    """The body of every reply that is no success."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"error": {"code": "queue_full", "message": "the queue is full", "request_id": "5f0c2f9be4ec4ce9"}}
        }
    )
    error: Problem


MEANINGS = {
    400: "Not a request in HTTP/1.1, or its head is too large",
    401: "No key, or one that is unknown, expired or revoked",
    403: "The key may not do this; without keys: the Host is not known, or a page from elsewhere asks",
    404: "Nothing is there",
    405: "Another method is expected",
    408: "The body did not arrive in time",
    413: "The body, a text or the number of texts is too large; or a text is longer than what is read, and not to be cut",
    415: "The body is compressed; without keys: it is not called JSON",
    422: "The body is not what the schema says, or a text is empty",
    429: "The key is over its quota, or holds too much at once; Retry-After says when to come back",
    500: "The model failed on the text",
    503: "The server is full or ending; Retry-After says when to come back",
    504: "The deadline passed",
}


class ServeError(RefsynthError):
    """A refusal. `retry_after` is in seconds; `hang_up` ends the connection after the reply."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, retry_after: float | None = None, hang_up: bool = False) -> None:
        super().__init__(message)
        self.reason = code or self.code
        self.retry_after, self.hang_up = retry_after, hang_up

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to it."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        if self.hang_up:
            headers["Connection"] = "close"
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


class Unauthorised(ServeError):
    """No valid key."""

    status, code = 401, "unauthorised"


class Forbidden(ServeError):
    """The key lacks the scope."""

    status, code = 403, "forbidden"


class NotFound(ServeError):
    """Nothing is there."""

    status, code = 404, "not_found"


class TooSlow(ServeError):
    """The client does not send its body."""

    status, code = 408, "body_timeout"


class TooLarge(ServeError):
    """Over a limit of size."""

    status, code = 413, "too_large"


class Compressed(ServeError):
    """A body that would have to be unpacked first."""

    status, code = 415, "compressed"


class Invalid(ServeError):
    """Not what the schema says."""

    status, code = 422, "invalid"


class OverQuota(ServeError):
    """The key asked for too much."""

    status, code = 429, "over_quota"


class Gone(ServeError):
    """The client hung up; nobody reads this."""

    status, code = 499, "client_gone"


class Failed(ServeError):
    """The model failed on the text."""

    status, code = 500, "prediction_failed"


class Unavailable(ServeError):
    """Full, ending or without its store."""

    status, code = 503, "queue_full"


class Late(ServeError):
    """The deadline passed."""

    status, code = 504, "deadline"


def body_of(code: str, message: str, request_id: str) -> bytes:
    """Return the JSON body."""
    return ErrorBody(error=Problem(code=code, message=message, request_id=request_id)).model_dump_json().encode()
