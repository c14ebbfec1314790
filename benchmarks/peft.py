"""What each way to fine-tune gives and costs, with 64 labels per class: accuracy, weights that move, time, memory, size."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import Cell, Cells, figure
from benchmarks.sets import Sample
from benchmarks.suite import Check, Group, Suite, cell
from refsynth.core.config import RunConfig
from refsynth.core.sections import MethodName
from refsynth.core.types import Example
from refsynth.models.catalog import encoder_for
from refsynth.models.store import ModelStore
from refsynth.pipeline.candidates import set_aside
from refsynth.pipeline.workshop import LEARNERS, make_workshop
from refsynth.task import Task
from refsynth.training.finetune import FinetuneLearner
from refsynth.training.methods import METHODS

ASIDE = 0.15
"""Share of the rows that tells when to stop."""

SETS = ("financial_phrasebank", "snips", "ag_news_test")
SHOTS = 64
MOST_TRAINABLE = 2.0
"""Percent of all weights that LoRA may move, its head included."""
FASTER, STEP_FLOOR, STEP_AIM = "a step of lora, times as fast as of finetune, median", 1.2, 1.4


def _measure(method: MethodName, sample: Sample, name: str, seed: int) -> list[Cell]:
    """Fit as a run does with `training.dev`: methods need more and fewer epochs, and each ends when it is done."""
    del name
    task = Task.of(RunConfig.parse({"labels": dict(sample.labels)}))
    shop = make_workshop(task, "en", ModelStore().path(encoder_for("en").name), max_tokens=128)
    rows = [Example(f"row-{i}", row["text"], row["label"]) for i, row in enumerate(sample.train)]
    train, told = set_aside(rows, ASIDE, seed=seed)
    learner = LEARNERS[method](shop)
    if not isinstance(learner, FinetuneLearner):
        raise TypeError(f"{method} is fitted by a {type(learner).__name__}")
    gc.collect()
    _forget_peak()
    started = time.monotonic()
    predictor = learner.fit(train, told, seed=seed)
    seconds, peak, effort = time.monotonic() - started, _peak(), learner.effort
    if effort is None:
        raise RuntimeError("a fit leaves its effort behind")
    said = np.asarray(predictor.logits([row["text"] for row in sample.test])).argmax(1)
    head = (shop.encoder.dimension + 1) * len(sample.labels)
    cost = {
        "trainable": effort.trainable,
        "share": effort.trainable / effort.parameters,
        "steps": len(effort.steps),
        "step_ms": round(1000 * float(np.median(effort.steps)), 2),
        "peak_gib": None if peak is None else round(peak, 3),
        "adapter_kb": round(4 * (effort.trainable - head) / 1000, 1),
    }
    return [cell(method, sample.classes(sample.test), said, seconds, len(sample.labels)) | cost]


def _forget_peak(clear: Path = Path("/proc/self/clear_refs")) -> None:
    """Have Linux measure the peak of resident memory from now on."""
    if clear.exists():
        clear.write_text("5", "ascii")


def _peak(status: Path = Path("/proc/self/status")) -> float | None:
    """Return the peak of resident memory in GiB; None where the system does not tell."""
    if not status.exists():
        return None
    line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def _costs(cells: Cells) -> str:
    """Return a table of what each method costs, in the mean over what was measured."""
    heads = ("method", "weights that move", "%", "ms a step", "steps", "peak memory (GiB)", "added or changed (kB)")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for method in METHODS:
        if not (found := cells.find(system=method)):
            continue
        keys = ("trainable", "share", "step_ms", "steps", "adapter_kb")
        trainable, share, ms, steps, size = (_mean(found, key) for key in keys)
        peaks = [one["peak_gib"] for one in found if one["peak_gib"] is not None]
        peak = f"{np.mean(peaks):.2f}" if peaks else ""
        lines.append(f"| {method} | {trainable:,.0f} | {100 * share:.2f} | {ms:.0f} | {steps:.0f} | {peak} | {size:,.0f} |")
    return "\n".join(lines)


def _mean(cells: Sequence[Cell], key: str) -> float:
    return float(np.mean([one[key] for one in cells]))


def _cheaper(cells: Cells) -> list[dict[str, Any]]:
    """Return what LoRA moves, and how much faster its steps are than those of full fine-tuning, pair by pair."""
    shares = [100 * one["share"] for one in cells.find(system="lora")]
    full = {(one["set"], one["seed"]): one["step_ms"] for one in cells.find(system="finetune")}
    found = [(full.get((one["set"], one["seed"])), one["step_ms"]) for one in cells.find(system="lora")]
    speed = figure([theirs / ours for theirs, ours in found if theirs is not None], "times", over="fits", statistic=np.median)
    moved = figure(shares, "%", over="fits", statistic=np.max)
    return [
        {"name": "weights that lora moves", **moved, "limit": MOST_TRAINABLE, "ok": moved["value"] <= MOST_TRAINABLE},
        {"name": FASTER, **speed, "floor": STEP_FLOOR, "aim": STEP_AIM, "ok": speed["value"] >= STEP_FLOOR},
    ]


PEFT = Suite(
    "peft",
    sets=SETS,
    groups=tuple(Group(partial(_measure, method), (method,), "refsynth") for method in METHODS),
    order=tuple(METHODS),
    checks=(Check("lora over finetune", "lora", "finetune", floor=-1.0, aim=0.0),),
    shots=SHOTS,
    more=_cheaper,
    notes=_costs,
)
