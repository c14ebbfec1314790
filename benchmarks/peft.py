"""What does each way to fine-tune give and cost with 64 labels per class: accuracy, weights that move, time, memory, size?"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.cells import Cell, Cells
from benchmarks.fewshot import workshop
from benchmarks.figures import Check, at_least, at_most, figure, markdown
from benchmarks.sets import Sample
from benchmarks.suite import Group, Over, Suite, cell
from refsynth.core.learners import MethodName
from refsynth.learning.candidates import set_aside
from refsynth.learning.makers import make_learner
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.methods import METHODS

BUDGET = 115
TIMED = False
ASIDE = 0.15
"""Share of the rows that tells when to stop."""

SETS = ("financial_phrasebank", "snips", "ag_news_test")
SHOTS = 64
MOST_TRAINABLE = 2.0
"""Percent of all weights that LoRA may move, its head included."""
FASTER, STEP_FLOOR, STEP_AIM = "a step of lora, times as fast as of finetune, median", 1.2, 1.4


def _measure(method: MethodName, sample: Sample, name: str, seed: int) -> list[Cell]:
    """Fit as a run does with `training.validation`: methods need more and fewer epochs, and each ends when it is done."""
    del name
    context = workshop(sample)
    train, told = set_aside(sample.examples, ASIDE, seed=seed)
    learner = make_learner(method, context)
    if not isinstance(learner, FinetuneLearner):
        raise TypeError(f"{method} is fitted by a {type(learner).__name__}")
    gc.collect()
    _forget_peak()
    started = time.monotonic()
    predictor = learner.fit(train, told, seed=seed)
    seconds, peak, effort = time.monotonic() - started, _peak(), learner.effort
    if effort is None:
        raise RuntimeError("a fit leaves its effort behind")
    said = np.asarray(predictor.logits(sample.texts)).argmax(1)
    head = (context.encoder.dimension + 1) * len(sample.labels)
    cost = {
        "trainable": effort.trainable,
        "share": effort.trainable / effort.parameters,
        "steps": len(effort.steps),
        "step_ms": round(1000 * float(np.median(effort.steps)), 2),
        "peak_gib": None if peak is None else round(peak, 3),
        "adapter_kb": round(4 * (effort.trainable - head) / 1000, 1),
    }
    return [cell(method, sample.truth, said, seconds, len(sample.labels)) | cost]


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


def costs(cells: Cells) -> str:
    """Return what each method costs, in the mean over what was measured."""
    head = ("method", "weights that move", "%", "ms a step", "steps", "peak memory (GiB)", "added or changed (kB)")
    rows = []
    for method in METHODS:
        if found := cells.find(system=method):
            keys = ("trainable", "share", "step_ms", "steps", "adapter_kb")
            trainable, share, ms, steps, size = (_mean(found, key) for key in keys)
            peaks = [one for one in found if one["peak_gib"] is not None]
            peak = f"{_mean(peaks, 'peak_gib'):.2f}" if peaks else ""
            rows.append([method, f"{trainable:,.0f}", f"{100 * share:.2f}", f"{ms:.0f}", f"{steps:.0f}", peak, f"{size:,.0f}"])
    return markdown(head, rows)


def _mean(cells: Sequence[Cell], key: str) -> float:
    return float(np.mean([one[key] for one in cells]))


def _cheaper(cells: Cells) -> list[Check]:
    """Return what LoRA moves, and how much faster its steps are than those of full fine-tuning, pair by pair."""
    shares = [100 * one["share"] for one in cells.find(system="lora")]
    full = {(one["set"], one["seed"]): one["step_ms"] for one in cells.find(system="finetune")}
    found = [(full.get((one["set"], one["seed"])), one["step_ms"]) for one in cells.find(system="lora")]
    speed = figure([theirs / ours for theirs, ours in found if theirs is not None], "times", over="fits", statistic=np.median)
    return [
        at_most("weights that lora moves", figure(shares, "%", over="fits", statistic=np.max), MOST_TRAINABLE),
        at_least(FASTER, speed, STEP_FLOOR, STEP_AIM),
    ]


SUITE = Suite(
    SETS,
    groups=tuple(Group(partial(_measure, method), (method,)) for method in METHODS),
    order=tuple(METHODS),
    held=(Over("lora over finetune", "lora", "finetune", floor=-1.0, aim=0.0),),
    seeds=3,
    shots=SHOTS,
    quick_shots=16,
    more=_cheaper,
    notes=costs,
)
cells, table, checks = SUITE.cells, SUITE.table, SUITE.checks
