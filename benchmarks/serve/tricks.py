"""What each thing carries that the server does beyond stock uvicorn: servers with it and without it (`stripped`), in turn.

A scenario is run on the whole server and then without each of its tricks, several rounds of that. A figure without a trick is
compared with that of the whole server in the same round: what else the machine does changes both.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from benchmarks.cells import Cell
from benchmarks.serve import meddled
from benchmarks.serve.closing import lost
from benchmarks.serve.hoard import harmed, unfinished, unread
from benchmarks.serve.load import REFUSED, Reply, Tally, closed, connected, predict
from benchmarks.serve.overload import capacity, flood
from benchmarks.serve.plan import Bound, Job
from benchmarks.serve.subject import exact_bundle, exact_text
from benchmarks.serve.target import START, Target, apart, eventually, serving
from refsynth.service.http.auth import Keyring
from refsynth.service.http.state import CONTROL
from refsynth.service.http.switch import order

WHOLE = "none"
"""The server as it is: nothing is left out."""
STRIPPED = str(Path(__file__).with_name("stripped.py"))
FLOOD, HARM = 6.0, 3.0
"""Seconds."""
RATE, ASKED = 100, 4.0
"""Texts a second that a key may send, and the seconds for which it tries to send more."""
CLIENTS = 64
CLOSINGS = 3
"""Times that `closing` closes its sockets, for each run."""
FAULT, SETTLED = 8.0, 2.0
"""Seconds watched after a fault, and the last of them: by then all is to be as before."""

BOUNDS: tuple[Bound, ...] = ()

Figures = dict[str, float]


class Scenario(NamedTuple):
    """What is done to a server; the tricks that are left out in turn; whether times are measured, which vary more than counts."""

    run: Callable[[Job, str, Path], Figures]
    tricks: tuple[str, ...]
    timed: bool = False


def measure(job: Job) -> None:
    """Measure all scenarios."""
    for name, scenario in SCENARIOS.items():
        measure_one(job, name, scenario, rounds=job.size.pairs if scenario.timed else job.size.counted_pairs)


def measure_one(job: Job, name: str, scenario: Scenario, *, rounds: int) -> None:
    """Measure one: a cell for each run, and one for each figure of each trick."""
    found: dict[str, list[Figures]] = {}
    for turn in range(rounds):
        variants = (WHOLE, *scenario.tricks)
        shift = turn % len(variants)
        for trick in (*variants[shift:], *variants[:shift]):
            figures = scenario.run(job, trick, job.work / name.replace(" ", "-") / f"{trick.replace(' ', '-')}-{turn}")
            found.setdefault(trick, []).append(figures)
            job.add({"name": f"{name}, without {trick}", "repeat": turn, **figures})
            job.say(f"{name}, without {trick}: {figures}")
    for trick in scenario.tricks:
        for cell in compared(found[WHOLE], found[trick]):
            job.add({"name": f"{name}: {trick}", **cell})
            job.say(f"{name}: {trick}: {cell}")


def compared(whole: Sequence[Figures], without: Sequence[Figures]) -> list[Cell]:
    """Return for each figure its medians with a trick and without it, and the ratio of the rounds with its spread.

    Where a figure is 0 with the trick there is no ratio.
    """
    cells = []
    for figure in whole[0]:
        pairs = [(a[figure], b[figure]) for a, b in zip(whole, without, strict=True)]
        with_it, without_it = (float(np.median(side)) for side in zip(*pairs, strict=True))
        cell: Cell = {"figure": figure, "with": round(with_it, 4), "without": round(without_it, 4), "pairs": len(pairs)}
        if all(a for a, _ in pairs):
            ratios = [b / a for a, b in pairs]
            spread = (np.median(ratios), min(ratios), max(ratios))
            cell |= dict(zip(("ratio", "lowest", "highest"), (round(float(ratio), 3) for ratio in spread), strict=True))
        cells.append(cell)
    return cells


def _served(
    bundle: Path, folder: Path, trick: str, *options: object, cores: frozenset[int] | None = None
) -> AbstractContextManager[Target]:
    return serving(bundle, folder, *options, "--no-log-requests", program=("-P", STRIPPED, trick), cores=cores)


def _flooded(job: Job, trick: str, folder: Path) -> Figures:
    """Three times what it can do, over new connections; the queue is full after half a second."""
    with apart() as cores, _served(job.bundle, folder, trick, "--deadline", 2, cores=cores) as target:
        peak = asyncio.run(capacity(target, 1.5, fresh=True))
        seen = asyncio.run(flood(target, peak, FLOOD, fresh=True))
    return {
        "goodput / peak": round(seen["answered/s"] / peak, 3),
        "answered/s": seen["answered/s"],
        "p99 of refusals (ms)": seen["p99 of refusals (ms)"] or 0.0,
    }


def _fast(job: Job, trick: str, folder: Path) -> Figures:
    """What it answers to 32 clients, by a model that costs nearly nothing."""
    with apart() as cores, _served(exact_bundle(folder / "exact"), folder, trick, cores=cores) as target:
        return {"answers/s": round(asyncio.run(capacity(target, 3.0)), 1)}


def _hoarded(job: Job, trick: str, folder: Path) -> Figures:
    """Replies that nobody reads; on another server, bodies that do not end."""
    folder.mkdir(parents=True)
    ring, bundle = Keyring(folder / "keys.json"), exact_bundle(folder / "exact")
    harmful, other = (ring.add(name, scopes=("predict",)).presented for name in ("harmful", "other"))
    harms: dict[str, Callable[[Target], Any]] = {
        "replies": lambda target: unread(target, HARM),
        "bodies": lambda target: unfinished(target, harmful, HARM),
    }
    figures: Figures = {}
    for name, harm in harms.items():
        with _served(bundle, folder / name, trick, "--keys", folder / "keys.json") as target:
            seen = asyncio.run(harmed(target, other, partial(harm, target)))
        figures[f"{name}: highest (MB)"] = seen["highest (MB)"]
        figures[f"{name}: others without an answer"] = seen["others without an answer"]
    return figures


def _drained(job: Job, trick: str, folder: Path) -> Figures:
    """SIGTERM while clients ask over new connections."""
    with _served(exact_bundle(folder / "exact"), folder, trick, "--workers", 2) as target:
        tally = asyncio.run(_ended(target))
    return {"lost": tally.total - tally.seen["200"] - tally.seen[REFUSED], "answered": tally.seen["200"]}


async def _ended(target: Target) -> Tally:
    tally = Tally()
    async with connected(target.url, fresh=True) as server:
        ask = predict(server, exact_text, seconds=10.0)

        async def client(number: int) -> None:
            while REFUSED not in (reply := await ask(number)).failure:
                tally(reply)
                number += CLIENTS

        clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
        await asyncio.sleep(1.0)
        target.process.terminate()
        await asyncio.gather(*clients)
    return tally


def _closed(job: Job, trick: str, folder: Path) -> Figures:
    """The last step of an end, again and again: sockets closed while clients connect."""
    return {"lost": sum(lost(filtered=trick == WHOLE) for _ in range(CLOSINGS))}


def _charged(job: Job, trick: str, folder: Path) -> Figures:
    """A key that asks for more than its quota, at two workers."""
    folder.mkdir(parents=True)
    key = Keyring(folder / "keys.json").add("greedy", scopes=("predict",)).presented
    options = ("--workers", 2, "--keys", folder / "keys.json", "--rate", RATE, "--burst", RATE)
    with _served(exact_bundle(folder / "exact"), folder, trick, *options) as target:
        tally, took = asyncio.run(_greedy(target, key))
    return {"admitted / quota": round(tally.seen["200"] / (RATE * (1 + took)), 3)}


async def _greedy(target: Target, key: str) -> tuple[Tally, float]:
    tally = Tally()
    async with connected(target.url, key=key) as server:
        took = await closed(predict(server, exact_text), tally, clients=8, seconds=ASKED)
    return tally, took


def _faulted(job: Job, trick: str, folder: Path) -> Figures:
    """A reload, then workers that die, freeze and hang."""
    bundle = exact_bundle(folder / "exact")
    figures: Figures = {}
    with _served(bundle, folder, trick, "--workers", 2, "--deadline", 2, "--hang", 2) as target:
        eventually(lambda: _ready(target), START)  # uvicorn says so before it is
        figures["failed during a reload"] = asyncio.run(_reloaded(target, trick, bundle))
        for name, number in (("SIGKILL", signal.SIGKILL), ("SIGSTOP", signal.SIGSTOP), ("deadlock", None)):
            figures |= {f"{name}: {figure}": value for figure, value in asyncio.run(_fault(target, number)).items()}
    return figures


def _ready(target: Target) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{target.url}/health/ready", timeout=5).status_code == 200
    return False


async def _reloaded(target: Target, trick: str, bundle: Path) -> float:
    tally = Tally()
    async with connected(target.url) as server:
        load = asyncio.create_task(closed(predict(server, exact_text), tally, clients=6, seconds=6.0))
        await asyncio.sleep(0.5)
        if trick == "supervisor":
            target.process.send_signal(signal.SIGHUP)
        else:
            await order(target.state / CONTROL, {"do": "reload", "bundle": str(bundle)})
        await load
    return tally.total - tally.seen["200"]


async def _fault(target: Target, number: signal.Signals | None) -> Figures:
    """Return the answers a second after a fault, as a part of those before, and the requests that got no answer."""
    replies: list[tuple[float, Reply]] = []
    async with connected(target.url, fresh=True) as server:
        ask = predict(server, exact_text, seconds=FAULT)
        load = closed(ask, lambda reply: replies.append((time.monotonic(), reply)), clients=6, seconds=1.5 + FAULT)
        running, begun = asyncio.create_task(load), time.monotonic()
        await asyncio.sleep(1.5)
        worker = next(each for each in target.workers() if "resource_tracker" not in " ".join(each.cmdline()))
        broken = time.monotonic()
        if number is not None:
            worker.send_signal(number)
        hanging = asyncio.create_task(server.post("/v1/predict", {"texts": meddled.HANG})) if number is None else None
        await running
        if hanging is not None:
            hanging.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await hanging
    answered = [moment for moment, reply in replies if reply.status == 200]
    before = sum(begun + 0.5 < moment < broken for moment in answered) / (broken - begun - 0.5)
    after = sum(broken + FAULT - SETTLED < moment <= broken + FAULT for moment in answered) / SETTLED
    share = round(after / before, 3) if before else 0.0
    return {"answers/s after / before": share, "without an answer": len(replies) - len(answered)}


SCENARIOS: dict[str, Scenario] = {
    "flood": Scenario(_flooded, ("scheduler", "collector", "early refusal", "no addresses"), timed=True),
    "speed": Scenario(_fast, ("short way", "own thread", "uvloop"), timed=True),
    "hoard": Scenario(_hoarded, ("bounded protocol",)),
    "end": Scenario(_drained, ("packet filter", "last accept")),
    "closing": Scenario(_closed, ("packet filter",)),
    "quota": Scenario(_charged, ("shared quotas",)),
    "faults": Scenario(_faulted, ("supervisor",)),
}
