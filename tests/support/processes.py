"""A server as processes: started, asked without pause, and ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

import refsynth
from refsynth import bundle
from tests.support.serving import eventually, nonce

SOURCE = str(Path(refsynth.__file__).parent.parent)


ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "refsynth", *map(str, arguments)]


@dataclass
class Server:
    process: subprocess.Popen[str]
    folder: Path
    lines: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def events(self, name: str) -> list[dict]:
        logged = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [line for line in logged if line["event"] == name]

    def version(self) -> str:
        return httpx.get(self.url + "/v1/models", timeout=10).json()["data"][0]["id"]

    def reload(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        asked = command("reload", *arguments, "--state", self.folder / "state")
        return subprocess.run(asked, env=ENVIRONMENT, text=True, capture_output=True, timeout=60, check=False)


@contextmanager
def serving(bundle_folder: Path, folder: Path, *options: object, script: Path | None = None) -> Iterator[Server]:
    arguments = command("serve", bundle_folder, "--port", 0, "--state", folder / "state", "--no-log-requests", *options)
    if script is not None:
        arguments = [sys.executable, str(script), str(bundle_folder), str(folder / "state")]
    process = subprocess.Popen(arguments, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE)
    server = Server(process, folder)

    def read() -> None:
        assert process.stderr is not None
        server.lines.extend(process.stderr)

    class Lines(list):
        def extend(self, lines) -> None:
            for line in lines:
                self.append(line)

    server.lines = Lines()
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert eventually(lambda: bool(server.events("serving")) or process.poll() is not None, 60)
        if server.events("serving"):
            server.port = server.events("serving")[0]["port"]
        yield server
    finally:
        for worker in [] if process.poll() is not None else server.workers():
            worker.kill()
        process.kill()
        process.wait(20)
        reader.join(10)
        assert process.stderr is not None
        process.stderr.close()


class Load:
    """Clients that ask without pause, over connections that stay open, and check what they get."""

    def __init__(self, server: Server, *models: bundle.Model, users: int = 6) -> None:
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._url, self._models, self._stop = server.url, models, threading.Event()
        self._pool = ThreadPoolExecutor(users)
        self._users = [self._pool.submit(self._use, number) for number in range(users)]

    def end(self) -> None:
        self._stop.set()
        for user in self._users:
            user.result(60)
        self._pool.shutdown()

    def _use(self, user: int) -> None:
        client = httpx.Client(base_url=self._url, timeout=20)
        number = user * 1_000_000
        while not self._stop.is_set():
            number += 1
            try:
                answer = client.post("/v1/predict", json={"texts": nonce(number)}, headers={"X-Request-ID": str(number)})
            except httpx.ConnectError:  # refused before anything was accepted
                self.seen["refused"] += 1
                time.sleep(0.05)
                continue
            except httpx.TransportError as error:
                self.seen[type(error).__name__] += 1
                continue
            self.seen[str(answer.status_code)] += 1
            if answer.status_code == 200 and not self._right(number, answer.json()):
                self.wrong.append(answer.text)
        client.close()

    def _right(self, number: int, said: dict) -> bool:
        (one,) = said["predictions"]
        expected = [dict(model.predict([nonce(number)])[0].probabilities) for model in self._models]
        return said["request_id"] == str(number) and any(
            one["probabilities"] == pytest.approx(each, abs=1e-6) for each in expected
        )
