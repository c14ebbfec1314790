"""Speed against others on the same bundle: requests/s and latency of each side, one after the other, again and again.

The sides of a repeat follow each other within seconds, and a ratio is taken within a repeat: what else the machine does changes
both sides. All servers are up all the time, one is asked at a time; the clients share its cores.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from benchmarks.peer_env import PeerError, environment
from benchmarks.serve.load import Connected, Reply, Tally, closed, connected
from benchmarks.serve.plan import Bound, Job
from benchmarks.serve.subject import short_text, ticket_text
from benchmarks.serve.target import LOOPBACK, START, eventually, free_port, serving, started
from refsynth.service.http.auth import Keyring

HANDLERS = Path(__file__).parent / "handlers"
OURS, ONE, PROTECTED = "refsynth", "refsynth, batches of one", "refsynth, protected"
WARM = 1.0
"""Seconds of load before anything is measured."""

BOUNDS = (
    Bound("peers", "micro-batching at 32 clients", "x", floor=1.8, aim=3.0, typical=True),
    Bound("peers", "p50 of micro-batching at 1 client", "x", limit=1.15, typical=True),
    Bound("peers", "protections at 32 clients", "x", floor=0.85, aim=0.95, typical=True),
)


class Side(NamedTuple):
    """A server that is up, and how it is asked for the label of a text."""

    name: str
    url: str
    path: str
    body: Callable[[str], Any]
    process: int
    key: str | None = None


class Peer(NamedTuple):
    """A server of others: its handler, and the packages of an environment of its own; none where ours has all."""

    name: str
    handler: str
    packages: tuple[str, ...] = ()
    body: Callable[[str], Any] = lambda text: {"text": text}


NEEDED = ("onnxruntime", "tokenizers", "safetensors", "numpy")
PEERS = (
    Peer("FastAPI", "plain.py"),
    Peer("LitServe", "lit.py", ("litserve", *NEEDED)),
    Peer("BentoML", "bento.py", ("bentoml", *NEEDED), lambda text: {"texts": [text]}),
)


def measure(job: Job) -> None:
    """Measure all sides that can be had."""
    with ExitStack() as stack:
        sides = [stack.enter_context(side) for side in _ours(job)]
        for peer in PEERS:
            try:
                sides.append(stack.enter_context(_theirs(peer, job)))
            except PeerError as error:
                job.say(f"{peer.name} left out: {error}")
                job.add({"name": peer.name, "left out": str(error)})
        asyncio.run(_interleaved(sides, job))


async def _interleaved(sides: list[Side], job: Job) -> None:
    first = 0
    for side in sides:
        await _speed(side, 4, WARM, short_text, 10**8)
    for repeat in range(job.size.repeats):
        for text, counts in ((short_text, job.size.clients), (ticket_text, job.size.clients[-1:])):
            for clients in counts:
                found: dict[str, dict[str, Any]] = {}
                for side in sides if text is short_text else sides[:2]:
                    found[side.name] = await _speed(side, clients, job.size.seconds, text, first)
                    first += 10**6
                    setting = {"name": side.name, "clients": clients, "texts": text.__name__, "repeat": repeat}
                    job.add({**setting, **found[side.name]})
                job.add({"name": "ratios", "clients": clients, "repeat": repeat, **_ratios(found, clients, text is short_text)})
                speeds = "   ".join(f"{name} {one['requests/s']:.0f}/s" for name, one in found.items())
                job.say(f"repeat {repeat}, {clients} clients, {text.__name__}: {speeds}")


async def _speed(side: Side, clients: int, seconds: float, text: Callable[[int], str], first: int) -> dict[str, Any]:
    tally, before = Tally(), _cpu(side.process)
    async with connected(side.url, key=side.key) as server:
        took = await closed(_asking(server, side, text), tally, clients=clients, seconds=seconds, first=first)
    good = tally.seen["200"]
    return {
        "requests/s": round(good / took, 2),
        "p50_ms": round(tally.milliseconds("200", 0.5), 3),
        "p99_ms": round(tally.milliseconds("200", 0.99), 3),
        "cpu_ms": round(1000 * (_cpu(side.process) - before) / max(good, 1), 3),
        "failed": tally.total - good,
    }


def _cpu(process: int) -> float:
    """Return the processor time of a process and its children: what a request costs even where other work slows everything."""
    parent = psutil.Process(process)
    times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def _asking(server: Connected, side: Side, text: Callable[[int], str]) -> Callable[[int], Any]:
    async def ask(number: int) -> Reply:
        return await server.post(side.path, side.body(text(number)))

    return ask


def _ratios(found: dict[str, dict[str, Any]], clients: int, short: bool) -> dict[str, float]:
    """Return what the bounds are about, and our speed over each peer's."""

    def ratio(figure: str, one: str, other: str) -> float:
        return round(float(found[one][figure]) / max(float(found[other][figure]), 1e-9), 4)

    kind = "" if short else ", tickets"
    ratios = {f"micro-batching at {clients} clients{kind}": ratio("requests/s", OURS, ONE)}
    ratios[f"p50 of micro-batching at {clients} {'client' if clients == 1 else 'clients'}{kind}"] = ratio("p50_ms", OURS, ONE)
    ratios[f"cpu of batches of one at {clients} clients{kind}"] = ratio("cpu_ms", ONE, OURS)
    if PROTECTED in found:
        ratios[f"protections at {clients} clients"] = ratio("requests/s", PROTECTED, OURS)
    for peer in PEERS:
        if peer.name in found:
            ratios[f"over {peer.name} at {clients} clients"] = ratio("requests/s", OURS, peer.name)
    return ratios


def _ours(job: Job) -> Iterator[Any]:
    """Yield our own sides: as it is without protections, with batches of one, and with all protections."""
    yield _side(OURS, job, "--no-log-requests")
    yield _side(ONE, job, "--no-log-requests", "--batch-rows", 1)
    folder = job.work / "protected"
    folder.mkdir(parents=True, exist_ok=True)
    keys = folder / "keys.json"
    key = Keyring(keys).add("bench", scopes=("predict",)).presented
    record = folder / "record.sqlite"
    record.unlink(missing_ok=True)
    guards = ("--keys", keys, "--rate", 10**6, "--record", record, "--keep-texts")
    yield _side(PROTECTED, job, *guards, key=key)


@contextmanager
def _side(name: str, job: Job, *options: object, key: str | None = None) -> Iterator[Side]:
    folder = job.work / name.rpartition(" ")[2]
    with serving(job.bundle, folder, *options) as target:
        yield Side(name, target.url, "/v1/predict", lambda text: {"texts": text}, target.process.pid, key)


@contextmanager
def _theirs(peer: Peer, job: Job) -> Iterator[Side]:
    venv = job.work / "venvs" / peer.name.lower()
    python = environment(venv, peer.packages) if peer.packages else Path(sys.executable)
    port = free_port()
    log = job.work / f"{peer.name}.log"
    with started([str(python), str(HANDLERS / peer.handler), str(job.bundle.resolve()), str(port)], log) as process:
        url, body = f"http://{LOOPBACK}:{port}", peer.body("hello")

        def answers() -> bool:
            try:
                return httpx.post(url + "/predict", json=body, timeout=20).status_code == 200
            except httpx.TransportError:
                return process.poll() is not None

        if not eventually(answers, START, pause=0.2) or process.poll() is not None:
            raise PeerError(f"it did not come up; its log is {log}")
        yield Side(peer.name, url, "/predict", peer.body, process.pid)
