"""What a test asks of a server that runs in this process, and what it makes of the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx

from refsynth.core.errors import InputError
from refsynth.service.http import interfaces
from tests.support.serving import Running


def post(server: Running, path: str, body: Any, **options: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {b"Content-Type": b"application/json", **options.pop("headers", {})}
    return httpx.post(server.url + path, content=content, headers=headers, timeout=30, **options)


def problem(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert error["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, error["code"]


class Memory:
    enabled = True
    texts = True

    def __init__(self, broken: bool = False) -> None:
        self.served: list[interfaces.ServedText] = []
        self.said: dict[tuple[str, int], str] = {}
        self.broken, self.closed = broken, False

    def predictions(self, served: Sequence[interfaces.ServedText]) -> None:
        self.served += served

    def recent(self, n: int) -> list[interfaces.StoredFeedback]:
        return []

    def status(self) -> interfaces.RecordStatus:
        return interfaces.RecordStatus()

    def feedback(self, *, request_id: str, row: int, label: str, key: str) -> interfaces.Outcome:
        if self.broken:
            raise InputError("disk full")
        before = self.said.get((request_id, row))
        self.said[request_id, row] = label
        return "stored" if before is None else "repeated" if before == label else "changed"

    def close(self) -> None:
        self.closed = True


def metrics_of(server: Running) -> dict[str, float]:
    lines = httpx.get(server.url + "/metrics", timeout=10).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}
