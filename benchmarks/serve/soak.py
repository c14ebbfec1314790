"""Long load at 80 % of what the server can do: errors, memory after warm-up, descriptors and threads."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import numpy as np

from benchmarks.serve.load import Tally, connected, open_loop, predict
from benchmarks.serve.overload import capacity
from benchmarks.serve.plan import Bound, Job
from benchmarks.serve.subject import ticket_text
from benchmarks.serve.target import Target, apart, serving

SHARE = 0.8
WARM = 0.2
"""The part of the time after which memory is to stay where it is."""
SAMPLES = 200
REST = 2.0
"""Seconds for closed connections to be forgotten."""

BOUNDS = (
    Bound("soak", "5xx", limit=0),
    Bound("soak", "without a reply", limit=0),
    Bound("soak", "memory growth (%)", "%", limit=5),
    Bound("soak", "descriptor growth", limit=0),
    Bound("soak", "restarts", limit=0),
)


class Held(NamedTuple):
    """What the workers hold together."""

    megabytes: float
    threads: int


def measure(job: Job) -> None:
    """Measure one long load."""
    with apart() as cores, serving(job.bundle, job.work, "--no-log-requests", cores=cores) as target:
        job.add({"name": "soak", **asyncio.run(_soak(target, job.size.soak, job.size.seconds))})


async def _soak(target: Target, seconds: float, short: float) -> dict[str, Any]:
    rate = SHARE * await capacity(target, short)
    at_rest = await _descriptors(target)
    tally, samples = Tally(), [_held(target)]

    async def watch() -> None:
        while True:
            await asyncio.sleep(seconds / SAMPLES)
            samples.append(_held(target))

    watching = asyncio.create_task(watch())
    async with connected(target.url) as server:
        await open_loop(predict(server, ticket_text), tally, rate=rate, seconds=seconds)
    watching.cancel()
    left = await _descriptors(target) - at_rest
    warm = samples[int(WARM * len(samples)) :]
    edge = max(1, len(warm) // 10)  # single samples hold whatever batch was running
    first, last = (np.median(part, axis=0) for part in (warm[:edge], warm[-edge:]))
    return {
        "seconds": seconds,
        "requests": tally.total,
        "rate/s": round(rate, 1),
        "5xx": tally.of_class("5"),
        "without a reply": sum(n for kind, n in tally.seen.items() if not kind.isdecimal()),
        "p99 (ms)": round(tally.milliseconds("200", 0.99), 1),
        "megabytes": round(float(last[0]), 1),
        "memory growth (%)": round(float(100 * (last[0] / first[0] - 1)), 2),
        "descriptor growth": left,
        "thread growth": float(last[1] - first[1]),
        "restarts": len(target.events("worker lost")),
    }


def _held(target: Target) -> Held:
    workers = target.workers()
    return Held(sum(worker.memory_info().rss for worker in workers) / 2**20, sum(worker.num_threads() for worker in workers))


async def _descriptors(target: Target) -> int:
    """Return the descriptors that the workers hold while nobody is connected."""
    await asyncio.sleep(REST)
    return sum(worker.num_fds() for worker in target.workers())
