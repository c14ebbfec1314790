"""What a worker keeps of clients that mean harm: requests sent in a row whose replies nobody reads, and bodies that never end.

Memory is that of the worker, in MB: before, at its highest, and after all these connections have gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.serve.load import Tally, closed, connected, predict
from benchmarks.serve.plan import Bound, Job
from benchmarks.serve.subject import exact_bundle, exact_text
from benchmarks.serve.target import LOOPBACK, Target, serving
from refsynth.service.http.auth import Keyring

ROW = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_700
UNFINISHED = 1_100
"""Bodies, each a byte short of the limit."""
BODY = 1 << 20
REST = 2.0
"""Seconds for the server to notice that they have gone."""

BOUNDS = (
    Bound("hoard", "kept (MB)", limit=64),  # pages of the allocator; a second round adds nothing to them
    Bound("hoard", "highest (MB)", limit=400),
    Bound("hoard", "others without an answer", limit=0),
)


def measure(job: Job) -> None:
    """Measure both, each on a server of its own, while another client asks."""
    bundle = exact_bundle(job.work / "exact")
    with serving(bundle, job.work / "rows", "--no-log-requests") as target:
        job.add({"name": "unread rows", **asyncio.run(harmed(target, None, lambda: unread(target, job.size.hoard)))})
    store: Path = job.work / "keys.json"
    ring = Keyring(store)
    harmful, other = (ring.add(name, scopes=("predict",)).presented for name in ("harmful", "other"))
    with serving(bundle, job.work / "bodies", "--keys", store, "--no-log-requests") as target:
        figures = asyncio.run(harmed(target, other, lambda: unfinished(target, harmful, job.size.hoard)))
        job.add({"name": "unfinished bodies", **figures})


async def harmed(target: Target, key: str | None, harm: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    """Let harm be done while another client asks, and return what it cost."""
    tally, seen, over = Tally(), [memory(target)], asyncio.Event()

    async def watch() -> None:
        while not over.is_set():
            seen.append(memory(target))
            await asyncio.sleep(0.2)

    async def ask() -> None:
        async with connected(target.url, key=key) as server:
            while not over.is_set():
                await closed(predict(server, exact_text, seconds=12.0), tally, clients=1, requests=5)
                await asyncio.sleep(0.1)

    others = [asyncio.create_task(watch()), asyncio.create_task(ask())]
    figures = await harm()
    await asyncio.sleep(REST)
    over.set()
    await asyncio.gather(*others)
    after = memory(target)
    return {
        **figures,
        "before (MB)": seen[0],
        "highest (MB)": max(seen),
        "after (MB)": after,
        "kept (MB)": round(after - seen[0], 1),
        "others answered": tally.seen["200"],
        "others without an answer": tally.total - tally.seen["200"],
    }


def memory(target: Target) -> float:
    """Return the memory of a worker in MB, the mean over all."""
    return round(statistics.fmean(worker.memory_info().rss for worker in target.workers()) / 1e6, 1)


async def unread(target: Target, seconds: float) -> dict[str, Any]:
    """Send rows of requests over connections of which nothing is read; a new one where the server ends the old."""
    loop, sent, connections = asyncio.get_running_loop(), 0, 0
    end = loop.time() + seconds
    while loop.time() < end:
        _, writer = await opened(target)
        connections += 1
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(max(0.1, end - loop.time())):
                while not writer.is_closing() and loop.time() < end:
                    writer.write(ROW)
                    await asyncio.wait_for(writer.drain(), 1.0)
                    sent += 1
        writer.transport.abort()
    return {"rows": sent, "connections": connections}


async def unfinished(target: Target, key: str, seconds: float) -> dict[str, Any]:
    """Open requests of one key and leave the last byte of each body out."""
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: {BODY}\r\n\r\n"
    body = b'{"texts": "' + b"a" * (BODY - 12)
    refused = 0

    async def one() -> None:
        nonlocal refused
        reader, writer = await opened(target)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                writer.write(head.encode() + body)
                status = await reader.readline()
                refused += bool(status) and b" 200 " not in status
        writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(UNFINISHED)))
    return {"bodies": UNFINISHED, "refused": refused}


async def opened(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection of which hardly anything is read ahead."""
    return await asyncio.open_connection(LOOPBACK, int(target.url.rpartition(":")[2]), limit=1 << 10)
