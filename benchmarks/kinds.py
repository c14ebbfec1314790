"""Does what ships beat plain systems on other kinds of task: several labels a text, pairs of texts, labels of words?

The plain systems are what their user would have without this package: one fit to all labeled rows, and of several labels those
that are as likely as not. They are TF-IDF, or a CRF where words are labeled, and full fine-tuning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import Options, Work
from benchmarks.cells import Cell, Cells
from benchmarks.figures import MEANS, Check, at_least, figure, markdown, shown
from benchmarks.ours import run_ours
from benchmarks.sets import Sample, drawn, read_set
from refsynth.core.config import PAIR_COLUMN, RunConfig
from refsynth.core.hashes import derive_seed
from refsynth.core.kinds import KindName
from refsynth.core.labelset import NONE, join_labels
from refsynth.core.learners import LearnerName
from refsynth.core.pair import join_pair
from refsynth.core.sections import Columns
from refsynth.core.task import Task
from refsynth.core.types import Example
from refsynth.core.windows import LONGEST
from refsynth.data.tagged import read_tagged
from refsynth.data.text import clean
from refsynth.evaluation.testfile import SHIPPED
from refsynth.kinds import KINDS, given_labels
from refsynth.learning.context import make_context
from refsynth.learning.makers import make_learner
from refsynth.models.encoders import encoder_for
from refsynth.models.store import ModelStore

BUDGET = 1500
TIMED = False
SEEDS = 3
SETS: Mapping[str, KindName] = {"nlupp_banking": "multilabel", "snli_counterfactual": "pairs", "wnut17": "tokens"}
SIZES = (500, 0)
"""Labeled rows; 0 for all there are."""

QUICK, QUICK_TEST, TEST_ROWS = 100, 200, 1000
PLAIN: Mapping[KindName, tuple[LearnerName, ...]] = {
    "multilabel": ("tfidf", "finetune"),
    "pairs": ("tfidf", "finetune"),
    "tokens": ("crf", "finetune"),
}
ALL_O = "all O"
"""The system that finds nothing, where words are labeled."""
LESS: Mapping[str, Any] = {"synthesis": {"drafts": 100}, "gate": {"folds": 2}}
"""Of a run, with --quick."""

ALL: Mapping[str, Any] = {"synthesis": {"drafts": 0}, "gate": {"folds": 2}}
"""Of a run on all rows: beside thousands of them the drafts are few, and each fold takes long."""


HELD: Mapping[str, Mapping[LearnerName, tuple[float, float]]] = {
    "nlupp_banking": {"tfidf": (5.0, 10.0), "finetune": (0.0, 3.0)},
    "snli_counterfactual": {"tfidf": (0.0, 5.0), "finetune": (-1.0, 0.0)},
    "wnut17": {"crf": (0.0, 10.0), "finetune": (-2.0, 0.0)},
}
"""The floor and the aim of what ships over each plain system, in points of what the kind of task measures."""


def cells(options: Options) -> Iterator[Work]:
    """Yield the systems on each draw of each set; with all rows nothing is drawn."""
    for seed in range(options.seeds or (1 if options.quick else SEEDS)):
        for name in options.parts(tuple(SETS), quick=tuple(SETS)[:1]):
            for size in (QUICK,) if options.quick else SIZES if seed == 0 else SIZES[:1]:
                sample = draw(options.data, name, size, seed=seed, test_rows=QUICK_TEST if options.quick else TEST_ROWS)
                key = {"set": name, "train": len(sample.train), "seed": seed, "rows": len(sample.test)}
                settings = LESS if options.quick else {} if size else ALL
                for system, work in _systems(sample, name, seed, settings).items():
                    yield Work(key, partial(_one, system, work), (system,))


def _one(system: str, work: Callable[[], Cell]) -> list[Cell]:
    return [{"system": system, **work()}]


def draw(data: Path, name: str, size: int, *, seed: int, test_rows: int) -> Sample:
    """Return so many training rows, drawn with the seed, and the same test rows for every seed.

    Raises:
        InputError: the data set is not there.
    """
    train, test, labels = read_set(data, name, ("text", PAIR_COLUMN, "label", "tokens", "tags"))
    chosen = np.random.default_rng(derive_seed(seed, "kinds", name)).permutation(len(train))[: size or len(train)]
    return Sample([train[i] for i in sorted(chosen)], drawn(test, test_rows), labels)


def _systems(sample: Sample, name: str, seed: int, settings: Mapping[str, Any]) -> dict[str, Callable[[], Cell]]:
    kind = SETS[name]

    def plain(learner: LearnerName) -> Callable[[], Cell]:
        return lambda: _plain(sample, kind, learner, seed)

    systems = {learner: plain(learner) for learner in PLAIN[kind]}
    shipped: dict[str, Callable[[], Cell]] = {SHIPPED: lambda: _shipped(sample, name, kind, seed, settings)}
    return ({ALL_O: lambda: _all_o(sample, kind)} if KINDS[kind].words else {}) | systems | shipped


def _plain(sample: Sample, task: KindName, learner: LearnerName, seed: int) -> Cell:
    """Fit one learner to all rows."""
    kind, labels = KINDS[task], tuple(sample.labels)
    config = RunConfig.parse({"task": task, "language": "en", "labels": dict(sample.labels), "data": {"train": "rows"}})
    context = make_context(Task.of(config), "en", ModelStore().path(encoder_for("en").name), max_tokens=LONGEST)
    train, test = (_examples(rows, task, labels) for rows in (sample.train, sample.test))
    started = time.monotonic()
    logits = make_learner(learner, context).fit(train, (), seed=seed).logits([row.text for row in test])
    answers = kind.decide(kind.probabilities(logits))
    return _cell(task, kind.truth(given_labels(test), labels), answers, len(labels), time.monotonic() - started)


def _all_o(sample: Sample, task: KindName) -> Cell:
    kind, labels = KINDS[task], tuple(sample.labels)
    truth = kind.truth(given_labels(_examples(sample.test, task, labels)), labels)
    return _cell(task, truth, kind.usual(truth, len(truth)), len(labels), 0.0)


def _examples(rows: Sequence[Mapping[str, Any]], task: KindName, labels: Sequence[str]) -> list[Example]:
    if task == "tokens":
        read = [read_tagged(row, Columns()) for row in rows]
        return [Example(f"row-{i}", row.text, row.label or NONE) for i, row in enumerate(read)]
    texts = [join_pair(clean(row["text"]), clean(row[PAIR_COLUMN])) if task == "pairs" else clean(row["text"]) for row in rows]
    named = [join_labels(row["label"], labels) if task == "multilabel" else row["label"] for row in rows]
    return [Example(f"row-{i}", text, label) for i, (text, label) in enumerate(zip(texts, named, strict=True))]


def _shipped(sample: Sample, name: str, task: KindName, seed: int, settings: Mapping[str, Any]) -> Cell:
    ours = run_ours(sample, f"{name}-{len(sample.train)}", seed, task=task, **settings)
    test, decision = ours.evidence.test, ours.evidence.learned.decision
    assert test is not None
    measured = _cell(task, test.truth, test.predicted[SHIPPED], len(sample.labels), ours.seconds)
    gain = None if decision.gain is None else decision.gain.value
    return measured | {"drafted": ours.drafted, "gain": gain, "shipped": str(decision.shipped)}


def _cell(task: KindName, truth: Any, answers: Any, k: int, seconds: float) -> Cell:
    figures = KINDS[task].figures(truth, answers, k)  # values only: intervals are over draws here, not over rows
    measured = {"score": figures[0].value, "figures": {figure.name: figure.value for figure in figures}}
    return measured | {"seconds": round(seconds, 1)}


def table(cells: Cells) -> str:
    """Return means over seeds."""
    head = ["set", "rows", "system", f"score: {MEANS}", "other figures", "shipped", "seconds"]
    rows = []
    for name, kind in SETS.items():
        for train in sorted({one["train"] for one in cells.find(set=name)}):
            for system in (ALL_O, *PLAIN[kind], SHIPPED):
                if found := list(_of(cells, name, train, system).values()):
                    rows.append([name, f"{train:,}", system, *_line(found)])
    return markdown(head, rows)


def _line(found: Sequence[Cell]) -> list[str]:
    (first, _), *others = found[0]["figures"].items()
    other = ", ".join(f"{key} {100 * np.mean([one['figures'][key] for one in found]):.1f}" for key, _ in others)
    shipped = ", ".join(sorted({one["shipped"] for one in found if "shipped" in one}))
    score = f"{first} {shown([100 * one['score'] for one in found])}"
    return [score, other, shipped, f"{np.mean([one['seconds'] for one in found]):.0f}"]


def checks(cells: Cells) -> list[Check]:
    """Return what ships over each plain system, by set and size."""
    found = []
    for name, held in HELD.items():
        for train in sorted({one["train"] for one in cells.find(set=name)}):
            ours = _of(cells, name, train, SHIPPED)
            for system, (floor, aim) in held.items():
                theirs = _of(cells, name, train, system)
                gaps = [100 * (ours[seed]["score"] - theirs[seed]["score"]) for seed in ours if seed in theirs]
                title = f"shipped over {system}, {name}, {train} rows"
                found.append(at_least(title, figure(gaps, "points", over="seeds"), floor, aim))
    return found


def _of(cells: Cells, name: str, train: int, system: str) -> dict[int, Cell]:
    return {one["seed"]: one for one in cells.find(set=name, train=train, system=system)}
