"""JSON requests to a server that may be slow, busy or wrong: retries, a budget, and errors that never show the key.

The `openai` client sends them. Retries are made here, because they count towards the budget. It does not know the routes.
"""

from __future__ import annotations

import email.utils
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from refsynth.core.errors import EndpointError
from refsynth.core.extras import require
from refsynth.models.reference.bound import ENDLESS, PLAIN, EndlessError, bound

Json = dict[str, Any]
Post = Callable[[str, Json | None], Any]
"""Takes a request's path and body, and returns the JSON answer; without a body it is a GET."""

COMPATIBLE = "is this an OpenAI-compatible server, with /v1 in the address?"

LONGEST_WAIT = 60.0
"""The most seconds to wait before a retry, whatever `Retry-After` says."""

SECRET = 8
"""The fewest characters of a key that is removed from answers. Local servers take any word, which answers may hold by chance."""

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})

_OMITTED = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async", "Retry-Count", "Read-Timeout")
"""Headers of the client that would describe this machine."""


class RequestRefused(EndpointError):
    """An answer with a status that no retry changes. `status` is the HTTP status, `about` the server's message."""

    def __init__(self, status: int, found: str, *, remedy: str, about: str = "") -> None:
        super().__init__(found, remedy=remedy)
        self.status, self.about = status, about


class BudgetError(EndpointError):
    """The request budget is used up."""


class RequestBudget:
    """Counts requests. A batch reserves its requests before it begins, so the budget never runs out within it."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._left = limit
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Take `count` requests, all or none.

        Raises:
            BudgetError: fewer are left.
        """
        with self._lock:
            if self._left is None:
                return
            if count > self._left:
                raise BudgetError(
                    f"the budget of {self.limit} requests has {self._left} left, and the next batch needs {count}",
                    remedy="all answers are kept; raise reference.max_requests and run again",
                )
            self._left -= count


