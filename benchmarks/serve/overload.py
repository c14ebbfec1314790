"""Three times what the server can do, over connections that stay open and over new ones; and bursts out of nowhere.

Every request is to get a definite reply: an answer, or a refusal that says when to come back. Where there are cores enough the
clients have one of their own, before the flood as within: what a flood costs them is not to count as lost by the server.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from benchmarks.serve.load import REFUSED, Reply, Tally, closed, connected, open_loop, predict
from benchmarks.serve.plan import Bound, Job
from benchmarks.serve.subject import ticket_text
from benchmarks.serve.target import Target, apart, eventually, serving

TIMES = 3.0
DEADLINE = 10.0
FULL = 0.25
"""The part of the flood after which answers are counted: then the queue is full, and a batch that began before ends within."""
LATE = 1.1 * DEADLINE
"""A reply after this many seconds is none."""
REST = 20.0
"""The most seconds to wait for a server to be ready again."""

BOUNDS = (
    Bound("overload", "without a reply", limit=0),
    Bound("overload", "goodput / peak", floor=0.9),
    Bound("overload", "refusals without Retry-After", limit=0),
    Bound("overload", "p99 of refusals (ms)", limit=50),
    Bound("overload", "false restarts", limit=0),
)


def measure(job: Job) -> None:
    """Measure both floods and the bursts."""
    options = ("--no-log-requests", "--deadline", DEADLINE)
    with apart() as cores, serving(job.bundle, job.work, *options, cores=cores) as target:
        for fresh in (False, True):
            peak = asyncio.run(capacity(target, job.size.seconds, fresh=fresh))
            figures = asyncio.run(flood(target, peak, job.size.overload, fresh=fresh))
            eventually(lambda: _ready(target), REST, pause=0.2)
            # Before and after: what else the machine does changes what it could have answered.
            between = (peak + asyncio.run(capacity(target, job.size.seconds, fresh=fresh))) / 2
            figures = {"peak/s": round(between, 1), **figures, "goodput / peak": round(figures["answered/s"] / between, 3)}
            job.add({"name": "new connections" if fresh else "kept connections", **figures})
        before = len(target.events("worker lost"))
        tally = Tally()
        for turn in range(job.size.bursts):
            asyncio.run(_burst(target, tally, job.size.burst, first=10**8 + turn * job.size.burst))
        restarts = len(target.events("worker lost")) - before
        job.add({"name": "bursts", "bursts": job.size.bursts, **_unanswered(tally), "false restarts": restarts})


async def capacity(target: Target, seconds: float, *, fresh: bool = False, clients: int = 32) -> float:
    """Return the answers per second that clients get who wait for each."""
    tally = Tally()
    async with connected(target.url, fresh=fresh) as server:
        ask = predict(server, ticket_text)
        await closed(ask, Tally(), clients=clients, seconds=1.0, first=10**7)
        took = await closed(ask, tally, clients=clients, seconds=seconds, first=2 * 10**7)
    return tally.seen["200"] / took


async def flood(target: Target, peak: float, seconds: float, *, fresh: bool) -> dict[str, Any]:
    """Send `TIMES` the peak for so many seconds, and return what came back."""
    tally, loop = Tally(), asyncio.get_running_loop()
    begun, within = loop.time(), 0

    def take(reply: Reply) -> None:
        nonlocal within
        within += reply.status == 200 and FULL * seconds < loop.time() - begun <= seconds
        tally(reply)

    async with connected(target.url, fresh=fresh) as server:
        sent = await open_loop(
            predict(server, ticket_text, seconds=LATE), take, rate=TIMES * peak, seconds=seconds, first=3 * 10**7
        )
    return {
        "sent": tally.total,
        "sent / peak": round(tally.total / sent / peak, 2),
        "answered": tally.seen["200"],
        **_unanswered(tally),
        "answered/s": round(within / (1 - FULL) / seconds, 1),
        "p99 of answers (ms)": round(tally.milliseconds("200", 0.99), 1),
        "p99 of refusals (ms)": round(tally.milliseconds("503", 0.99), 1) if tally.seen["503"] else None,
        "false restarts": len(target.events("worker lost")),
    }


def _unanswered(tally: Tally) -> dict[str, Any]:
    failures = sum(n for kind, n in tally.seen.items() if not kind.isdecimal())
    return {
        "refused": tally.seen["503"],
        "late": tally.seen["504"],
        "without a reply": failures,
        "refusals without Retry-After": tally.silent,
        **({"connections refused": tally.seen[REFUSED]} if tally.seen[REFUSED] else {}),
    }


async def _burst(target: Target, tally: Tally, size: int, *, first: int) -> None:
    async with connected(target.url) as server:
        ask = predict(server, ticket_text, seconds=LATE)
        for reply in await asyncio.gather(*(ask(first + number) for number in range(size))):
            tally(reply)


def _ready(target: Target) -> bool:
    return httpx.get(target.url + "/health/ready", timeout=DEADLINE).status_code == 200
