"""What a server loses to what surrounds it: a log that nobody reads, bundles that break a tokenizer, a crowd on a busy machine.

Another client asks all the while. See `hoard` for what is told of it, and of memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serve.hoard import harmed
from benchmarks.serve.load import Tally, closed, connected
from benchmarks.serve.plan import Bound, Job
from benchmarks.serve.subject import exact_bundle, exact_text
from benchmarks.serve.target import LOOPBACK, START, Target, end, eventually, free_port, serving
from refsynth.core.errors import RefsynthError
from refsynth.core.hashes import file_digest
from refsynth.service.http.state import CONTROL
from refsynth.service.http.switch import order

CROWD = 600
"""Connections that ask without pause."""
CLIENTS = 8
LONG_NAME = "r" * 64
"""A request id, so that a pipe is full after some 300 lines."""
BURN = "while True: pass"

BOUNDS = (
    Bound("siege", "kept (MB)", limit=64),
    Bound("siege", "others without an answer", limit=0),
    Bound("siege", "workers lost", limit=0),
    Bound("siege", "bad bundles refused", floor=1.0),
    Bound("siege", "ended", floor=1.0),
)


def measure(job: Job) -> None:
    """Measure each on a server of its own, with two workers."""
    exact, seconds = exact_bundle(job.work / "exact"), job.size.hoard
    with unread(exact, job.work / "log") as target:
        figures = asyncio.run(harmed(target, None, lambda: asked(target, CLIENTS, seconds)))
        begun = time.monotonic()
        target.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            target.process.wait(30)
        ended = {"ended": int(target.process.poll() == 0), "seconds to end": round(time.monotonic() - begun, 1)}
        job.add({"name": "a log that nobody reads", **figures, **ended})
    bad = _spoiled(job.bundle, job.work / "bad")
    with serving(job.bundle, job.work / "reloads", "--workers", 2, "--no-log-requests") as target:
        figures = asyncio.run(harmed(target, None, lambda: _reloads(target, bad, job.size.reloads)))
        job.add({"name": "bad reloads", **figures})
    with serving(job.bundle, job.work / "crowd", "--workers", 2, "--no-log-requests") as target, burning():
        figures = asyncio.run(harmed(target, None, lambda: asked(target, CROWD, seconds)))
        job.add({"name": "a crowd, both cores busy", **figures, "workers lost": len(target.events("worker lost"))})


@contextmanager
def unread(bundle: Path, folder: Path) -> Iterator[Target]:
    """Serve a bundle, its log a pipe that is never read, until the block ends.

    Raises:
        RefsynthError: it does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, (reading, writing) = free_port(), os.pipe()
    arguments = (str(bundle), "--port", str(port), "--state", str(folder / "state"), "--workers", "2")
    command = [sys.executable, "-m", "refsynth", "serve", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=writing)
    os.close(writing)
    target = Target(process, f"http://{LOOPBACK}:{port}", folder / "none", folder / "state")
    try:
        if not eventually(lambda: _ready(target), START):
            raise RefsynthError("the server did not come up")
        yield target
    finally:
        end(process)
        os.close(reading)


def _ready(target: Target) -> bool:
    import httpx

    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{target.url}/health/ready", timeout=5).status_code == 200
    return False


async def asked(target: Target, clients: int, seconds: float) -> dict[str, Any]:
    """Let clients ask without pause, and return what they were told."""
    tally = Tally()
    async with connected(target.url) as server:

        async def ask(number: int) -> Any:
            return await server.post("/v1/predict", {"texts": exact_text(number)}, headers={"X-Request-ID": LONG_NAME})

        await closed(ask, tally, clients=clients, seconds=seconds)
    answered, refused = tally.seen["200"], tally.seen["429"] + tally.seen["503"]
    return {"asked": tally.total, "answered": answered, "refused": refused, "lost": tally.total - answered - refused}


async def _reloads(target: Target, bad: Path, count: int) -> dict[str, Any]:
    """Ask for a bad bundle again and again."""
    refused = 0
    for _ in range(count):
        reply = await order(target.state / CONTROL, {"do": "reload", "bundle": str(bad.resolve())})
        refused += reply.get("ok") is False
    return {"reloads": count, "bad bundles refused": refused / count}


@contextmanager
def burning() -> Iterator[None]:
    """Keep each core busy until the block ends."""
    burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def _spoiled(bundle: Path, folder: Path) -> Path:
    """Return a copy of a bundle of an encoder whose tokenizer raises, with a manifest that fits it."""
    shutil.copytree(bundle, folder)
    path = folder / "tokenizer.json"
    read = json.loads(path.read_text("utf-8"))
    read["post_processor"]["special_tokens"] = {}
    path.write_text(json.dumps(read), "utf-8")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["files"]["tokenizer.json"] |= {"size": path.stat().st_size, "sha256": file_digest(path)}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return folder
