"""A small OpenAI-compatible server on 127.0.0.1 for tests: it completes with a Generator, and fails on demand.

with OpenAIServer(EchoGenerator(), faults=[Fault(status=429, headers={"Retry-After": "0"})]) as server:
    EndpointGenerator(server.base, model="echo")
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from refsynth.core.protocols import Generator
from refsynth.core.types import Prompt


@dataclass(frozen=True)
class Fault:
    """What to answer instead of a completion: a status with a body, after a delay, or nothing at all."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False


class OpenAIServer:
    """Serves `/v1/models`, `/v1/completions` and `/v1/chat/completions`. `faults` are used up one per POST, in order.

    `requests` records (path, headers, body) of every POST. `chat_only` has no `/v1/completions`; `can_score` decides whether an
    echoed prompt carries log-probabilities; `most_choices` caps `n`, as servers do that ignore it.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        faults: Sequence[Fault] = (),
        chat_only: bool = False,
        can_score: bool = True,
        most_choices: int = 1_000,
    ) -> None:
        self.generator, self.faults = generator, list(faults)
        self.chat_only, self.can_score, self.most_choices = chat_only, can_score, most_choices
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.lock, self.closing = threading.Lock(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next_fault(self) -> Fault | None:
        with self.lock:
            return self.faults.pop(0) if self.faults else None

    def complete(self, body: Mapping[str, Any], *, chat: bool) -> dict[str, Any]:
        text = body["messages"][-1]["content"] if chat else body["prompt"]
        if body.get("echo"):
            return {"object": "text_completion", "choices": [self._echoed(text)]}
        n = min(body.get("n", 1), self.most_choices)
        choices = []
        for index, completion in enumerate(self.generator.generate([Prompt(text, "")], n=n, seed=body.get("seed", 0))[0]):
            reason = "stop" if completion.finished else "length"
            written = {"message": {"role": "assistant", "content": completion.text}} if chat else {"text": completion.text}
            choices.append({"index": index, "finish_reason": reason, **written})
        return {"object": "chat.completion" if chat else "text_completion", "choices": choices}

    def _echoed(self, text: str) -> dict[str, Any]:
        """Return the prompt with a log-probability per character, -(code point), and one generated character."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "text": text + "!"}
        if self.can_score:
            whole = text + "!"
            values = [None, *(-float(ord(character)) for character in whole[1:])]
            choice["logprobs"] = {"tokens": list(whole), "token_logprobs": values, "text_offset": list(range(len(whole)))}
        return choice


def _handler_of(owner: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

        def do_GET(self) -> None:
            known = self.path == "/v1/models"
            self._send(200 if known else 404, json.dumps({"object": "list", "data": [{"id": "echo"}]}).encode(), {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with owner.lock:
                owner.requests.append((self.path, dict(self.headers), body))
            fault = owner.next_fault()
            if fault is not None:
                owner.closing.wait(fault.delay)
                if fault.drop:
                    self.close_connection = True
                    return
                self._send(fault.status, fault.body, fault.headers)
            elif self.path == "/v1/chat/completions" or (self.path == "/v1/completions" and not owner.chat_only):
                answer = owner.complete(body, chat=self.path.endswith("chat/completions"))
                self._send(200, json.dumps(answer).encode(), {})
            else:
                self._send(404, b'{"error": {"message": "no such route"}}', {})

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            with contextlib.suppress(OSError):  # the client may have given up
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

    return Handler
