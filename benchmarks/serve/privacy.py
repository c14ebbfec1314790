"""What stays of personal data: how much of it the redactor finds, and whether anything that was sent turns up where it must not.

A canary is an item that occurs once. It is sent in texts to every route, in bodies that are refused and in texts that make the
model fail; then logs, metrics, replies of refusals and the bytes of the database are searched for it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.serve import meddled
from benchmarks.serve.load import Connected, Reply, closed, connected
from benchmarks.serve.plan import Bound, Job
from benchmarks.serve.planted import LANGUAGES, PARTLY, harmless, plant
from benchmarks.serve.subject import exact_bundle
from benchmarks.serve.target import MEDDLED, Target, serving
from refsynth.service.http.auth import SCOPES, Keyring
from refsynth.service.http.redact import Redactor

SEED = 11
WRITTEN = 2.0
"""Seconds for the recorder to write what it has."""

BOUNDS = (
    Bound("privacy", "recall", floor=0.99),
    Bound("privacy", "over-redaction", limit=0.01),
    Bound("privacy", "canaries in logs", limit=0),
    Bound("privacy", "canaries in metrics", limit=0),
    Bound("privacy", "canaries in errors", limit=0),
    Bound("privacy", "canaries in the database", limit=0),
)


def measure(job: Job) -> None:
    """Measure the redactor, and the canaries of servers that keep texts, keep none, and fail."""
    job.add({"name": "redactor", **_redactor(job.size.planted)})
    exact = exact_bundle(job.work / "exact")
    # Where texts are kept, what has a structure must be gone; where they are not, nothing of a text may be there.
    for name, canary, options in (("texts kept, redacted", _address, ("--keep-texts",)), ("texts not kept", _word, ())):
        folder = job.work / name.partition(",")[0].replace(" ", "-")
        store, record = folder / "keys.json", folder / "record.sqlite"
        key = Keyring(store).add("bench", scopes=SCOPES).presented
        with serving(exact, folder / "server", "--keys", store, "--record", record, *options) as target:
            planted, errors = asyncio.run(_send(target, key, canary, job.size.canaries))
            time.sleep(WRITTEN)
            shown = repr(target.metrics(key=key)).encode()
        found = _found(planted, [*folder.rglob("*.log")], shown, errors, [*folder.glob("record.sqlite*")])
        job.add({"name": name, "canaries": len(planted), **found})
    with serving(exact, job.work / "failing", program=MEDDLED) as target:
        planted, errors = asyncio.run(_send(target, None, lambda: f"{meddled.POISON} {_word()}", job.size.canaries))
        shown = repr(target.metrics()).encode()
    words = {canary.rpartition(" ")[2] for canary in planted}
    job.add({"name": "a failing model", "canaries": len(words), **_found(words, [target.log], shown, errors, [])})


def _redactor(count: int) -> dict[str, Any]:
    redactors = {language: Redactor(language=language) for language in ("en", *LANGUAGES.values())}
    gone: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for planted in plant(count, seed=SEED):
        seen[planted.form] += 1
        gone[planted.form] += planted.item not in redactors[planted.language].redact(planted.text)
    clean = list(harmless(count, seed=SEED))
    changed = max(sum(each.redact(text) != text for text in clean) for each in redactors.values())
    whole = [form for form in seen if form not in PARTLY]
    return {
        "items": count,
        "recall": round(sum(gone[form] for form in whole) / sum(seen[form] for form in whole), 5),
        "worst kind": round(min(gone[form] / seen[form] for form in whole), 5),
        "over-redaction": round(changed / len(clean), 5),
        **{f"recall, {form}": round(gone[form] / seen[form], 5) for form in seen},
    }


def _word() -> str:
    return f"zq{secrets.token_hex(8)}"


def _address() -> str:
    return f"zq{secrets.token_hex(8)}@example.com"


async def _send(target: Target, key: str | None, canary: Callable[[], str], count: int) -> tuple[set[str], list[bytes]]:
    """Send canaries in every way; return them, and the bodies of all replies that were no success."""
    planted: set[str] = set()
    errors: list[bytes] = []
    rng = random.Random(SEED)
    async with connected(target.url, key=key) as server:

        async def ask(number: int) -> Reply:
            item = canary()
            planted.add(item)
            text = item if item.startswith(meddled.POISON) else f"please write to {item} about w{number % 400}"
            return await _one(server, rng.randrange(8), text, item)

        def take(reply: Reply) -> None:
            if reply.status != 200:
                errors.append(reply.body)

        await closed(ask, take, clients=4, requests=count)
    return planted, errors


async def _one(server: Connected, way: int, text: str, item: str) -> Reply:
    match way:
        case 0:
            return await server.post("/v1/predict", {"texts": text})
        case 1:
            return await server.post("/v1/predict", {"texts": [text, "w1 w2"]})
        case 2:
            return await server.post("/predict", {"inputs": text})
        case 3:
            return await server.post("/v1/explain", {"text": text, "label": item})
        case 4:
            return await server.post("/v1/feedback", {"request_id": "none", "label": text[:64]})
        case 5:
            return await server.post("/v1/predict", {"texts": text, item: 1})
        case 6:
            return await server.post("/v1/predict", {"texts": text + " w1" * 8_000})
        case _:
            return await server.post("/v1/predict", f'{{"texts": "{text}"'.encode(), headers={"X-Request-ID": f"<{item}>"})


def _found(planted: set[str], logs: list[Path], metrics: bytes, errors: list[bytes], database: list[Path]) -> dict[str, int]:
    """Return how many canaries are in each place."""
    places = {
        "logs": b"".join(path.read_bytes() for path in logs),
        "metrics": metrics,
        "errors": b"".join(errors),
        "the database": b"".join(path.read_bytes() for path in database),
    }
    found = {f"canaries in {name}": sum(item.encode() in content for item in planted) for name, content in places.items()}
    return {**found, "placeholders in the database": places["the database"].count(b"[EMAIL]")}
