"""One JSON request to a server that may be slow, busy or wrong: retries, a budget, and errors that never show the key.

Knows nothing of completions.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from refsynth.core.errors import EndpointError
from refsynth.core.extras import require

Json = dict[str, Any]
Post = Callable[[str, Json], Any]
"""A request's path and body to its JSON answer."""

LONGEST_WAIT = 60.0
"""Seconds to wait before a further try at most, whatever `Retry-After` says."""

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})


class Refusal(EndpointError):
    """An answer with a status that no retry mends. `status` is the HTTP status."""

    def __init__(self, status: int, found: str, *, remedy: str) -> None:
        super().__init__(found, remedy=remedy)
        self.status = status


class BudgetError(EndpointError):
    """The request budget is used up."""


class Budget:
    """Counts requests. Work is reserved before it begins, so that a budget never ends a batch that was begun."""

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
                    remedy="what was answered is kept; raise reference.max_requests and run again",
                )
            self._left -= count


class JsonClient:
    """POSTs JSON to one server. No redirect is followed: key and prompts go only to the host that the user named."""

    def __init__(self, base: str, *, key: str | None, timeout: float, retries: int, concurrency: int, budget: Budget) -> None:
        """Prepare the connection pool.

        Raises:
            EndpointError: the address is no http address, or the key cannot be sent.
            ExtraError: the extra `train` is not installed.
        """
        self._httpx = require("httpx", extra="train")
        self._key = (key or "").strip()
        if not self._key.isascii() or not self._key.isprintable() or " " in self._key:
            raise EndpointError("the API key holds characters that no key has", remedy="check the environment variable")
        place = urlsplit(base)
        if place.scheme not in ("http", "https") or not place.hostname:
            raise EndpointError("the endpoint is not an http address", expected="e.g. http://127.0.0.1:8080/v1")
        self.host = f"{place.scheme}://{place.hostname}" + (f":{place.port}" if place.port else "") + place.path.rstrip("/")
        self._retries, self._budget = retries, budget
        self._options = {
            "base_url": base.rstrip("/") + "/",
            "timeout": timeout,
            "limits": self._httpx.Limits(max_connections=concurrency),
            "follow_redirects": False,
        }

    @contextmanager
    def connect(self) -> Iterator[Post]:
        """Give `post(path, body)`, which threads may share, and close the connections after the block."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        with self._httpx.Client(headers=headers, **self._options) as connection:
            yield lambda path, body: self._post(connection, path, body)

    def _post(self, connection: Any, path: str, body: Json) -> Any:
        """Return the JSON answer. The caller has taken this request from the budget; further tries are taken here.

        Raises:
            Refusal: a status that no retry mends.
            EndpointError: no answer after all tries, or one that is not JSON.
        """
        for attempt in range(self._retries + 1):
            if attempt:
                self._budget.take(1)
            try:
                answer = connection.post(path, json=body)
            except self._httpx.TransportError as error:
                failure, wait = f"no answer ({type(error).__name__})", None
            except self._httpx.HTTPError as error:
                raise EndpointError(f"{self.host}: the answer cannot be read ({type(error).__name__})") from error
            else:
                if answer.status_code not in _RETRIED:
                    return self._read(answer)
                failure, wait = f"HTTP {answer.status_code}", _retry_after(answer.headers.get("retry-after"))
            if attempt < self._retries:
                time.sleep(_pause(attempt) if wait is None else min(wait, LONGEST_WAIT))
        raise EndpointError(
            f"{self.host}: {failure} after {self._retries + 1} tries",
            remedy="is the server up and not overloaded? Finished batches are kept: run again to go on",
        )

    def _read(self, answer: Any) -> Any:
        status = answer.status_code
        if 300 <= status < 400:
            target = urlsplit(answer.headers.get("location", "")).hostname or "another place"
            raise Refusal(status, f"{self.host}: redirects to {target}, which is not followed", remedy="name the final address")
        if status in (401, 403):
            raise Refusal(
                status, f"{self.host}: refuses the key (HTTP {status})", remedy="check the variable that reference.key_env names"
            )
        if status >= 400:
            raise Refusal(
                status, f"{self.host}: HTTP {status}{self._reason(answer)}", remedy="check reference.endpoint and reference.model"
            )
        try:
            return answer.json()
        except (ValueError, RecursionError) as error:
            raise EndpointError(
                f"{self.host}: the answer is not JSON", remedy="is this an OpenAI-compatible server, with /v1 in the address?"
            ) from error

    def _reason(self, answer: Any) -> str:
        """Return the server's own short message, if it sent one that holds nothing of ours."""
        try:
            message = answer.json()["error"]["message"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""
        text = " ".join(str(message).split())[:200]
        return f": {text.replace(self._key, '***') if self._key else text}"


def _pause(attempt: int) -> float:
    """Return the seconds before the next try: doubling, with jitter so that parallel requests spread out."""
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
