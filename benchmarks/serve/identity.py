"""Whether every request gets its own answer, once: numbered texts from many clients, bad rows among them, callers that leave."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import numpy as np

from benchmarks.serve import meddled
from benchmarks.serve.load import BROKEN, NO_REPLY, Connected, Reply, Tally, closed, connected
from benchmarks.serve.plan import Bound, Job
from benchmarks.serve.subject import exact_bundle, exact_text, ticket_text
from benchmarks.serve.target import MEDDLED, Target, eventually, serving
from refsynth import bundle

CLIENTS = 64
ALONE = 2_000
"""The most texts that are asked of the int8 bundle alone too."""
CLOSE = 2e-6
SHORTEST, LONGEST = 0.0005, 0.02
"""Seconds after which callers leave."""

BOUNDS = (
    *(Bound("identity", figure, limit=0) for figure in ("crossed", "lost", "doubled", "neighbours hurt", "leaked")),
    Bound("identity", "poisoned that failed alone", floor=1.0),
    Bound("identity", "labels flipped by the batch", limit=0.001),
)


def measure(job: Job) -> None:
    """Measure crossed, lost and doubled answers, poisoned rows, cancellations, and labels that change with the batch."""
    exact = exact_bundle(job.work / "exact")
    model = bundle.load(exact, threads=1)
    with serving(exact, job.work / "server", "--workers", 2, "--no-log-requests") as target:
        job.add({"name": "numbered", **asyncio.run(_numbered(target, model, job.size.requests))})
        job.add({"name": "cancelled", **asyncio.run(_cancelled(target, model, job.size.cancelled))})
    with serving(exact, job.work / "poisoned", program=MEDDLED) as target:
        job.add({"name": "poisoned", **asyncio.run(_poisoned(target, model, job.size.poisoned))})
    with serving(job.bundle, job.work / "int8", "--no-log-requests") as target:
        alone = bundle.load(job.bundle, threads=1)
        job.add({"name": "flips", **asyncio.run(_flips(target, alone, min(ALONE, job.size.requests)))})


class _Checked:
    """Asks numbered requests of one to three texts with mixed options, and judges each reply."""

    def __init__(self, server: Connected, model: bundle.Model) -> None:
        self._server, self._model = server, model
        self.found: Counter[str] = Counter()
        self.ids: set[str] = set()

    async def __call__(self, number: int) -> Reply:
        """Ask and judge."""
        texts = [exact_text(3 * number + row) for row in range(1 + number % 3)]
        top = (None, 1, 2)[number % 5 % 3]
        body: dict[str, Any] = {"texts": texts[0] if len(texts) == 1 and number % 2 else texts, "top_k": top}
        reply = await self._server.post("/v1/predict", body, headers={"X-Request-ID": f"n{number}"})
        self.found["texts"] += len(texts)
        if reply.status != 200:
            self.found["lost"] += 1
            return reply
        said = reply.json()
        self.found["doubled ids"] += said["request_id"] in self.ids
        self.ids.add(said["request_id"])
        right = said["request_id"] == f"n{number}" and len(said["predictions"]) == len(texts)
        expected = self._model.predict(texts)
        self.found["crossed"] += not (right and all(map(_same, said["predictions"], expected)))
        return reply


def _same(said: dict[str, Any], expected: Any) -> bool:
    shown = said["probabilities"]
    return said["label"] == expected.label and all(abs(expected.probabilities[name] - shown[name]) < CLOSE for name in shown)


async def _numbered(target: Target, model: bundle.Model, requests: int) -> dict[str, Any]:
    before, tally = _answered(target), Tally()
    async with connected(target.url) as server:
        checked = _Checked(server, model)
        await closed(checked, tally, clients=CLIENTS, requests=requests)
    worked = _answered(target) - before
    found = checked.found
    doubled = max(0, round(worked) - found["texts"]) + found["doubled ids"]
    return {"requests": requests, "texts": found["texts"], "crossed": found["crossed"], "lost": found["lost"], "doubled": doubled}


def _answered(target: Target) -> float:
    """Return how many texts the server says it has answered; its canaries do not count."""
    return sum(value for name, value in target.metrics().items() if name.startswith("refsynth_tier_decisions_total"))


async def _cancelled(target: Target, model: bundle.Model, count: int) -> dict[str, Any]:
    """Leave before the answer comes, at random moments, beside callers that stay; then look for what was left behind."""
    rng = random.Random(0)
    tally, stayed = Tally(), Tally()
    async with connected(target.url, fresh=True) as leaving, connected(target.url) as staying:

        async def leave(number: int) -> Reply:
            texts = [exact_text(number * 100 + row) for row in range(50)]
            return await leaving.post("/v1/predict", {"texts": texts}, seconds=rng.uniform(SHORTEST, LONGEST))

        checked = _Checked(staying, model)
        await asyncio.gather(closed(leave, tally, clients=16, requests=count), closed(checked, stayed, clients=8, requests=count))
    leaked = 0.0 if eventually(lambda: _held(target) == 0, 10.0, pause=0.2) else _held(target)
    left = tally.seen[NO_REPLY] + tally.seen[BROKEN]
    return {"cancelled": left, "crossed": checked.found["crossed"], "lost": checked.found["lost"], "leaked": leaked}


def _held(target: Target) -> float:
    """Return requests under way and rows that wait, without the request that asks."""
    metrics = target.metrics()
    return metrics["refsynth_inflight_requests"] - 1 + metrics["refsynth_queue_rows"]


async def _poisoned(target: Target, model: bundle.Model, count: int) -> dict[str, Any]:
    """Send a bad row among good ones, in one request and in neighbours' requests."""
    failed, hurt, tally = 0, 0, Tally()
    rng = random.Random(0)
    async with connected(target.url) as server:

        async def ask(number: int) -> Reply:
            nonlocal failed, hurt
            texts = [exact_text(10 * number + row) for row in range(6)]
            place = rng.randrange(len(texts))
            texts[place] = f"{meddled.POISON} {number}"
            reply = await server.post("/v1/predict", {"texts": texts})
            said = reply.json()["predictions"] if reply.status == 200 else [{"error": {}}] * len(texts)
            failed += reply.status == 200 and "error" in said[place]
            for row, (one, expected) in enumerate(zip(said, model.predict(texts), strict=True)):
                hurt += row != place and ("error" in one or not _same(one, expected))
            return reply

        neighbours, others = _Checked(server, model), Tally()
        await asyncio.gather(
            closed(ask, tally, clients=8, requests=count), closed(neighbours, others, clients=8, requests=count, first=10**6)
        )
    hurt += neighbours.found["lost"] + neighbours.found["crossed"]
    return {"poisoned": count, "poisoned that failed alone": failed / count, "neighbours hurt": hurt}


async def _flips(target: Target, alone: bundle.Model, count: int) -> dict[str, Any]:
    """Compare the labels of texts that came in batches with those of the same texts alone."""
    labels: dict[int, str] = {}
    async with connected(target.url) as server:

        async def ask(number: int) -> Reply:
            reply = await server.post("/v1/predict", {"texts": ticket_text(number)})
            labels[number] = reply.json()["predictions"][0]["label"] if reply.status == 200 else ""
            return reply

        await closed(ask, Tally(), clients=32, requests=count)
    single = {number: alone.predict([ticket_text(number)])[0].label for number in labels}
    flipped = float(np.mean([labels[number] != single[number] for number in labels]))
    return {"texts": count, "labels flipped by the batch": flipped}
