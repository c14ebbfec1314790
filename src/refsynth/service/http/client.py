"""A client for `refsynth serve`: tries again where that is right, waits as long as it is told, and never longer than it may.

    with refsynth.Client("http://127.0.0.1:8080") as client:
        reply = client.predict(["where is my card?"])
        client.feedback(reply.request_id, "card_arrival")

Everything it sends may be sent twice without harm: feedback for a text is stored once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from refsynth.core.errors import EndpointError
from refsynth.core.extras import require
from refsynth.core.labelset import join_labels
from refsynth.core.types import Entity, Prediction

RETRIED = frozenset({408, 429, 502, 503, 504})
LONGEST_PAUSE = 10.0


class RequestError(EndpointError):
    """A request that was refused or got no answer. `status` is 0 where there was none; `code` is the server's."""

    def __init__(self, found: str, *, status: int = 0, code: str = "", remedy: str = "") -> None:
        super().__init__(found, remedy=remedy)
        self.status, self.code = status, code


class Reply(NamedTuple):
    """The predictions for the texts of a request, in order; None for one that is empty or that the model failed on."""

    request_id: str
    predictions: tuple[Prediction | None, ...]


class Client:
    """A connection pool to one server; threads may share it.

    Args:
        url: where the server is.
        key: the API key, if it wants one.
        timeout: seconds for a call, all tries and pauses together.
        retries: further tries after no answer, 408, 429, 502, 503 or 504.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8080", *, key: str | None = None, timeout: float = 30.0, retries: int = 5
    ) -> None:
        """Prepare the pool.

        Raises:
            ExtraError: the extra `client` is not installed.
        """
        self._httpx = require("httpx", extra="client")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._pool = self._httpx.Client(base_url=url, headers=headers, follow_redirects=False)
        self._url, self._timeout, self._retries = url, timeout, retries

    def predict(self, texts: str | Sequence[str], *, top_k: int | None = None) -> Reply:
        """Label one text or many.

        Raises:
            RequestError: the server refuses, or does not answer in time.
        """
        body: dict[str, Any] = {"texts": texts if isinstance(texts, str) else list(texts), "top_k": top_k}
        answer = self._call("POST", "/v1/predict", body)
        shown = (None if "error" in one else _prediction(one) for one in answer["predictions"])
        return Reply(answer["request_id"], tuple(shown))

    def explain(self, text: str, *, label: str | None = None, top: int = 20) -> dict[str, Any]:
        """Return which parts of a text speak for a label, as the server says it.

        Raises:
            RequestError: the server refuses, or does not answer in time.
        """
        return self._call("POST", "/v1/explain", {"text": text, "label": label, "top": top})

    def feedback(
        self,
        request_id: str,
        label: str | Sequence[str] | None = None,
        *,
        marked: str | None = None,
        row: int = 0,
    ) -> None:
        """Say what the right label of a text of an earlier request is; when this returns, the server has it on disk.

        Of a bundle that gives a text any number of labels it is a list of them all. Of one that labels words `marked` takes its
        place: the text with all that is in it marked, `[Ann Lee](person) called`. Where the marks are is stored.

        Raises:
            RequestError: the server refuses, or does not answer in time.
        """
        right = {"label": label} if isinstance(label, str) else {"labels": label and list(label), "marked": marked}
        self._call("POST", "/v1/feedback", {"request_id": request_id, "row": row, **right})

    def models(self) -> list[dict[str, Any]]:
        """Return what is served.

        Raises:
            RequestError: the server refuses, or does not answer in time.
        """
        return list(self._call("GET", "/v1/models")["data"])

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        end = time.monotonic() + self._timeout
        attempt = 0
        while True:
            try:
                answer = self._pool.request(method, path, json=body, timeout=max(0.001, end - time.monotonic()))
            except self._httpx.TransportError as error:
                failure, pause = RequestError(f"{self._url}: no answer ({type(error).__name__})"), _pause(attempt)
            else:
                if answer.is_success:
                    return self._read(answer)
                failure = self._refusal(answer)
                if answer.status_code not in RETRIED:
                    raise failure
                pause = _retry_after(answer) or _pause(attempt)
            if attempt == self._retries or time.monotonic() + pause >= end:
                raise failure
            time.sleep(pause)
            attempt += 1

    def _read(self, answer: Any) -> dict[str, Any]:
        try:
            content = answer.json()
        except ValueError as error:
            raise RequestError(f"{self._url}: the answer is not JSON", status=answer.status_code) from error
        if not isinstance(content, dict):
            raise RequestError(f"{self._url}: the answer is not what this server gives", status=answer.status_code)
        return content

    def _refusal(self, answer: Any) -> RequestError:
        try:
            problem = answer.json()["error"]
            code, message = str(problem["code"]), str(problem["message"])
        except (ValueError, KeyError, TypeError):
            code, message = "", answer.reason_phrase
        return RequestError(f"{self._url}: {message} (HTTP {answer.status_code})", status=answer.status_code, code=code)


def _prediction(one: Mapping[str, Any]) -> Prediction:
    if (found := one.get("entities")) is not None:
        entities = tuple(Entity(**entity) for entity in found)
        return Prediction(
            "",
            one["probabilities"] or {},
            one["abstain"],
            one["tier"],
            degraded=one["degraded"],
            truncated=one.get("truncated", False),
            entities=entities,
            certainty=one["probability"],
        )
    labels = one.get("labels")
    return Prediction(
        one["label"] if labels is None else join_labels(labels, labels),
        one["probabilities"],
        one["abstain"],
        one["tier"],
        None if labels is None else tuple(labels),
        one["degraded"],
        one.get("truncated", False),
        none=one.get("none", False),
    )


def _pause(attempt: int) -> float:
    """Return the seconds before the next try: doubling, with jitter so that clients spread out."""
    return min(LONGEST_PAUSE, 0.1 * 2.0**attempt) * random.uniform(0.5, 1.0)


def _retry_after(answer: Any) -> float | None:
    """Return the seconds that this server asks for; it never sends a date."""
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None