class JsonClient:
    """Sends JSON to one server. No redirect is followed: key and prompts go only to the host that the user named."""

    def __init__(
        self,
        base: str,
        *,
        key: str | None,
        timeout: float,
        retries: int,
        budget: RequestBudget,
        key_env: str = "reference.key_env",
    ) -> None:
        """Check the address `base` and the key. Nothing is sent. `EndpointReference` describes the settings.

        Raises:
            EndpointError: the address is not an http address or has a secret in it, or the key cannot be sent.
            ExtraError: the extra `train` is not installed.
        """
        self._openai = require("openai", extra="train")
        self._key, self._key_env = (key or "").strip(), key_env
        if not self._key.isascii() or not self._key.isprintable() or " " in self._key:
            raise EndpointError("the API key holds characters that no key has", remedy=f"check the variable {key_env}")
        self.host = check_address(base)
        self._base, self._timeout, self._retries, self._budget = base, timeout, retries, budget

    @contextmanager
    def connect(self) -> Iterator[Post]:
        """Yield `post(path, body)`, which threads may share, and close the connections after the block."""
        omitted = [f"X-Stainless-{name}" for name in _OMITTED] + ["OpenAI-Organization", "OpenAI-Project"]
        headers = dict.fromkeys(omitted if self._key else [*omitted, "Authorization"], self._openai.Omit()) | PLAIN
        options = {"follow_redirects": False, "headers": {**headers, "X-Stainless-Raw-Response": "true"}}
        connection = self._openai.OpenAI(
            base_url=self._base,
            api_key=self._key or "none",
            max_retries=0,
            timeout=self._timeout,
            webhook_secret="",
            http_client=self._openai.DefaultHttpxClient(event_hooks={"response": [bound]}),
        )
        log, quiet = logging.getLogger("openai._base_client"), _Quiet()
        log.addFilter(quiet)
        try:
            with connection:
                yield lambda path, body: self._post(connection, path, body, options)
        finally:
            log.removeFilter(quiet)

    def _post(self, connection: Any, path: str, body: Json | None, options: Json) -> Any:
        """Return the JSON answer. The caller took this request from the budget; retries are taken here.

        Raises:
            RequestRefused: a status that no retry changes.
            EndpointError: no answer after all tries, or one that is not JSON.
        """
        for attempt in range(self._retries + 1):
            if attempt:
                self._budget.take(1)
            try:
                if body is None:
                    return self._read(connection.get(path, cast_to=object, options=options))
                return self._read(connection.post(path, body=body, cast_to=object, options=options))
            except EndlessError as error:
                raise EndpointError(f"{self.host}: {error}", remedy=ENDLESS) from None
            except self._openai.APIConnectionError as error:
                failure, wait = f"no answer ({type(error.__cause__ or error).__name__})", None
            except self._openai.APIStatusError as error:
                status, answered = error.status_code, error.response
                if status not in _RETRIED:
                    raise self._refusal(answered) from None  # the library's error contains the request and the key
                failure, wait = f"HTTP {status}", _retry_after(answered.headers.get("retry-after"))
            except (self._openai.OpenAIError, ValueError) as error:
                raise EndpointError(f"{self.host}: the answer cannot be read ({type(error).__name__})") from None
            if attempt < self._retries:
                time.sleep(_pause(attempt) if wait is None else min(wait, LONGEST_WAIT))
        raise EndpointError(
            f"{self.host}: {failure} after {self._retries + 1} tries",
            remedy="is the server up and not overloaded? Finished batches are kept: run again to go on",
        )

    def _read(self, answer: Any) -> Any:
        """Return the answer as JSON, without the key, since answers are written to disk."""
        try:
            content = answer.http_response.content.decode("utf-8")
            return json.loads(content.replace(self._key, "***") if len(self._key) >= SECRET else content)
        except (ValueError, RecursionError) as error:
            raise EndpointError(f"{self.host}: the answer is not JSON", remedy=COMPATIBLE) from error

    def _refusal(self, answer: Any) -> RequestRefused:
        status, variable, about = answer.status_code, self._key_env, ""
        if 300 <= status < 400:
            target = urlsplit(answer.headers.get("location", "")).hostname or "another place"
            found, remedy = f"redirects to {target}, which is not followed", "name the final address"
        elif status in (401, 403) and not self._key:
            found = f"wants a key (HTTP {status}), and the variable {variable} is not set"
            remedy = f"export {variable}=..., or name another variable as reference.key_env"
        elif status in (401, 403):
            found = f"refuses the key in {variable} (HTTP {status})"
            remedy = f"correct the value of {variable}, or name another as reference.key_env"
        else:
            about = self._reason(answer)
            found, remedy = f"HTTP {status}{about and ': '}{about}", "check reference.endpoint and reference.model"
        return RequestRefused(status, f"{self.host}: {found}", remedy=remedy, about=about)

    def _reason(self, answer: Any) -> str:
        """Return the server's own message, shortened and without the key; empty if it sent none."""
        try:
            message = answer.json()
            message = message.get("error", message.get("detail", message.get("message", "")))
            message = message["message"] if isinstance(message, dict) else message
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return ""
        text = " ".join(str(message).split())
        return (text.replace(self._key, "***") if self._key else text)[:200]


class _Quiet(logging.Filter):
    """Drops log lines with requests: prompts contain the user's texts."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line may be logged."""
        return record.levelno >= logging.WARNING


def check_address(base: str) -> str:
    """Return the address of a server for messages.

    Raises:
        EndpointError: it is not an http address, or it has a password, a query or a fragment, which may be secrets.
    """
    no_address = EndpointError("the endpoint is not an http address", expected="e.g. http://127.0.0.1:8080/v1")
    try:
        place = urlsplit(base)
        port = place.port
    except ValueError as error:
        raise no_address from error
    if place.scheme not in ("http", "https") or not place.hostname:
        raise no_address
    host = f"{place.scheme}://{place.hostname}" + (f":{port}" if port else "") + place.path.rstrip("/")
    if "@" in place.netloc or place.query or place.fragment:
        raise EndpointError(
            f"the endpoint {host} has a password or a key in its address",
            expected="the address alone",
            remedy="put the key into the environment variable REFSYNTH_API_KEY, or one that reference.key_env names",
        )
    return host


def _pause(attempt: int) -> float:
    """Return the seconds before the next try: they double, with jitter so that parallel requests spread out."""
    return min(LONGEST_WAIT, 0.5 * 2.0**attempt) * random.uniform(0.5, 1.0)


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for (RFC 9110, section 10.2.3: seconds or a date)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
