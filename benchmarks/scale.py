"""What does a whole run cost: wall time and peak memory of `refsynth run`, by number of classes and by number of drafts?"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.bench import BUILD, Options, Work
from benchmarks.cells import Cell, Cells
from benchmarks.figures import Check, at_most, figure, markdown
from benchmarks.sets import read_sample
from benchmarks.suite import SHOTS

BUDGET = 40
TIMED = False
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


def cells(options: Options) -> Iterator[Work]:
    """Yield the runs, each in a process of its own."""
    wanted = [(size.name, DEFAULT_DRAFTS) for size in SIZES] + [(GROWTH, drafts) for drafts in DRAFTS]
    chosen = [one for one in wanted if one[0] in options.parts(tuple(size.name for size in SIZES))]
    for name, drafts in chosen[:1] if options.quick else chosen:
        yield Work({"set": name, "drafts": drafts}, partial(_run, options.data, name, drafts))


def _run(data: Path, name: str, drafts: int) -> list[Cell]:
    """Run the command on 8 rows per class and return its wall time and its peak resident memory."""
    folder = BUILD / f"scale-{name}-{drafts}"
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
    return [{"rows": len(sample.train), "seconds": round(seconds, 1), "gigabytes": round(usage.ru_maxrss / 2**20, 2)}]


def table(cells: Cells) -> str:
    """Return what each run took, and what drafts add."""
    classes = {size.name: size.classes for size in SIZES}
    rows = [
        [one["set"], classes[one["set"]], one["rows"], one["drafts"], f"{one['seconds'] / 60:.1f}", f"{one['gigabytes']:.2f}"]
        for one in sorted(cells.rows, key=lambda one: (classes[one["set"]], one["drafts"]))
    ]
    head = ["set", "classes", "rows", "drafts", "wall time (min)", "peak memory (GiB)"]
    return "\n\n".join(filter(None, (markdown(head, rows), _growth(cells))))


def checks(cells: Cells) -> list[Check]:
    """Return minutes and memory, which are held to limits."""
    found = []
    for size in SIZES:
        minutes = [one["seconds"] / 60 for one in cells.find(set=size.name, drafts=DEFAULT_DRAFTS)][-1:]
        found.append(at_most(f"minutes, {size.classes} x {SHOTS}", figure(minutes, "min", over="runs"), size.minutes))
    memory = figure([one["gigabytes"] for one in cells.rows], "GiB", over="runs", statistic=np.max)
    return [*found, at_most("peak memory", memory, MEMORY_LIMIT)]


def _growth(cells: Cells) -> str:
    found = sorted(cells.find(set=GROWTH), key=lambda one: one["drafts"])
    if len(found) < 2:
        return ""
    drafts, seconds = np.array([[one["drafts"], one["seconds"]] for one in found]).T
    slope, fixed = np.polyfit(drafts, seconds, 1)
    worst = np.abs(np.polyval((slope, fixed), drafts) / seconds - 1).max()
    return (
        f"On {GROWTH}, {drafts.min():.0f} to {drafts.max():.0f} drafts: {fixed:.0f} s and {1000 * slope:.0f} s per 1,000 drafts; "
        f"no point is further than {100 * worst:.0f}% from that line."
    )
