"""Workers that die, freeze, hang or fail under load; servers that are told to end; bundles that are switched under load."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.serve import meddled
from benchmarks.serve.load import NO_REPLY, REFUSED, Connected, Reply, Tally, connected, predict
from benchmarks.serve.plan import Bound, Job
from benchmarks.serve.subject import exact_bundle, exact_text
from benchmarks.serve.target import MEDDLED, Target, eventually, serving
from refsynth.service.http.state import CONTROL
from refsynth.service.http.switch import order

CLIENTS = 6
DEADLINE, HANG = 2.0, 2.0
PATIENCE = 30.0
"""Seconds for a worker to be replaced, and for a reply: longer than the deadline, so that what is counted as none is none."""
LOADED = 0.5
"""Seconds of load before each fault."""

BOUNDS = (
    Bound("kills", "seconds until noticed", "s", limit=5),
    Bound("kills", "seconds until replaced", "s", limit=15),
    Bound("kills", "without a reply", limit=0),
    Bound("kills", "accepted and lost", limit=0),
    Bound("kills", "over the limit", limit=0),
    Bound("kills", "failed during reloads", limit=0),
    Bound("kills", "broken bundles refused", floor=1.0),
)


def measure(job: Job) -> None:
    """Measure faults, ends and reloads."""
    exact = exact_bundle(job.work / "exact")
    options = ("--workers", 2, "--deadline", DEADLINE, "--hang", HANG)
    with serving(exact, job.work / "faults", *options, program=MEDDLED) as target:
        for number in range(job.size.faults):
            name = tuple(FAULTS)[number % len(FAULTS)]
            figures = asyncio.run(_fault(target, FAULTS[name]))
            job.add({"name": name, **figures})
            job.say(f"{name}: replaced after {figures['seconds until replaced']} s")
    for number in range(job.size.drains):
        with serving(exact, job.work / "drain", "--workers", 2, "--no-log-requests") as target:
            job.add({"name": "SIGTERM", **asyncio.run(_drain(target, number))})
    with serving(exact, job.work / "reload", "--workers", 2, "--no-log-requests") as target:
        job.add({"name": "reloads", **asyncio.run(_reloads(target, job.work, job.size.reloads))})


class Pressure:
    """Clients that ask until they are told to stop."""

    def __init__(self, server: Connected) -> None:
        self.tally = Tally()
        self._stop = False
        ask = predict(server, exact_text, seconds=PATIENCE)
        self._tasks = [asyncio.create_task(self._client(ask, number)) for number in range(CLIENTS)]

    async def end(self) -> Tally:
        """Stop and return what came."""
        self._stop = True
        await asyncio.gather(*self._tasks)
        return self.tally

    async def _client(self, ask: Callable[[int], Any], client: int) -> None:
        number = client * 10**7
        while not self._stop:
            number += 1
            reply: Reply = await ask(number)
            self.tally(reply)
            if reply.failure == REFUSED:
                await asyncio.sleep(0.05)


async def _signal(target: Target, server: Connected, number: signal.Signals) -> None:
    target.workers()[0].send_signal(number)


async def _text(target: Target, server: Connected, text: str) -> None:
    await server.post("/v1/predict", {"texts": text}, seconds=PATIENCE)


FAULTS: dict[str, Callable[[Target, Connected], Any]] = {
    "SIGKILL": partial(_signal, number=signal.SIGKILL),
    "SIGSTOP": partial(_signal, number=signal.SIGSTOP),
    "exception": partial(_text, text=meddled.BROKEN),
    "deadlock": partial(_text, text=meddled.HANG),
}


async def _fault(target: Target, break_: Callable[[Target, Connected], Any]) -> dict[str, Any]:
    lost, ready = len(target.events("worker lost")), len(target.events("worker ready"))
    async with connected(target.url) as server:
        pressure = Pressure(server)
        await asyncio.sleep(LOADED)
        begun = time.monotonic()
        fault = asyncio.create_task(break_(target, server))
        noticed = await _when(lambda: len(target.events("worker lost")) > lost, begun)
        replaced = await _when(lambda: len(target.events("worker ready")) > ready, begun)
        await fault
        await asyncio.sleep(LOADED)
        tally = await pressure.end()
    # A connection that breaks with its worker is a definite end; a client that waits for nothing has none.
    broken = sum(n for kind, n in tally.seen.items() if not kind.isdecimal()) - tally.seen[NO_REPLY]
    return {
        "seconds until noticed": noticed,
        "seconds until replaced": replaced,
        "without a reply": tally.seen[NO_REPLY],
        "answered": tally.seen["200"],
        "broken connections": broken,
        "5xx": tally.of_class("5"),
    }


async def _when(condition: Callable[[], bool], begun: float) -> float:
    await asyncio.to_thread(eventually, condition, PATIENCE)
    return round(time.monotonic() - begun, 2)


async def _drain(target: Target, turn: int) -> dict[str, Any]:
    """Tell the server to end while clients ask; what it accepted it has to answer."""
    async with connected(target.url) as server:
        pressure = Pressure(server)
        await asyncio.sleep(LOADED * (1 + turn % 3 / 3))
        begun = time.monotonic()
        target.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(target.process.wait, 2 * PATIENCE)
        took = time.monotonic() - begun
        tally = await pressure.end()
    killed = target.events("ended")[-1]["killed"]
    lost = tally.total - tally.seen["200"] - tally.seen[REFUSED]
    return {
        "answered": tally.seen["200"],
        "accepted and lost": lost,
        "seconds": round(took, 2),
        "over the limit": killed + (code != 0),
    }


async def _reloads(target: Target, work: Path, count: int) -> dict[str, Any]:
    """Switch between two bundles under load; every third is broken and has to be refused."""
    bundles = [exact_bundle(work / "one", seed=1), exact_bundle(work / "two", seed=2)]
    broken = work / "broken"
    shutil.copytree(bundles[0], broken)
    (broken / "head.safetensors").write_bytes(b"nothing")
    outcomes = []
    async with connected(target.url) as server:
        pressure = Pressure(server)
        for turn in range(count):
            bad = turn % 3 == 2
            asked = broken if bad else bundles[turn % 2]
            reply: dict[str, Any] = {}
            with contextlib.suppress(OSError):
                reply = await order(target.state / CONTROL, {"do": "reload", "bundle": str(asked.resolve())})
            outcomes.append((bad, bool(reply.get("ok"))))
        tally = await pressure.end()
    good, refused = [ok for bad, ok in outcomes if not bad], [not ok for bad, ok in outcomes if bad]
    return {
        "reloads": len(good),
        "broken bundles": len(refused),
        "broken bundles refused": sum(refused) / len(refused) if refused else None,
        "answered": tally.seen["200"],
        "failed during reloads": tally.total - tally.seen["200"] + good.count(False),
    }
