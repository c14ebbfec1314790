"""A run that ships in tiers: with a pool, and learners that are quick."""

from __future__ import annotations

import json
import random
from pathlib import Path

from refsynth.core.config import RunConfig
from refsynth.core.task import Task
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import RunResult, run

WORDS = {
    "late": ["parcel", "late", "courier", "waiting", "tracking", "week", "delivery", "arrive"],
    "broken": ["broken", "crack", "pieces", "shattered", "dent", "scratched", "faulty", "split"],
}


def write_rows(path: Path, rows: int, seed: int, *, labeled: bool = True) -> None:
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as stream:
        for i in range(rows):
            for label, words in WORDS.items():
                row = {"text": f"number {seed}{i} " + " ".join(rng.sample(words, 5))}
                stream.write(json.dumps(row | ({"label": label} if labeled else {})) + "\n")


def make_run(folder: Path, cache: Path, tiers: str, *, pool: int = 0, disagreement: float = 0.1, **changes: object) -> RunResult:
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "train.jsonl", 8, 1)
    write_rows(folder / "test.jsonl", 10, 2)
    data = {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")}
    if pool:
        write_rows(folder / "pool.jsonl", pool, 3, labeled=False)
        data["pool"] = str(folder / "pool.jsonl")
    tree = {
        "language": "en",
        "labels": {"late": "the parcel is late", "broken": "the thing is broken"},
        "data": data,
        "reference": "echo",
        "synthesis": {"drafts": 0},
        "selftrain": {"per_class": 0},
        "learners": ["frozen"],
        "gate": {"folds": 2},
        "compress": {"tiers": tiers, "disagreement": disagreement},
    }
    return run(Task.of(RunConfig.parse(tree | changes)), folder / "out", store=ModelStore(cache))
