"""A small OpenAI-compatible server on 127.0.0.1 for tests: it completes with a Generator, and fails on demand.

with OpenAIServer(EchoGenerator(), faults=[Fault(status=429, headers={"Retry-After": "0"})]) as server:
    EndpointGenerator(server.base, model="echo")
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from refsynth.core.protocols import Generator
from refsynth.core.types import Prompt


def numbered(texts: list[str]) -> str:
    """Answer as chat models do."""
    lines = "\n".join(f"{place}. {text.strip()}" for place, text in enumerate(texts, start=1))
    return f"Sure! Here are {len(texts)} texts:\n\n{lines}\n\nLet me know if you need more!"


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
    echoed prompt carries log-probabilities; `most_choices` caps `n`, as servers do that ignore it. A message is answered by `say`
    with as many texts as it names. With a `key` others are refused; with `models` others are not there.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        faults: Sequence[Fault] = (),
        chat_only: bool = False,
        can_score: bool = True,
        most_choices: int = 1_000,
        say: Callable[[list[str]], str] = numbered,
        key: str | None = None,
        models: Sequence[str] = (),
        completes_only: bool = False,
    ) -> None:
        self.generator, self.faults = generator, list(faults)
        self.chat_only, self.can_score, self.most_choices = chat_only, can_score, most_choices
        self.say, self.key, self.models, self.completes_only = say, key, models, completes_only
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
        if chat and (count := re.search(r"\d+ (?:different|种|条)|写出(\d+)", text)):
            return self._listed(text, int(re.search(r"\d+", count[0])[0]), body.get("seed", 0))
        n = min(body.get("n", 1), self.most_choices)
        choices = []
        for index, completion in enumerate(self.generator.generate([Prompt(text, "")], n=n, seed=body.get("seed", 0))[0]):
            reason = "stop" if completion.finished else "length"
            written = {"message": {"role": "assistant", "content": completion.text}} if chat else {"text": completion.text}
            choices.append({"index": index, "finish_reason": reason, **written})
        return {"object": "chat.completion" if chat else "text_completion", "choices": choices}

    def _listed(self, message: str, n: int, seed: int) -> dict[str, Any]:
        shown = "\n".join(line for line in message.splitlines() if line.startswith("- "))
        rows = self.generator.generate([Prompt(f"\n\n{shown or message}", "")], n=n, seed=seed)[0]
        said = {"role": "assistant", "content": self.say([row.text for row in rows])}
        return {"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", "message": said}]}

    def answer(self, path: str, headers: Mapping[str, str], body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        """Return the status and the body for a request; one without a body is a GET."""
        if self.key is not None and headers.get("Authorization") != f"Bearer {self.key}":
            return 401, _error(f"Incorrect API key provided: {headers.get('Authorization')}")
        if body is None and path == "/v1/models":
            return 200, json.dumps({"object": "list", "data": [{"id": name} for name in self.models or ("echo",)]}).encode()
        routes = {"/v1/completions": not self.chat_only, "/v1/chat/completions": not self.completes_only}
        if body is None or not routes.get(path):
            return 404, _error("no such route")
        if self.models and body.get("model") not in self.models:
            return 404, _error(f"The model `{body.get('model')}` does not exist")
        return 200, json.dumps(self.complete(body, chat="chat" in path)).encode()

    def _echoed(self, text: str) -> dict[str, Any]:
        """Return the prompt with a log-probability per character, -(code point), and one generated character."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "text": text + "!"}
        if self.can_score:
            whole = text + "!"
            values = [None, *(-float(ord(character)) for character in whole[1:])]
            choice["logprobs"] = {"tokens": list(whole), "token_logprobs": values, "text_offset": list(range(len(whole)))}
        return choice


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message}}).encode()


def _handler_of(owner: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

        def do_GET(self) -> None:
            self._send(*owner.answer(self.path, self.headers, None), {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with owner.lock:
                owner.requests.append((self.path, {name.title(): value for name, value in self.headers.items()}, body))
            fault = owner.next_fault()
            if fault is None:
                self._send(*owner.answer(self.path, self.headers, body), {})
                return
            owner.closing.wait(fault.delay)
            if fault.drop:
                self.close_connection = True
                return
            self._send(fault.status, fault.body, fault.headers)

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            with contextlib.suppress(OSError):  # the client may have given up
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

    return Handler
