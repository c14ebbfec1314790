"""Contrastive fine-tuning with one setting changed at a time, on sets that no table of the README is about.

python -m benchmarks.constants.contrastive --data DIR
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.cells import Cells
from benchmarks.constants.outside import read_outside
from benchmarks.figures import figure, shown, spread
from benchmarks.sets import Sample
from refsynth.core.types import Example, IntArray
from refsynth.kinds.metrics import accuracy
from refsynth.learning.tuning import contrastive
from refsynth.learning.tuning.contrastive import LEAST_STEPS, MOST_STEPS, STEPS_PER_CLASS, ContrastiveLearner
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore

SHOTS, DRAWS, ROWS = 8, 3, 400
SETS = ("hatecheck", "airline_sentiment", "multidogo_airline", "clinc20")
LONG = "medquad_answers"
"""The set whose texts are longer than `TUNING_TOKENS`."""


class Setting(NamedTuple):
    """What is unlike the package; `steps` is a factor."""

    steps: float = 1.0
    anchors: int = contrastive.ANCHORS
    rate: float = 1e-4
    tokens: int = contrastive.TUNING_TOKENS
    dropout: bool = False


TODAY = "as in the package"
GRID: Mapping[str, Setting] = {
    TODAY: Setting(),
    "half the steps": Setting(steps=0.5),
    "twice the steps": Setting(steps=2.0),
    "anchors: 0": Setting(anchors=0),
    "anchors: 1": Setting(anchors=1),
    "anchors: 4": Setting(anchors=4),
    "rate: 5e-5": Setting(rate=5e-5),
    "rate: 2e-4": Setting(rate=2e-4),
}
ON_LONG: Mapping[str, Setting] = {TODAY: Setting(), "tokens: 32": Setting(tokens=32), "tokens: 128": Setting(tokens=128)}
WITH_DROPOUT: Mapping[str, Setting] = {"dropout": Setting(dropout=True)}


class WithDropout(ContrastiveLearner):
    """Tunes with dropout, and reads texts without."""

    def _descend(self, encoder: TransformerEncoder, rows: Sequence[Sequence[int]], classes: IntArray, *, seed: int) -> None:
        with patch.object(encoder, "eval", encoder.train):
            super()._descend(encoder, rows, classes, seed=seed)


def score(encoder: TransformerEncoder, sample: Sample, setting: Setting, *, seed: int) -> float:
    """Return the accuracy of a learner with the setting."""
    k = len(sample.labels)
    steps = round(setting.steps * min(MOST_STEPS, max(LEAST_STEPS, STEPS_PER_CLASS * k)))
    rows = [Example(f"row-{number}", row["text"], row["label"]) for number, row in enumerate(sample.train)]
    kind = WithDropout if setting.dropout else ContrastiveLearner
    with patch.multiple(contrastive, ANCHORS=setting.anchors, TUNING_TOKENS=setting.tokens):
        learner = kind(tuple(sample.labels), encoder, sample.labels, steps=steps, rate=setting.rate)
        predictor = learner.fit(rows, (), seed=seed)
    said = np.asarray(predictor.logits([row["text"] for row in sample.test])).argmax(1)
    return accuracy(sample.classes(sample.test), said)


def measure(data: Path, cells: Cells, *, draws: int, minutes: float) -> None:
    """Measure what is missing, grid after grid, until the time is up."""
    until = time.monotonic() + 60 * minutes
    encoder = TransformerEncoder(ModelStore().path("minilm"), max_tokens=128)
    for sets, grid in ((SETS, GRID), ((LONG,), ON_LONG), (SETS, WITH_DROPOUT)):
        for seed, name, system in product(range(draws), sets, grid):
            if cells.find(set=name, seed=seed, system=system) or time.monotonic() > until:
                continue
            sample = read_outside(data, name).sample(shots=SHOTS, seed=seed, rows=ROWS)
            started = time.process_time()
            found = score(encoder, sample, grid[system], seed=seed)
            spent = round(time.process_time() - started, 1)
            cells.add({"set": name, "seed": seed, "system": system, "accuracy": found, "rows": len(sample.test), "cpu": spent})
            print(f"{name} seed {seed} {system}: {100 * found:.1f} ({spent} s)", flush=True)


def table(cells: Cells) -> str:
    """Return the accuracy by setting and set, and the mean difference to today's over the pairs of set and draw."""
    names = (*SETS, LONG)
    lines = ["| setting | " + " | ".join(names) + " | over today's |", "|---" * (len(names) + 2) + "|"]
    today = {(one["set"], one["seed"]): one["accuracy"] for one in cells.find(system=TODAY)}
    for system in {**GRID, **ON_LONG, **WITH_DROPOUT}:
        found = cells.find(system=system)
        by_set = [shown([100 * one["accuracy"] for one in found if one["set"] == name]) if found else "" for name in names]
        lines.append("| " + " | ".join([system, *by_set, _over(found, today)]) + " |")
    return "\n".join(lines).replace("nan", "")


def _over(found: list[dict[str, Any]], today: Mapping[tuple[str, int], float]) -> str:
    gaps = [100 * (one["accuracy"] - today[one["set"], one["seed"]]) for one in found if (one["set"], one["seed"]) in today]
    value = figure(gaps, "points", over="pairs of set and draw")
    return f"{value['value']:+.1f}{spread(value)}"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--minutes", type=float, default=35.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cells = Cells(given.results / "constants-contrastive.jsonl")
    measure(given.data, cells, draws=given.draws, minutes=given.minutes)
    print(table(cells))


if __name__ == "__main__":
    main()
