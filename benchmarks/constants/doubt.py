"""Which learner a doubt ships, and how good that one is, on sets that no table of the README is about.

python -m benchmarks.constants.doubt --data DIR
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.cells import Cell, Cells
from benchmarks.constants.outside import READERS, read_outside
from benchmarks.figures import interval
from benchmarks.sets import Sample
from refsynth.core.learners import LearnerName
from refsynth.core.protocols import Encoder, Learner
from refsynth.core.sections import GateConfig
from refsynth.core.types import Example
from refsynth.data.split import fold_of
from refsynth.data.text import near_groups
from refsynth.kinds import ONE_LABEL
from refsynth.kinds.metrics import accuracy
from refsynth.labels.curves import CachedEncoder
from refsynth.learning import gate
from refsynth.learning.baseline import FrozenLearner, TfidfLearner
from refsynth.learning.candidates import Candidate, ranked
from refsynth.learning.held import HeldOut
from refsynth.learning.tuning.contrastive import ContrastiveLearner
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore

SHOTS, ROWS = (8, 16, 32), 400
ALL, PAIR = "all three", "frozen and tfidf"
SETS = {ALL: ("hatecheck", "airline_sentiment", "multidogo_airline", "airline_reason"), PAIR: tuple(READERS)}
DRAWS = {ALL: 2, PAIR: 8}
"""Contrastive learners take a hundred times as long as both of the others."""
DOUBTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


def learners_for(sample: Sample, encoder: Encoder) -> dict[LearnerName, Learner]:
    """Return the learners that a run compares unless told otherwise; the contrastive one needs an encoder that can be tuned."""
    labels = tuple(sample.labels)
    plain: dict[LearnerName, Learner] = {"tfidf": TfidfLearner(labels, language="en"), "frozen": FrozenLearner(labels, encoder)}
    if isinstance(encoder, TransformerEncoder):
        plain["contrastive"] = ContrastiveLearner(labels, encoder, sample.labels)
    return plain


def cell(sample: Sample, encoder: Encoder, *, seed: int) -> Cell:
    """Return each learner's answers to the rows when held out, and its accuracy when fitted to them all."""
    rows = [Example(f"row-{number}", row["text"], row["label"]) for number, row in enumerate(sample.train)]
    folds = fold_of(rows, folds=GateConfig().folds, seed=seed, groups=near_groups([row.text for row in rows]))
    held: dict[str, list[int]] = {}
    test: dict[str, float] = {}
    for name, learner in learners_for(sample, encoder).items():
        said = np.zeros(len(rows), int)
        for fold in np.unique(folds):
            train = [row for row, its in zip(rows, folds, strict=True) if its != fold]
            out = np.flatnonzero(folds == fold)
            said[out] = learner.fit(train, (), seed=seed).logits([rows[place].text for place in out]).argmax(1)
        held[name] = said.tolist()
        answers = learner.fit(rows, (), seed=seed).logits([row["text"] for row in sample.test]).argmax(1)
        test[name] = accuracy(sample.classes(sample.test), answers)
    return {"truth": sample.classes(sample.train).tolist(), "held": held, "accuracy": test, "folds": folds.tolist()}


def measure(data: Path, cells: Cells, *, minutes: float) -> None:
    """Measure what is missing, draw after draw, until the time is up."""
    until = time.monotonic() + 60 * minutes
    network = TransformerEncoder(ModelStore().path("minilm"), max_tokens=128)
    for learners in (PAIR, ALL):
        for seed, shots, name in product(range(DRAWS[learners]), SHOTS, SETS[learners]):
            key = {"set": name, "seed": seed, "shots": shots, "learners": learners}
            if cells.find(**key) or time.monotonic() > until:
                continue
            sample = read_outside(data, name).sample(shots=shots, seed=100 + seed, rows=ROWS)
            encoder = _known(data, name, network) if learners == PAIR else network
            cells.add(key | cell(sample, encoder, seed=seed))
            print(key, cells.rows[-1]["accuracy"], flush=True)


@cache
def _known(data: Path, name: str, encoder: Encoder) -> CachedEncoder:
    """Return what looks up the embeddings of all rows that the draws have, and of those that are measured on."""
    texts = {row["text"] for seed in range(DRAWS[PAIR]) for row in _texts(data, name, 100 + seed)}
    return CachedEncoder(encoder, sorted(texts))


def _texts(data: Path, name: str, seed: int) -> list[dict[str, Any]]:
    sample = read_outside(data, name).sample(shots=max(SHOTS), seed=seed, rows=ROWS)
    return [*sample.train, *sample.test]


def shipped(one: Cell, *, doubt: float) -> str:
    """Return the learner that the gate's rule takes, by what each said of held-out rows."""
    truth = np.array(one["truth"])
    rows, k = np.arange(len(truth)), truth.max() + 1
    said = {Candidate.named(name): np.eye(k)[answers][None] for name, answers in one["held"].items()}
    held = HeldOut(truth, rows[None], rows, np.ones((1, len(rows), k), bool), ONE_LABEL, said)
    with patch.object(gate, "LEARNER_DOUBT", doubt):
        return gate.decide(held, list(said)).shipped.learner


def table(rows: Sequence[Cell]) -> str:
    """Return the mean accuracy of what each doubt ships, by rows a class, beside the package's doubt."""
    now = [one["accuracy"][shipped(one, doubt=gate.LEARNER_DOUBT)] for one in rows]
    head = ["doubt", *(f"{shots} rows" for shots in SHOTS), "all", "less preferred", f"over {gate.LEARNER_DOUBT}", "differ"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for doubt in DOUBTS:
        taken = [(one, shipped(one, doubt=doubt)) for one in rows]
        by_shots = [_mean([one["accuracy"][name] for one, name in taken if one["shots"] == shots]) for shots in SHOTS]
        over = sum(name != ranked(one["accuracy"])[0] for one, name in taken)
        gaps = [100 * (one["accuracy"][name] - it) for (one, name), it in zip(taken, now, strict=True)]
        value, low, high = interval(gaps)
        mean = _mean([one["accuracy"][name] for one, name in taken])
        gain = f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" if any(gaps) else "0"
        row = [str(doubt), *by_shots, mean, f"{over} of {len(taken)}", gain, str(np.count_nonzero(gaps))]
        lines.append("| " + " | ".join(row) + " |")
    alone: dict[str, str] = {name: _mean([one["accuracy"][name] for one in rows]) for name in ranked(rows[0]["accuracy"])}
    alone["the best on test rows"] = _mean([max(one["accuracy"].values()) for one in rows])
    return "\n".join([*lines, "", *(f"always {name}: {value}" for name, value in alone.items())])


def _mean(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.2f}" if values else ""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cells = Cells(given.results / "constants-doubt.jsonl")
    measure(given.data, cells, minutes=given.minutes)
    for learners in SETS:
        if found := cells.find(learners=learners):
            print(f"{learners}\n\n{table(found)}\n")


if __name__ == "__main__":
    main()
