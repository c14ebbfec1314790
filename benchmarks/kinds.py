"""Other kinds of task: what ships against plain systems, for several labels a text, pairs of texts, and labels of words.

The plain systems are what their user would have without this package: one fit to all labelled rows, and of several labels those
that are as likely as not. They are TF-IDF, or a CRF where words are labelled, and full fine-tuning.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cells import MEANS, Cell, Cells, figure, shown
from benchmarks.ours import run_ours
from benchmarks.sets import Sample
from refsynth.core.config import PAIR_COLUMN, RunConfig
from refsynth.core.errors import InputError
from refsynth.core.labelset import NONE, join_labels
from refsynth.core.machine import describe_machine
from refsynth.core.pair import join_pair
from refsynth.core.run import derive_seed
from refsynth.core.sections import Columns, LearnerName
from refsynth.core.types import Example, TaskKind
from refsynth.core.windows import LONGEST
from refsynth.data.tagged import read_tagged
from refsynth.data.text import clean
from refsynth.kinds import KINDS, given_labels
from refsynth.models.catalog import encoder_for
from refsynth.models.store import ModelStore
from refsynth.pipeline.evaluate import SHIPPED
from refsynth.pipeline.workshop import LEARNERS, make_workshop
from refsynth.task import Task

SETS: Mapping[str, TaskKind] = {"nlupp_banking": "multilabel", "snli_counterfactual": "pairs", "wnut17": "tokens"}
SIZES = (500, 0)
"""Labelled rows; 0 for all there are."""

QUICK, QUICK_TEST, TEST_ROWS = 100, 200, 1000
PLAIN: Mapping[TaskKind, tuple[LearnerName, ...]] = {
    "multilabel": ("tfidf", "finetune"),
    "pairs": ("tfidf", "finetune"),
    "tokens": ("crf", "finetune"),
}
ALL_O = "all O"
"""The system that finds nothing, where words are labelled."""
LESS: Mapping[str, Any] = {"synthesis": {"drafts": 100}, "gate": {"folds": 2}}
"""Of a run, with --quick."""

ALL: Mapping[str, Any] = {"synthesis": {"drafts": 0}, "gate": {"folds": 2}}
"""Of a run on all rows: beside thousands of them the drafts are few, and each fold takes long."""


class Check(NamedTuple):
    """What ships over a plain system on a set, in points of what its kind of task measures."""

    name: str
    over: LearnerName
    floor: float
    aim: float


CHECKS = (
    Check("nlupp_banking", "tfidf", 5.0, 10.0),
    Check("nlupp_banking", "finetune", 0.0, 3.0),
    Check("snli_counterfactual", "tfidf", 0.0, 5.0),
    Check("snli_counterfactual", "finetune", -1.0, 0.0),
    Check("wnut17", "crf", 0.0, 10.0),
    Check("wnut17", "finetune", -2.0, 0.0),
)


def measure(
    data: Path,
    results: Path,
    *,
    seeds: int,
    sets: Sequence[str] | None,
    quick: bool,
    version: str,
    say: Callable[[str], None],
) -> Cells:
    """Measure the cells that are missing, and return all.

    Raises:
        InputError: a data set is not there or not one of these.
    """
    cells = Cells(results / "kinds.jsonl")
    if unknown := set(sets or ()) - set(SETS):
        raise InputError(f"--sets {', '.join(sorted(unknown))}: not in this bench", expected=", ".join(SETS))
    for seed in range(seeds):
        for name in sets or SETS:
            for size in (QUICK,) if quick else SIZES if seed == 0 else SIZES[:1]:  # with all rows nothing is drawn
                sample = draw(data, name, size, seed=seed, test_rows=QUICK_TEST if quick else TEST_ROWS)
                key = {"set": name, "train": len(sample.train), "seed": seed, "rows": len(sample.test), "version": version}
                settings = LESS if quick else {} if size else ALL
                for system, work in _systems(sample, name, seed, settings).items():
                    if not cells.find(**key, system=system):
                        cells.add({**key, "size": size, "system": system, **work(), "machine": describe_machine()})
                        one = cells.rows[-1]
                        say(f"{name}, {one['train']} rows, seed {seed}, {system}: {_shown(one)} ({one['seconds']:.0f} s)")
    return cells


def draw(data: Path, name: str, size: int, *, seed: int, test_rows: int) -> Sample:
    """Return so many training rows, drawn with the seed, and the same test rows for every seed.

    Raises:
        InputError: the data set is not there.
    """
    folder, keys = data / name, ("text", PAIR_COLUMN, "label", "tokens", "tags")
    if not (folder / "train.jsonl").is_file():
        raise InputError(f"{folder}: no such data set", remedy="name the folder of data sets with --data")
    train, test = (_rows(folder / file, keys) for file in ("train.jsonl", "test.jsonl"))
    chosen = np.random.default_rng(derive_seed(seed, "kinds", name)).permutation(len(train))[: size or len(train)]
    shown = np.random.default_rng(0).permutation(len(test))[:test_rows]
    labels = json.loads((folder / "labels.json").read_text("utf-8"))
    return Sample([train[i] for i in sorted(chosen)], [test[i] for i in sorted(shown)], labels)


def _rows(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        return [{key: row[key] for key in keys if key in row} for row in map(json.loads, stream)]


def _systems(sample: Sample, name: str, seed: int, settings: Mapping[str, Any]) -> dict[str, Callable[[], Cell]]:
    kind = SETS[name]

    def plain(learner: LearnerName) -> Callable[[], Cell]:
        return lambda: _plain(sample, kind, learner, seed)

    systems = {learner: plain(learner) for learner in PLAIN[kind]}
    shipped: dict[str, Callable[[], Cell]] = {SHIPPED: lambda: _shipped(sample, name, kind, seed, settings)}
    return ({ALL_O: lambda: _all_o(sample, kind)} if KINDS[kind].spans else {}) | systems | shipped


def _plain(sample: Sample, task: TaskKind, learner: LearnerName, seed: int) -> Cell:
    """Fit one learner to all rows."""
    kind, labels = KINDS[task], tuple(sample.labels)
    config = RunConfig.parse({"task": task, "language": "en", "labels": dict(sample.labels), "data": {"train": "rows"}})
    shop = make_workshop(Task.of(config), "en", ModelStore().path(encoder_for("en").name), max_tokens=LONGEST)
    train, test = (_examples(rows, task, labels) for rows in (sample.train, sample.test))
    started = time.monotonic()
    logits = LEARNERS[learner](shop).fit(train, (), seed=seed).logits([row.text for row in test])
    answers = kind.decide(kind.probabilities(logits))
    return _cell(task, kind.truth(given_labels(test), labels), answers, len(labels), time.monotonic() - started)


def _all_o(sample: Sample, task: TaskKind) -> Cell:
    kind, labels = KINDS[task], tuple(sample.labels)
    truth = kind.truth(given_labels(_examples(sample.test, task, labels)), labels)
    return _cell(task, truth, kind.usual(truth, len(truth)), len(labels), 0.0)


def _examples(rows: Sequence[Mapping[str, Any]], task: TaskKind, labels: Sequence[str]) -> list[Example]:
    if task == "tokens":
        read = [read_tagged(row, Columns()) for row in rows]
        return [Example(f"row-{i}", row.text, row.label or NONE) for i, row in enumerate(read)]
    texts = [join_pair(clean(row["text"]), clean(row[PAIR_COLUMN])) if task == "pairs" else clean(row["text"]) for row in rows]
    named = [join_labels(row["label"], labels) if task == "multilabel" else row["label"] for row in rows]
    return [Example(f"row-{i}", text, label) for i, (text, label) in enumerate(zip(texts, named, strict=True))]


def _shipped(sample: Sample, name: str, task: TaskKind, seed: int, settings: Mapping[str, Any]) -> Cell:
    ours = run_ours(sample, f"{name}-{len(sample.train)}", seed, task=task, **settings)
    test, decision = ours.finished.test, ours.finished.learned.decision
    assert test is not None
    measured = _cell(task, test.truth, test.predicted[SHIPPED], len(sample.labels), ours.seconds)
    gain = None if decision.gain is None else decision.gain.value
    return measured | {"drafted": ours.drafted, "gain": gain, "shipped": str(decision.shipped)}


def _cell(task: TaskKind, truth: Any, answers: Any, k: int, seconds: float) -> Cell:
    figures = KINDS[task].figures(truth, answers, k)  # values only: intervals are over draws here, not over rows
    measured = {"score": figures[0].value, "figures": {figure.name: figure.value for figure in figures}}
    return measured | {"seconds": round(seconds, 1)}


def _shown(cell: Cell) -> str:
    return ", ".join(f"{name} {100 * value:.1f}" for name, value in cell["figures"].items())


def outcome(cells: Cells) -> dict[str, Any]:
    """Return the table of means over seeds, and the checks against the floors."""
    lines = [
        "| set | rows | system | " + " | ".join((f"score: {MEANS}", "other figures", "shipped", "seconds")) + " |",
        "|---" * 7 + "|",
    ]
    checks = []
    for name in SETS:
        for train in sorted({one["train"] for one in cells.find(set=name)}):
            lines += [
                _line(name, train, found)
                for system in (ALL_O, *PLAIN[SETS[name]], SHIPPED)
                if (found := _of(cells, name, train, system))
            ]
            checks += [_checked(check, cells, train) for check in CHECKS if check.name == name]
    return {"name": "kinds", "machine": describe_machine(), "rows": cells.rows, "checks": checks, "table": "\n".join(lines)}


def _of(cells: Cells, name: str, train: int, system: str) -> dict[int, Cell]:
    return {one["seed"]: one for one in cells.find(set=name, train=train, system=system)}


def _line(name: str, train: int, found: Mapping[int, Cell]) -> str:
    rows = list(found.values())
    means = {figure: 100 * float(np.mean([row["figures"][figure] for row in rows])) for figure in rows[0]["figures"]}
    (first, _), *others = means.items()
    shipped = ", ".join(sorted({row["shipped"] for row in rows if "shipped" in row}))
    other = ", ".join(f"{figure} {value:.1f}" for figure, value in others)
    seconds = f"{np.mean([row['seconds'] for row in rows]):.0f}"
    score = f"{first} {shown([100 * row['score'] for row in rows])}"
    return f"| {name} | {train} | {rows[0]['system']} | {score} | {other} | {shipped} | {seconds} |"


def _checked(check: Check, cells: Cells, train: int) -> dict[str, Any]:
    ours, theirs = (_of(cells, check.name, train, system) for system in (SHIPPED, check.over))
    gaps = [100 * (ours[seed]["score"] - theirs[seed]["score"]) for seed in ours if seed in theirs]
    measured = figure(gaps, "points", over="seeds")
    name = f"shipped over {check.over}, {check.name}, {train} rows"
    return {"name": name, **measured, "floor": check.floor, "aim": check.aim, "ok": measured["value"] >= check.floor}
