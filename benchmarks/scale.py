"""What a whole run costs: wall time and peak memory of `refsynth run`, by number of classes and by number of drafts."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cells import Cells
from benchmarks.sets import read_sample
from benchmarks.suite import SHOTS
from refsynth.core.machine import describe_machine

MEMORY_LIMIT = 6.0


class Size(NamedTuple):
    """A data set that stands for its number of classes, and the minutes that a run may take."""

    name: str
    classes: int
    minutes: float


SIZES = (Size("imdb_counterfactual", 2, 8), Size("bitext_support", 27, 20), Size("banking77", 77, 40))
DEFAULT_DRAFTS = 600
DRAFTS = (250, 1000, 2000, 4000)
GROWTH = "bitext_support"


def measure(data: Path, results: Path, *, version: str, quick: bool, say: Callable[[str], None]) -> Cells:
    """Measure the runs that are missing, each in a process of its own, and return all."""
    cells = Cells(results / "scale.jsonl")
    wanted = [(size.name, DEFAULT_DRAFTS) for size in SIZES] + [(GROWTH, drafts) for drafts in DRAFTS]
    for name, drafts in wanted[:1] if quick else wanted:
        key = {"set": name, "drafts": drafts, "version": version}
        if not cells.find(**key):
            cost = _run(data, name, drafts)
            cells.add({**key, **cost, "machine": describe_machine()})
            say(f"{name}, {drafts} drafts: {cost['seconds'] / 60:.1f} min, {cost['gigabytes']:.2f} GiB")
    return cells


def _run(data: Path, name: str, drafts: int) -> dict[str, float]:
    """Run the command on 8 rows per class and return its wall time and its peak resident memory."""
    folder = Path("build") / "bench" / f"scale-{name}-{drafts}"
    shutil.rmtree(folder, ignore_errors=True)
    sample = read_sample(data, name, shots=SHOTS, seed=0)
    train, _ = sample.write(folder)
    # JSON is YAML; paths in a task file are relative to it.
    task = {"labels": dict(sample.labels), "data": {"train": train.name}, "synthesis": {"drafts": drafts}}
    (folder / "task.yaml").write_text(json.dumps(task, ensure_ascii=False), "utf-8")
    command = [sys.executable, "-m", "refsynth", "run", str(folder / "task.yaml"), "--out", str(folder / "run")]
    started = time.monotonic()
    _, status, usage = os.wait4(os.spawnv(os.P_NOWAIT, sys.executable, command), 0)
    seconds = time.monotonic() - started
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with status {status}")
    shutil.rmtree(folder)
    return {"rows": len(sample.train), "seconds": round(seconds, 1), "gigabytes": round(usage.ru_maxrss / 2**20, 2)}


def outcome(cells: Cells) -> dict[str, Any]:
    """Return the table and the checks against the limits."""
    lines = ["| set | classes | rows | drafts | wall time (min) | peak memory (GiB) |", "|---" * 6 + "|"]
    classes = {size.name: size.classes for size in SIZES}
    for cell in sorted(cells.rows, key=lambda one: (classes[one["set"]], one["drafts"])):
        cost = f"{cell['seconds'] / 60:.1f} | {cell['gigabytes']:.2f}"
        lines.append(f"| {cell['set']} | {classes[cell['set']]} | {cell['rows']} | {cell['drafts']} | {cost} |")
    checks = [_within(f"minutes, {size.classes} x {SHOTS}", _minutes(cells, size), size.minutes, "min") for size in SIZES]
    checks.append(_within("peak memory", max((one["gigabytes"] for one in cells.rows), default=np.nan), MEMORY_LIMIT, "GiB"))
    return {
        "name": "scale",
        "machine": describe_machine(),
        "rows": cells.rows,
        "checks": checks,
        "table": "\n".join(lines + _growth(cells)),
    }


def _minutes(cells: Cells, size: Size) -> float:
    found = cells.find(set=size.name, drafts=DEFAULT_DRAFTS)
    return found[-1]["seconds"] / 60 if found else float("nan")


def _within(name: str, value: float, limit: float, unit: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "limit": limit, "n": 1, "ok": bool(value <= limit)}


def _growth(cells: Cells) -> list[str]:
    found = sorted(cells.find(set=GROWTH), key=lambda one: one["drafts"])
    if len(found) < 2:
        return []
    drafts, seconds = np.array([[one["drafts"], one["seconds"]] for one in found]).T
    slope, fixed = np.polyfit(drafts, seconds, 1)
    worst = np.abs(np.polyval((slope, fixed), drafts) / seconds - 1).max()
    return [
        "",
        f"On {GROWTH}, {drafts.min():.0f} to {drafts.max():.0f} drafts: {fixed:.0f} s and {1000 * slope:.0f} s per 1,000 drafts; "
        f"no point is further than {100 * worst:.0f}% from that line.",
    ]
