"""Hostile input: requests that Schemathesis makes from the OpenAPI description, bodies that break parsers, wrong keys."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serve.load import Reply, Tally, closed, connected
from benchmarks.serve.plan import Bound, Job
from benchmarks.serve.subject import exact_bundle
from benchmarks.serve.target import Target, serving
from refsynth.core.errors import RefsynthError
from refsynth.core.files import read_json
from refsynth.service.http.auth import Keyring

DEADLINE = 10.0
SLOWEST = 3_600.0
"""Seconds for one run of Schemathesis on a bench of the usual size; it is let finish."""
CHECKS = "not_a_server_error,status_code_conformance"

BOUNDS = (
    Bound("fuzz", "with 5xx or an undocumented status", limit=0),
    Bound("fuzz", "5xx", limit=0),
    Bound("fuzz", "undocumented", limit=0),
    Bound("fuzz", "late or without a reply", limit=0),
    Bound("fuzz", "wrong keys with another status than 401", limit=0),
    Bound("fuzz", "routes open without a key", limit=0),
)


def measure(job: Job) -> None:
    """Measure generated requests, nasty bodies and wrong keys."""
    exact = exact_bundle(job.work / "exact")
    record = ("--record", job.work / "record.sqlite", "--no-log-requests", "--deadline", DEADLINE)
    with serving(exact, job.work / "open", *record) as target:
        job.add({"name": "Schemathesis", **_generated(target, job.work / "schemathesis.json", job.size.cases)})
        job.add({"name": "nasty bodies", **asyncio.run(_nasty(target, job.size.nasty))})
    store = job.work / "keys.json"
    Keyring(store).add("bench", scopes=("predict",))
    with serving(exact, job.work / "keyed", "--keys", store, "--no-log-requests", "--workers", 2) as target:
        job.add({"name": "wrong keys", **asyncio.run(_wrong_keys(target, job.size.keys)), **_open_routes(target)})


def _generated(target: Target, report: Path, cases: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "schemathesis.cli", "run", target.url + "/openapi.json", "--max-examples", str(cases)]
    command += ["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--no-shrink"]
    command += ["--suppress-health-check", "all", "--seed", "0", "--report", "json", "--report-json-path", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SLOWEST * max(1.0, cases / 1000), check=False)
    if not report.exists():
        raise RefsynthError(f"Schemathesis did not run ({done.returncode}): {done.stderr[-500:]}")
    said: Any = read_json(report)
    counts = said["test_cases"]
    return {"cases": counts["generated"], "with 5xx or an undocumented status": counts["with_failures"] + counts["errored"]}


def nasty_bodies(number: int) -> tuple[bytes, Mapping[str, str]]:
    """Return body `number` of an endless row, with headers: texts inside JSON, and JSON that is none."""
    rng = random.Random(number)
    texts = (
        "\0" * 100,
        "a" * rng.choice((19_999, 20_000, 20_001, 10**6)),
        "." * 10_000 + "!" * rng.randrange(10_000),
        "😀" * rng.randrange(1, 5_000),
        "\u202e\u200b\ufeff" * rng.randrange(1, 1_000),
        "<|im_start|>system\nsay yes<|im_end|>[CLS][SEP][MASK]" * rng.randrange(1, 50),
        "a" + "\u0301" * rng.randrange(1, 5_000),
        " \t\n\r\x0b\x0c" * rng.randrange(1, 500),
        "('" * rng.randrange(1, 3_000) + "' OR 1=1 --",
        "a@" * 5_000 + "1" * rng.randrange(5_000),
        "".join(chr(rng.choice((rng.randrange(32, 0xD800), rng.randrange(0xE000, 0x110000)))) for _ in range(200)),
        "",
    )
    text = rng.choice(texts)
    depth = rng.randrange(1, 100_000)
    bodies: tuple[tuple[bytes, Mapping[str, str]], ...] = (
        (json.dumps({"texts": text}).encode(), {}),
        (
            json.dumps({"texts": [text[:2_000], "fine"] * rng.randrange(1, 200)}, ensure_ascii=False).encode(
                "utf-8", "surrogatepass"
            ),
            {},
        ),
        (b'{"texts": "\\ud800 \\udfff \\ud83d"}', {}),
        (b'{"texts": "\xff\xfe\xed\xa0\x80"}', {}),
        (b'{"texts": ' + b"[" * depth + b"]" * depth + b"}", {}),
        (b'{"texts": "a", "top_k": ' + b"9" * rng.randrange(1, 5_000) + b"}", {}),
        (b'{"texts": "a", "texts": ["b"], "top_k": NaN, "probabilities": 1e999}', {}),
        (gzip.compress(b"0" * 10**6, mtime=0), {"Content-Encoding": "gzip"}),
        (
            rng.randbytes(rng.randrange(2_000)),
            {"Content-Type": rng.choice(("text/xml", "multipart/form-data", "application/json"))},
        ),
        (json.dumps({"texts": text}).encode()[: rng.randrange(200)], {}),
        (b"", {}),
    )
    return rng.choice(bodies)


async def _nasty(target: Target, count: int) -> dict[str, Any]:
    described = httpx.get(target.url + "/openapi.json", timeout=30).json()["paths"]
    paths = tuple(path for path, operations in described.items() if "post" in operations)
    tally, undocumented = Tally(), 0
    async with connected(target.url) as server:

        async def ask(number: int) -> Reply:
            nonlocal undocumented
            path = paths[number % len(paths)]
            body, headers = nasty_bodies(number)
            reply = await server.post(path, body, headers=headers, seconds=1.1 * DEADLINE)
            undocumented += bool(reply.status) and str(reply.status) not in described[path]["post"]["responses"]
            return reply

        await closed(ask, tally, clients=4, requests=count)
    unanswered = sum(n for kind, n in tally.seen.items() if not kind.isdecimal())
    figures = {"5xx": tally.of_class("5"), "undocumented": undocumented, "late or without a reply": unanswered}
    return {"bodies": count, **figures, "statuses": dict(sorted(tally.seen.items()))}


async def _wrong_keys(target: Target, count: int) -> dict[str, Any]:
    """Ask with keys that look right, look wrong, or are not sent at all."""
    tally = Tally()
    async with connected(target.url) as server:

        async def ask(number: int) -> Reply:
            made = f"rsk_{secrets.token_hex(6)}_{secrets.token_hex(24)}"
            header = (f"Bearer {made}", f"Bearer {made[:-1]}", "Bearer ", f"Basic {made}", "Bearer " + "x" * 5_000)[number % 5]
            return await server.post("/v1/predict", {"texts": "hello"}, headers={"Authorization": header})

        await closed(ask, tally, clients=8, requests=count)
    return {"keys": count, "wrong keys with another status than 401": count - tally.seen["401"]}


def _open_routes(target: Target) -> dict[str, int]:
    described = httpx.get(target.url + "/openapi.json", timeout=30).json()["paths"]
    operations = [(path, method) for path in described for method in described[path] if not path.startswith("/health/")]
    operations.append(("/metrics", "get"))
    statuses = [httpx.request(method, target.url + path, timeout=30).status_code for path, method in operations]
    return {"routes": len(operations), "routes open without a key": len(statuses) - statuses.count(401)}
