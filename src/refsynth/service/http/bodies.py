"""Read a request body within its limits and validate it. Error messages never repeat what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from refsynth.service.http.errors import Compressed, Gone, Invalid, OverQuota, TooLarge, TooSlow

Body = TypeVar("Body", bound=BaseModel)

DISCARD_FACTOR = 4
"""Read a body that is too large up to this many times the limit: a client that is still sending does not read the reply."""


async def read_body(request: Request, schema: type[Body], *, limit: int, take: Callable[[int], bool]) -> Body:
    """Return the validated body.

    Args:
        request: the request.
        schema: the model of the body.
        limit: maximum number of bytes.
        take: reserves the bytes of each chunk; returns whether there was room.

    Raises:
        ServeError: the body is too large, too slow, compressed or invalid, or there is no room.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Compressed("compressed bodies are not read; send plain JSON")
    try:
        async with asyncio.timeout_at(request.scope["deadline"]):
            content = await _content(request, limit, take)
    except TimeoutError as error:
        raise TooSlow("the body did not arrive in time", hang_up=True) from error
    except ClientDisconnect as error:
        raise Gone("the client hung up") from error
    try:
        return schema.model_validate_json(content)
    except ValidationError as error:
        raise Invalid(_explain(error, schema)) from error


async def _content(request: Request, limit: int, take: Callable[[int], bool]) -> bytes:
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdecimal() else 0
    chunks: list[bytes] = []
    if size > DISCARD_FACTOR * limit:
        raise TooLarge(f"a body of {size:,} bytes; the limit is {limit:,}", hang_up=True)
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            if not take(len(chunk)):
                raise OverQuota("too many bodies of this key are under way", code="key_busy", retry_after=1, hang_up=True)
            chunks.append(chunk)
        elif size > DISCARD_FACTOR * limit:
            break
    if size > limit:
        raise TooLarge(f"the body is larger than {limit:,} bytes", hang_up=True)
    return b"".join(chunks)


def _explain(error: ValidationError, schema: type[BaseModel]) -> str:
    """Return the first problem without quoting what was sent, not even the name of an unknown field."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if problem["type"] == "extra_forbidden":
        return f"unknown field; the fields are {', '.join(schema.model_fields)}"
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])
