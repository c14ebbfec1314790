"""A tiny bundle, and a server for it on a loopback port in a thread of this process. Any model can take the bundle's place."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import uvicorn

from refsynth import bundle
from refsynth.bundle.model import Answered
from refsynth.core.kinds import KindName
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.tfidf import TfidfVectors, Vocabulary
from refsynth.service.http.app import build_app
from refsynth.service.http.engine import LoadedBundle
from refsynth.service.http.interfaces import Guards
from refsynth.service.http.protocol import KEEP_ALIVE, BoundedProtocol
from refsynth.service.http.service import Service
from refsynth.service.http.settings import Settings

LABELS = ("billing", "delivery", "other")
ASK = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
"""How the head of a request begins; Content-Length is to follow."""
WORDS = tuple(f"w{index}" for index in range(200))


def save_bundle(folder: Path, *, seed: int = 0, labels: Sequence[str] = LABELS, task: KindName = "classify") -> Path:
    """Write a TF-IDF bundle whose probabilities tell texts of `WORDS` apart."""
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary("word", 1, 1, WORDS, rng.uniform(1, 3, len(WORDS)))
    head = LinearHead(rng.normal(size=(len(WORDS), len(labels))), rng.normal(size=len(labels)))
    thresholds = (0.4,) * len(labels) if task == "multilabel" else ()
    predictor = TfidfPredictor(tuple(labels), TfidfVectors([vocabulary]), head)
    calibration = bundle.Calibration(temperature=0.7, threshold=0.4, thresholds=thresholds)
    bundle.save(
        folder,
        bundle.Contents(
            labels={label: f"about {label}" for label in labels},
            language="en",
            task=task,
            tiers=[bundle.TierContents(bundle.pack(predictor, folder), predictor, calibration)],
        ),
    )
    return folder


def save_encoder(folder: Path) -> Path:
    """Write a bundle of a tiny encoder with two labels, `a` and `b`."""
    from refsynth.compress.export import export_encoder
    from refsynth.models.tokenizer import TextTokenizer
    from tests.support.tiny_encoder import MAX_TOKENS, embed, make_encoder, make_tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(folder / "tokenizer.json")
    export_encoder(make_encoder(), tokenizer, folder / "exported")
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(32, 2)), rng.normal(size=2))

    class Reference:
        labels = ("a", "b")

        def logits(self, texts: Sequence[str]) -> np.ndarray:
            return head.logits(embed(make_encoder(), TextTokenizer(tokenizer, max_tokens=MAX_TOKENS).encode(texts)))

    bundle.save(
        folder / "bundle",
        bundle.Contents(
            labels={"a": "", "b": ""},
            language="en",
            tiers=[
                bundle.TierContents(bundle.pack_graphs(folder / "exported", head, MAX_TOKENS), Reference(), bundle.Calibration())
            ],
        ),
    )
    return folder / "bundle"


def nonce(number: int) -> str:
    """A text that no other number gives."""
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(WORDS, 12, replace=False))


class Meddled:
    """A model with something done before it answers."""

    def __init__(self, model: bundle.Model, before: Callable[[Sequence[str]], None]) -> None:
        self._model, self._before = model, before

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def answer(self, texts: Sequence[str], *, shallow: bool = False) -> Answered:
        self._before(texts)
        return self._model.answer(texts, shallow=shallow)


def refuse_poison(texts: Sequence[str]) -> None:
    if any("poison" in text for text in texts):
        raise ValueError("secret text: " + " ".join(texts))


def slow(seconds: float, *, per: str = "batch") -> Callable[[Sequence[str]], None]:
    return lambda texts: time.sleep(seconds * (len(texts) if per == "row" else 1))


@dataclass
class Running:
    url: str
    service: Service
    loop: asyncio.AbstractEventLoop
    server: uvicorn.Server

    def idle(self, seconds: float = 5.0) -> bool:
        """Wait until nothing is queued, running or under way."""
        front = self.server.config.app
        return eventually(lambda: not (self.service.batcher.queued or self.service.batcher.running or front.inflight), seconds)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait for a condition; the limit is for a test that hangs, not a measurement."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, reaped or not; it may end between any two questions about it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def running(
    folder: Path,
    *,
    guards: Guards | None = None,
    before: Callable[[Sequence[str]], None] | None = None,
    ready: bool = True,
    **limits: object,
) -> Iterator[Running]:
    """Serve a bundle until the block ends."""
    loaded = LoadedBundle.open(folder, threads=1)
    if before is not None:
        loaded = replace(loaded, model=Meddled(loaded.model, before))
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    box = SimpleNamespace()
    up = threading.Event()
    settings = Settings.of(bundle=folder, log_requests=False, **limits)

    async def main() -> None:
        service = Service(settings, loaded, guards or Guards())
        options = {
            "http": BoundedProtocol,
            "timeout_keep_alive": KEEP_ALIVE,
            "proxy_headers": False,
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
        }
        config = uvicorn.Config(build_app(service), timeout_graceful_shutdown=1, **options)
        box.server, box.service, box.loop = uvicorn.Server(config), service, asyncio.get_running_loop()
        task = asyncio.create_task(box.server.serve(sockets=[listener]))
        while not box.server.started or (ready and service.health.problems()):
            await asyncio.sleep(0.005)
        up.set()
        await task
        await service.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert up.wait(30)
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", box.service, box.loop, box.server)
    finally:
        box.server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()
