"""A client for `refsynth serve`. It retries failed calls, honors `Retry-After` and never exceeds its timeout.

    with refsynth.Client("http://127.0.0.1:8080") as client:
        reply = client.predict(["where is my card?"])
        client.feedback(reply.request_id, "card_arrival")

Every call is safe to retry: the server stores feedback for a text only once.
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
    """A request that was refused or got no answer.

    `status` is the HTTP status, or 0 if there was no answer; `code` is the server's error code.
    """

    def __init__(self, found: str, *, status: int = 0, code: str = "", remedy: str = "") -> None:
        super().__init__(found, remedy=remedy)
        self.status, self.code = status, code


class Reply(NamedTuple):
    """The predictions for the texts of a request, in order. None stands for an empty text or one that the model failed on."""

    request_id: str
    predictions: tuple[Prediction | None, ...]


class Client:
    """A connection pool to one server; threads may share it.

    Args:
        url: base URL of the server.
        key: the API key, if the server requires one.
        timeout: seconds for a call, including all retries and pauses.
        retries: how often to retry after no answer, 408, 429, 502, 503 or 504.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8080", *, key: str | None = None, timeout: float = 30.0, retries: int = 5
    ) -> None:
        """Open the pool.

        Raises:
            ExtraError: the extra `client` is not installed.
        """
        self._httpx = require("httpx", extra="client")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._pool = self._httpx.Client(base_url=url, headers=headers, follow_redirects=False)
        self._url, self._timeout, self._retries = url, timeout, retries

    def predict(self, texts: str | Sequence[str], *, top_k: int | None = None) -> Reply:
        """Return the predictions for one text or many.

        Raises:
            RequestError: the server refuses, or does not answer in time.
        """
        body: dict[str, Any] = {"texts": texts if isinstance(texts, str) else list(texts), "top_k": top_k}
        reply = self._call("POST", "/v1/predict", body)
        predictions = (None if "error" in row else _prediction(row) for row in reply["predictions"])
        return Reply(reply["request_id"], tuple(predictions))

    def explain(self, text: str, *, label: str | None = None, top: int = 20) -> dict[str, Any]:
        """Return how much each part of a text speaks for a label: the JSON of `/v1/explain`.

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
        """Send the correct label of a text from an earlier request. When this returns, the server has stored it on disk.

        Args:
            request_id: the id of the reply that labeled the text.
            label: the correct label; for a multi-label bundle, a list of all correct labels.
            marked: for a token classification bundle, instead of a label: the text with every entity marked, as in
                `[Ann Lee](person) called`. The server stores where the entities are.
            row: which text of the request, from 0.

        Raises:
            RequestError: the server refuses, or does not answer in time.
        """
        correct = {"label": label} if isinstance(label, str) else {"labels": label and list(label), "marked": marked}
        self._call("POST", "/v1/feedback", {"request_id": request_id, "row": row, **correct})

    def models(self) -> list[dict[str, Any]]:
        """Return the bundles that the server serves.

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
                response = self._pool.request(method, path, json=body, timeout=max(0.001, end - time.monotonic()))
            except self._httpx.TransportError as error:
                failure, pause = RequestError(f"{self._url}: no answer ({type(error).__name__})"), _pause(attempt)
            else:
                if response.is_success:
                    return self._read(response)
                failure = self._refusal(response)
                if response.status_code not in RETRIED:
                    raise failure
                pause = _retry_after(response) or _pause(attempt)
            if attempt == self._retries or time.monotonic() + pause >= end:
                raise failure
            time.sleep(pause)
            attempt += 1

    def _read(self, response: Any) -> dict[str, Any]:
        try:
            content = response.json()
        except ValueError as error:
            raise RequestError(f"{self._url}: the answer is not JSON", status=response.status_code) from error
        if not isinstance(content, dict):
            raise RequestError(f"{self._url}: the answer is not a JSON object", status=response.status_code)
        return content

    def _refusal(self, response: Any) -> RequestError:
        try:
            problem = response.json()["error"]
            code, message = str(problem["code"]), str(problem["message"])
        except (ValueError, KeyError, TypeError):
            code, message = "", response.reason_phrase
        return RequestError(f"{self._url}: {message} (HTTP {response.status_code})", status=response.status_code, code=code)


def _prediction(row: Mapping[str, Any]) -> Prediction:
    if row.get("entities") is not None:
        return Prediction(
            "",
            row["probabilities"] or {},
            row["abstain"],
            row["tier"],
            degraded=row["degraded"],
            truncated=row.get("truncated", False),
            entities=tuple(Entity(**entity) for entity in row["entities"]),
            certainty=row["probability"],
        )
    labels = row.get("labels")
    return Prediction(
        row["label"] if labels is None else join_labels(labels, labels),
        row["probabilities"],
        row["abstain"],
        row["tier"],
        None if labels is None else tuple(labels),
        row["degraded"],
        row.get("truncated", False),
        none=row.get("none", False),
    )


def _pause(attempt: int) -> float:
    """Return the seconds before the next try. They double each time, with jitter so that clients do not retry together."""
    return min(LONGEST_PAUSE, 0.1 * 2.0**attempt) * random.uniform(0.5, 1.0)


def _retry_after(response: Any) -> float | None:
    """Return the seconds that the server asks for; `refsynth serve` never sends a date."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None
